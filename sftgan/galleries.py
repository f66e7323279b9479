"""Galleries: the rows of images and maps that figures show by ``plots.map_grid``, each chosen by a rule."""

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from sftgan import baselines, metrics, sanity, words
from sftgan.architectures import last_block
from sftgan.experiments import TELLING, Case, by_rule, nearest_truth, telling
from sftgan.explained import Explained, examples
from sftgan.noise import salt_and_pepper
from sftgan.study import STRATEGIES, Study
from sftgan.training import Examples, generate

Rows = list[list[Tensor]]
Gallery = tuple[Rows, list[str], list[list[str]]]
"""Rows of pictures, their titles, and a text for each picture."""


def medians(frame: pd.DataFrame, value: str) -> Iterator[pd.Series]:
    """Find the row with the median value for each data set.

    Parameters
    ----------
    frame
        One row for each data set, CNN and image.
    value
        Column whose median is taken.

    Yields
    ------
    pd.Series
        The row of each data set, in order of appearance.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"dataset": "mnist", "image": range(3), "dice": [0.5, 0.9, 0.1]})
    >>> [int(row["image"]) for row in medians(frame, "dice")]
    [0]
    """
    for _, group in frame.groupby("dataset", sort=False):
        yield group.sort_values(value, kind="stable").iloc[len(group) // 2]


def objects_and_maps(study: Study, scores: pd.DataFrame, methods: Sequence[str]) -> tuple[Rows, list[str]]:
    """Show a picture of each data set with its object and maps: the one whose Dice of LSFT is the median.

    Parameters
    ----------
    study
        Run whose images are shown.
    scores
        Frame of ``experiments.scores``. The Dice with the object counts where the object is known.
    methods
        Methods whose maps are shown.

    Returns
    -------
    tuple[Rows, list[str]]
        One row for each data set, and the titles of the rows.
    """
    rows, titles = [], []
    for chosen in medians(nearest_truth(scores).query("method == 'LSFT'"), "dice"):
        dataset, arch, i = chosen[["dataset", "arch", "image"]]
        explained, maps = study.explained(dataset, arch, "test"), study.maps(dataset, arch)
        shown = [explained.examples.images[i], explained.objects[i]]
        rows.append(shown + [maps[method][i] for method in methods])
        name = study.image_data(dataset).classes[chosen["label"]]
        titles.append(f"{name}, {arch}\n{study.labels()[dataset]}")
    return rows, titles


def energy_maps(study: Study, measured: pd.DataFrame, methods: Sequence[str]) -> Gallery:
    """Show a picture of each data set with its energy maps: the one whose E - O by LSFT is the median.

    Parameters
    ----------
    study
        Run whose images are shown.
    measured
        Frame of ``faithfulness.confidences``.
    methods
        Methods whose energy maps are shown.

    Returns
    -------
    Gallery
        One row for each data set. The texts are the CNN's confidence in the class: E on the picture, and O
        on each energy map.
    """
    rows, titles, texts = [], [], []
    lsft = measured[measured["method"] == "LSFT"]
    for chosen in medians(lsft.assign(lost=lsft["E"] - lsft["O"]), "lost"):
        dataset, arch, i = chosen[["dataset", "arch", "image"]]
        picture = study.explained(dataset, arch, "test").examples.images[i]
        maps = study.maps(dataset, arch)
        energy = [metrics.energy_map(picture[None], maps[method][i][None])[0] for method in methods]
        here = measured.query("dataset == @dataset and arch == @arch and image == @i")
        after = here.set_index("method")["O"]
        rows.append([picture, *energy])
        titles.append(f"{study.labels()[dataset]}\n{arch}")
        texts.append([f"{chosen['E']:.2f}", *(f"{after[method]:.2f}" for method in methods)])
    return rows, titles, texts


def word_maps(
    study: Study, images: Sequence[int], methods: Sequence[str] = ("Grad-CAM", "LSFT")
) -> tuple[Rows, list[str], list[list[str]]]:
    """Show captioned test images with one map for each word of the written caption.

    Parameters
    ----------
    study
        Run whose images are shown.
    images
        Numbers of the test images.
    methods
        Methods whose maps are shown.

    Returns
    -------
    tuple[Rows, list[str], list[list[str]]]
        One row for each image and method; the texts are the words. White pictures fill the rows of short
        captions.
    """
    rows, titles, texts = [], [], []
    for i in images:
        caption, maps = words.maps(study, i)
        for method in methods:
            rows.append([study.captions().test.batch(i), *maps[method]])
            titles.append(f"{i + 1}, {method}")
            texts.append(["", *caption])
    width = max(map(len, rows))
    for row, line in zip(rows, texts, strict=True):
        missing = width - len(row)
        row += [torch.ones_like(row[0])] * missing
        line += [""] * missing
    return rows, titles, texts


def methods(
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
        For each data set the image that each rule chooses; see ``experiments.by_rule``.
    rules
        Rules whose images are shown.
    names
        Methods from ``baselines.METHODS`` and ``experiments.METHODS``.

    Returns
    -------
    Gallery
        One row for each image. The texts are the maps' Dice, with Grad-CAM where the object is unknown.
    """
    parts = []
    for dataset, by in chosen.items():
        images = _by_image({rule: by[rule] for rule in rules})
        asked = [name for name in names if name in baselines.METHODS]
        others = study.compared(dataset, arch, list(images), asked)
        ours = study.maps(dataset, arch)
        maps = [others[name] if name in others else ours[name][list(images)] for name in names]
        parts.append(_pictures(study, (dataset, arch), images, maps))
    return _below(parts)


def analogies(study: Study, case: Case, rules: Mapping[str, int]) -> Gallery:
    """Show where LSFT alone marks an image, beside Vanilla Saliency (Fig. 6).

    Parameters
    ----------
    study
        Run whose images are shown.
    case
        Data set, CNN and strategy.
    rules
        The image that each rule chooses; see ``experiments.by_rule``.

    Returns
    -------
    Gallery
        One row for each image: picture, object, Grad-CAM, LSFT, the region that LSFT alone marks, and
        Saliency. The text below this region is ``metrics.additional_regions``.
    """
    images, maps = _by_image(rules), study.maps(*case)
    saliency = study.compared(*case[:2], list(images), ["Saliency"])["Saliency"]
    grad_cam, lsft = (maps[name][list(images)] for name in ("Grad-CAM", "LSFT"))
    alone = metrics.binarise(lsft) & ~metrics.binarise(grad_cam)
    gallery = _pictures(study, case[:2], images, [grad_cam, lsft, alone.float(), saliency])
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
        Frame of ``experiments.scores`` for the cases, with one ground truth for each.
    names
        Methods from ``experiments.METHODS``.

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
        parts.append(_pictures(study, (dataset, arch), images, shown))
    return _below(parts)


def strategies(study: Study, pairs: Sequence[tuple[str, str]], scores: pd.DataFrame) -> Gallery:
    """Show the images of ``unseen`` with the LSFT of both strategies (Fig. 9).

    Parameters
    ----------
    study
        Run whose images are shown.
    pairs
        Data set and CNN of each pair.
    scores
        Frame of ``experiments.scores`` for the pairs, with one ground truth for each.

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
        grad_cam = study.explained(dataset, arch, "test").examples.targets
        shown = [maps[list(images)] for maps in (grad_cam, *lsft)]
        parts.append(_pictures(study, (dataset, arch), images, shown))
    return _below(parts)


def shortcut(study: Study, names: Sequence[str], n: int = 4, arch: str = "inception_v3") -> Gallery:
    """Show the first scenes with a telling patch, with maps for both CNNs of ``TELLING`` (Fig. 10).

    Parameters
    ----------
    study
        Run whose "ppmi" has the source "embedded".
    names
        Methods from ``baselines.METHODS`` and ``experiments.METHODS``.
    n
        Number of scenes.
    arch
        Architecture of the CNNs.

    Returns
    -------
    Gallery
        One row for each scene: picture, object, patch, and the maps for each CNN. The titles give the class
        and each CNN's prediction, the texts the share of the map's mass on the patch.

    Raises
    ------
    InputError
        If the scenes are photographs, whose patch is unknown.
    """
    explained = telling(study, arch)
    one, classes = explained["shortcut"], study.image_data("ppmi", arch).classes
    assert one.shortcuts is not None  # checked by ``telling``
    n, maps = min(n, len(one.labels)), []
    for of in TELLING.values():
        ours = study.maps("ppmi", arch, "dissimilar", of)
        others = study.compared("ppmi", arch, range(n), [name for name in names if name not in ours], of)
        maps += [ours[name][:n] if name in ours else others[name] for name in names]
    shares = [metrics.mass_share(drawn, one.shortcuts[:n]).tolist() for drawn in maps]
    rows, titles, texts = [], [], []
    for i in range(n):
        places = [one.objects[i], one.shortcuts[i].float()]
        rows.append([one.examples.images[i], *places, *(drawn[i] for drawn in maps)])
        said = [f"{cnn}: {classes[part.predictions[i]]}" for cnn, part in explained.items()]
        titles.append("\n".join([f"is: {classes[one.labels[i]]}", *said]))
        texts.append(["", "", "", *(_share(share[i]) for share in shares)])
    return rows, titles, texts


def noise(study: Study, cases: Sequence[Case], densities: Sequence[float]) -> Gallery:
    """Show an image under increasing noise with its maps by GSFT, LSFT and Grad-CAM (Fig. 12).

    Parameters
    ----------
    study
        Run whose images are shown.
    cases
        Data set, CNN and strategy of each case. Each strategy shows the first test image of its first case.
    densities
        Noise densities, one column each.

    Returns
    -------
    Gallery
        Four rows for each strategy. The texts say whether the CNN is right.
    """
    rows, titles, texts = [], [], []
    for strategy in dict.fromkeys(case[2] for case in cases):
        dataset, arch, _ = next(case for case in cases if case[2] == strategy)
        model = study.classifiers([(dataset, arch)])[dataset, arch].model
        split, p = study.chosen(dataset, arch, "test"), study.profile
        noisy = torch.cat([salt_and_pepper(split.batch(slice(0, 1)), d, study.seed) for d in densities])
        shown, _, logits = examples(model, noisy, p.gan_size, p.reading(), last_block(model, arch))
        gsft, lsft = (generate(study.gans(strategy)[kind].generator, shown) for kind in ("gsft", "lsft"))
        rows += [[*pictures] for pictures in (shown.images, gsft, lsft, shown.targets)]
        titles += [f"{study.labels()[dataset]}\n{arch}", "GSFT", "LSFT", "Grad-CAM"]
        right = (logits.argmax(1) == split.labels[0]).tolist()
        texts += [["right" if is_right else "wrong" for is_right in right], *[[""] * len(right)] * 3]
    return rows, titles, texts


def blackouts(study: Study, cases: Sequence[Case], kind: str) -> tuple[Rows, list[str]]:
    """Show how the map of an image changes when one CGMA after the other is replaced (Fig. 16).

    Parameters
    ----------
    study
        Run whose images are shown.
    cases
        Data set, CNN and strategy of each case, which shows its first test image.
    kind
        Generator: "LSFT" or "GSFT".

    Returns
    -------
    tuple[Rows, list[str]]
        Three rows for each case, one for each replacement of ``metrics.replaced``: picture, map, and the
        maps with one CGMA replaced. Then the titles of the rows.
    """
    rows, titles = [], []
    for dataset, arch, strategy in cases:
        generator = study.gans(strategy)[kind.lower()].generator
        test, train = (study.explained(dataset, arch, part).examples for part in ("test", "train"))
        one = test.subset(torch.tensor([0]))
        for replacement, c, conditions in metrics.replaced(test.conditions, train.conditions.mean(0)):
            if c == 0:
                rows.append([one.images[0], generate(generator, one)[0]])
                titles.append(f"{study.labels()[dataset]}\n{replacement}")
            rows[-1].append(generate(generator, Examples(one.images, conditions[:1], one.targets))[0])
    return rows, titles


def _share(share: float) -> str:
    return "empty" if math.isnan(share) else f"{share:.2f}"


def _drawn_and_median(study: Study, scores: pd.DataFrame, dataset: str, arch: str) -> dict[int, str]:
    part = scores.query("dataset == @dataset and arch == @arch and method == 'LSFT'")
    rules = by_rule(part, "dice", study.seed)
    return _by_image({rule: rules[rule] for rule in ("drawn", "median")})


def _by_image(rules: Mapping[str, int]) -> dict[int, str]:
    """Image -> the rules that choose it, so that no image is shown twice."""
    images: dict[int, str] = {}
    for rule, image in rules.items():
        images[image] = f"{images[image]}, {rule}" if image in images else rule
    return images


def _pictures(
    study: Study, pair: tuple[str, str], images: Mapping[int, str], maps: Sequence[Tensor]
) -> Gallery:
    """One row for each test image of a pair: picture, object and ``maps`` (images, H, W); texts are Dice."""
    explained, (dataset, arch) = study.explained(*pair, "test"), pair
    rows, titles, texts = [], [], []
    for k, (i, rule) in enumerate(images.items()):
        shown = [drawn[k] for drawn in maps]
        rows.append([explained.examples.images[i], explained.objects[i], *shown])
        titles.append(f"{study.labels()[dataset]}\n{arch}, {rule}")
        texts.append(["", "", *(_overlap(explained, i, drawn) for drawn in shown)])
    return rows, titles, texts


def _overlap(explained: Explained, i: int, drawn: Tensor) -> str:
    """Dice of a map (H, W) with the object of the i-th image, or with its Grad-CAM where that is unknown."""
    if not drawn.any():
        return "empty"
    truth = explained.examples.targets if explained.masks is None else explained.masks
    truth = truth[i] if truth.dtype == torch.bool else metrics.binarise(truth[i])
    return f"{metrics.dice(metrics.binarise(drawn)[None], truth[None]).item():.2f}"


def _below(parts: Sequence[Gallery]) -> Gallery:
    """Put galleries below one another."""
    rows, titles, texts = ([line for part in lists for line in part] for lists in zip(*parts, strict=True))
    return rows, titles, texts


def forgetting(study: Study, case: Case, n_steps: int) -> tuple[Rows, list[str], list[str]]:
    """Show the maps of a case's first test image while the CNN's layers are randomised.

    The steps are those of ``sanity.cascade``.

    Parameters
    ----------
    study
        Run whose image is shown.
    case
        Data set, CNN and strategy.
    n_steps
        Number of randomisation steps.

    Returns
    -------
    tuple[Rows, list[str], list[str]]
        One row for each of ``sanity.METHODS``, the titles of the rows, and the titles of the columns.
    """
    config = {"case": study.case(*case), "n_steps": n_steps, "n_images": 1, "seed": study.seed}
    image = study.explained(*case[:2], "test").examples.images[0]
    steps = sanity.cascade_maps(config, study.runtime)
    rows = [[image, *(maps[method][0] for _, maps in steps)] for method in sanity.METHODS]
    return rows, list(sanity.METHODS), ["image", *(f"{share:.0%}" for share, _ in steps)]
