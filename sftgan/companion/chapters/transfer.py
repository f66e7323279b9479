"""Pretrained generators on a CNN and photographs that they were not trained with, beside controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from sftgan import metrics
from sftgan.companion.study.frames import check_counts
from sftgan.controls import averages, linear_fit, linear_map, luminance
from sftgan.errors import InputError, check_name
from sftgan.explainer import Explainer
from sftgan.gan import weights
from sftgan.gan.examples import Examples
from sftgan.gan.training import generate

FREE_CONTROLS = ("mean of CGMAs", "luminance", "centre")
"""Controls that need no fit; see ``drawn``."""
FITTED = ("mean map", "linear (this CNN)")
"""Controls that are fitted to the Grad-CAMs of the other photographs; see ``from_others``."""
_FOLDER = Path(str(resources.files("skimage"))) / "data"
_SMALL = 0.75  # side of the smaller crops, as a share of their photograph's shorter side
_BATCH = 8


@dataclass(frozen=True)
class Crops:
    """Squares cut from photographs.

    Each photograph has equally many crops, one after the other. The first is its central square.

    Attributes
    ----------
    images
        Crops (n, 3, side, side) in [0, 1].
    owners
        Index into ``names`` of each crop's photograph, int64 (n,).
    names
        Names of the photographs.
    """

    images: Tensor
    owners: Tensor
    names: tuple[str, ...]

    @property
    def first(self) -> Tensor:
        """The index of each photograph's first crop, int64 (number of photographs,)."""
        return torch.searchsorted(self.owners, torch.arange(len(self.names)))


def crops(names: Sequence[str], n_crops: int, side: int, seed: int = 0) -> Crops:
    """Crop photographs of scikit-image: the central square, and smaller squares at random places.

    Parameters
    ----------
    names
        Names of at least two photographs, because controls are made of the other photographs.
    n_crops
        Number of crops of each photograph.
    side
        Side of the crops in pixels after resizing.
    seed
        Seed of the places.

    Returns
    -------
    Crops
        The crops (n, 3, side, side) and their photographs.

    Raises
    ------
    InputError
        If a name is unknown, there are fewer than two different names, or a number is not a whole number of
        at least 1.
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
    """Load all pretrained generators.

    Returns
    -------
    tuple[dict[str, Explainer], pd.DataFrame]
        The explainers of ``weights.PRETRAINED``, by names such as "LSFT, similar", and a frame of what their
        files say about the training.
    """
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
    """Compute what explainers see of a CNN, which is the same for all of them.

    Parameters
    ----------
    model
        CNN.
    images
        Images (n, 3, H, W) in [0, 1].
    by
        Explainers by name.
    targets
        Class indices (n,); None for the predicted classes.

    Returns
    -------
    tuple[Examples, Tensor]
        Examples, and the CNN's logits (n, C).

    Raises
    ------
    InputError
        If the explainers differ in how they read the layers or in size.
    """
    one = next(iter(by.values()))
    if {(other.spec, other.size) for other in by.values()} != {(one.spec, one.size)}:
        raise InputError("the generators differ in their spec or size: give generators of one training.")
    parts, logits = [], []
    for at in torch.arange(len(images)).split(_BATCH):
        *part, outputs = one.prepare(model, images[at], None if targets is None else targets[at])
        parts.append(Examples(*part))
        logits.append(outputs)
    return Examples.concatenate(parts), torch.cat(logits)


def drawn(shown: Examples, by: Mapping[str, Explainer]) -> dict[str, Tensor]:
    """Compute the maps of the explainers, of the last convolution's Grad-CAM, and of the controls ``FREE_CONTROLS``.

    The control "centre" is bright in the middle and dark at the border of every picture.

    Parameters
    ----------
    shown
        Examples of ``seen``.
    by
        Explainers by name.

    Returns
    -------
    dict[str, Tensor]
        Maps (n, h, w) in [0, 1] by method.
    """
    with torch.no_grad():
        maps = {name: generate(one.generator, shown) for name, one in by.items()}
    rows, columns = (torch.sin(torch.pi * (torch.arange(n) + 0.5) / n) for n in shown.targets.shape[1:])
    free = (
        averages(shown.conditions)["mean of CGMAs"],
        luminance(shown.images),
        torch.outer(rows, columns).expand_as(shown.targets),
    )
    return {"Grad-CAM": shown.targets} | maps | dict(zip(FREE_CONTROLS, free, strict=True))


def from_others(shown: Examples, owners: Tensor) -> dict[str, Tensor]:
    """Compute the controls ``FITTED`` from the Grad-CAMs of the *other* photographs' crops.

    "mean map" is the mean of these Grad-CAMs. "linear (this CNN)" is the ``controls.linear_map`` of the
    least-squares fit to them.

    Parameters
    ----------
    shown
        Examples of ``seen``.
    owners
        Index of each crop's photograph (n,).

    Returns
    -------
    dict[str, Tensor]
        Maps (n, h, w) in [0, 1] by control.
    """
    linear, mean = torch.empty_like(shown.targets), torch.empty_like(shown.targets)
    for owner in owners.unique():
        mine = owners == owner
        others = shown.subset(~mine)
        linear[mine] = linear_map(linear_fit([others]), shown.subset(mine))
        mean[mine] = others.targets.mean(0)
    return dict(zip(FITTED, (mean, linear), strict=True))


def measured(model: nn.Module, of: Crops, classes: Tensor, maps: Mapping[str, Tensor]) -> pd.DataFrame:
    """Measure maps by their similarity to Grad-CAM and by the CNN's confidence in what they mark.

    The measures are means over the crops of a photograph, because these are not independent.

    Parameters
    ----------
    model
        CNN.
    of
        Crops of photographs.
    classes
        Explained class of each crop (n,).
    maps
        Maps (n, h, w) by method, with "Grad-CAM" among them.

    Returns
    -------
    pd.DataFrame
        One row for each photograph and method. ``r`` is the Pearson correlation with Grad-CAM. ``bright`` and
        ``dark`` are the share of the class's probability, at most 1, that is left if only one half of the
        pixels is shown, and the rest is black: the half that the map marks most, or the other one. ``margin``
        is ``bright`` minus ``dark``.
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
    """Compute ``metrics.confidence`` in small batches, which takes half the time for large images."""
    parts = zip(images.split(_BATCH), classes.split(_BATCH), strict=True)
    return torch.cat([metrics.confidence(model, *part) for part in parts]).numpy()


