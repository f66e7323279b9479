"""A survey of which of two maps people find better: the page, its analysis, and the published counts (section 6).

The page is one file. It is blinded (a map is an opaque number), asks the questions and shows the two maps in an order
drawn for each person, allows ties, and hands the answers over as a JSON file.
"""

import base64
import hashlib
import html
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from random import SystemRandom
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from PIL import Image
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from scipy.stats import binom, binomtest, permutation_test
from torch import Tensor

from sftgan.errors import InputError

TASK = "Which of the two heat maps shows better what the picture can be recognised by, as the line below it names it?"
_SIDE = 240  # pixels of a picture on the page


@dataclass(frozen=True)
class Question:
    """An image (3, H, W) in [0, 1], what it is, and the maps (H, W) in [0, 1] of two methods, by name."""

    image: Tensor
    caption: str
    maps: Mapping[str, Tensor]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Answer(_Strict):
    """What a person said of one question: `choice` is the id of a map or "tie"."""

    question: str
    left: str
    right: str
    choice: str
    seconds: float = Field(ge=0)


class Answers(_Strict):
    """The file that the page hands over."""

    survey: str
    person: str
    started: AwareDatetime
    finished: AwareDatetime
    answers: list[Answer]
    complete: bool
    simulated: Literal[True] | None = None


@dataclass(frozen=True)
class Pooled:
    """votes: one row per person and question (person, question, choice: a method or "tie", left: a method, seconds).

    problems: one row per file with something to report (file, what, counted). simulated: number of invented persons.
    n_questions: of the survey.
    """

    votes: pd.DataFrame
    problems: pd.DataFrame
    simulated: int
    methods: tuple[str, str]
    n_questions: int


class SignTest(NamedTuple):
    """Share won of all decided, its exact (Clopper-Pearson) 95 % interval, and the exact two-sided p for a half."""

    share: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Analysis:
    """questions: one row per question with the votes of each method, ties, and the winner: who has more votes.

    by_question: of the questions won. by_vote: share of the first method in all decided votes and the p of a
    sign-flip test over persons, as one person's votes belong together; None where no vote is decided. kappa: Fleiss'
    agreement between those who answered every question, n_kappa persons; None where they or the questions are fewer
    than two. left: how often the left map was chosen; its interval takes the votes as independent.
    """

    questions: pd.DataFrame
    by_question: SignTest | None
    by_vote: tuple[float, float] | None
    kappa: float | None
    n_kappa: int
    left: SignTest | None


# The page


def build(questions: Sequence[Question], out: Path, title: str, task: str = TASK) -> None:
    """Write OUT/survey.html, to be sent around, and OUT/key.json, which says what is what, to be kept.

    The numbers that stand for the maps are drawn anew each time, so that only the key can tell them apart. Raises
    InputError where the questions do not all compare the same two methods, or OUT holds the key of another survey.
    """
    methods = sorted({tuple(question.maps) for question in questions})
    if len(methods) != 1 or len(methods[0]) != 2:
        raise InputError(
            "a survey compares the same two methods in every question, and has at least one question."
        )
    if (out / "key.json").exists():
        raise InputError(
            f"{str(out / 'key.json')!r} is the key of a survey already built, whose answers it decodes: choose another "
            "folder, or remove it."
        )
    ids = iter(SystemRandom().sample(range(1000, 10000), 3 * len(questions)))
    key, shown = {}, []
    for question in questions:
        name = f"q{next(ids)}"
        maps = {f"m{next(ids)}": method for method in question.maps}
        key[name] = {"caption": question.caption, "maps": maps}
        pictures = [{"id": m, "png": _png(_coloured(question.maps[maps[m]]))} for m in sorted(maps)]
        image = (question.image.permute(1, 2, 0).clamp(0, 1).numpy() * 255).astype(np.uint8)
        shown.append({"id": name, "caption": question.caption, "png": _png(image), "maps": pictures})
    survey = hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:12]
    content = json.dumps({"id": survey, "title": title, "task": task, "questions": shown})
    content = content.replace("<", "\\u003c")  # no caption can end the script
    page = (resources.files("sftgan") / "survey.html").read_text(encoding="utf-8")
    page = page.replace("__TITLE__", html.escape(title)).replace("__SURVEY__", content)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "survey.html").write_text(page, encoding="utf-8")
        (out / "key.json").write_text(
            json.dumps({"survey": survey, "methods": methods[0], "questions": key}, indent=1),
            encoding="utf-8",
        )
    except OSError as error:
        raise InputError(
            f"the survey cannot be written to {str(out)!r} ({error}): choose another folder."
        ) from error


