"""The paper's measurements as tidy frames, with one row for each pair, method and image."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from sftgan import metrics
from sftgan.cams.gradcam import layer_cams
from sftgan.companion.study.cache import Config, Stage
from sftgan.companion.study.study import Study
from sftgan.controls import CONTROLS
from sftgan.errors import InputError
from sftgan.gan.networks import count_parameters
from sftgan.intervals import proportion_ci

METHODS = ("LSFT", "GSFT", "Grad-CAM", *CONTROLS)
TRUTHS = ("object", "Grad-CAM")
Case = tuple[str, str, str]
"""A data set, a CNN, and the strategy whose GANs explain it."""


def selected(study: Study) -> list[Case]:
    """List the selected pairs, each with its own strategy.

    Parameters
    ----------
    study
        Run with a selection of data sets and CNNs.

    Returns
    -------
    list[Case]
        One case for each pair.
    """
    return [(dataset, arch, study.strategy(dataset)) for dataset, arch in study.pairs()]


def accuracies(study: Study, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Measure the size and the test accuracy of CNNs.

    Parameters
    ----------
    study
        Run whose CNNs are measured.
    pairs
        Data set and CNN of each pair.

    Returns
    -------
    pd.DataFrame
        One row for each CNN. ``N`` is its number of convolutions; ``low`` and ``high`` are the 95 % Wilson
        interval of its ``accuracy``.
    """
    rows = []
    for (dataset, arch), fitted in study.classifiers(pairs).items():
        image = study.image_data(dataset, arch).test.batch(slice(0, 1))
        n = int(fitted.confusion.sum())
        low, high = proportion_ci(fitted.test_accuracy, n)
        rows.append({
            "data": study.labels()[dataset],
            "dataset": dataset,
            "arch": arch,
            "parameters": count_parameters(fitted.model),
            "N": len(layer_cams(fitted.model, image).names),
            "classes": len(fitted.confusion),
            "test images": n,
            "accuracy": fitted.test_accuracy,
            "low": low,
            "high": high,
        })  # fmt: skip
    return pd.DataFrame(rows)


def over_seeds(study: Study, measure: Callable[[Study], pd.DataFrame]) -> pd.DataFrame:
    """Repeat a measurement over the study's replicates.

    The GANs that the replicates need are trained first, in as many processes as may run.

    Parameters
    ----------
    study
        Run with its replicates.
    measure
        Measurement of one replicate.

    Returns
    -------
    pd.DataFrame
        The frames of all replicates; the column ``seed`` tells them apart.
    """
    replicates = study.replicates()
    for replicate in replicates:
        for strategy in {study.strategy(dataset): None for dataset in study.datasets}:
            replicate.gans(strategy)
    return pd.concat([measure(replicate) for replicate in replicates], ignore_index=True)


def overlaps(study: Study, cases: Sequence[Case], threshold: float = 127) -> pd.DataFrame:
    """Measure the overlap of maps with ground truths for Tables 1 and 2 (sections 4.2.1 and 4.2.2).

    The ground truths are the object and the binarised Grad-CAM. Where the object is unknown, as on
    photographs, Grad-CAM is the only one.

    Parameters
    ----------
    study
        Run whose maps are measured.
    cases
        Data set, CNN and strategy of each case.
    threshold
        Grey level from 0 to 255 above which a pixel is foreground.

    Returns
    -------
    pd.DataFrame
        One row for each case, method, ``truth`` and image: ``tp``, ``tn``, ``fp``, ``fn`` in pixels, and
        ``dice``.

    Raises
    ------
    InputError
        If ``threshold`` is not a grey level from 0 to 255.
    """
    frames = []
    for case in cases:
        explained = study.explained_images(*case[:2], "test")
        truths = {"Grad-CAM": metrics.binarise(explained.examples.targets, threshold)}
        if explained.masks is not None:
            truths = {"object": explained.masks} | truths
        for method, maps in study.maps(*case).items():
            foreground = metrics.binarise(maps, threshold)
            for truth, mask in truths.items():
                columns = metrics.confusion(foreground, mask) | {"dice": metrics.dice(foreground, mask)}
                frame = pd.DataFrame({name: values.numpy() for name, values in columns.items()})
                frames.append(with_origin(study, case, frame, method, explained.labels).assign(truth=truth))
    return pd.concat(frames, ignore_index=True)


