"""Progress of CNNs and GANs in their training, compared with the paper (sections 4.1.1 and 4.3.3)."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from sftgan import metrics
from sftgan.companion.fitting.classifiers import ClassifierRecipe
from sftgan.companion.report import tables
from sftgan.companion.report.claims import UNTESTED
from sftgan.companion.report.paper import ANIMALS10_ACCURACY, CHINESE_MNIST_ACCURACY, CNN_ACCURACIES
from sftgan.companion.report.statistics import verdict
from sftgan.companion.study.profile import Profile
from sftgan.companion.study.stages import CLASSIFIER
from sftgan.companion.study.study import Pair, Study
from sftgan.gan.networks import count_parameters
from sftgan.gan.training import TrainedGAN
from sftgan.intervals import proportion_ci


def accuracy_claims(accuracies: pd.DataFrame, strategies: Mapping[str, str]) -> pd.DataFrame:
    """Judge the accuracies that section 4.1.1 claims.

    For the first strategy, each CNN is claimed to exceed a bound. For the second, each architecture is
    claimed to exceed one on average over the data sets. For Chinese MNIST and Animals-10 the paper gives the
    average over the CNNs.

    Parameters
    ----------
    accuracies
        Frame of ``frames.accuracies``.
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
    return pd.DataFrame(gan.epochs).assign(dice=torch.cat(overlap, dim=1).mean(1).numpy())


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
        mean = study.explained_images(dataset, arch, "train").examples.targets.mean(0)
        overlap.append(metrics.dice(metrics.binarise(mean).expand_as(truth), truth))
    return torch.cat(overlap).mean().item()