def _coloured(heat: Tensor) -> np.ndarray:
    return (colormaps["inferno"](heat.clamp(0, 1).numpy())[..., :3] * 255).astype(np.uint8)


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.NEAREST).save(
        buffer, "PNG", optimize=True
    )
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


# The answers


def read_key(file: Path) -> dict:
    """The key that `build` wrote: survey, methods, captions, and for each question which map is which method's."""
    try:
        key = json.loads(file.read_text(encoding="utf-8"))
        return {
            "survey": key["survey"],
            "methods": tuple(key["methods"]),
            "questions": {name: dict(asked["maps"]) for name, asked in key["questions"].items()},
            "captions": {name: asked["caption"] for name, asked in key["questions"].items()},
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{str(file)!r} is not the key.json that `sftgan survey build` wrote ({error})."
        ) from None


def read_answers(folder: Path, key: dict) -> Pooled:
    """Check and pool the answer files of a folder. What cannot be used is reported, never silently dropped.

    Partial answers count and are reported; of a person's two files the one finished later counts. Raises InputError
    where there is no file at all.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        raise InputError(f"{str(folder)!r} holds no answers: put the answers-*.json files there.")
    problems, files = [], {}
    for path in sorted(folder.iterdir()):
        given = _checked(path, key)
        if isinstance(given, str):
            problems.append([path.name, given, False])
            continue
        other = files.get(given.person)
        if other and other[1] == given:
            problems.append([path.name, f"a copy of {other[0]}", False])
            continue
        if other and other[1].finished >= given.finished:
            problems.append([path.name, f"the same person as {other[0]}, which was finished later", False])
            continue
        if other:
            problems.append([other[0], f"the same person as {path.name}, which was finished later", False])
        files[given.person] = path.name, given
    votes = []
    for name, given in files.values():
        open_ = len(key["questions"]) - len(given.answers)
        if open_:
            problems.append([name, f"partial: {open_} of {len(key['questions'])} questions are open", True])
        for a in given.answers:
            maps = key["questions"][a.question]
            votes.append([given.person, a.question, maps.get(a.choice, "tie"), maps[a.left], a.seconds])
    return Pooled(
        pd.DataFrame(votes, columns=["person", "question", "choice", "left", "seconds"]),
        pd.DataFrame(problems, columns=["file", "what", "counted"]),
        sum(bool(given.simulated) for _, given in files.values()),
        key["methods"],
        len(key["questions"]),
    )


def _checked(path: Path, key: dict) -> Answers | str:
    """The answers in a file, or what is wrong with it."""
    if path.suffix != ".json" or not path.is_file():
        return "foreign: not an answers-*.json file"
    try:
        given = Answers.model_validate_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        return f"cannot be read: {error}"
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        return f"malformed at {where}: {first['msg']}"
    if given.survey != key["survey"]:
        return f"of another survey, {given.survey}"
    for a in given.answers:
        maps = key["questions"].get(a.question)
        if maps is None:
            return f"unknown question {a.question}"
        if {a.left, a.right} != set(maps) or a.choice not in (*maps, "tie"):
            return f"unknown map in question {a.question}"
    twice = [question for question, n in Counter(a.question for a in given.answers).items() if n > 1]
    return f"question {twice[0]} is answered twice" if twice else given


# The analysis


def sign_test(wins: int, losses: int) -> SignTest:
    """Exact two-sided test of wins against losses, ties left out."""
    found = binomtest(wins, wins + losses)
    interval = found.proportion_ci(method="exact")
    return SignTest(wins / (wins + losses), float(interval.low), float(interval.high), float(found.pvalue))


def power(n: int, share: float, alpha: float = 0.05) -> float:
    """Chance that `sign_test` of n decided questions comes out below `alpha` when the true share is `share`."""
    counts = np.arange(n + 1)
    rejected = np.array([binomtest(int(k), n).pvalue <= alpha for k in counts])
    return float(binom.pmf(counts, n, share)[rejected].sum())


def analyse(pooled: Pooled) -> Analysis:
    """Counts, exact tests, agreement and position bias of pooled answers."""
    first, second = pooled.methods
    votes = pooled.votes
    if votes.empty:
        raise InputError("none of the files holds an answer that counts: see what is reported of each.")
    counts = votes.groupby("question")["choice"].value_counts().unstack(fill_value=0)
    counts = counts.reindex(columns=[first, "tie", second], fill_value=0)
    lead = counts[first] - counts[second]
    questions = counts.assign(winner=np.select([lead > 0, lead < 0], [first, second], "tie")).reset_index()
    signs = votes["choice"].map({first: 1, second: -1, "tie": 0})
    decided = votes[signs != 0]
    on_left = (decided["choice"] == decided["left"]).sum()
    return Analysis(
        questions,
        _sign_test((lead > 0).sum(), (lead < 0).sum()),
        _by_vote(signs.groupby(votes["person"]).sum().to_numpy(), signs[signs != 0]),
        *_agreement(votes, pooled.n_questions),
        _sign_test(on_left, len(decided) - on_left),
    )


def report(pooled: Pooled) -> list[str]:
    """What `analyse` finds, as lines of text."""
    found = analyse(pooled)
    first, second = pooled.methods
    lines = [f"{pooled.votes['person'].nunique()} persons, {pooled.simulated} of them simulated", ""]
    lines += [found.questions.to_string(index=False), ""]
    won = found.questions["winner"].value_counts()
    lines.append(
        "questions won: " + ", ".join(f"{name} {won.get(name, 0)}" for name in (first, "tie", second))
    )
    for what, test in (
        ("questions won by " + first, found.by_question),
        ("votes for the left map", found.left),
    ):
        if test:
            lines.append(
                f"{what}: {test.share:.2f} [{test.low:.2f}, {test.high:.2f}], exact p = {test.p:.3g}"
            )
    if found.by_vote:
        lines.append(
            f"votes for {first}: {found.by_vote[0]:.2f}, sign-flip over persons: p = {found.by_vote[1]:.3g}"
        )
    if found.kappa is not None:
        who = f"{found.n_kappa} persons who answered all"
        lines.append(f"agreement (Fleiss' kappa of {who}): {found.kappa:.2f}")
    return lines


def complaints(pooled: Pooled) -> list[str]:
    """What was wrong with which file, as lines of text."""
    return [
        f"{row.file}: {row.what}{'' if row.counted else ' (not counted)'}"
        for row in pooled.problems.itertuples()
    ]


def _sign_test(wins: int, losses: int) -> SignTest | None:
    return sign_test(int(wins), int(losses)) if wins + losses else None


def _by_vote(net: np.ndarray, decided: pd.Series) -> tuple[float, float] | None:
    if decided.empty:
        return None
    share = (decided > 0).mean()
    if len(net) == 1 or not net.any():  # all ways of flipping persons are as extreme
        return float(share), 1.0
    rng = np.random.default_rng(0)
    found = permutation_test((net,), np.sum, permutation_type="samples", n_resamples=9999, rng=rng)
    return float(share), float(found.pvalue)


def _agreement(votes: pd.DataFrame, n_questions: int) -> tuple[float | None, int]:
    try:
        from statsmodels.stats.inter_rater import fleiss_kappa
    except ImportError as error:
        raise InputError("agreement needs a package: run `pip install statsmodels`.") from error
    answered = votes.groupby("person")["question"].transform("size")
    whole = votes[answered == n_questions]
    n_persons = whole["person"].nunique()
    if n_persons < 2 or n_questions < 2 or whole["choice"].nunique() < 2:
        return None, n_persons
    table = whole.groupby("question")["choice"].value_counts().unstack(fill_value=0)
    return float(fleiss_kappa(table.to_numpy())), n_persons


def simulate(key: dict, n_persons: int, preference: float, tie: float, out: Path, seed: int = 0) -> None:
    """Write the answer files of invented persons, marked as such, to try the analysis.

    Each vote is a tie with probability `tie`, else for the first method with probability `preference`.
    """
    if n_persons < 1:
        raise InputError(f"n_persons is {n_persons}: give a whole number of at least 1.")
    rng = np.random.default_rng(seed)
    out.mkdir(parents=True, exist_ok=True)
    began = datetime(2026, 1, 1, tzinfo=UTC)
    for k in range(n_persons):
        answers = []
        for question, maps in key["questions"].items():
            left, right = rng.permutation(list(maps)).tolist()
            favourite = key["methods"][0 if rng.random() < preference else 1]
            choice = (
                "tie" if rng.random() < tie else next(m for m, method in maps.items() if method == favourite)
            )
            answers.append(
                Answer(
                    question=question,
                    left=left,
                    right=right,
                    choice=choice,
                    seconds=round(rng.exponential(5), 2),
                )
            )
        given = Answers(
            survey=key["survey"], person=f"simulated-{seed}-{k}", started=began, answers=answers,
            finished=began + timedelta(minutes=5), complete=True, simulated=True,
        )  # fmt: skip
        text = given.model_dump_json(indent=1, exclude_none=True)
        (out / f"answers-{given.person}.json").write_text(text, encoding="utf-8")
