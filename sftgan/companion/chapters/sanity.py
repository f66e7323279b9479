"""Sanity checks by randomisation (Adebayo 2018): do maps depend on what the CNN learned, and on the input?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from sftgan import metrics
from sftgan.cams.conditions import ConditionSpec
from sftgan.cnns.architectures import last_block
from sftgan.companion.report import claims
from sftgan.companion.report.claims import Ordering
from sftgan.companion.study.cache import Config, Runtime, Stage
from sftgan.companion.study.frames import Case, check_counts, pooled
from sftgan.companion.study.gallery import Rows
from sftgan.companion.study.stages import CLASSIFIER, EXPLAINED, IMAGE_DATA, generators
from sftgan.companion.study.study import Study
from sftgan.controls import averages, luminance
from sftgan.errors import InputError
from sftgan.gan.examples import Examples, explain_images
from sftgan.gan.networks import Generator
from sftgan.gan.training import generate

CASCADED = ("Grad-CAM", "last CGMA", "mean of CGMAs", "LSFT", "GSFT")
SWAPS = {
    "fresh generator": "the generator before its training",
    "another image's conditions": "its own picture, the conditions of another image",
    "another image's picture": "its own conditions, the picture of another image",
    "another class's picture": "its own conditions, the picture of an image of another class",
}
"""What is exchanged, and how: name -> description."""


def cascade(study: Study, cases: Sequence[Case], n_steps: int, n_images: int) -> pd.DataFrame:
    """Randomise a CNN's layers from last to first, and compare its maps with the trained CNN's.

    The maps explain the class that the trained CNN predicted.

    Parameters
    ----------
    study
        Run whose CNNs and GANs are used.
    cases
        Data set, CNN and strategy of each case.
    n_steps
        Number of steps from no layer to all layers.
    n_images
        Number of images of each case; the first ones are used.

    Returns
    -------
    pd.DataFrame
        One row for each case, method, ``share`` of the layers that is randomised (0 to 1) and image.
        ``Spearman``, ``Pearson`` and ``SSIM`` compare the map with the method's map of the trained CNN.
        Columns with "other" before these names compare the trained CNN's maps of another image and of this
        one, which have nothing but the CNN in common. Columns with "luminance" before them compare the
        picture in grey with the trained CNN's map. ``flat`` is True for a map without contrast, whose
        correlation is 0 by definition.

    Raises
    ------
    InputError
        If a number is not a whole number of at least 1.
    """
    check_counts(n_steps=n_steps, n_images=n_images)
    return pooled(study, CASCADE, cases, {"n_steps": n_steps, "n_images": n_images, "seed": study.seed})


def swaps(study: Study, cases: Sequence[Case], n_images: int) -> pd.DataFrame:
    """Exchange one thing of each generator, and compare its maps with those that it makes otherwise.

    Parameters
    ----------
    study
        Run whose GANs are used.
    cases
        Data set, CNN and strategy of each case.
    n_images
        Number of images of each case; the first ones are used.

    Returns
    -------
    pd.DataFrame
        One row for each case, method, ``swap`` of ``SWAPS`` and image: Spearman's correlation "with its own
        map", and "with the other's map", which is the map of the image that the exchanged input is from (for
        the fresh generator, of some other image).

    Raises
    ------
    InputError
        If ``n_images`` is not a whole number of at least 1, or the images are all of one class.
    """
    check_counts(n_images=n_images)
    return pooled(study, SWAPPED, cases, {"n_images": n_images, "seed": study.seed})


def judged(steps: pd.DataFrame) -> pd.DataFrame:
    """Judge for each method whether its maps depend on what the CNN has learned.

    The criterion: with all layers randomised, a map is less similar to the trained CNN's map than another
    image's map is. The difference is the Spearman correlation of the other image's map minus that of the
    randomised CNN's map.

    Parameters
    ----------
    steps
        Frame of ``cascade``.

    Returns
    -------
    pd.DataFrame
        One row of ``claims.judge`` for each method of ``CASCADED``.
    """
    last = steps[steps["share"] == 1].drop(columns="share")
    rows = []
    for method in CASCADED:
        part = last[last["method"] == method]
        two = pd.concat([
            part.assign(method="randomised", value=part["Spearman"]),
            part.assign(method="another image", value=part["other Spearman"]),
        ])  # fmt: skip
        claim = f"{method} depends on what the CNN has learned"
        claimed = Ordering(claim, "beyond the paper", "value", "another image", "randomised")
        rows.append(claims.judge(two, [claimed]))
    return pd.concat(rows, ignore_index=True)


@torch.no_grad()
def randomise(model: nn.Module, n_layers: int, images: Tensor, seed: int) -> None:
    """Replace the weights of the last layers by random ones, in place.

    The randomised batch norms then take their statistics from images, because a CNN with random weights and
    trained statistics is often dead. No randomised layer precedes the other batch norms, so they keep their
    statistics.

    Parameters
    ----------
    model
        CNN; it is left in evaluation mode.
    n_layers
        Number of layers with weights to randomise, counted from the last in order of definition.
    images
        Images (B, 3, H, W) in [0, 1], on the CNN's device.
    seed
        Seed of the weights.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        chosen = _layers(model)[::-1][:n_layers]
        for module in chosen:
            module.reset_parameters()
        for norm in [module for module in chosen if isinstance(module, nn.BatchNorm2d)]:
            norm.momentum = None  # the plain average over the images
            norm.train()
        model(images)
        model.eval()