def collages(of: Crops, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Put central squares of two photographs side by side where the CNN predicts different classes.

    Parameters
    ----------
    of
        Crops of photographs.
    classes
        Predicted class of each crop (n,).

    Returns
    -------
    tuple[Tensor, Tensor]
        Collages (m, 3, side, 2 side) of a photograph and the next one, and their left and right classes (m,
        2).

    Raises
    ------
    InputError
        If the CNN predicts the same class for all photographs.
    """
    left = torch.arange(len(of.names))
    squares, predicted, right = of.images[of.first], classes[of.first], left.roll(-1)
    differ = predicted[left] != predicted[right]
    if not differ.any():
        raise InputError("the CNN predicts the same class for all photographs: give other photographs.")
    images = torch.cat([squares[left], squares[right]], dim=-1)
    return images[differ], torch.stack([predicted[left], predicted[right]], 1)[differ]


def class_sensitivity(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> pd.DataFrame:
    """Measure how much the maps of collages follow the class that they explain.

    Parameters
    ----------
    left
        Maps (m, h, w) by method that explain the class of the left half.
    right
        Maps (m, h, w) by method that explain the class of the right half.

    Returns
    -------
    pd.DataFrame
        One row for each method and collage. ``told`` is the share of the map in the left half when it
        explains the left class, minus the same when it explains the right one; 1 is perfect, 0 means that the
        map does not follow the class. ``alike`` is the Pearson correlation of the two maps.

    Examples
    --------
    >>> import torch
    >>> left = torch.tensor([[[1.0, 0.0]]])
    >>> class_sensitivity({"LSFT": left}, {"LSFT": left.flip(-1)})[["method", "told", "alike"]]
      method  told  alike
    0   LSFT   1.0   -1.0
    """
    frames = []
    for method, one in left.items():
        half = (torch.arange(one.shape[-1]) < one.shape[-1] // 2).expand(one.shape)
        told = metrics.foreground_share(one, half) - metrics.foreground_share(right[method], half)
        columns = {"told": told.numpy(), "alike": metrics.correlation(one, right[method]).numpy()}
        frames.append(pd.DataFrame({"method": method, "image": range(len(one))} | columns))
    return pd.concat(frames, ignore_index=True).assign(dataset="collages", arch="this CNN")
