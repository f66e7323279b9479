"""Pretrained generators with a CNN and photographs that they were not trained with, beside controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from sftgan import metrics, weights
from sftgan.baselines import averages, linear_fit, linear_map, luminance
from sftgan.errors import InputError, check_name
from sftgan.experiments import check_counts
from sftgan.explain import Explainer
from sftgan.training import Examples, generate

FREE = ("mean of CGMAs", "luminance", "centre")
"""Controls that know no Grad-CAM of the last layer: see `drawn`."""
FITTED = ("mean map", "linear (this CNN)")
"""Controls that know those of other photographs: see `from_others`."""
_FOLDER = Path(str(resources.files("skimage"))) / "data"
_SMALL = 0.75  # side of the crops behind the first, in shorter sides of their photograph
_BATCH = 8


@dataclass(frozen=True)
class Crops:
    """Squares of photographs: images (n, 3, side, side) in [0, 1], and of which of the `names` each is, int64 (n,).

    Each photograph has equally many, one after the other; the first is its central square.
    """

    images: Tensor
    owners: Tensor
    names: tuple[str, ...]

    @property
    def first(self) -> Tensor:
        """The place of each photograph's first crop."""
        return torch.searchsorted(self.owners, torch.arange(len(self.names)))


def crops(names: Sequence[str], n_crops: int, side: int, seed: int = 0) -> Crops:
    """Crops of photographs that are files of scikit-image: the central square, and smaller ones at random places.

    Raises InputError for an unknown name, and for fewer than two photographs, as controls are made of the others.
    """
    check_counts(n_crops=n_crops, side=side)
    if not isinstance(names, list | tuple) or len(set(names)) < max(2, len(names)):
        raise InputError(f"photographs is {names!r}: give a list of at least two different names.")
    files = {file.stem: file for kind in ("*.png", "*.jpg") for file in sorted(_FOLDER.glob(kind))}
    rng, found = np.random.default_rng(seed), []
    for name in names:
        with Image.open(files[check_name(name, files, "photograph")]) as picture:
            boxes = _boxes(picture.width, picture.height, n_crops, rng)
            whole = picture.convert("RGB")
        found += [
            np.asarray(whole.crop(box).resize((side, side), Image.Resampling.BILINEAR)) for box in boxes
        ]
    images = torch.from_numpy(np.stack(found)).movedim(-1, 1).float() / 255
    return Crops(images, torch.arange(len(names)).repeat_interleave(n_crops), tuple(names))


