"""Generators as students of expensive maps: can they replace a map that is noisy with few samples?

One architecture is left out at a time. Its images are of classes that no student has seen.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import pandas as pd
from torch import Tensor

from sftgan import metrics
from sftgan.companion.chapters.students import (
    DRAWN,
    FEW,
    FREE_INPUTS,
    INPUTS,
    SCORED,
    STUDENT,
    TAUGHT,
    TIMED,
    WITH,
    WITHOUT,
)
from sftgan.companion.data.registry import REGISTRY
from sftgan.companion.report import claims, statistics, tables
from sftgan.companion.report.claims import Ordering
from sftgan.companion.study import frames
from sftgan.companion.study.cache import Config
from sftgan.companion.study.methods import SAMPLED, TEACHERS
from sftgan.companion.study.stages import EXPLAINED
from sftgan.companion.study.study import Study
from sftgan.errors import InputError, check_name
from sftgan.gan.training import GANRecipe

STUDENT_KINDS = {"LSFT": ("lsft", "sft"), "GSFT": ("gsft", "sft"), "CNN": ("lsft", "concatenation")}
"""The students: ``kind`` and ``modulation`` of their recipes. CNN is a plain net with about as many parameters."""
STUDENT_CONTROLS = tuple(f"linear: {i.removeprefix('image + ')}" for i in (WITHOUT, WITH)) + (
    "mean map", "Grad-CAM", "mean activation",
)  # fmt: skip
LEAST_ACCURACY, LEAST_CNNS = 0.6, 4
GO, NO_GO = "go", "no-go"
TOY = (
    "This run is of the profile smoke and a toy: a handful of images and of training steps. It shows that everything "
    "runs, and settles nothing by itself"
)
EARNEST = "This run is of the profile {} and in earnest, with one training of each student"


@dataclass(frozen=True)
class Sizes:
    """The sizes of the trial.

    Attributes
    ----------
    kinds
        Students, some of ``STUDENT_KINDS``.
    train
        Number of training images of each CNN.
    test
        Number of test images of each CNN.
    side
        Side of the students' inputs in pixels.
    width
        Width of the students.
    epochs
        Number of epochs of each training.
    batch
        Number of examples in a batch.
    lr
        Learning rate.
    trainings
        Number of trainings of each student, each with its own seed.
    few
        Samples of each teacher that is to be imitated.
    many
        Samples of each teacher that stands for the truth.
    steps
        Number of steps of insertion and deletion.
    timed
        Number of images for the times.
    """

    kinds: tuple[str, ...]
    train: int
    test: int
    side: int
    width: int
    epochs: int
    batch: int
    lr: float
    trainings: int
    few: Mapping[str, int]
    many: Mapping[str, int]
    steps: int
    timed: int


SIZES = {
    "smoke": Sizes(
        ("LSFT", "CNN"), train=8, test=8, side=16, width=4, epochs=1, batch=6, lr=1e-2, trainings=1,
        few={"SmoothGrad": 4, "RISE": 16}, many={"SmoothGrad": 32, "RISE": 128}, steps=4, timed=2,
    ),
    "cpu": Sizes(
        ("LSFT", "CNN"), train=80, test=40, side=32, width=8, epochs=4, batch=8, lr=2e-3, trainings=3,
        few={"SmoothGrad": 5, "RISE": 64}, many={"SmoothGrad": 50, "RISE": 512}, steps=10, timed=8,
    ),
    "paper": Sizes(
        tuple(STUDENT_KINDS), train=1000, test=200, side=64, width=64, epochs=20, batch=16, lr=2e-4, trainings=3,
        few={"SmoothGrad": 5, "RISE": 200}, many={"SmoothGrad": 100, "RISE": 8000}, steps=20, timed=8,
    ),
}  # fmt: skip
"""The sizes by profile."""


def sizes(study: Study, **given: Any) -> Sizes:
    """Return the sizes of the study's profile, with some of them replaced.

    Parameters
    ----------
    study
        Run whose profile is used.
    **given
        Fields of ``Sizes`` to replace; None keeps the profile's value.

    Returns
    -------
    Sizes
        The sizes.

    Raises
    ------
    InputError
        If a student is unknown, a number is not above 0, or the samples are not given for all of ``SAMPLED``.
    """
    chosen = replace(SIZES[study.profile.name], **{name: v for name, v in given.items() if v is not None})
    for kind in chosen.kinds:
        check_name(kind, STUDENT_KINDS, "student")
    for name, value in {**asdict(chosen), **chosen.few, **chosen.many}.items():
        if isinstance(value, int | float) and not value > 0:
            raise InputError(f"{name} is {value!r}: give a number above 0.")
    for samples in (chosen.few, chosen.many):
        if set(samples) != set(SAMPLED):
            raise InputError(
                f"samples are given for {', '.join(samples)}: give them for {', '.join(SAMPLED)}."
            )
    return chosen


def note(study: Study) -> str:
    """Return a sentence that says what a run of the study's profile can show."""
    name = study.profile.name
    return TOY if name == "smoke" else EARNEST.format(name)


