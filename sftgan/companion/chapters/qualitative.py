"""How the maps look on each strategy, and the published orderings of their looks (paper, section 4.3; chapter 06)."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from skimage.metrics import structural_similarity

from sftgan import metrics
from sftgan.companion.chapters.shortcuts import shortcut_claims
from sftgan.companion.report.claims import COLUMNS, UNTESTED, Ordering, above_zero, judge
from sftgan.companion.report.paper import UNSEEN
from sftgan.companion.study import methods
from sftgan.companion.study.frames import Case, by_rule, overlaps, with_origin
from sftgan.companion.study.gallery import Gallery, below, by_image, gallery_rows
from sftgan.companion.study.study import STRATEGIES, Study


def qualitative_claims(frames: Mapping[str, pd.DataFrame], shares: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims of sections 4.3.2 to 4.3.6.

    Parameters
    ----------
    frames
        "likeness" is the frame of ``analogy``; "unseen" is that of ``frames.overlaps`` and "intensity" is
        ``intensities`` of the unseen pairs; "strategies" is ``by_strategy``.
    shares
        Frame of ``shortcuts.shortcuts``.

    Returns
    -------
    pd.DataFrame
        Rows as in ``judge``.
    """
    likeness = frames["likeness"]
    lsft = likeness[(likeness["method"] == "LSFT") & (likeness["dataset"] == "mnist")]
    additional = above_zero(lsft, "additional", ["data"]).rename(columns={"data": "data here"})
    if additional.empty:  # MNIST was not selected
        additional = pd.DataFrame([{"verdict": UNTESTED}])
    additional = additional.assign(
        claim="LSFT's additional regions are those of Vanilla Saliency", where="section 4.3.2",
        comparison="Saliency where only LSFT marks − where neither marks",
    )  # fmt: skip
    judged = [judge(frames[name], orderings) for name, orderings in QUALITATIVE_ORDERINGS.items()]
    found = pd.concat([additional, *judged, shortcut_claims(shares)], ignore_index=True)
    return found[COLUMNS].astype({"n": "Int64"})


def analogy(study: Study, case: Case) -> pd.DataFrame:
    """Compare each method's maps with Vanilla Saliency, as Fig. 6 does by eye (section 4.3.2).

    Parameters
    ----------
    study
        Run whose maps are compared.
    case
        Data set, CNN and strategy.

    Returns
    -------
    pd.DataFrame
        One row for each method but "all ones", and image. ``additional`` is the mean of Saliency where the
        map marks and Grad-CAM does not, minus that where neither does (see ``metrics.additional_regions``).
        The other two compare whole maps: ``rank correlation`` is Spearman's over pixels, and ``SSIM`` is
        structural similarity (Wang 2004) with a window of 7 pixels.
    """
    maps, frames = study.maps(*case), []
    labels = study.explained_images(*case[:2], "test").labels
    saliency = study.compared(*case[:2], range(len(labels)), ["Saliency"])["Saliency"]
    for method, drawn in maps.items():
        if method == "all ones":
            continue  # a flat map has no correlation
        similarity = [
            structural_similarity(a, b, data_range=1.0, win_size=7)
            for a, b in zip(drawn.numpy(), saliency.numpy(), strict=True)
        ]
        columns = {
            "additional": metrics.additional_regions(drawn, maps["Grad-CAM"], saliency).numpy(),
            "rank correlation": metrics.rank_correlation(drawn, saliency).numpy(),
            "SSIM": similarity,
        }
        frames.append(with_origin(study, case, pd.DataFrame(columns), method, labels))
    return pd.concat(frames, ignore_index=True)


