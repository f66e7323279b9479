"""A survey of which of two maps people find better: its page, its key and its answer files (section 6).

The page is a single file. It is blinded: each map has a number that does not tell its method. Each person
sees the questions, and the two maps of a question, in random order. Ties are allowed. The answers are saved
as a JSON file. The module ``votes`` analyses them.
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

from sftgan.companion.chapters import captioning
from sftgan.companion.data.captions import roles
from sftgan.companion.study.frames import check_counts
from sftgan.companion.study.study import Study
from sftgan.errors import InputError, check_name

TASK = (
    "The line below each picture is what a neural network says about it, right or wrong. Which of the two heat maps "
    "better explains why it says so?"
)
MOST = 3000  # questions; each uses three of the 9000 four-digit numbers
_SIDE = 240  # pixels of each picture on the page


@dataclass(frozen=True)
class Question:
    """A question of a survey: an image and two maps of it.

    Attributes
    ----------
    image
        Image (3, H, W) in [0, 1].
    caption
        What the CNN says about the image.
    maps
        For each of two methods, by name, its map (H, W) in [0, 1].
    """

    image: Tensor
    caption: str
    maps: Mapping[str, Tensor]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Asked(_Strict):
    """A question as the key stores it.

    Attributes
    ----------
    caption
        The line below the picture.
    maps
        The method of each of the two maps, by the map's id.
    """

    caption: str
    maps: dict[str, str]


class Key(_Strict):
    """The key of a survey, which ``build`` writes beside the page.

    Attributes
    ----------
    survey
        Id of the survey.
    methods
        The two methods.
    questions
        All questions, by id.
    """

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
    """A person's answer to one question.

    Attributes
    ----------
    question
        Id of the question.
    left
        Id of the map on the left.
    right
        Id of the map on the right.
    choice
        Id of the chosen map, or "tie".
    seconds
        Time taken.
    """

    question: str
    left: str
    right: str
    choice: str
    seconds: float = Field(ge=0)


class Answers(_Strict):
    """The file that the page saves.

    Attributes
    ----------
    survey
        Id of the survey.
    person
        Name of the person.
    started
        When the person started, with time zone.
    finished
        When the person finished, with time zone.
    answers
        One answer for each answered question.
    complete
        Whether all questions are answered.
    simulated
        Whether the person is simulated.
    """

    survey: str
    person: str
    started: AwareDatetime
    finished: AwareDatetime
    answers: tuple[Answer, ...]
    complete: bool
    simulated: bool = False


@dataclass(frozen=True)
class Pooled:
    """The answers of all persons.

    Attributes
    ----------
    votes
        One row for each person and question: ``person``, ``question``, ``choice`` (a method or "tie"),
        ``left`` (the method on the left), ``seconds``.
    problems
        One row for each file with a problem: ``file``, ``what``, ``counted``.
    simulated
        Whether the persons are simulated; either all are, or none is.
    methods
        The two methods.
    captions
        The caption of every question of the survey, by the question's id.
    """

    votes: pd.DataFrame
    problems: pd.DataFrame
    simulated: bool
    methods: tuple[str, str]
    captions: Mapping[str, str]


def check_new(out: Path) -> None:
    """Check that a folder does not hold the key of a survey, without which its answers cannot be decoded.

    Parameters
    ----------
    out
        Folder for a new survey; it need not exist.

    Raises
    ------
    InputError
        If the folder holds a key.
    """
    if (out / "key.json").exists():
        raise InputError(
            f"{str(out / 'key.json')!r} is the key of a survey already built, and decodes its answers: choose another "
            "folder, or remove the key."
        )


def build(questions: Sequence[Question], out: Path, title: str, task: str = TASK) -> None:
    """Write a survey: the page to send around (``survey.html``), and the key to keep (``key.json``).

    Each build picks new random numbers for the maps, so that only the key can tell them apart.

    Parameters
    ----------
    questions
        Questions to ask, at most ``MOST``; all compare the same two methods.
    out
        Folder to write to; it is created if it does not exist.
    title
        Title of the page.
    task
        What each person is asked to do.

    Raises
    ------
    InputError
        If the questions do not all compare the same two methods, there are none or too many, the folder holds
        the key of another survey, or it cannot be written to.
    """
    methods = {tuple(question.maps) for question in questions}
    if len(methods) != 1 or len(two := methods.pop()) != 2:
        raise InputError(
            "a survey compares the same two methods in every question: give at least one question, each with maps "
            "of the same two methods."
        )
    if len(questions) > MOST:
        raise InputError(f"a survey has at most {MOST} questions, not {len(questions)}: ask fewer.")
    check_new(out)
    asked, shown = _numbered(questions)
    survey = hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:12]
    content = json.dumps({"id": survey, "title": title, "task": task, "questions": shown})
    content = content.replace("<", "\\u003c")  # so that no caption can close the <script> element
    page = (resources.files("sftgan.companion.chapters") / "survey.html").read_text(encoding="utf-8")
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
    """Give questions and maps random ids, and return the questions as the key and as the page store them."""
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


def read_key(file: Path) -> Key:
    """Read the key that ``build`` wrote.

    Parameters
    ----------
    file
        The ``key.json``.

    Returns
    -------
    Key
        The key.

    Raises
    ------
    InputError
        If the file is not a key or cannot be read.
    """
    try:
        return Key.model_validate_json(file.read_text(encoding="utf-8"))
    except ValidationError as error:
        why = _first(error)
    except (OSError, UnicodeDecodeError) as error:
        why = str(error)
    raise InputError(f"{str(file)!r} is not the key.json that `sftgan survey build` wrote ({why}).")


def read_answers(folder: Path, key: Key) -> Pooled:
    """Check and pool the answer files of a folder.

    Every file that cannot be used is reported. Incomplete answers count and are reported. If a person has
    several files, the one finished last counts. Simulated answers count only if there are no real ones.

    Parameters
    ----------
    folder
        Folder with the answer files.
    key
        Key of the survey.

    Returns
    -------
    Pooled
        The votes and the problems.

    Raises
    ------
    InputError
        If the folder is empty or cannot be read.
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
    """Return one line of text for each file with a problem."""
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
    """Return the answers in a file, or what is wrong with it."""
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
    """Return how a well-formed file contradicts the survey or itself, if it does."""
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
    """Return the first error and its place."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"


def _beside_real_ones(given: Mapping[str, Answers]) -> dict[str, str]:
    """Return what is wrong with simulated files, by name, if there are real ones too."""
    simulated = {name: "simulated, beside real answers" for name, of in given.items() if of.simulated}
    return simulated if len(simulated) < len(given) else {}


def _repeated(given: Mapping[str, Answers]) -> dict[str, str]:
    """Return what is wrong with files, by name, that repeat the answers or the person of another."""
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


def check_simulated(n_persons: int, preference: float, tie: float, fewest: int = 1) -> None:
    """Check the arguments of ``simulate``.

    Parameters
    ----------
    n_persons
        Number of persons.
    preference
        Probability that a vote which is not a tie is for the first method.
    tie
        Probability of a tie.
    fewest
        Smallest number of persons.

    Raises
    ------
    InputError
        If ``n_persons`` is not a whole number of at least ``fewest``, or another value is not a probability.

    Examples
    --------
    >>> check_simulated(10, preference=0.7, tie=1.5)
    Traceback (most recent call last):
    sftgan.errors.InputError: tie is 1.5: give a probability, from 0 to 1.
    """
    if isinstance(n_persons, bool) or not isinstance(n_persons, int) or n_persons < fewest:
        raise InputError(f"n_persons is {n_persons!r}: give a whole number of at least {fewest}.")
    for name, chance in (("preference", preference), ("tie", tie)):
        if isinstance(chance, bool) or not isinstance(chance, int | float) or not 0 <= chance <= 1:
            raise InputError(f"{name} is {chance!r}: give a probability, from 0 to 1.")


def simulate(key: Key, n_persons: int, preference: float, tie: float, out: Path, seed: int = 0) -> None:
    """Write the answer files of simulated persons to test the analysis; they are marked as simulated.

    Parameters
    ----------
    key
        Key of the survey.
    n_persons
        Number of persons.
    preference
        Probability that a vote which is not a tie is for the first method.
    tie
        Probability that a vote is a tie.
    out
        Folder to write to; it is created if it does not exist.
    seed
        Seed of the votes.

    Raises
    ------
    InputError
        If ``n_persons`` is not a whole number of at least 1, or another value is not a probability.
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