def student_configs(kinds: Iterable[str]) -> list[tuple[str, str]]:
    """List the students of some kinds; only the plain CNN can do without conditions.

    Parameters
    ----------
    kinds
        Names in ``STUDENT_KINDS``.

    Returns
    -------
    list[tuple[str, str]]
        Kind and inputs of each student.

    Examples
    --------
    >>> len(student_configs(["LSFT"])), len(student_configs(["CNN"]))
    (3, 4)
    """
    return [(kind, inputs) for kind in kinds for inputs in INPUTS if INPUTS[inputs] or kind == "CNN"]


def named(kind: str, inputs: str) -> str:
    """Return the name of a student, which consists of its kind and its inputs."""
    return f"{kind}: {inputs}"


def cnns(study: Study, dataset: str) -> pd.DataFrame:
    """Measure all CNNs of the profile on a data set and decide which take part.

    Parameters
    ----------
    study
        Run whose CNNs are measured.
    dataset
        Data set.

    Returns
    -------
    pd.DataFrame
        Rows of ``frames.accuracies``. ``kept`` is False for a CNN that is right on less than
        ``LEAST_ACCURACY`` of the test images.
    """
    extra = [
        (pair.dataset, pair.arch)
        for pair in study.profile.extra
        if pair.dataset == dataset and REGISTRY[dataset].semantics != "overfitted"
    ]
    found = frames.accuracies(study, [*study.all_pairs([dataset]), *extra])
    return found.assign(kept=found["accuracy"] >= LEAST_ACCURACY)


def kept(study: Study, dataset: str) -> list[str]:
    """List the CNNs that take part.

    Parameters
    ----------
    study
        Run whose CNNs are measured.
    dataset
        Data set.

    Returns
    -------
    list[str]
        Architectures, at least two.

    Raises
    ------
    InputError
        If fewer than two CNNs are accurate enough.
    """
    found = cnns(study, dataset)
    archs = found.loc[found["kept"], "arch"].tolist()
    if len(archs) < 2:
        raise InputError(
            f"{len(archs)} CNN(s) on {dataset} reach an accuracy of {LEAST_ACCURACY:g}, but at least two are needed, "
            "as one is left out at a time: train the CNNs for longer, or choose another data set."
        )
    return archs


def measure(study: Study, dataset: str, own: Sizes) -> pd.DataFrame:
    """Train the students of each teacher without one CNN at a time, and measure their maps for that CNN.

    Parameters
    ----------
    study
        Run whose CNNs are explained.
    dataset
        Data set.
    own
        Sizes of the trial.

    Returns
    -------
    pd.DataFrame
        One row for each teacher, left-out CNN (``arch``), training (``seed``), method and test image, with
        ``metrics.measures`` and ``students.areas``. ``student`` and ``inputs`` are the two parts of a
        student's name; they are missing for controls and teachers.

    Raises
    ------
    InputError
        If fewer than two CNNs are accurate enough.
    """
    archs = kept(study, dataset)
    cells = {
        (teacher, arch, training): _cell(study, dataset, archs, teacher, arch, own, training)
        for teacher, arch, training in product(TEACHERS, archs, range(own.trainings))
    }
    _prepare(study, list(cells.values()))
    frames = SCORED.all(cells.values(), study.runtime)
    parts = [
        frame.assign(teacher=teacher, arch=arch, seed=study.seed + training)
        for (teacher, arch, training), frame in zip(cells, frames, strict=True)
    ]
    made_of = {named(*student): student for student in student_configs(STUDENT_KINDS)}
    found = pd.concat(parts, ignore_index=True)
    of = found["method"].map(made_of)
    return found.assign(
        student=of.str[0], inputs=of.str[1], dataset=dataset, data=study.labels()[dataset],
        profile=study.profile.name,
    )  # fmt: skip


