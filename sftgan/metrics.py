"""Measures of maps (paper, sections 4.2, 4.4 and 5).

Two places where the paper cannot be taken by the letter:

- Section 4.2.1 describes a false positive as "foreground as background" and a false negative as "foreground as
  foreground". Here they are the usual ones: a false positive is background that the map calls foreground, a false
  negative is foreground that the map calls background.
- Section 4.2.2 makes the binarised Grad-CAM the ground truth, yet Table 2 has a Grad-CAM column, which would be 1
  throughout. Truth is therefore an argument: pass the strokes of the symbol, or the binarised Grad-CAM.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional as F

from sftgan.errors import InputError


def binarise(maps: Tensor, threshold: float = 127) -> Tensor:
    """Foreground of maps (...) in [0, 1], bool (...): maps * 255 > threshold, with the threshold in 0..255."""
    check_threshold(threshold)
    if not maps.is_floating_point():
        raise InputError(f"maps are {maps.dtype}: give floating-point values in [0, 1]")
    if not bool(((maps >= 0) & (maps <= 1)).all()):
        low, high = maps.min().item(), maps.max().item()
        raise InputError(f"maps range from {low:g} to {high:g}: scale them to [0, 1] without NaN")
    return maps * 255 > threshold


def check_threshold(threshold: float) -> None:
    """Raise InputError unless `threshold` is a grey level from 0 to 255."""
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 255:
        raise InputError(f"threshold is {threshold!r}: give a grey level from 0 to 255")


def confusion(prediction: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Pixels of each image counted as "tp", "tn", "fp" and "fn", standard definitions (see the module's text).

    Both masks bool (B, H, W) -> four int64 (B,), which add up to H * W.
    """
    _check_masks(prediction, truth)
    cases = {
        "tp": prediction & truth,
        "tn": ~prediction & ~truth,
        "fp": prediction & ~truth,
        "fn": ~prediction & truth,
    }
    return {name: mask.sum(dim=(1, 2)) for name, mask in cases.items()}


def dice(prediction: Tensor, truth: Tensor) -> Tensor:
    """Dice coefficient 2 TP / (2 TP + FP + FN) of each image, in [0, 1]; 1 if both masks are empty.

    Both masks bool (B, H, W) -> float64 (B,). For the truth to use see the module's text.
    """
    _check_masks(prediction, truth)
    shared = (prediction & truth).sum(dim=(1, 2)).double()
    total = (prediction.sum(dim=(1, 2)) + truth.sum(dim=(1, 2))).double()
    return torch.where(total > 0, 2 * shared / total.clamp_min(1), 1.0)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson correlation over the pixels of two maps (..., H, W) -> (...) in [-1, 1]; 0 where a map is flat."""
    a, b = (maps.double().flatten(-2) for maps in (a, b))
    a, b = (maps - maps.mean(-1, keepdim=True) for maps in (a, b))
    norm = a.norm(dim=-1) * b.norm(dim=-1)
    return torch.where(norm > 0, (a * b).sum(-1) / norm.clamp_min(torch.finfo(norm.dtype).tiny), 0.0)


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman correlation over the pixels of two maps (..., H, W) -> (...) in [-1, 1]; ties share their rank."""
    ranks = (
        torch.from_numpy(rankdata(maps.flatten(-2).numpy(), axis=-1)).view(maps.shape) for maps in (a, b)
    )
    return correlation(*ranks)


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (B, h, w) in [0, 1] at another height and width, in [0, 1]."""
    return F.interpolate(maps[:, None], size, mode="bilinear", antialias=True)[:, 0].clamp(0, 1)


def energy_map(images: Tensor, maps: Tensor) -> Tensor:
    """Images (B, 3, H, W) times their maps (B, h, w), which are brought to H x W (section 4.2.3)."""
    return images * resized(maps, images.shape[-2:])[:, None]


@torch.no_grad()
def confidence(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """How sure a CNN is of one class of each image: float64 (B,) in [0, 1], softmax of its logits.

    Images (B, 3, H, W) in [0, 1], classes int64 (B,). Computed where the model is, returned on the CPU.
    """
    device = next(model.parameters()).device
    probabilities = torch.cat([model(part.to(device)).softmax(1).cpu() for part in images.split(128)])
    return probabilities.gather(1, classes[:, None])[:, 0].double()


def average_drop(original: np.ndarray, energy: np.ndarray, axis: int = -1) -> np.ndarray:
    """Eq. 7: 100 * sum(E - O) / sum(E) over the images with O < E.

    `original` and `energy` (images,), in [0, 1], are the CNN's confidence E in the explained class on the images
    and O on their energy maps. Where no confidence falls the ratio is 0 / 0, and 0 is returned so that it can be
    resampled: show nothing there, see `Statistic.counts`.
    """
    lost = np.where(energy < original, original - energy, 0)
    return _ratio(lost, np.where(energy < original, original, 0), axis)


def average_increase(original: np.ndarray, energy: np.ndarray, axis: int = -1) -> np.ndarray:
    """Eq. 8: 100 * sum(O - E) / sum(E) over the images with O > E, 0 where no confidence rises. See `average_drop`."""
    won = np.where(energy > original, energy - original, 0)
    return _ratio(won, np.where(energy > original, original, 0), axis)


def drop_plus_plus(original: np.ndarray, energy: np.ndarray, axis: int = -1) -> np.ndarray:
    """Average drop of Grad-CAM++ (Chattopadhay 2018): 100 * mean of max(0, E - O) / E, over all images."""
    return 100 * relative_drop(original, energy).mean(axis)


def relative_drop(original: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Grad-CAM++'s max(0, E - O) / E of each image, in [0, 1]: by the smaller one a map wins there."""
    lost = np.maximum(original - energy, 0)
    return lost / np.where(lost > 0, original, 1)


