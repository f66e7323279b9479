"""Strength of the CNNs: what limits it, which classes they confuse, and whether maps gain from it."""

import numpy as np
import pandas as pd
from torch import Tensor

from sftgan import metrics
from sftgan.companion.chapters import faithfulness
from sftgan.companion.report import claims, statistics, tables
from sftgan.companion.study import frames
from sftgan.companion.study.gallery import Gallery
from sftgan.companion.study.study import Pair, Study
from sftgan.controls import CONTROLS

CNN_KINDS = ("thin", "ImageNet weights")
"""The CNNs that ``side_by_side`` compares: trained from scratch with few channels, or transfer-learned."""


def kinds(study: Study) -> dict[Pair, str]:
    """Find the data sets of photographs that the profile explains with both ``CNN_KINDS`` of CNNs.

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
        found[pair] = CNN_KINDS[1] if pretrained else CNN_KINDS[0]
    has = {name: {kind for (other, _), kind in found.items() if other == name} for name, _ in found}
    both = [name for name, there in has.items() if there == set(CNN_KINDS)]
    order = [(name, kind) for name in both for kind in CNN_KINDS]
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
        target = study.explained_images(dataset, arch, "test").examples.targets
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
    accuracy = frames.accuracies(study, pairs)
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
    return statistics.holm(pd.concat(parts, ignore_index=True))


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
        For each of ``CNN_KINDS`` a text such as "1 of 3".

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
        for kind, group in ((kind, part[part["kind"] == kind]) for kind in CNN_KINDS)
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
        both = [next(p for p, kind in found.items() if p[0] == dataset and kind == k) for k in CNN_KINDS]
        n = min(len(study.explained_images(*pair, "test").labels) for pair in both)
        i = int(np.random.default_rng([study.seed, *dataset.encode()]).integers(n))
        pictures, said = zip(*(_explained(study, pair, i) for pair in both), strict=True)
        rows.append([picture for part in pictures for picture in part])
        texts.append([text for part in said for text in part])
        titles.append("\n".join([study.labels()[dataset], *(arch for _, arch in both)]))
    return rows, titles, texts


def _explained(study: Study, pair: Pair, i: int) -> tuple[list[Tensor], list[str]]:
    """The i-th test image of a pair, its Grad-CAM and LSFT, and a text for each."""
    explained, classes = study.explained_images(*pair, "test"), study.image_data(*pair).classes
    picture = study.chosen(*pair, "test").batch(slice(i, i + 1))[0]
    lsft, target = study.maps(*pair, "dissimilar")["LSFT"][i], explained.examples.targets[i]
    label, predicted = int(explained.labels[i]), int(explained.predictions[i])
    said = f"{classes[predicted]},\n{'right' if predicted == label else 'wrong'}"
    likeness = f"r {metrics.correlation(lsft, target).item():.2f}"
    return [picture, target, lsft], [classes[label], said, likeness]