def drawn(study: Study, dataset: str, teacher: str, arch: str, own: Sizes) -> dict[str, Tensor]:
    """Compute the maps of every method for the test images of a CNN that no student was trained on.

    The students are those of the first training.

    Parameters
    ----------
    study
        Run whose CNNs are explained.
    dataset
        Data set.
    teacher
        Name of the teacher.
    arch
        Architecture of the left-out CNN.
    own
        Sizes of the trial.

    Returns
    -------
    dict[str, Tensor]
        Maps (n, H, W) in [0, 1] of each method.

    Raises
    ------
    InputError
        If the teacher is unknown, or the CNN does not take part.
    """
    check_name(teacher, TEACHERS, "teacher")
    return DRAWN(_cell(study, dataset, kept(study, dataset), teacher, arch, own), study.runtime)


def times(study: Study, dataset: str, own: Sizes) -> pd.DataFrame:
    """Measure the CPU seconds per image of every method.

    A student's time is that of its inputs plus that of its network. Grad-CAM is a by-product of the CGMAs and
    costs nothing beside them.

    Parameters
    ----------
    study
        Run whose CNNs are explained.
    dataset
        Data set.
    own
        Sizes of the trial.

    Returns
    -------
    pd.DataFrame
        One row for each ``teacher``, CNN (``arch``) and ``method``. ``ratio`` is the time of the few-sample
        teacher divided by ``seconds``.
    """
    archs, rows = kept(study, dataset), []
    for arch in archs:
        cells = {teacher: _cell(study, dataset, archs, teacher, arch, own) for teacher in TEACHERS}
        any_cell = cells[TEACHERS[0]]
        nets = {kind: any_cell["students"][named(kind, WITH)] for kind in own.kinds}
        config = {
            "title": f"times of {arch}", "explained": any_cell["test"]["explained"], "nets": nets,
            "few": dict(own.few), "timed": own.timed, "seed": study.seed,
        }  # fmt: skip
        taken = TIMED(config, study.runtime).set_index("what")["seconds"]
        for teacher in TEACHERS:
            methods = {named(k, i): taken[k] + _reading_time(taken, i) for k, i in student_configs(own.kinds)}
            methods |= {name: taken[name] for name in FREE_INPUTS[:2]} | {FEW: taken[teacher]}
            rows += [
                [teacher, arch, name, seconds, taken[teacher] / seconds] for name, seconds in methods.items()
            ]
    return pd.DataFrame(rows, columns=["teacher", "arch", "method", "seconds", "ratio"])


def decision(frame: pd.DataFrame) -> pd.DataFrame:
    """Decide for each teacher whether CGMAs help its students: "go" or "no-go".

    The difference is r of the students with CGMAs minus r of the same students without them. It takes the
    students' mean for each image, on CNNs that none of them was trained on, pooled over these CNNs. The
    decision is "go" if the whole 95 % interval, over trainings and images, lies above 0, and p is below 0.05
    after Holm's correction over the teachers. Otherwise it is "no-go". The question "cannot be tested here"
    with fewer than ``LEAST_CNNS`` CNNs, or if the students have learned too little: neither those with nor
    those without CGMAs exceed the mean map's r.

    Parameters
    ----------
    frame
        Frame of ``measure``.

    Returns
    -------
    pd.DataFrame
        One row of ``statistics.differences`` for each teacher, with ``decision``.
    """
    pairs = _with_and_without(frame)
    keys = statistics.with_seed(frame, ["teacher", "dataset", "arch", "image", "method"])
    pooled = pairs.groupby(keys, sort=False)["r"].mean().reset_index()
    found = statistics.holm(statistics.differences(pooled, "r", WITH, [WITHOUT], by=["teacher"]))
    best = pooled.groupby(["teacher", "method"])["r"].mean().groupby("teacher").max()
    learned = best > frame[frame["method"] == "mean map"].groupby("teacher")["r"].mean()
    testable = found["teacher"].map(learned) & (frame["arch"].nunique() >= LEAST_CNNS)
    words = found["verdict"].map({"holds": GO}).fillna(NO_GO)
    return found.assign(decision=words.where(testable, claims.UNTESTED))


