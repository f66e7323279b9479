"""Galleries: the rows of images and maps that figures show by ``plots.map_grid``, each chosen by a rule."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from sftgan import metrics
from sftgan.companion.study.study import Study
from sftgan.gan.examples import ExplainedImages

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


def by_image(rules: Mapping[str, int]) -> dict[int, str]:
    """Image -> the rules that choose it, so that no image is shown twice."""
    images: dict[int, str] = {}
    for rule, image in rules.items():
        images[image] = f"{images[image]}, {rule}" if image in images else rule
    return images


def gallery_rows(
    study: Study, pair: tuple[str, str], images: Mapping[int, str], maps: Sequence[Tensor]
) -> Gallery:
    """One row for each test image of a pair: picture, object and ``maps`` (images, H, W); texts are Dice."""
    explained, (dataset, arch) = study.explained_images(*pair, "test"), pair
    rows, titles, texts = [], [], []
    for k, (i, rule) in enumerate(images.items()):
        shown = [drawn[k] for drawn in maps]
        rows.append([explained.examples.images[i], explained.objects[i], *shown])
        titles.append(f"{study.labels()[dataset]}\n{arch}, {rule}")
        texts.append(["", "", *(_overlap(explained, i, drawn) for drawn in shown)])
    return rows, titles, texts


def _overlap(explained: ExplainedImages, i: int, drawn: Tensor) -> str:
    """Dice of a map (H, W) with the object of the i-th image, or with its Grad-CAM where that is unknown."""
    if not drawn.any():
        return "empty"
    truth = explained.examples.targets if explained.masks is None else explained.masks
    truth = truth[i] if truth.dtype == torch.bool else metrics.binarise(truth[i])
    return f"{metrics.dice(metrics.binarise(drawn)[None], truth[None]).item():.2f}"


def below(parts: Sequence[Gallery]) -> Gallery:
    """Put galleries below one another."""
    rows, titles, texts = ([line for part in lists for line in part] for lists in zip(*parts, strict=True))
    return rows, titles, texts