def _layers(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "reset_parameters")]


def _alike(a: Tensor, b: Tensor) -> dict[str, np.ndarray]:
    ssim = [
        structural_similarity(x, y, data_range=1.0, win_size=7)
        for x, y in zip(a.numpy(), b.numpy(), strict=True)
    ]
    return {
        "Spearman": metrics.rank_correlation(a, b).numpy(),
        "Pearson": metrics.correlation(a, b).numpy(),
        "SSIM": np.array(ssim),
    }


def _drawn(shown: Examples, gans: Mapping[str, Generator]) -> dict[str, Tensor]:
    maps = {"Grad-CAM": shown.targets} | averages(shown.conditions)
    return maps | {name: generate(gan, shown) for name, gan in gans.items()}


def cascade_maps(config: Config, runtime: Runtime) -> list[tuple[float, dict[str, Tensor]]]:
    """Compute the maps of all methods while a CNN is randomised step by step.

    Parameters
    ----------
    config
        Configuration of the stage ``CASCADE``.
    runtime
        Where to compute and cache.

    Returns
    -------
    list[tuple[float, dict[str, Tensor]]]
        For each step the share of the layers that is randomised, and the maps (n, H, W) of all ``CASCADED`` methods.
    """
    test, n, n_steps = config["case"]["test"], config["n_images"], config["n_steps"]
    model = CLASSIFIER(test["cnn"], runtime).model.to(runtime.device)
    block, spec = last_block(model, test["cnn"]["arch"]), ConditionSpec(**test["reading"])
    images = IMAGE_DATA(test["data"], runtime).chosen(**test["images"]).batch()
    classes = EXPLAINED(test, runtime).predictions[:n]
    gans, n_layers, steps = generators(config["case"]["gans"], runtime), len(_layers(model)), []
    for step in range(n_steps + 1):
        if step:
            randomise(model, round(step / n_steps * n_layers), images.to(runtime.device), config["seed"] + 1)
        shown, _, _ = explain_images(model, images[:n], test["size"], spec, block, targets=classes)
        steps.append((step / n_steps, _drawn(shown, gans)))
    return steps


def _cascade(config: Config, runtime: Runtime, checkpoint: Path) -> pd.DataFrame:
    steps, frames = cascade_maps(config, runtime), []
    _, before = steps[0]
    grey = luminance(EXPLAINED(config["case"]["test"], runtime).examples.images[: config["n_images"]])
    for share, maps in steps:
        for method, drawn in maps.items():
            own = before[method]
            columns = {"method": method, "share": share, "image": range(len(drawn))} | _alike(drawn, own)
            columns["flat"] = (drawn.amax((1, 2)) == drawn.amin((1, 2))).numpy()
            for name, reference in {"other": own.roll(1, 0), "luminance": grey}.items():
                columns |= {f"{name} {k}": values for k, values in _alike(reference, own).items()}
            frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def _swapped(config: Config, runtime: Runtime, checkpoint: Path) -> pd.DataFrame:
    explained = EXPLAINED(config["case"]["test"], runtime)
    n = min(config["n_images"], len(explained.labels))
    shown, same, before = explained.examples.subset(torch.arange(n)), torch.arange(n), torch.arange(n).roll(1)
    sources = {
        "another image's conditions": (same, before),
        "another image's picture": (before, same),
        "another class's picture": (_of_another_class(explained.labels[:n]), same),
    }
    frames = []
    for kind, gan in generators(config["case"]["gans"], runtime).items():
        own = generate(gan, shown)
        with torch.random.fork_rng():
            torch.manual_seed(config["seed"] + 1)
            fresh = Generator(gan.kind, gan.eta, gan.width, gan.variant, gan.channels).to(runtime.device)
        drawn = {"fresh generator": (generate(fresh, shown), before)}
        for swap, (pictures, conditions) in sources.items():
            mixed = Examples(shown.images[pictures], shown.conditions[conditions], shown.targets)
            drawn[swap] = generate(gan, mixed), conditions if pictures is same else pictures
        for swap, (maps, other) in drawn.items():
            columns = {"with its own map": metrics.rank_correlation(maps, own).numpy()}
            columns["with the other's map"] = metrics.rank_correlation(maps, own[other]).numpy()
            frames.append(pd.DataFrame({"method": kind, "swap": swap, "image": range(n)} | columns))
    return pd.concat(frames, ignore_index=True)


def _of_another_class(labels: Tensor) -> Tensor:
    """Return for each image the next one of another class, int64 (n,); the first follows the last."""
    n = len(labels)
    if len(labels.unique()) < 2:
        raise InputError(f"the first {n} images are all of one class: give a larger n_images.")
    later = (torch.arange(n)[:, None] + torch.arange(1, n)) % n
    first = (labels[later] != labels[:, None]).int().argmax(1)
    return later[torch.arange(n), first]


CASCADE = Stage(_cascade)
SWAPPED = Stage(_swapped)


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
        One row for each of ``sanity.CASCADED``, the titles of the rows, and the titles of the columns.
    """
    config = {"case": study.case(*case), "n_steps": n_steps, "n_images": 1, "seed": study.seed}
    image = study.explained_images(*case[:2], "test").examples.images[0]
    steps = cascade_maps(config, study.runtime)
    rows = [[image, *(maps[method][0] for _, maps in steps)] for method in CASCADED]
    return rows, list(CASCADED), ["image", *(f"{share:.0%}" for share, _ in steps)]
