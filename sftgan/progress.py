"""How far CNNs and GANs come in their training, beside what the paper says (sections 4.1.1 and 4.3.3)."""

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
    """Section 4.1.1 judged by `experiments.accuracies`; strategies: data set -> its strategy.

    Of the first strategy each CNN is said to exceed a figure, of the second each architecture on average over the
    data sets; of two data sets the average over the CNNs is given. Columns: claim, data here, CNN, images, published,
    accuracy, low, high (95 % Wilson interval; images that several CNNs share count once), verdict.
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
    """Learning curve of a GAN on the watched examples of one data set: epoch, step, Dice with Grad-CAM (4.3.3)."""
    overlap = [
        torch.stack(
            [metrics.dice(metrics.binarise(maps), truth) for maps in study.previews(gan, dataset, arch)]
        )
        for arch, truth in _watched(study, dataset).items()
    ]
    return gan.epochs.assign(dice=torch.cat(overlap, dim=1).mean(1).numpy())


def mean_map_dice(study: Study, dataset: str) -> float:
    """Dice with Grad-CAM of a map that is the same for every image, on the same examples: what anybody can draw."""
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
    """For each learning curve the first epoch and step at which `column` reaches `goal`.

    Missing where it never does. "after epoch" and "after step" are the measurement before, so that the goal was
    reached in between; "epochs" and "steps" are how far the curve goes.
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
    """Judge, by two rows of `first_to_reach`, the claim that the first reaches the goal in fewer epochs or steps.

    A curve that ends too early, or is measured too seldom to tell, makes it "cannot be tested here".
    """
    if _surely_before(first, second, unit):
        return "holds"
    if _surely_before(second, first, unit):
        return "does not hold"
    return UNTESTED


def _surely_before(first: pd.Series, second: pd.Series, unit: str) -> bool:
    """Whether `first` has reached the goal by a time at which `second` was measured and had not."""
    if pd.isna(first[unit]):
        return False
    return first[unit] <= (second[f"{unit}s"] if pd.isna(second[unit]) else second[f"after {unit}"])