def increase_plus_plus(original: np.ndarray, energy: np.ndarray, axis: int = -1) -> np.ndarray:
    """Increase in confidence of Grad-CAM++: the percentage of images with O > E, however little."""
    return 100 * (energy > original).mean(axis)


def _all(original: np.ndarray, energy: np.ndarray) -> np.ndarray:
    return np.full(original.shape, True)


class Statistic(NamedTuple):
    """A number that is not the mean of one column: the columns, the function of them, and the rows that it is about."""

    columns: tuple[str, ...]
    function: Callable[..., np.ndarray]
    counts: Callable[..., np.ndarray]


STATISTICS = {
    "average drop": Statistic(("E", "O"), average_drop, np.greater),
    "average increase": Statistic(("E", "O"), average_increase, np.less),
    "average drop (Grad-CAM++)": Statistic(("E", "O"), drop_plus_plus, _all),
    "increase in confidence (Grad-CAM++)": Statistic(("E", "O"), increase_plus_plus, _all),
}
"""The two definitions of drop and increase, in per cent."""
FEWEST = 5
"""With fewer rows than this a statistic has no interval: most resamples would hold the same one or two."""


def perturbed(images: Tensor, maps: Tensor, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Deletion and insertion (RISE, Petsiuk 2018): pairs of images for the shares 0, 1/steps, ..., 1 of pixels.

    In the first image the pixels where the map (B, H, W) is highest are black; in the second only they are not.
    Images (B, 3, H, W). Equal values of a map count from the top left.
    """
    n_pixels = maps[0].numel()
    rank = (
        maps.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).view(maps.shape)[:, None]
    )
    for step in range(steps + 1):
        first = rank < round(step / steps * n_pixels)
        yield images * ~first, images * first


def perturbation_curves(
    model: nn.Module, images: Tensor, maps: Tensor, classes: Tensor, steps: int
) -> Tensor:
    """Confidence in the classes along `perturbed`: float64 (2, B, steps + 1), deletion and insertion.

    Maps (B, h, w) are brought to the size of the images (B, 3, H, W).
    """
    sized = F.interpolate(maps[:, None], images.shape[-2:], mode="bilinear", antialias=True)[:, 0]
    return torch.stack(
        [
            confidence(model, torch.cat(pair), classes.repeat(2)).view(2, -1)
            for pair in perturbed(images, sized, steps)
        ],
        dim=-1,
    )


def area_under_curve(curves: Tensor) -> Tensor:
    """Area (...) below curves (..., steps + 1) over the shares 0 to 1, by trapezoids."""
    return torch.trapezoid(curves, dx=1 / (curves.shape[-1] - 1))


def background_error(maps: Tensor, truth: Tensor) -> Tensor:
    """Eq. 9: the map's mean over the background, sum((1 - GT) IM) / sum(1 - GT), (B,) in [0, 1].

    Maps (B, H, W) in [0, 1], truth bool (B, H, W), True on the object. NaN where an image has no background.
    """
    return _mean_where(maps, ~truth)


def foreground_share(maps: Tensor, truth: Tensor) -> Tensor:
    """f / (f + b) with f and b the map's means over object and background, (B,) in [0, 1].

    A dimmer map has the same share. 1/2 says nothing of the object, as does an empty map. NaN where the object or the
    background is empty. See `background_error`.
    """
    f, b = _mean_where(maps, truth), _mean_where(maps, ~truth)
    return torch.where(f + b == 0, 0.5, f / (f + b))


def foreground_mean(maps: Tensor, truth: Tensor) -> Tensor:
    """How intense a map is on the object, its mean there: (B,) in [0, 1]; NaN without an object (section 4.3.4).

    A map that is brighter everywhere is brighter here too. See `background_error`.
    """
    return _mean_where(maps, truth)


def additional_regions(maps: Tensor, reference: Tensor, other: Tensor) -> Tensor:
    """How much more `other` sees in the regions that `maps` find beyond `reference` (section 4.3.2): (B,) in [-1, 1].

    All are maps (B, H, W) in [0, 1]. The mean of `other` where only `maps` mark (see `binarise`), minus its mean
    where neither marks; NaN where one of these regions is empty.
    """
    marked, known = binarise(maps), binarise(reference)
    return _mean_where(other, marked & ~known) - _mean_where(other, ~marked & ~known)


def mass_share(maps: Tensor, region: Tensor) -> Tensor:
    """Share of a map's sum that lies in a region, bool (B, H, W): (B,) in [0, 1]; NaN for an empty map."""
    maps = maps.double()
    return (maps * region).sum((1, 2)) / maps.sum((1, 2))


def relevance(maps: Tensor, without: Tensor) -> Tensor:
    """Eq. 10: sum over pixels of |L(S) - L(S*)|, (B,), of maps (B, H, W) with and without a CGMA."""
    return (maps - without).abs().double().sum((1, 2))


def replaced(conditions: Tensor, mean: Tensor) -> Iterator[tuple[str, int, Tensor]]:
    """S* of Eq. 10: conditions (n, eta, h, w) with CGMA c replaced, as (replacement, c, conditions) (section 5).

    replacement: "zeros" as in the paper; "mean", that of `mean` (eta, h, w); "another image", that of the image before.
    """
    others = {
        "zeros": torch.zeros_like(conditions),
        "mean": mean.expand_as(conditions),
        "another image": conditions.roll(1, 0),
    }
    for replacement, other in others.items():
        for c in range(conditions.shape[1]):
            without = conditions.clone()
            without[:, c] = other[:, c]
            yield replacement, c, without


def _ratio(above: np.ndarray, below: np.ndarray, axis: int) -> np.ndarray:
    total = below.sum(axis)
    return 100 * above.sum(axis) / np.where(total > 0, total, 1)


def _mean_where(maps: Tensor, region: Tensor) -> Tensor:
    return (maps.double() * region).sum((1, 2)) / region.sum((1, 2))


def _check_masks(prediction: Tensor, truth: Tensor) -> None:
    for name, mask in (("prediction", prediction), ("truth", truth)):
        if mask.dtype != torch.bool:
            raise InputError(f"{name} is {mask.dtype}: binarise it first, a mask is bool")
        if mask.ndim != 3:
            raise InputError(f"{name} has shape {tuple(mask.shape)}: give (batch, height, width)")
    if prediction.shape != truth.shape:
        raise InputError(
            f"prediction has shape {tuple(prediction.shape)} and truth {tuple(truth.shape)}: "
            "bring them to the same images and size"
        )
