"""A survey of which of two maps people find better: the page, its key, and the files that come back (section 6).

The page is one file. It is blinded (a map is an opaque number), asks the questions and shows the two maps in an order
drawn for each person, allows ties, and hands the answers over as a JSON file. What they say is for `sftgan.votes`.
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

import numpy as np
import pandas as pd
from matplotlib import colormaps
from PIL import Image
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from sftgan.errors import InputError

TASK = (
    "The line below each picture is what a neural network says about it, right or wrong. Which of the two heat maps "
    "better explains why it says so?"
)
MOST = 3000  # questions: each takes three of the 9000 numbers of four digits
_SIDE = 240  # pixels of a picture on the page


@dataclass(frozen=True)
class Question:
    """An image (3, H, W) in [0, 1], what the CNN says of it, and the maps (H, W) in [0, 1] of two methods, by name."""

    image: Tensor
    caption: str
    maps: Mapping[str, Tensor]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Asked(_Strict):
    """What the key knows of a question: the line below its picture, and the method of each of its two maps, by id."""

    caption: str
    maps: dict[str, str]


class Key(_Strict):
    """What `build` wrote beside the page: the two methods, and the questions by id."""

    survey: str
    methods: tuple[str, str]
    questions: dict[str, Asked] = Field(min_length=1)

    @model_validator(mode="after")
    def _same_two_methods(self) -> "Key":
        for name, asked in self.questions.items():
            if sorted(asked.maps.values()) != sorted(set(self.methods)) or len(asked.maps) != 2:
                raise ValueError(f"question {name} does not compare the same two methods")
        return self


class Answer(_Strict):
    """What a person said of one question: `choice` is the id of a map or "tie"."""

    question: str
    left: str
    right: str
    choice: str
    seconds: float = Field(ge=0)


class Answers(_Strict):
    """The file that the page hands over. Of invented persons it says `simulated`."""

    survey: str
    person: str
    started: AwareDatetime
    finished: AwareDatetime
    answers: tuple[Answer, ...]
    complete: bool
    simulated: bool = False


@dataclass(frozen=True)
class Pooled:
    """votes: one row per person and question (person, question, choice: a method or "tie", left: a method, seconds).

    problems: one row per file with something to report (file, what, counted). simulated: whether all persons are
    invented; else none of them is. captions: of every question of the survey, by id.
    """

    votes: pd.DataFrame
    problems: pd.DataFrame
    simulated: bool
    methods: tuple[str, str]
    captions: Mapping[str, str]


# The page


def check_new(out: Path) -> None:
    """Raise InputError if OUT holds the key of a survey, whose answers nothing else can decode."""
    if (out / "key.json").exists():
        raise InputError(
            f"{str(out / 'key.json')!r} is the key of a survey already built, whose answers it decodes: choose another "
            "folder, or remove it."
        )


def build(questions: Sequence[Question], out: Path, title: str, task: str = TASK) -> None:
    """Write OUT/survey.html, to be sent around, and OUT/key.json, which says what is what, to be kept.

    The numbers that stand for the maps are drawn anew each time, so that only the key can tell them apart. Raises
    InputError where the questions do not all compare the same two methods, are more than `MOST`, or OUT holds the
    key of another survey or cannot be written.
    """
    methods = {tuple(question.maps) for question in questions}
    if len(methods) != 1 or len(two := methods.pop()) != 2:
        raise InputError(
            "a survey compares the same two methods in every question, and has at least one question."
        )
    if len(questions) > MOST:
        raise InputError(f"a survey has at most {MOST} questions, not {len(questions)}: ask fewer.")
    check_new(out)
    asked, shown = _numbered(questions)
    survey = hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:12]
    content = json.dumps({"id": survey, "title": title, "task": task, "questions": shown})
    content = content.replace("<", "\\u003c")  # no caption can end the script
    page = (resources.files("sftgan") / "survey.html").read_text(encoding="utf-8")
    page = page.replace("__TITLE__", html.escape(title)).replace("__SURVEY__", content)
    key = Key(survey=survey, methods=(two[0], two[1]), questions=asked)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "survey.html").write_text(page, encoding="utf-8")
        (out / "key.json").write_text(key.model_dump_json(indent=1), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"the survey cannot be written to {str(out)!r} ({error}): choose another folder."
        ) from error


def _numbered(questions: Sequence[Question]) -> tuple[dict[str, Asked], list[dict]]:
    """The questions under numbers drawn for them and their maps: as the key has them, and as the page has them."""
    ids = iter(SystemRandom().sample(range(1000, 10000), 3 * len(questions)))
    asked, shown = {}, []
    for question in questions:
        name = f"q{next(ids)}"
        maps = {f"m{next(ids)}": method for method in question.maps}
        asked[name] = Asked(caption=question.caption, maps=maps)
        pictures = [{"id": m, "png": _png(_coloured(question.maps[maps[m]]))} for m in sorted(maps)]
        image = (question.image.permute(1, 2, 0).clamp(0, 1).numpy() * 255).astype(np.uint8)
        shown.append({"id": name, "caption": question.caption, "png": _png(image), "maps": pictures})
    return asked, shown


def _coloured(heat: Tensor) -> np.ndarray:
    return (colormaps["inferno"](heat.clamp(0, 1).numpy())[..., :3] * 255).astype(np.uint8)


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.NEAREST).save(
        buffer, "PNG", optimize=True
    )
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


# The answers


def read_key(file: Path) -> Key:
    """The key that `build` wrote. Raises InputError where the file is something else or cannot be read."""
    try:
        return Key.model_validate_json(file.read_text(encoding="utf-8"))
    except ValidationError as error:
        why = _first(error)
    except (OSError, UnicodeDecodeError) as error:
        why = str(error)
    raise InputError(f"{str(file)!r} is not the key.json that `sftgan survey build` wrote ({why}).")


def read_answers(folder: Path, key: Key) -> Pooled:
    """Check and pool the answer files of a folder. What cannot be used is reported, never silently dropped.

    Partial answers count and are reported; of a person's files the one finished last counts; simulated answers count
    only where there are no real ones. Raises InputError where the folder cannot be read or is empty.
    """
    given: dict[str, Answers] = {}
    wrong: dict[str, str] = {}
    partial, votes = {}, []
    for path in _listed(folder):
        found = _checked(path, key)
        if isinstance(found, str):
            wrong[path.name] = found
        else:
            given[path.name] = found
    for judge in (_beside_real_ones, _repeated):
        wrong |= judge(given)
        given = {name: answers for name, answers in given.items() if name not in wrong}
    for name, of in given.items():
        if not of.complete:
            partial[name] = f"partial: {_still_open(of, key)} questions are open"
        for a in of.answers:
            maps = key.questions[a.question].maps
            votes.append([of.person, a.question, maps.get(a.choice, "tie"), maps[a.left], a.seconds])
    problems = sorted([name, what, name in partial] for name, what in (wrong | partial).items())
    return Pooled(
        pd.DataFrame(votes, columns=["person", "question", "choice", "left", "seconds"]),
        pd.DataFrame(problems, columns=["file", "what", "counted"]),
        any(of.simulated for of in given.values()),
        key.methods,
        {name: asked.caption for name, asked in key.questions.items()},
    )


def complaints(pooled: Pooled) -> list[str]:
    """What was wrong with which file, as lines of text."""
    return [
        f"{row.file}: {row.what}{'' if row.counted else ' (not counted)'}"
        for row in pooled.problems.itertuples()
    ]


def _listed(folder: Path) -> list[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"the answers cannot be read ({error}): give the folder of the answers-*.json files."
        ) from None
    if not paths:
        raise InputError(f"{str(folder)!r} holds no answers: put the answers-*.json files there.")
    return paths


def _checked(path: Path, key: Key) -> Answers | str:
    """The answers in a file, or what is wrong with it."""
    try:
        if path.suffix != ".json" or not path.is_file():
            return "foreign: not an answers-*.json file"
        given = Answers.model_validate_json(path.read_text(encoding="utf-8-sig"))
    except ValidationError as error:
        return f"malformed at {_first(error)}"
    except (OSError, UnicodeDecodeError) as error:
        return f"cannot be read: {error}"
    return _flaw(given, key) or given


def _flaw(given: Answers, key: Key) -> str | None:
    """What of a well-formed file does not fit the survey or itself."""
    if given.survey != key.survey:
        return f"of another survey, {given.survey!r}"
    for a in given.answers:
        asked = key.questions.get(a.question)
        if asked is None:
            return f"unknown question {a.question!r}"
        if {a.left, a.right} != set(asked.maps) or a.choice not in (*asked.maps, "tie"):
            return f"unknown map in question {a.question}"
    twice = [question for question, n in Counter(a.question for a in given.answers).items() if n > 1]
    if twice:
        return f"question {twice[0]} is answered twice"
    if given.finished < given.started:
        return "finished before it was started"
    if not given.answers:
        return "partial: no question is answered"
    if given.complete != (len(given.answers) == len(key.questions)):
        said = "complete" if given.complete else "not complete"
        return f"says that it is {said}, but {_still_open(given, key)} questions are open"
    return None


def _still_open(given: Answers, key: Key) -> str:
    return f"{len(key.questions) - len(given.answers)} of {len(key.questions)}"


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, and where."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"


def _beside_real_ones(given: Mapping[str, Answers]) -> dict[str, str]:
    """The simulated files, by name, if others are not."""
    simulated = {name: "simulated, beside real answers" for name, of in given.items() if of.simulated}
    return simulated if len(simulated) < len(given) else {}


def _repeated(given: Mapping[str, Answers]) -> dict[str, str]:
    """The files, by name, that another one stands for."""
    wrong: dict[str, str] = {}
    first: dict[tuple, str] = {}
    last: dict[str, str] = {}
    for name, of in given.items():
        same, other = first.setdefault((of.started, frozenset(of.answers)), name), last.get(of.person)
        if given[same].person != of.person:
            wrong[name] = f"the same answers as {same} under another name"
        elif other is None:
            last[of.person] = name
        elif given[other] == of:
            wrong[name] = f"a copy of {other}"
        elif given[other].finished > of.finished:
            wrong[name] = f"the same person as {other}, which was finished later"
        elif given[other].finished < of.finished:
            wrong[other] = f"the same person as {name}, which was finished later"
            last[of.person] = name
        else:
            wrong[name] = f"the same person and finishing time as {other}, but not the same content"
    return wrong


# Invented answers


def check_simulated(n_persons: int, preference: float, tie: float, fewest: int = 1) -> None:
    """Raise InputError unless there are at least `fewest` persons, and the others are probabilities."""
    if isinstance(n_persons, bool) or not isinstance(n_persons, int) or n_persons < fewest:
        raise InputError(f"n_persons is {n_persons!r}: give a whole number of at least {fewest}.")
    for name, chance in (("preference", preference), ("tie", tie)):
        if isinstance(chance, bool) or not isinstance(chance, int | float) or not 0 <= chance <= 1:
            raise InputError(f"{name} is {chance!r}: give a probability, from 0 to 1.")


def simulate(key: Key, n_persons: int, preference: float, tie: float, out: Path, seed: int = 0) -> None:
    """Write the answer files of invented persons, marked as such, to try the analysis.

    Each vote is a tie with probability `tie`, else for the first method with probability `preference`; see
    `check_simulated`.
    """
    check_simulated(n_persons, preference, tie)
    rng = np.random.default_rng(seed)
    out.mkdir(parents=True, exist_ok=True)
    for k in range(n_persons):
        began = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=10 * k)
        given = Answers(
            survey=key.survey,
            person=f"simulated-{seed}-{k}",
            started=began,
            finished=began + timedelta(minutes=5),
            answers=tuple(_invented(rng, key, question, preference, tie) for question in key.questions),
            complete=True,
            simulated=True,
        )
        (out / f"answers-{given.person}.json").write_text(given.model_dump_json(indent=1), encoding="utf-8")


def _invented(rng: np.random.Generator, key: Key, question: str, preference: float, tie: float) -> Answer:
    maps = key.questions[question].maps
    left, right = rng.permutation(list(maps)).tolist()
    favourite = key.methods[0 if rng.random() < preference else 1]
    chosen = "tie" if rng.random() < tie else next(m for m, method in maps.items() if method == favourite)
    seconds = round(rng.exponential(5), 2)
    return Answer(question=question, left=left, right=right, choice=chosen, seconds=seconds)
