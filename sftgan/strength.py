"""Strength of the CNNs: what limits it, which classes they confuse, and whether maps gain from it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from torch import Tensor

from sftgan import claims, experiments, faithfulness, metrics, tables
from sftgan.baselines import CONTROLS
from sftgan.bootstrap import proportion_ci
from sftgan.classifiers import Recipe
from sftgan.galleries import Gallery
from sftgan.networks import count_parameters
from sftgan.paper import verdict
from sftgan.profile import Profile
from sftgan.stages import CLASSIFIER
from sftgan.study import Study

KINDS = ("thin", "ImageNet weights")
"""The CNNs that ``side_by_side`` compares: trained from scratch with few channels, or transfer-learned."""
VARIED = ("width", "training images")
"""The quantities that ``limits`` varies."""
Pair = tuple[str, str]
"""A data set and a CNN."""


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
    epochs = Recipe(**p.cnns[arch].model_dump()).epochs_of(len(data.train))
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


def kinds(study: Study) -> dict[Pair, str]:
    """Find the data sets of photographs that the profile explains with both ``KINDS`` of CNNs.

    Parameters
    ----------
    study
        Run whose CNNs are listed.

    Returns
    -------
    dict[Pair, str]
        The kind of each CNN of these data sets; within a data set the thin CNNs come first.
    """
    p, found = study.profile, {}
    own = {(x.dataset, x.arch): x.pretrained for x in p.extra}
    for pair in study.all_pairs(study.of_strategy["dissimilar"]) + study.unseen():
        pretrained = p.pretrained if own.get(pair) is None else own[pair]
        found[pair] = KINDS[1] if pretrained else KINDS[0]
    has = {name: {kind for (other, _), kind in found.items() if other == name} for name, _ in found}
    both = [name for name, there in has.items() if there == set(KINDS)]
    order = [(name, kind) for name in both for kind in KINDS]
    return {pair: kind for name, kind in order for pair in found if (pair[0], found[pair]) == (name, kind)}


def side_by_side(study: Study) -> pd.DataFrame:
    """Measure maps of the CNNs of ``kinds``, made by the GANs of dissimilar semantics.

    Parameters
    ----------
    study
        Run whose maps are measured.

    Returns
    -------
    pd.DataFrame
        One row for each pair, method and image, with the columns of ``faithfulness.confidences``, ``kind``,
        and the similarity of the map to the CNN's Grad-CAM: ``dice`` (binarised) and ``r`` (Pearson).
    """
    measured = faithfulness.confidences(study, [(*pair, "dissimilar") for pair in kinds(study)])
    frames = []
    for (dataset, arch), kind in kinds(study).items():
        target = study.explained(dataset, arch, "test").examples.targets
        for method, maps in study.maps(dataset, arch, "dissimilar").items():
            frame = pd.DataFrame({
                "dataset": dataset, "arch": arch, "kind": kind, "method": method, "image": range(len(maps)),
                "dice": metrics.dice(metrics.binarise(maps), metrics.binarise(target)),
                "r": metrics.correlation(maps, target),
            })  # fmt: skip
            frames.append(frame)
    keys = ["dataset", "arch", "method", "image"]
    return measured.merge(pd.concat(frames), on=keys, validate="one_to_one")


def table(study: Study, measured: pd.DataFrame) -> pd.DataFrame:
    """Summarise ``side_by_side`` as text, one row for each CNN.

    Parameters
    ----------
    study
        Run that was measured.
    measured
        Frame of ``side_by_side``.

    Returns
    -------
    pd.DataFrame
        Accuracy of each CNN, and r with Grad-CAM and average drop of the methods in ``SHOWN``.
        ``seen by the GANs`` says whether the GANs were trained on this pair.
    """
    by = ["dataset", "data", "arch", "kind"]
    found = measured[by].drop_duplicates(ignore_index=True)
    pairs = list(zip(found["dataset"], found["arch"], strict=True))
    accuracy = experiments.accuracies(study, pairs)
    seen = study.all_pairs(study.of_strategy["dissimilar"])
    found["seen by the GANs"] = ["yes" if pair in seen else "no" for pair in pairs]
    found["accuracy"] = tables.with_intervals(accuracy, "accuracy")
    part = measured[measured["method"].isin({method for methods in SHOWN.values() for method in methods})]
    by_method = [*by, "method"]
    texts = {
        "r": tables.means_as_text(part, ["r"], by_method),
        "average drop, %": faithfulness.table(part, by_method),
    }
    for name, methods in SHOWN.items():
        wide = (
            texts[name].pivot(index=by, columns="method", values=name)[list(methods)].add_prefix(f"{name}: ")
        )
        found = found.merge(wide.reset_index(), on=by)
    return found


SHOWN = {"r": ("LSFT", "mean map", "linear"), "average drop, %": ("LSFT", "Grad-CAM", "mean map")}
"""The methods in ``table``, by measure."""


def against_controls(measured: pd.DataFrame) -> pd.DataFrame:
    """Compare LSFT with the best control for each CNN, with Holm's correction over all rows.

    Parameters
    ----------
    measured
        Frame of ``side_by_side``.

    Returns
    -------
    pd.DataFrame
        Rows of ``claims.against_best_control`` for each ``measure``: "r", the correlation with Grad-CAM, and
        "balance", wins minus losses against Grad-CAM by the confidence on the energy map.
    """
    by = ["data", "arch", "kind"]
    parts = [
        claims.against_best_control(measured, name, ["LSFT"], CONTROLS, by).assign(measure=name)
        for name in ("r", "balance")
    ]
    return tables.holm(pd.concat(parts, ignore_index=True))


def wins(judged: pd.DataFrame, measure: str = "r") -> dict[str, str]:
    """Count the CNNs for which LSFT is better than every control.

    Parameters
    ----------
    judged
        Frame of ``against_controls``.
    measure
        "r" or "balance".

    Returns
    -------
    dict[str, str]
        For each of ``KINDS`` a text such as "1 of 3".

    Examples
    --------
    >>> import pandas as pd
    >>> judged = pd.DataFrame({"kind": ["thin", "thin"], "better than every control": ["yes", "no"]})
    >>> wins(judged.assign(measure="r"))
    {'thin': '1 of 2', 'ImageNet weights': '0 of 0'}
    """
    part = judged[judged["measure"] == measure]
    return {
        kind: f"{(group['better than every control'] == 'yes').sum()} of {len(group)}"
        for kind, group in ((kind, part[part["kind"] == kind]) for kind in KINDS)
    }


def gallery(study: Study) -> Gallery:
    """Show one random image of each data set of ``kinds`` with its Grad-CAM and LSFT for both kinds of CNN.

    The seed picks the image. It is the same picture for both CNNs if they have the same test images.

    Parameters
    ----------
    study
        Run whose images are shown.

    Returns
    -------
    Gallery
        One row for each data set: image, Grad-CAM and LSFT for its first thin CNN, then for its first CNN
        with ImageNet weights. The texts are the true class, the prediction and whether it is right, and
        LSFT's r with Grad-CAM.
    """
    rows, titles, texts = [], [], []
    found = kinds(study)
    for dataset in dict.fromkeys(name for name, _ in found):
        both = [next(p for p, kind in found.items() if p[0] == dataset and kind == k) for k in KINDS]
        n = min(len(study.explained(*pair, "test").labels) for pair in both)
        i = int(np.random.default_rng([study.seed, *dataset.encode()]).integers(n))
        pictures, said = zip(*(_explained(study, pair, i) for pair in both), strict=True)
        rows.append([picture for part in pictures for picture in part])
        texts.append([text for part in said for text in part])
        titles.append("\n".join([study.labels()[dataset], *(arch for _, arch in both)]))
    return rows, titles, texts


def _explained(study: Study, pair: Pair, i: int) -> tuple[list[Tensor], list[str]]:
    """The i-th test image of a pair, its Grad-CAM and LSFT, and a text for each."""
    explained, classes = study.explained(*pair, "test"), study.image_data(*pair).classes
    picture = study.chosen(*pair, "test").batch(slice(i, i + 1))[0]
    lsft, target = study.maps(*pair, "dissimilar")["LSFT"][i], explained.examples.targets[i]
    label, predicted = int(explained.labels[i]), int(explained.predictions[i])
    said = f"{classes[predicted]},\n{'right' if predicted == label else 'wrong'}"
    likeness = f"r {metrics.correlation(lsft, target).item():.2f}"
    return [picture, target, lsft], [classes[label], said, likeness]