def questions(study: Study, methods: Sequence[str], n: int, task: str = "classification") -> list[Question]:
    """Make survey questions from random images, each with the maps of several methods (section 6).

    The seed picks the images. For classification, they are spread evenly over the selected pairs, and the
    seed also picks the pairs that get one more. The maps explain the predicted class, right or wrong. For
    captioning, they explain the subject of the written caption.

    Parameters
    ----------
    study
        Run whose maps are shown.
    methods
        Methods to compare.
    n
        Number of questions.
    task
        "classification" or "captioning".

    Returns
    -------
    list[Question]
        The n questions.

    Raises
    ------
    InputError
        If a name is unknown, ``n`` is not a whole number of at least 1, or the run has fewer images.
    """
    check_name(task, ("classification", "captioning"), "task")
    check_counts(questions=n)
    found = (
        _caption_questions(study, methods, n) if task == "captioning" else _class_questions(study, methods, n)
    )
    if len(found) < n:
        raise InputError(f"this run has images for {len(found)} of {n} questions: ask for fewer.")
    return found


def _class_questions(study: Study, methods: Sequence[str], n: int) -> list[Question]:
    rng, found, pairs = np.random.default_rng(study.seed), [], study.pairs()
    one_more = set(rng.permutation(len(pairs))[: n % len(pairs)].tolist())
    for k, pair in enumerate(pairs):
        explained, maps = study.explained_images(*pair, "test"), study.maps(*pair)
        two = {check_name(method, maps, "method"): maps[method] for method in methods}
        classes = study.image_data(pair[0]).classes
        share = n // len(pairs) + (k in one_more)
        for i in rng.permutation(len(explained.labels))[:share].tolist():
            caption = classes[explained.predictions[i]]
            found.append(
                Question(
                    explained.examples.images[i], caption, {method: drawn[i] for method, drawn in two.items()}
                )
            )
    return found


def _caption_questions(study: Study, methods: Sequence[str], n: int) -> list[Question]:
    found: list[Question] = []
    test = study.captions().test
    for image in np.random.default_rng(study.seed).permutation(len(test)).tolist():
        if len(found) == n:
            break
        caption, maps = captioning.caption_maps(study, image)
        role_of = roles(caption, study.captions().source)
        if "subject" in role_of:
            at = role_of.index("subject")
            two = {check_name(method, maps, "method"): maps[method][at] for method in methods}
            found.append(Question(test.batch(image), f"“{' '.join(caption)}”: the word “{caption[at]}”", two))
    return found
