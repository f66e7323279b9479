"""Faithfulness (paper, section 4.2.3): a CNN's confidence on energy maps and on partly erased pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from sftgan import metrics
from sftgan.companion.report import statistics, tables
from sftgan.companion.report.claims import Ordering
from sftgan.companion.study.cache import Config, Runtime, Stage
from sftgan.companion.study.frames import Case, check_counts, pooled
from sftgan.companion.study.gallery import Gallery, medians
from sftgan.companion.study.stages import CLASSIFIER, EXPLAINED, IMAGE_DATA, MAPS
from sftgan.companion.study.study import Study
from sftgan.errors import check_name

CONFIDENCE_OF = ("predicted", "labelled")
"""Which class's confidence is measured: the predicted one, which the maps explain, or the label's."""
NOTE = f"None: no case fell, or none rose. Numbers about fewer than {metrics.FEWEST} cases have no interval."
"""Note for readers of ``table``."""
CURVE_ORDERINGS = tuple(
    ordering
    for other in ("Grad-CAM", "mean map", "luminance")
    for ordering in (
        Ordering(
            f"LSFT's insertion area is above that of {other}", "beyond the paper", "insertion", "LSFT", other
        ),
        Ordering(
            f"LSFT's deletion area is below that of {other}", "beyond the paper", "deletion", other, "LSFT"
        ),
    )
)
"""LSFT should beat Grad-CAM, and maps that know nothing of the CNN or of the image."""


def confidences(study: Study, cases: Sequence[Case], of: str = "predicted") -> pd.DataFrame:
    """Measure the CNN's confidence on images (E) and on their energy maps (O) for Table 3.

    Parameters
    ----------
    study
        Run whose maps are measured.
    cases
        Data set, CNN and strategy of each case.
    of
        Class whose confidence is measured: "predicted", which the maps explain, or "labelled".

    Returns
    -------
    pd.DataFrame
        One row for each case, method and image, with ``E``, ``O`` and these columns:

        - ``area`` is the mean of the map.
        - ``win`` is 100 where O is above Grad-CAM's O, as in the paper, and 0 elsewhere.
        - ``balance`` is like ``win``, but -100 where O is below.
        - ``win (Grad-CAM++)`` and ``balance (Grad-CAM++)`` compare the drops max(0, E - O) / E instead; the
          smaller drop wins.

    Raises
    ------
    InputError
        If ``of`` is not one of ``OF``.
    """
    check_name(of, CONFIDENCE_OF, "confidence")
    frame = pooled(study, CONFIDENCES, cases, {"of": of})
    frame["kept"] = -metrics.relative_drop(frame["E"].to_numpy(), frame["O"].to_numpy())
    for definition, value in (("", "O"), (" (Grad-CAM++)", "kept")):
        frame[f"balance{definition}"] = statistics.margins(frame, value, "Grad-CAM")
        frame[f"win{definition}"] = frame[f"balance{definition}"].clip(lower=0)
    return frame.drop(columns="kept")


def table(measured: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Make Table 3 in both definitions, as text with 95 % intervals.

    A case is one image and one CNN.

    Parameters
    ----------
    measured
        Frame of ``confidences``.
    by
        Columns that make the groups; "method" must be one of them.

    Returns
    -------
    pd.DataFrame
        One row for each group. A number that rests on no case is "none"; one that rests on fewer than
        ``metrics.FEWEST`` cases has no interval.
    """
    groups = measured.groupby(list(by), sort=False)
    area = statistics.means(measured, "area", by)
    found = area[[*by, "n"]].rename(columns={"n": "images"}).assign(area=tables.with_intervals(area))
    if "arch" not in by:
        found.insert(len(by) + 1, "CNNs", groups["arch"].nunique().to_numpy())
    for name, statistic in metrics.STATISTICS.items():
        about = np.array([statistic.counts(group["E"], group["O"]).sum() for _, group in groups])
        part = statistics.means(measured, statistic.columns, by, statistic.function)
        part.loc[about < metrics.FEWEST, ["low", "high"]] = np.nan
        found[f"{name}, %"] = tables.with_intervals(part, digits=1).where(about > 0, "none")
        if name == "average increase":
            found["cases that rose"] = [f"{k} of {n}" for k, n in zip(about, groups.size(), strict=True)]
    for name in ("win", "win (Grad-CAM++)"):
        found[f"{name}, %"] = tables.with_intervals(statistics.means(measured, name, by), digits=1)
        found.loc[found["method"] == "Grad-CAM", f"{name}, %"] = "–"  # against itself
    return found


def curves(
    study: Study, cases: Sequence[Case], of: str = "predicted", n_images: int = 16, steps: int = 10
) -> pd.DataFrame:
    """Measure insertion and deletion curves (RISE, Petsiuk 2018).

    Parameters
    ----------
    study
        Run whose maps are measured.
    cases
        Data set, CNN and strategy of each case.
    of
        Class whose confidence is measured, as in ``confidences``.
    n_images
        Number of images of each case; the first ones are used.
    steps
        Number of steps from no pixel to all pixels.

    Returns
    -------
    pd.DataFrame
        One row for each case, method, image, ``curve`` ("insertion" or "deletion") and ``share`` (0,
        1/steps, ..., 1). ``confidence`` is the CNN's confidence after this share of the pixels, highest
        values of the map first, was inserted or deleted.

    Raises
    ------
    InputError
        If ``of`` is not one of ``OF``, or a count is not a whole number of at least 1.
    """
    check_name(of, CONFIDENCE_OF, "confidence")
    check_counts(n_curves=n_images, steps=steps)
    return pooled(study, CURVES, cases, {"of": of, "n_images": n_images, "steps": steps})


