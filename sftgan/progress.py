"""Progress of CNNs and GANs in their training, compared with the paper (sections 4.1.1 and 4.3.3)."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from sftgan import metrics
from sftgan.bootstrap import proportion_ci
from sftgan.claims import UNTESTED
from sftgan.paper import ANIMALS10_ACCURACY, CHINESE_MNIST_ACCURACY, CNN_ACCURACIES, verdict
from sftgan.study import Study
from sftgan.training import TrainedGAN


def accuracy_claims(accuracies: pd.DataFrame, strategies: Mapping[str, str]) -> pd.DataFrame:
    """Judge the accuracies that section 4.1.1 claims.

    For the first strategy, each CNN is claimed to exceed a bound. For the second, each architecture is
    claimed to exceed one on average over the data sets. For Chinese MNIST and Animals-10 the paper gives the
    average over the CNNs.

    Parameters
    ----------
    accuracies
        Frame of ``experiments.accuracies``.
    strategies
        Strategy of each data set.

    Returns
    -------
    pd.DataFrame
        One row for each claim with data. ``low`` and ``high`` are a 95 % Wilson interval, in which images
        that several CNNs share count once.
    """
    strategy = accuracies["dataset"].map(strategies)
    similar, dissimilar = (accuracies[strategy == name] for name in ("similar", "dissimilar"))
    claimed = [
        ("every CNN exceeds it", part, CNN_ACCURACIES["similar"]) for _, part in similar.groupby(level=0)
    ]
    claimed += [
        ("every CNN exceeds it, averaged over the data sets", part, CNN_ACCURACIES["dissimilar"])
        for _, part in dissimilar.groupby("arch", sort=False)
    ]
    claimed += [
        (
            f"{name} reaches it, averaged over the CNNs",
            accuracies[accuracies["dataset"] == dataset],
            published.value,
        )
        for dataset, name, published in (
            ("chinese_mnist", "Chinese MNIST", CHINESE_MNIST_ACCURACY),
            ("animals10", "Animals-10", ANIMALS10_ACCURACY),
        )
    ]
    rows = []
    for claim, part, published in claimed:
        if part.empty:
            continue
        n = int(part.groupby("dataset")["test images"].first().sum())
        low, high = proportion_ci(part["accuracy"].mean(), n)
        rows.append({
            "claim": claim, "data here": "; ".join(part["data"].unique()), "CNN": ", ".join(part["arch"].unique()),
            "images": n, "published": published, "accuracy": part["accuracy"].mean(), "low": low, "high": high,
            "verdict": verdict(low - published, high - published),
        })  # fmt: skip
    return pd.DataFrame(rows)


def progress(study: Study, gan: TrainedGAN, dataset: str) -> pd.DataFrame:
    """Compute the learning curve of a GAN on the watched examples of one data set (section 4.3.3).

    Parameters
    ----------
    study
        Run that the GAN belongs to.
    gan
        GAN with previews of the watched examples.
    dataset
        Data set of the watched examples.

    Returns
    -------
    pd.DataFrame
        One row for each epoch, from 0 (untrained), with ``step`` and ``dice``, the mean Dice with Grad-CAM.
    """
    overlap = [
        torch.stack(
            [metrics.dice(metrics.binarise(maps), truth) for maps in study.previews(gan, dataset, arch)]
        )
        for arch, truth in _watched(study, dataset).items()
    ]
    return gan.epochs.assign(dice=torch.cat(overlap, dim=1).mean(1).numpy())


def mean_map_dice(study: Study, dataset: str) -> float:
    """Compute the Dice with Grad-CAM of the mean map, which is the same for every image.

    It is a reference for ``progress`` and uses the same examples.

    Parameters
    ----------
    study
        Run that provides the examples.
    dataset
        Data set of the watched examples.

    Returns
    -------
    float
        Mean over all watched examples and CNNs.
    """
    overlap = []
    for arch, truth in _watched(study, dataset).items():
        mean = study.explained(dataset, arch, "train").examples.targets.mean(0)
        overlap.append(metrics.dice(metrics.binarise(mean).expand_as(truth), truth))
    return torch.cat(overlap).mean().item()


def _watched(study: Study, dataset: str) -> dict[str, torch.Tensor]:
    """The binarised targets of the watched examples, by CNN."""
    return {
        arch: metrics.binarise(study.explained(dataset, arch, "watched").examples.targets)
        for arch in study.profile.cnns
    }


def first_to_reach(curves: Mapping[str, pd.DataFrame], column: str, goal: float) -> pd.DataFrame:
    """Find the first epoch and step at which each learning curve reaches a goal.

    Parameters
    ----------
    curves
        Learning curves by name, with the columns ``epoch``, ``step`` and ``column``.
    column
        Column that is to reach the goal.
    goal
        Value to reach.

    Returns
    -------
    pd.DataFrame
        One row for each curve. ``epoch`` and ``step`` are missing where the goal is never reached. The goal
        was reached after the previous measurement, ``after epoch`` and ``after step``. The curve ends at
        ``epochs`` and ``steps``.
    """
    rows = []
    for name, curve in curves.items():
        reached = np.flatnonzero(curve[column] >= goal)
        at = reached[0] if len(reached) else None
        row = {"trained on": name, "goal": goal}
        for unit in ("epoch", "step"):
            row[f"after {unit}"] = pd.NA if at is None else curve[unit].iloc[max(at - 1, 0)]
            row |= {unit: pd.NA if at is None else curve[unit].iloc[at], f"{unit}s": curve[unit].iloc[-1]}
        rows.append(row)
    return pd.DataFrame(rows)


def sooner(first: pd.Series, second: pd.Series, unit: str) -> str:
    """Judge the claim that one curve reaches the goal in fewer epochs or steps than another.

    Parameters
    ----------
    first
        Row of ``first_to_reach`` for the curve that is claimed to be faster.
    second
        Row of ``first_to_reach`` for the other curve.
    unit
        "epoch" or "step".

    Returns
    -------
    str
        "holds", "does not hold", or "cannot be tested here" if a curve ends too early or is measured too
        rarely.

    Examples
    --------
    >>> import pandas as pd
    >>> fast, slow = (pd.DataFrame({"epoch": range(4), "step": range(4), "dice": dice})
    ...               for dice in ([0.1, 0.6, 0.7, 0.7], [0.1, 0.2, 0.3, 0.6]))
    >>> reached = first_to_reach({"fast": fast, "slow": slow}, "dice", 0.5)
    >>> sooner(reached.iloc[0], reached.iloc[1], "epoch")
    'holds'
    """
    if _surely_before(first, second, unit):
        return "holds"
    if _surely_before(second, first, unit):
        return "does not hold"
    return UNTESTED


def _surely_before(first: pd.Series, second: pd.Series, unit: str) -> bool:
    """Whether ``first`` reached the goal by a time when ``second`` was measured and had not."""
    if pd.isna(first[unit]):
        return False
    return first[unit] <= (second[f"{unit}s"] if pd.isna(second[unit]) else second[f"after {unit}"])