def _boxes(width: int, height: int, n: int, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    short = min(width, height)
    small = round(_SMALL * short)
    places = rng.integers((width - small + 1, height - small + 1), size=(n - 1, 2)).tolist()
    squares = [((width - short) // 2, (height - short) // 2, short), *((x, y, small) for x, y in places)]
    return [(x, y, x + side, y + side) for x, y, side in squares]


def explainers() -> tuple[dict[str, Explainer], pd.DataFrame]:
    """Those of `weights.PRETRAINED`, by names such as "LSFT, similar", and what their files say of the training."""
    found, rows = {}, []
    for name in weights.PRETRAINED:
        title = f"{name[:4].upper()}, {name[5:]}"
        path = weights.pretrained(name)
        said = weights.describe(path)
        found[title] = Explainer.load(path)
        about = {"trained on": said["about"].get("data"), "CNNs": said["about"].get("CNNs")}
        rows.append({"generator": title} | about | {"draws at, pixels": said["size"]})
    return found, pd.DataFrame(rows)


def seen(
    model: nn.Module, images: Tensor, by: Mapping[str, Explainer], targets: Tensor | None = None
) -> tuple[Examples, Tensor]:
    """What explainers see of a CNN, all of them the same, and its logits (n, C).

    Images (n, 3, H, W) in [0, 1]; targets: class indices (n,), or None for the predicted classes. Raises InputError
    for explainers that differ in reading or size.
    """
    one = next(iter(by.values()))
    if {(other.reading, other.size) for other in by.values()} != {(one.reading, one.size)}:
        raise InputError("the generators differ in their reading or size: give those of one training.")
    parts, logits = [], []
    for at in torch.arange(len(images)).split(_BATCH):
        *part, outputs = one.see(model, images[at], None if targets is None else targets[at])
        parts.append(Examples(*part))
        logits.append(outputs)
    return Examples.concatenate(parts), torch.cat(logits)


def drawn(shown: Examples, by: Mapping[str, Explainer]) -> dict[str, Tensor]:
    """Maps (n, h, w) in [0, 1]: Grad-CAM of the last convolution, the explainers', and `FREE`.

    The last of these is bright in the middle and dark at the border, whatever the picture.
    """
    with torch.no_grad():
        maps = {name: generate(one.generator, shown) for name, one in by.items()}
    rows, columns = (torch.sin(torch.pi * (torch.arange(n) + 0.5) / n) for n in shown.targets.shape[1:])
    free = (
        averages(shown.conditions)["mean of CGMAs"],
        luminance(shown.images),
        torch.outer(rows, columns).expand_as(shown.targets),
    )
    return {"Grad-CAM": shown.targets} | maps | dict(zip(FREE, free, strict=True))


def from_others(shown: Examples, owners: Tensor) -> dict[str, Tensor]:
    """`FITTED`: maps (n, h, w) in [0, 1], from the Grad-CAMs of the *other* photographs' crops.

    Their mean, and the `baselines.linear_map` of the least-squares fit to them.
    """
    linear, mean = torch.empty_like(shown.targets), torch.empty_like(shown.targets)
    for owner in owners.unique():
        mine = owners == owner
        others = shown.subset(~mine)
        linear[mine] = linear_map(linear_fit([others]), shown.subset(mine))
        mean[mine] = others.targets.mean(0)
    return dict(zip(FITTED, (mean, linear), strict=True))


def measured(model: nn.Module, of: Crops, classes: Tensor, maps: Mapping[str, Tensor]) -> pd.DataFrame:
    """One row per photograph and method: means over its crops, which are not independent.

    r: Pearson's correlation with Grad-CAM. bright, dark: what is left of the CNN's probability of the class, at most
    all of it, where only the half of the pixels that the map marks most is shown (the rest is black), and where only
    the other half is. margin: bright - dark.
    """
    before, frames = _confidence(model, of.images, classes), []
    about = {"dataset": "photographs", "arch": "this CNN", "image": of.owners.numpy()}
    about["photograph"] = [of.names[i] for i in of.owners]
    for method, here in maps.items():
        _, halves, _ = metrics.perturbed(of.images, metrics.resized(here, of.images.shape[-2:]), steps=2)
        dark, bright = (1 - metrics.relative_drop(before, _confidence(model, x, classes)) for x in halves)
        columns = {"method": method, "r": metrics.correlation(here, maps["Grad-CAM"]).numpy()}
        columns |= {"bright": bright, "dark": dark, "margin": bright - dark}
        frames.append(pd.DataFrame(about | columns))
    keys = [*about, "method"]
    return pd.concat(frames, ignore_index=True).groupby(keys, sort=False).mean().reset_index()


def _confidence(model: nn.Module, images: Tensor, classes: Tensor) -> np.ndarray:
    """`metrics.confidence`, few images at a time, which takes half the time where they are large."""
    parts = zip(images.split(_BATCH), classes.split(_BATCH), strict=True)
    return torch.cat([metrics.confidence(model, *part) for part in parts]).numpy()


def collages(of: Crops, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Photographs side by side, (m, 3, side, 2 side), and their classes, left and right, (m, 2).

    The central square of each and of the next one, where the CNN's `classes` (n,) differ. Raises InputError where they
    differ nowhere.
    """
    left = torch.arange(len(of.names))
    squares, predicted, right = of.images[of.first], classes[of.first], left.roll(-1)
    differ = predicted[left] != predicted[right]
    if not differ.any():
        raise InputError("the CNN predicts the same class for all photographs: give others.")
    images = torch.cat([squares[left], squares[right]], dim=-1)
    return images[differ], torch.stack([predicted[left], predicted[right]], 1)[differ]


def told_apart(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> pd.DataFrame:
    """How much the maps (m, h, w) of `collages` follow the class: one row per collage and method.

    left, right: those explained for the left and for the right class. told: the share of a map in the left half when
    the left class is asked for, less that when the right one is; 1 is perfect, 0 follows no class. alike: Pearson's
    correlation of the two maps.
    """
    frames = []
    for method, one in left.items():
        half = (torch.arange(one.shape[-1]) < one.shape[-1] // 2).expand(one.shape)
        told = metrics.foreground_share(one, half) - metrics.foreground_share(right[method], half)
        columns = {"told": told.numpy(), "alike": metrics.correlation(one, right[method]).numpy()}
        frames.append(pd.DataFrame({"method": method, "image": range(len(one))} | columns))
    return pd.concat(frames, ignore_index=True).assign(dataset="collages", arch="this CNN")