def nearest_truth(scores: pd.DataFrame) -> pd.DataFrame:
    """Select one ground truth for each data set: the object where it is known, and Grad-CAM elsewhere.

    Parameters
    ----------
    scores
        Frame of ``scores``.

    Returns
    -------
    pd.DataFrame
        The selected rows.
    """
    known = scores.loc[scores["truth"] == "object", "dataset"].unique()
    return scores[(scores["truth"] == "object") | ~scores["dataset"].isin(known)]


def by_rule(frame: pd.DataFrame, value: str, seed: int) -> dict[str, int]:
    """Choose images of one pair by four rules: one at random, and the best, median and worst by a measure.

    The seed and the pair determine the random choice.

    Parameters
    ----------
    frame
        One row for each image of the pair, with ``dataset``, ``arch`` and ``image``.
    value
        Column with the measure; larger is better.
    seed
        Seed of the random choice.

    Returns
    -------
    dict[str, int]
        Image by rule: "drawn" (at random), "best", "median" and "worst".

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"dataset": "mnist", "arch": "vgg16", "image": range(3), "dice": [.5, .9, .1]})
    >>> chosen = by_rule(frame, "dice", seed=0)
    >>> chosen["best"], chosen["median"], chosen["worst"]
    (1, 0, 2)
    """
    ranked = frame.sort_values(value, kind="stable")["image"].to_list()
    pair = "{dataset} {arch}".format(**frame.iloc[0])
    drawn = int(np.random.default_rng([seed, *pair.encode()]).choice(sorted(ranked)))
    return {"drawn": drawn, "best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}


def check_counts(**counts: int) -> None:
    """Check that all counts are whole numbers of at least 1.

    Parameters
    ----------
    **counts
        Numbers to check, by the name that the message shows.

    Raises
    ------
    InputError
        If a number is not a whole number of at least 1.

    Examples
    --------
    >>> check_counts(n_images=0)
    Traceback (most recent call last):
    sftgan.errors.InputError: n_images is 0: give a whole number of at least 1.
    """
    for name, n in counts.items():
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise InputError(f"{name} is {n!r}: give a whole number of at least 1.")


def with_origin(study: Study, case: Case, frame: pd.DataFrame, method: str, labels: Tensor) -> pd.DataFrame:
    """Add columns to a frame with one row for each image that say what it is about."""
    dataset, arch, strategy = case
    source = next(row["source"] for row in study.data_sources() if row["dataset"] == dataset)
    return frame.assign(
        image=range(len(frame)), label=labels.numpy(), method=method, dataset=dataset, arch=arch, strategy=strategy,
        data=study.labels()[dataset], source=source, profile=study.profile.name, seed=study.seed,
    )  # fmt: skip


def pooled(study: Study, stage: Stage, cases: Sequence[Case], own: Config) -> pd.DataFrame:
    """Compute a stage for each case and concatenate its frames.

    Parameters
    ----------
    study
        Run that the cases belong to.
    stage
        Stage that returns one frame for each case.
    cases
        Data set, CNN and strategy of each case.
    own
        Parameters of the stage besides the case.

    Returns
    -------
    pd.DataFrame
        The rows of all cases, with data set, CNN, strategy, profile and seed.
    """
    configs = [{"title": f"{c[1]} on {c[0]}", "case": study.case(*c), **own} for c in cases]
    frames = stage.all(configs, study.runtime)
    names = study.labels()
    return pd.concat(
        [
            frame.assign(
                dataset=d, arch=a, strategy=s, data=names[d], profile=study.profile.name, seed=study.seed
            )
            for frame, (d, a, s) in zip(frames, cases, strict=True)
        ],
        ignore_index=True,
    )
