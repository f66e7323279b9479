"""Sanity checks by randomisation (Adebayo 2018): does a map depend on what the CNN has learned, and on which input?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from sftgan import claims, metrics
from sftgan.architectures import last_block
from sftgan.baselines import averages, luminance
from sftgan.cache import Config, Runtime, Stage
from sftgan.errors import InputError
from sftgan.experiments import Case, check_counts, pooled
from sftgan.explained import examples
from sftgan.networks import Generator
from sftgan.paper import Ordering
from sftgan.reading import Reading
from sftgan.stages import CLASSIFIER, EXPLAINED, GAN, IMAGE_DATA, generators
from sftgan.study import Study
from sftgan.training import Examples, generate

METHODS = ("Grad-CAM", "last CGMA", "mean of CGMAs", "LSFT", "GSFT")
SWAPS = {
    "fresh generator": "the generator before its training",
    "another image's conditions": "its own picture, the conditions of another image",
    "another image's picture": "its own conditions, the picture of another image",
    "another class's picture": "its own conditions, the picture of an image of another class",
}


def cascade(study: Study, cases: Sequence[Case], n_steps: int, n_images: int) -> pd.DataFrame:
    """Maps of a CNN whose layers lose what they learned, from the last to the first, beside those of the trained CNN.

    Per case, method, image and share of the layers randomised (0 to 1, `n_steps` steps): Spearman, Pearson and SSIM
    with the method's map of the trained CNN, for the class that the trained CNN predicted. "other" before the name: the
    same of another image's map of the trained CNN, so alike are maps that have nothing but their CNN in common;
    "luminance" before it: of the picture in grey. flat: the map has no contrast, so its correlation is 0 by definition.
    """
    check_counts(n_steps=n_steps, n_images=n_images)
    return pooled(study, CASCADE, cases, {"n_steps": n_steps, "n_images": n_images, "seed": study.seed})


def swaps(study: Study, cases: Sequence[Case], n_images: int) -> pd.DataFrame:
    """The generators with one thing exchanged, see `SWAPS`: Spearman with the map that they draw else.

    And with that map of the image that the exchanged input is from, "with the other's map".
    """
    check_counts(n_images=n_images)
    return pooled(study, SWAPPED, cases, {"n_images": n_images, "seed": study.seed})


def judged(steps: pd.DataFrame) -> pd.DataFrame:
    """The criterion for each method, as in `claims.judge`: with all layers randomised a map is no more like before.

    The difference is how much more another image's map of the trained CNN is like it than that of the randomised CNN.
    """
    last = steps[steps["share"] == 1].drop(columns="share")
    rows = []
    for method in METHODS:
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
    """Give the last `n_layers` layers with weights (in order of definition) fresh ones, in place.

    Their batch norms then take their statistics from `images`: with those of the trained net a random one is often
    dead. The others, which no randomised layer comes before, keep theirs.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        chosen = _layers(model)[::-1][:n_layers]
        for module in chosen:
            module.reset_parameters()
        for norm in [module for module in chosen if isinstance(module, nn.BatchNorm2d)]:
            norm.momentum = None  # the plain average of what is seen
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
    """Share of the layers randomised, and the maps (n, H, W) of all `METHODS`, step by step."""
    test, n, n_steps = config["case"]["test"], config["n_images"], config["n_steps"]
    model = CLASSIFIER(test["cnn"], runtime).model.to(runtime.device)
    block, reading = last_block(model, test["cnn"]["arch"]), Reading(**test["reading"])
    images = IMAGE_DATA(test["data"], runtime).chosen(**test["images"]).batch()
    classes = EXPLAINED(test, runtime).predictions[:n]
    gans, n_layers, steps = generators(config["case"]["gans"], runtime), len(_layers(model)), []
    for step in range(n_steps + 1):
        if step:
            randomise(model, round(step / n_steps * n_layers), images.to(runtime.device), config["seed"] + 1)
        shown, _, _ = examples(model, images[:n], test["size"], reading, block, targets=classes)
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
    """For each image the nearest later one, the first after the last, of another class: int64 (n,)."""
    n = len(labels)
    if len(labels.unique()) < 2:
        raise InputError(f"the first {n} images are of one class: give a larger n_images.")
    later = (torch.arange(n)[:, None] + torch.arange(1, n)) % n
    first = (labels[later] != labels[:, None]).int().argmax(1)
    return later[torch.arange(n), first]


CASCADE = Stage(_cascade, "sanity", after=[EXPLAINED, GAN])
SWAPPED = Stage(_swapped, "sanity", after=[EXPLAINED, GAN])