def intensities(study: Study, cases: Sequence[Case]) -> pd.DataFrame:
    """Measure the mean of each method's map on the object (section 4.3.4).

    Parameters
    ----------
    study
        Run whose maps are measured.
    cases
        Data set, CNN and strategy of each case; cases whose objects are unknown are left out.

    Returns
    -------
    pd.DataFrame
        One row for each case, method and image, with ``intensity``.
    """
    frames = []
    for case in cases:
        explained = study.explained_images(*case[:2], "test")
        if explained.masks is not None:
            for method, maps in study.maps(*case).items():
                frame = pd.DataFrame({"intensity": metrics.foreground_mean(maps, explained.masks).numpy()})
                frames.append(with_origin(study, case, frame, method, explained.labels))
    return pd.concat(frames, ignore_index=True)


def by_strategy(study: Study, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Compare the LSFT of both strategies on the same unseen pairs (Fig. 9, section 4.3.5).

    Parameters
    ----------
    study
        Run whose GANs are compared.
    pairs
        Data set and CNN of each unseen pair.

    Returns
    -------
    pd.DataFrame
        Rows of ``frames.overlaps``. ``method`` is "trained on similar" or "trained on dissimilar", and ``marked`` is
        the share of the picture that the map marks.
    """
    found = overlaps(study, [(*pair, strategy) for pair in pairs for strategy in STRATEGIES])
    found = found[found["method"] == "LSFT"]
    marked = (found["tp"] + found["fp"]) / study.profile.gan_size**2
    return found.assign(method="trained on " + found["strategy"], marked=marked)


def maps_by_method(
    study: Study,
    arch: str,
    chosen: Mapping[str, Mapping[str, int]],
    rules: Sequence[str],
    names: Sequence[str],
) -> Gallery:
    """Show pictures with their objects and the maps of many methods (Fig. 5).

    Parameters
    ----------
    study
        Run whose images are shown.
    arch
        Architecture of the CNN.
    chosen
        For each data set the image that each rule chooses; see ``frames.by_rule``.
    rules
        Rules whose images are shown.
    names
        Methods from ``methods.OTHER_METHODS`` and ``frames.METHODS``.

    Returns
    -------
    Gallery
        One row for each image. The texts are the maps' Dice, with Grad-CAM where the object is unknown.
    """
    parts = []
    for dataset, by in chosen.items():
        images = by_image({rule: by[rule] for rule in rules})
        asked = [name for name in names if name in methods.OTHER_METHODS]
        others = study.compared(dataset, arch, list(images), asked)
        ours = study.maps(dataset, arch)
        maps = [others[name] if name in others else ours[name][list(images)] for name in names]
        parts.append(gallery_rows(study, (dataset, arch), images, maps))
    return below(parts)


def analogies(study: Study, case: Case, rules: Mapping[str, int]) -> Gallery:
    """Show where LSFT alone marks an image, beside Vanilla Saliency (Fig. 6).

    Parameters
    ----------
    study
        Run whose images are shown.
    case
        Data set, CNN and strategy.
    rules
        The image that each rule chooses; see ``frames.by_rule``.

    Returns
    -------
    Gallery
        One row for each image: picture, object, Grad-CAM, LSFT, the region that LSFT alone marks, and
        Saliency. The text below this region is ``metrics.additional_regions``.
    """
    images, maps = by_image(rules), study.maps(*case)
    saliency = study.compared(*case[:2], list(images), ["Saliency"])["Saliency"]
    grad_cam, lsft = (maps[name][list(images)] for name in ("Grad-CAM", "LSFT"))
    alone = metrics.binarise(lsft) & ~metrics.binarise(grad_cam)
    gallery = gallery_rows(study, case[:2], images, [grad_cam, lsft, alone.float(), saliency])
    found = metrics.additional_regions(lsft, grad_cam, saliency).tolist()
    for texts, value in zip(gallery[2], found, strict=True):
        texts[-2:] = ["none" if math.isnan(value) else f"{value:+.2f}", ""]
    return gallery


def unseen(study: Study, cases: Sequence[Case], scores: pd.DataFrame, names: Sequence[str]) -> Gallery:
    """Show two images of each case, a random one and the one of median Dice, with their maps (Fig. 8).

    Parameters
    ----------
    study
        Run whose images are shown.
    cases
        Data set, CNN and strategy of each case.
    scores
        Frame of ``frames.overlaps`` for the cases, with one ground truth for each.
    names
        Methods from ``frames.METHODS``.

    Returns
    -------
    Gallery
        One row for each image: picture, object and maps. The texts are as in ``methods``.
    """
    parts = []
    for dataset, arch, strategy in cases:
        images = _drawn_and_median(study, scores, dataset, arch)
        maps = study.maps(dataset, arch, strategy)
        shown = [maps[name][list(images)] for name in names]
        parts.append(gallery_rows(study, (dataset, arch), images, shown))
    return below(parts)


def strategies(study: Study, pairs: Sequence[tuple[str, str]], scores: pd.DataFrame) -> Gallery:
    """Show the images of ``unseen`` with the LSFT of both strategies (Fig. 9).

    Parameters
    ----------
    study
        Run whose images are shown.
    pairs
        Data set and CNN of each pair.
    scores
        Frame of ``frames.overlaps`` for the pairs, with one ground truth for each.

    Returns
    -------
    Gallery
        One row for each image: picture, object, Grad-CAM and the two LSFT maps. The texts are as in
        ``methods``.
    """
    parts = []
    for dataset, arch in pairs:
        images = _drawn_and_median(study, scores, dataset, arch)
        lsft = [study.maps(dataset, arch, strategy)["LSFT"] for strategy in STRATEGIES]
        grad_cam = study.explained_images(dataset, arch, "test").examples.targets
        shown = [maps[list(images)] for maps in (grad_cam, *lsft)]
        parts.append(gallery_rows(study, (dataset, arch), images, shown))
    return below(parts)


def _drawn_and_median(study: Study, scores: pd.DataFrame, dataset: str, arch: str) -> dict[int, str]:
    part = scores.query("dataset == @dataset and arch == @arch and method == 'LSFT'")
    rules = by_rule(part, "dice", study.seed)
    return by_image({rule: rules[rule] for rule in ("drawn", "median")})


QUALITATIVE_ORDERINGS = {
    "likeness": tuple(
        Ordering(
            f"LSFT's whole map is more like Vanilla Saliency than Grad-CAM's is (our reading), {name}",
            "section 4.3.2", measure, "LSFT", "Grad-CAM", dataset="mnist",
        )
        for measure, name in (("rank correlation", "rank correlation"), ("SSIM", "structural similarity"))
    ),
    "unseen": (
        *(
            Ordering(
                f"LSFT is better than Grad-CAM on an unseen data set and CNN, {pair} (Dice with the object)",
                "section 1", "dice", "LSFT", "Grad-CAM", "object", dataset,
            )
            for dataset, pair in zip(
                UNSEEN,
                ("EMNIST and Xception", "Cats vs Dogs and InceptionV3", "Musical Instruments and VGG19"),
                strict=True,
            )
        ),
        Ordering(
            "Grad-CAM is better than LSFT on Musical Instruments (Dice with the object)",
            "section 4.3.4", "dice", "Grad-CAM", "LSFT", "object", "instruments",
        ),
    ),
    "intensity": (
        Ordering(
            "LSFT marks the letters of EMNIST with more intensity than Grad-CAM (mean of the map on the object)",
            "section 4.3.4", "intensity", "LSFT", "Grad-CAM", dataset="emnist",
        ),
    ),
    "strategies": (
        Ordering(
            "Dissimilar semantics gives the more general LSFT: better on Cats vs Dogs (Dice with the object)",
            "section 4.3.5", "dice", "trained on dissimilar", "trained on similar", "object", "cats_vs_dogs",
        ),
        Ordering(
            "Similar semantics gives the more specific LSFT: marks less on Tamil letters (share of the picture)",
            "section 4.3.5", "marked", "trained on dissimilar", "trained on similar", "Grad-CAM", "tamil",
        ),
    ),
}  # fmt: skip
"""What the text says of Figs. 6, 8 and 9.

The keys are the frames that ``qualitative.qualitative_claims`` takes.
"""
