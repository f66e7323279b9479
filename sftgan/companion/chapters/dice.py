"""The paper's orderings by Dice (Tables 1 and 2; chapter 04)."""

from collections.abc import Sequence

import pandas as pd

from sftgan.companion.report.claims import Ordering
from sftgan.companion.study.frames import nearest_truth
from sftgan.companion.study.gallery import Rows, medians
from sftgan.companion.study.study import Study


def objects_and_maps(study: Study, scores: pd.DataFrame, methods: Sequence[str]) -> tuple[Rows, list[str]]:
    """Show a picture of each data set with its object and maps: the one whose Dice of LSFT is the median.

    Parameters
    ----------
    study
        Run whose images are shown.
    scores
        Frame of ``frames.overlaps``. The Dice with the object counts where the object is known.
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
        explained, maps = study.explained_images(dataset, arch, "test"), study.maps(dataset, arch)
        shown = [explained.examples.images[i], explained.objects[i]]
        rows.append(shown + [maps[method][i] for method in methods])
        name = study.image_data(dataset).classes[chosen["label"]]
        titles.append(f"{name}, {arch}\n{study.labels()[dataset]}")
    return rows, titles


ORDERINGS = (
    Ordering(
        "GSFT has more true positives than LSFT on MNIST", "Table 1", "tp", "GSFT", "LSFT", "object", "mnist"
    ),
    Ordering(
        "GSFT has more true positives than LSFT on EMNIST",
        "Table 1",
        "tp",
        "GSFT",
        "LSFT",
        "object",
        "emnist",
    ),
    Ordering("LSFT has more true negatives than GSFT", "Table 1", "tn", "LSFT", "GSFT", "object"),
    Ordering("LSFT's Dice is above GSFT's, truth: the object", "Table 2", "dice", "LSFT", "GSFT", "object"),
    Ordering("LSFT's Dice is above GSFT's, truth: Grad-CAM", "Table 2", "dice", "LSFT", "GSFT", "Grad-CAM"),
    Ordering(
        "LSFT's Dice is above Grad-CAM's, truth: the object", "Table 2", "dice", "LSFT", "Grad-CAM", "object"
    ),
)
"""The orderings of Tables 1 and 2 that the text states (sections 4.2.1 and 4.2.2)."""