def areas(curves: pd.DataFrame) -> pd.DataFrame:
    """Compute the areas under insertion and deletion curves.

    Parameters
    ----------
    curves
        Frame of ``curves``.

    Returns
    -------
    pd.DataFrame
        One row for each case, method and image, with the columns ``insertion`` and ``deletion``.
    """
    keys = [name for name in curves if name not in ("share", "confidence")]
    groups = curves.groupby(keys, sort=False)["confidence"]
    area = groups.agg(lambda part: metrics.area_under_curve(torch.tensor(part.to_numpy())).item())
    return area.unstack("curve", sort=False).rename_axis(columns=None).reset_index()


def _confidences(config: Config, runtime: Runtime, checkpoint: Path) -> pd.DataFrame:
    test = config["case"]["test"]
    model = CLASSIFIER(test["cnn"], runtime).model.to(runtime.device)
    explained = EXPLAINED(test, runtime)
    images = IMAGE_DATA(test["data"], runtime).chosen(**test["images"]).batch()
    classes = explained.predictions if config["of"] == "predicted" else explained.labels
    original, frames = metrics.confidence(model, images, classes), []
    for method, maps in MAPS(config["case"], runtime).items():
        energy = metrics.confidence(model, metrics.energy_map(images, maps), classes)
        columns = {"E": original, "O": energy, "area": maps.double().mean((1, 2))}
        frames.append(pd.DataFrame({"method": method, "image": range(len(images))} | columns))
    return pd.concat(frames, ignore_index=True)


def _curves(config: Config, runtime: Runtime, checkpoint: Path) -> pd.DataFrame:
    test, n, steps = config["case"]["test"], config["n_images"], config["steps"]
    model = CLASSIFIER(test["cnn"], runtime).model.to(runtime.device)
    explained = EXPLAINED(test, runtime)
    images = IMAGE_DATA(test["data"], runtime).chosen(**test["images"]).batch()[:n]
    classes = (explained.predictions if config["of"] == "predicted" else explained.labels)[:n]
    index = pd.MultiIndex.from_product(
        [[step / steps for step in range(steps + 1)], ["deletion", "insertion"], range(len(images))],
        names=["share", "curve", "image"],
    )
    frames = []
    for method, maps in MAPS(config["case"], runtime).items():
        found = metrics.perturbation_curves(model, images, maps[:n], classes, steps)
        frame = pd.DataFrame({"confidence": found.movedim(-1, 0).flatten()}, index).reset_index()
        frames.append(frame.assign(method=method))
    return pd.concat(frames, ignore_index=True)


CONFIDENCES = Stage(_confidences)
CURVES = Stage(_curves)


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
        picture = study.explained_images(dataset, arch, "test").examples.images[i]
        maps = study.maps(dataset, arch)
        energy = [metrics.energy_map(picture[None], maps[method][i][None])[0] for method in methods]
        here = measured.query("dataset == @dataset and arch == @arch and image == @i")
        after = here.set_index("method")["O"]
        rows.append([picture, *energy])
        titles.append(f"{study.labels()[dataset]}\n{arch}")
        texts.append([f"{chosen['E']:.2f}", *(f"{after[method]:.2f}" for method in methods)])
    return rows, titles, texts


FAITHFULNESS_ORDERINGS = tuple(
    Ordering(f"{claim}, {definition}", "Table 3", f"{measure}{suffix}", larger, smaller)
    for definition, suffix, increase in (
        ("as the paper defines it", "", "average increase"),
        ("as Grad-CAM++ defines it", " (Grad-CAM++)", "increase in confidence"),
    )
    for claim, measure, larger, smaller in (
        ("LSFT's drop is below Grad-CAM's", "average drop", "Grad-CAM", "LSFT"),
        ("LSFT's drop is below GSFT's", "average drop", "GSFT", "LSFT"),
        ("Grad-CAM's drop is below GSFT's", "average drop", "GSFT", "Grad-CAM"),
        ("LSFT's increase is above Grad-CAM's", increase, "LSFT", "Grad-CAM"),
        ("LSFT's increase is above GSFT's", increase, "LSFT", "GSFT"),
        ("LSFT wins against Grad-CAM more often than it loses", "balance", "LSFT", "Grad-CAM"),
        ("GSFT loses against Grad-CAM more often than it wins", "balance", "Grad-CAM", "GSFT"),
        ("LSFT's wins minus losses against Grad-CAM are above GSFT's", "balance", "LSFT", "GSFT"),
    )
)
"""The orderings of Table 3 that the text states (section 4.2.3), in two definitions.

The definitions are the paper's and that of Grad-CAM++.
The measure ``balance`` is wins minus losses against Grad-CAM; see ``faithfulness.confidences``.
"""