def _watched(study: Study, dataset: str) -> dict[str, torch.Tensor]:
    """The binarised targets of the watched examples, by CNN."""
    return {
        arch: metrics.binarise(study.explained_images(dataset, arch, "watched").examples.targets)
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


VARIED = ("width", "training images")
"""The quantities that ``limits`` varies."""


def widths(profile: Profile) -> list[float]:
    """Return the widths to compare: half the profile's CNN width, the same, and double, at most 1.

    Parameters
    ----------
    profile
        Profile of the run.

    Returns
    -------
    list[float]
        Widths in ascending order. Pretrained CNNs have one width only.
    """
    own = profile.cnn_width
    return [own] if profile.pretrained else sorted({own / 2, own, min(1.0, 2 * own)})


def limits(
    study: Study, dataset: str, arch: str, widths: Sequence[float], shares: Sequence[float]
) -> pd.DataFrame:
    """Measure the test accuracy of a CNN by its width and by its number of training images.

    The width varies with all training images, and the number of training images varies at the profile's
    width. The test images are always the same. A share of the training images gets as many more epochs, so
    the number of steps stays the same.

    Parameters
    ----------
    study
        Run that provides the data; its own CNN is in both series.
    dataset
        Data set.
    arch
        Architecture of the CNN.
    widths
        Widths of the CNNs.
    shares
        Shares of the training images, in (0, 1].

    Returns
    -------
    pd.DataFrame
        One row for each fit, with ``varied``, the series, and a 95 % Wilson interval of ``accuracy``.
        ``chance`` is the accuracy of guessing. ``reference`` is the accuracy of the profile's best CNN with
        ImageNet weights, outside the strategies, on this data set; NaN if there is none.
    """
    wider = [Study(study.profile.name, study.seed, **study.overrides | {"cnn_width": w}) for w in widths]
    fewer = [_with_share(study, dataset, arch, share) for share in shares]
    configs = [variant.case(dataset, arch, kinds=())["test"]["cnn"] for variant in wider + fewer]
    CLASSIFIER.fill(configs, study.runtime)
    strong = [(x.dataset, x.arch) for x in study.profile.extra if x.dataset == dataset and x.pretrained]
    reference = max((f.test_accuracy for f in study.classifiers(strong).values()), default=np.nan)
    rows = []
    for varied, variants in zip(VARIED, (wider, fewer), strict=True):
        for variant in variants:
            (fitted,) = variant.classifiers([(dataset, arch)]).values()
            n = int(fitted.confusion.sum())
            low, high = proportion_ci(fitted.test_accuracy, n)
            rows.append({
                "data": study.labels()[dataset], "dataset": dataset, "arch": arch, "varied": varied,
                "width": variant.profile.cnn_width, "training images": len(variant.image_data(dataset).train),
                "parameters": count_parameters(fitted.model), "test images": n, "accuracy": fitted.test_accuracy,
                "low": low, "high": high, "chance": 1 / len(fitted.confusion), "reference": reference,
            })  # fmt: skip
    return pd.DataFrame(rows)


def _with_share(study: Study, dataset: str, arch: str, share: float) -> Study:
    """The study with a share of a data set's training images, and as many more epochs for ``arch``."""
    p, strategy = study.profile, study.strategy(dataset)
    if share == 1:
        return study
    sources, data = getattr(p, strategy), study.image_data(dataset)
    fewer = {"train": round(share * len(data.train)), "test": sources[dataset].test or len(data.test)}
    epochs = ClassifierRecipe(**p.cnns[arch].model_dump()).epochs_of(len(data.train))
    longer = {"epochs": round(epochs / share)}
    changed = {
        strategy: sources | {dataset: sources[dataset].model_copy(update=fewer)},
        "cnns": p.cnns | {arch: p.cnns[arch].model_copy(update=longer)},
    }
    return Study(p.name, study.seed, **study.overrides | changed)


def last_step(limits: pd.DataFrame) -> pd.DataFrame:
    """Measure the accuracy gained by the last step of each curve of ``limits``, and judge its sign.

    The 95 % interval is Newcombe's for two proportions on different images. Here the images are the same, so
    the interval is rather too wide.

    Parameters
    ----------
    limits
        Frame of ``limits``.

    Returns
    -------
    pd.DataFrame
        One row for each series with at least two fits.
    """
    rows = []
    for _, part in limits.groupby(["dataset", "arch", "varied"], sort=False):
        if len(part) > 1:
            varied = str(part["varied"].iloc[0])
            before, after = part.sort_values(varied).iloc[-2:].to_dict("records")
            gained = after["accuracy"] - before["accuracy"]
            low = gained - np.hypot(after["accuracy"] - after["low"], before["high"] - before["accuracy"])
            high = gained + np.hypot(after["high"] - after["accuracy"], before["accuracy"] - before["low"])
            named = [f"accuracy still rises with {varied}", after["data"], after["arch"]]
            step = [before[varied], after[varied], gained, low, high, verdict(low, high)]
            rows.append([*named, *step])
    columns = ["claim", "data", "arch", "from", "to", "difference", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def shown_step(step: pd.DataFrame) -> pd.DataFrame:
    """Prepare ``last_step`` for a page.

    Parameters
    ----------
    step
        Frame of ``last_step``.

    Returns
    -------
    pd.DataFrame
        The same rows, with widths, numbers of images and the interval as text.
    """
    ends = {name: step[name].map("{:g}".format) for name in ("from", "to")}
    gained = tables.with_intervals(step, "difference", digits=3)
    return step.assign(**ends, gained=gained)[["claim", "data", "arch", "from", "to", "gained", "verdict"]]


def figure(limits: pd.DataFrame) -> Figure:
    """Draw accuracy by width and by number of training images, with intervals.

    Parameters
    ----------
    limits
        Frame of ``limits``.

    Returns
    -------
    Figure
        One row of panels for each data set. Lines mark the accuracy of guessing and, where there is one, of
        the CNN with ImageNet weights.
    """
    names = list(dict.fromkeys(limits["dataset"]))
    figure, axes = plt.subplots(
        len(names),
        len(VARIED),
        figsize=(7.6, 2.7 * len(names) + 0.4),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    handles: dict[str, Artist] = {}
    for line, name in zip(axes, names, strict=True):
        for axis, varied in zip(line, VARIED, strict=True):
            _curve(axis, limits[(limits["dataset"] == name) & (limits["varied"] == varied)], varied)
            handles |= zip(*reversed(axis.get_legend_handles_labels()), strict=True)
        line[0].set_ylabel("accuracy on test images")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _curve(axis: Axes, part: pd.DataFrame, varied: str) -> None:
    """Draw one series of ``limits`` over a logarithmic axis with a tick at each point."""
    part = part.sort_values(varied)
    first, x = part.iloc[0], part[varied].to_numpy(dtype=float)
    axis.vlines(x, part["low"], part["high"], color=_BLUE, lw=2.5)
    axis.plot(x, part["accuracy"], "o-", color=_BLUE, ms=6, lw=1.5, label="this CNN")
    if pd.notna(first["reference"]):
        axis.axhline(first["reference"], color="black", ls="--", lw=1, label="a CNN with ImageNet weights")
    axis.axhline(first["chance"], color="black", ls=":", lw=1, label="guessing")
    axis.set(xscale="log", ylim=(0, 1.03), xlabel=f"{varied} (logarithmic)")
    axis.set_title(f"{first['data']}, {first['arch']}", fontsize=10)
    axis.set_xticks(x, [f"{value:g}" for value in x])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.margins(x=0.12)


_BLUE = "#0072b2"


def mixed_up(study: Study, pairs: Sequence[Pair]) -> pd.DataFrame:
    """Find the two classes that each CNN confuses most, in either direction.

    Parameters
    ----------
    study
        Run whose CNNs are examined.
    pairs
        Data set and CNN of each pair.

    Returns
    -------
    pd.DataFrame
        One row for each pair, with the number and the share of errors that these two classes make up.
        ``accuracy without these`` is the accuracy if these errors were correct.
    """
    rows = []
    for (dataset, arch), fitted in study.classifiers(pairs).items():
        names, right = study.image_data(dataset, arch).classes, int(fitted.confusion.trace())
        n = int(fitted.confusion.sum())
        both = (fitted.confusion + fitted.confusion.T).triu(1)
        a, b = divmod(int(both.argmax()), len(names))
        these = int(both.max())
        rows.append({
            "data": study.labels()[dataset], "dataset": dataset, "arch": arch, "test images": n, "errors": n - right,
            "most confused": f"{names[a]} with {names[b]}" if these else "none", "of these": these,
            "share of the errors": these / (n - right) if these else np.nan, "accuracy": right / n,
            "accuracy without these": (right + these) / n,
        })  # fmt: skip
    return pd.DataFrame(rows)