def failed(frame: pd.DataFrame) -> pd.DataFrame:
    """Count the trainings of the deciding students that end below the mean map's r.

    Parameters
    ----------
    frame
        Frame of ``measure``.

    Returns
    -------
    pd.DataFrame
        One row for each ``teacher`` and ``inputs``: the number "below the mean map", and of all
        ``trainings``.
    """
    by = ["teacher", "arch", "seed"]
    r = _with_and_without(frame).groupby([*by, "inputs", "student"], sort=False)["r"].mean().reset_index()
    of_mean = frame[frame["method"] == "mean map"].groupby(by)["r"].mean().rename("mean map").reset_index()
    r = r.merge(of_mean, on=by)
    below = (r["r"] < r["mean map"]).groupby([r["teacher"], r["inputs"]], sort=False).agg(["sum", "size"])
    return below.reset_index().rename(columns={"sum": "below the mean map", "size": "trainings"})


def decided(decision: pd.DataFrame) -> str:
    """Return all decisions of ``decision`` in one line of text."""
    words = decision.groupby("decision", sort=False)["teacher"].agg(", ".join)
    return "; ".join(f"{word} for {teachers}" for word, teachers in words.items())


def by_student(frame: pd.DataFrame, value: str = "r") -> pd.DataFrame:
    """Compare each student with and without CGMAs, to see which of them the difference comes from.

    Parameters
    ----------
    frame
        Frame of ``measure``.
    value
        Measure to compare.

    Returns
    -------
    pd.DataFrame
        One row of ``statistics.differences`` for each teacher and student.
    """
    return statistics.differences(_with_and_without(frame), value, WITH, [WITHOUT], by=["teacher", "student"])


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Summarise the measures as text: means with 95 % intervals.

    Parameters
    ----------
    frame
        Frame of ``measure``.

    Returns
    -------
    pd.DataFrame
        One row for each teacher and method: r, skill, Dice, insertion and deletion.
    """
    by = ["teacher", "method"]
    found = tables.means_as_text(frame, ["r", "dice", "insertion", "deletion"], by)
    errors = ["squared error", "error of the mean map"]
    over_mean = statistics.means(frame, errors, by, metrics.skill)
    found.insert(3, "skill", tables.with_intervals(over_mean))
    return found


def against_teacher(frame: pd.DataFrame) -> pd.DataFrame:
    """Compare the insertion and deletion areas of each student with those of its own few-sample teacher.

    Parameters
    ----------
    frame
        Frame of ``measure``.

    Returns
    -------
    pd.DataFrame
        One row of ``statistics.differences`` (student minus teacher, paired over images) for each teacher,
        student (``method``) and ``measure``.
    """
    trained, parts = student_configs(frame["student"].dropna().unique()), []
    for measure, (_, part) in product(("insertion", "deletion"), frame.groupby("teacher", sort=False)):
        for student in trained:
            found = statistics.differences(part, measure, named(*student), [FEW], by=["teacher"])
            parts.append(found.assign(measure=measure, method=named(*student)))
    return pd.concat(parts, ignore_index=True)


def traded(frame: pd.DataFrame, taken: pd.DataFrame) -> pd.DataFrame:
    """Set each student's loss of quality beside its gain in time.

    Parameters
    ----------
    frame
        Frame of ``measure``.
    taken
        Frame of ``times``.

    Returns
    -------
    pd.DataFrame
        One row for each teacher and student: the differences of ``against_teacher`` as text, and the medians
        of the times over the CNNs.
    """
    found = against_teacher(frame)
    found["text"] = tables.with_intervals(found, "difference", digits=3)
    wide = found.set_index(["teacher", "method", "measure"])["text"].unstack(sort=False)
    medians = taken.groupby(["teacher", "method"])[["seconds", "ratio"]].median()
    medians = pd.DataFrame({"ms per image": 1000 * medians["seconds"], "times as fast": medians["ratio"]})
    return wide.rename(columns=lambda name: f"{name}, difference").join(medians).reset_index()


def judged(frame: pd.DataFrame) -> pd.DataFrame:
    """Judge the questions of this chapter: first the deciding one, then the others for each teacher.

    Parameters
    ----------
    frame
        Frame of ``measure``.

    Returns
    -------
    pd.DataFrame
        Rows as those of ``claims.judge``.
    """
    decides = decision(frame).assign(data_here="; ".join(frame["data"].unique()), where="beyond the paper")
    decides = decides.rename(columns={"data_here": "data here"})
    decides["claim"] = (
        decides["teacher"] + ": CGMAs help students on an architecture that they have not seen (r)"
    )
    decides["verdict"] = decides["verdict"].where(decides["decision"] != claims.UNTESTED, claims.UNTESTED)
    kinds = frame["student"].dropna().unique()
    others = [
        claims.judge(frame[frame["teacher"] == teacher], _orderings(teacher, kinds))
        for teacher in frame["teacher"].unique()
    ]
    return pd.concat([decides, *others], ignore_index=True)[others[0].columns].astype({"n": "Int64"})


def _orderings(teacher: str, kinds: Iterable[str]) -> list[Ordering]:
    """Return the secondary questions; a teacher without samples is its own truth."""
    where, asked = "beyond the paper", []
    for kind in kinds:
        student = named(kind, WITH)
        text = f"{teacher}: {kind} with all inputs"
        asked += [
            Ordering(
                f"{text} has a larger insertion area than its teacher", where, "insertion", student, FEW
            ),
            Ordering(f"{text} has a smaller deletion area than its teacher", where, "deletion", FEW, student),
        ]
        if teacher in SAMPLED:
            asked.append(
                Ordering(f"{text} is nearer to the truth than its teacher (r)", where, "r", student, FEW)
            )
        asked += [
            Ordering(f"{text} is nearer to the truth than {other} (r)", where, "r", student, other)
            for other in (*STUDENT_CONTROLS, named("CNN", "image"))
        ]
    return asked


def _with_and_without(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["inputs"].isin([WITH, WITHOUT])].assign(method=lambda part: part["inputs"])


def _reading_time(taken: pd.Series, inputs: str) -> float:
    names = set(INPUTS[inputs])
    return float(taken[[*(names - {"Grad-CAM"} if "CGMAs" in names else names)]].sum())


def _source(study: Study, dataset: str, arch: str, part: str, teacher: str, own: Sizes) -> Config:
    explained = study.case(dataset, arch, kinds=())[part]

    def taught(name: str, samples: int | None, stream: int) -> Config:
        title = f"{name} of {samples or 'no'} samples: {explained['title']}"
        seed = 4 * study.seed + 2 * (part == "test") + stream  # so that few and many samples do not overlap
        n = getattr(own, part)
        return {
            "title": title,
            "explained": explained,
            "n": n,
            "name": name,
            "samples": samples,
            "seed": seed,
        }

    found = {
        "explained": explained,
        "gradient": taught("input gradient", None, 0),
        "few": taught(teacher, own.few.get(teacher), 0),
    }
    if part == "test":
        found["many"] = taught(teacher, own.many.get(teacher), int(teacher in SAMPLED))
    return found


def _cell(
    study: Study, dataset: str, archs: list[str], teacher: str, arch: str, own: Sizes, training: int = 0
) -> Config:
    """Return the configuration of one teacher, one left-out CNN and one training of each student."""
    check_name(arch, archs, "architecture")
    train = [_source(study, dataset, other, "train", teacher, own) for other in archs if other != arch]
    eta = len(FREE_INPUTS) + study.profile.condition_spec().channels
    title = f"{teacher} without {arch}"
    trained = {}
    for kind, inputs in student_configs(own.kinds):
        kind_name, modulation = STUDENT_KINDS[kind]
        recipe = GANRecipe(
            kind_name, eta, own.width, own.epochs, own.batch, own.lr, adversarial="off", modulation=modulation
        )
        trained[named(kind, inputs)] = {
            "title": f"{named(kind, inputs)}, {title}", "train": train, "inputs": inputs, "side": own.side,
            "recipe": asdict(recipe), "seed": study.seed + training,
        }  # fmt: skip
    test = _source(study, dataset, arch, "test", teacher, own)
    return {
        "title": title, "test": test, "train": train, "students": trained, "side": own.side, "steps": own.steps,
    }  # fmt: skip


def _prepare(study: Study, cells: list[Config]) -> None:
    """Compute every stage that the cells need, in parallel where several processes may run."""
    sources = [source for cell in cells for source in (cell["test"], *cell["train"])]
    EXPLAINED.fill((source["explained"] for source in sources), study.runtime)
    maps = (source[name] for source in sources for name in ("gradient", "few", "many") if name in source)
    TAUGHT.fill(maps, study.runtime)
    STUDENT.fill([student for cell in cells for student in cell["students"].values()], study.runtime)
    DRAWN.fill(cells, study.runtime)
