"""Measures of maps (paper, sections 4.2, 4.4 and 5).

The module departs from the wording of the paper in two places:

- Section 4.2.1 describes a false positive as "foreground as background" and a false negative as "foreground as
  foreground". Here they have their usual meaning: a false positive is background that the map calls foreground, and
  a false negative is foreground that the map calls background.
- Section 4.2.2 takes the binarised Grad-CAM as the ground truth. The Grad-CAM column of Table 2 would then be 1
  throughout. So the truth is an argument here: pass the strokes of the symbol or the binarised Grad-CAM.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional as F

from sftgan.cams.gradcam import minmax
from sftgan.cams.model_state import evaluation_mode
from sftgan.errors import InputError


def binarise(maps: Float[Tensor, "*shape"], threshold: int | float = 127) -> Bool[Tensor, "*shape"]:
    """Mark the foreground of maps, which is where ``maps * 255 > threshold``.

    Parameters
    ----------
    maps
        Maps in [0, 1].
    threshold
        Grey level from 0 to 255.

    Returns
    -------
    Tensor
        True on the foreground.

    Raises
    ------
    InputError
        If the maps are not floating-point values in [0, 1], or the threshold is no grey level.

    Examples
    --------
    >>> import torch
    >>> binarise(torch.tensor([0.2, 0.5, 0.9]), threshold=64)
    tensor([False,  True,  True])
    """
    check_threshold(threshold)
    if not maps.is_floating_point():
        raise InputError(f"maps are {maps.dtype}: give floating-point values in [0, 1]")
    if not bool(((maps >= 0) & (maps <= 1)).all()):
        low, high = maps.min().item(), maps.max().item()
        raise InputError(f"maps range from {low:g} to {high:g}: scale them to [0, 1] without NaN")
    return maps * 255 > threshold


def check_threshold(threshold: int | float) -> None:
    """Check that a threshold is a grey level from 0 to 255.

    Parameters
    ----------
    threshold
        Value to check.

    Raises
    ------
    InputError
        If it is not a number from 0 to 255.

    Examples
    --------
    >>> check_threshold(127)
    """
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 255:
        raise InputError(f"threshold is {threshold!r}: give a grey level from 0 to 255")


def confusion(
    prediction: Bool[Tensor, "b h w"], truth: Bool[Tensor, "b h w"]
) -> dict[str, Int[Tensor, " b"]]:
    """Count the true and false positive and negative pixels of each image (section 4.2.1).

    The counts have their usual meaning, in which the module departs from the wording of the paper.

    Parameters
    ----------
    prediction
        Pixels that a map marks as foreground.
    truth
        Pixels of the true foreground.

    Returns
    -------
    dict[str, Tensor]
        Counts by name ("tp", "tn", "fp", "fn"), int64; the four add up to ``h * w``.

    Raises
    ------
    InputError
        If a mask is not boolean with three dimensions, or the shapes differ.

    Examples
    --------
    >>> import torch
    >>> prediction = torch.tensor([[[True, True, False]]])
    >>> truth = torch.tensor([[[True, False, False]]])
    >>> {name: count.item() for name, count in confusion(prediction, truth).items()}
    {'tp': 1, 'tn': 1, 'fp': 1, 'fn': 0}
    """
    _check_masks(prediction, truth)
    cases = {
        "tp": prediction & truth,
        "tn": ~prediction & ~truth,
        "fp": prediction & ~truth,
        "fn": ~prediction & truth,
    }
    return {name: mask.sum(dim=(1, 2)) for name, mask in cases.items()}


def dice(prediction: Bool[Tensor, "b h w"], truth: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Measure the overlap of two masks by the Dice coefficient ``2 TP / (2 TP + FP + FN)`` (section 4.2.2).

    The paper's truth is the binarised Grad-CAM. The strokes of a symbol are a truth that does not depend on a method.

    Parameters
    ----------
    prediction
        Pixels that a map marks as foreground.
    truth
        Pixels of the true foreground.

    Returns
    -------
    Tensor
        One value in [0, 1] for each image, float64; 1 where both masks are empty.

    Raises
    ------
    InputError
        If a mask is not boolean with three dimensions, or the shapes differ.

    Examples
    --------
    >>> import torch
    >>> prediction = torch.tensor([[[True, True, False]]])
    >>> truth = torch.tensor([[[True, False, True]]])
    >>> dice(prediction, truth)
    tensor([0.5000], dtype=torch.float64)
    """
    _check_masks(prediction, truth)
    shared = (prediction & truth).sum(dim=(1, 2)).double()
    total = (prediction.sum(dim=(1, 2)) + truth.sum(dim=(1, 2))).double()
    return torch.where(total > 0, 2 * shared / total.clamp_min(1), 1.0)


def correlation(a: Float[Tensor, "*#batch h w"], b: Float[Tensor, "*#batch h w"]) -> Float[Tensor, "*#batch"]:
    """Compute the Pearson correlation of two maps over their pixels.

    Parameters
    ----------
    a
        Maps.
    b
        Maps of the same height and width; the leading dimensions broadcast.

    Returns
    -------
    Tensor
        One value in [-1, 1] for each pair of maps, float64; 0 where a map is flat.

    Examples
    --------
    >>> import torch
    >>> a = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    >>> round(correlation(a, 1 - 2 * a).item(), 6)
    -1.0
    """
    a, b = (maps.double().flatten(-2) for maps in (a, b))
    a, b = (maps - maps.mean(-1, keepdim=True) for maps in (a, b))
    norm = a.norm(dim=-1) * b.norm(dim=-1)
    return torch.where(norm > 0, (a * b).sum(-1) / norm.clamp_min(torch.finfo(norm.dtype).tiny), 0.0)


def rank_correlation(
    a: Float[Tensor, "*#batch h w"], b: Float[Tensor, "*#batch h w"]
) -> Float[Tensor, "*#batch"]:
    """Compute the Spearman correlation of two maps over their pixels; ties share their mean rank.

    Parameters
    ----------
    a
        Maps on the CPU.
    b
        Maps on the CPU, of the same height and width; the leading dimensions broadcast.

    Returns
    -------
    Tensor
        One value in [-1, 1] for each pair of maps, float64; 0 where a map is flat.

    Examples
    --------
    >>> import torch
    >>> a = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    >>> round(rank_correlation(a, a**3).item(), 6)
    1.0
    """
    ranks = (
        torch.from_numpy(rankdata(maps.flatten(-2).numpy(), axis=-1)).view(maps.shape) for maps in (a, b)
    )
    return correlation(*ranks)


def resized(maps: Float[Tensor, "b h w"], size: Sequence[int]) -> Float[Tensor, "b h2 w2"]:
    """Resize maps by antialiased bilinear interpolation and clip them to [0, 1].

    Parameters
    ----------
    maps
        Maps in [0, 1].
    size
        New height and width.

    Returns
    -------
    Tensor
        The maps at the new size, in [0, 1].

    Examples
    --------
    >>> import torch
    >>> resized(torch.tensor([[[0.0, 1.0]]]), (1, 4))
    tensor([[[0.0000, 0.2500, 0.7500, 1.0000]]])
    """
    return F.interpolate(maps[:, None], size, mode="bilinear", antialias=True)[:, 0].clamp(0, 1)


def energy_map(images: Float[Tensor, "b c h w"], maps: Float[Tensor, "b h2 w2"]) -> Float[Tensor, "b c h w"]:
    """Multiply images by their maps (section 4.2.3).

    Parameters
    ----------
    images
        Images in [0, 1].
    maps
        Maps in [0, 1], which are resized to the images.

    Returns
    -------
    Tensor
        Energy maps: the images, darkened where their maps are low.

    Examples
    --------
    >>> import torch
    >>> energy_map(torch.ones(1, 3, 4, 4), torch.full((1, 2, 2), 0.25)).unique()
    tensor([0.2500])
    """
    return images * resized(maps, images.shape[-2:])[:, None]


@torch.no_grad()
def confidence(
    model: nn.Module, images: Float[Tensor, "b c h w"], classes: Int[Tensor, " b"], batch: int = 128
) -> Float[Tensor, " b"]:
    """Compute a CNN's softmax probability of one class for each image.

    The computation runs on the device of the model, in evaluation mode.

    Parameters
    ----------
    model
        CNN that returns logits.
    images
        Images in [0, 1].
    classes
        Class of each image, int64 on the CPU.
    batch
        Number of images at a time.

    Returns
    -------
    Tensor
        Probabilities on the CPU, float64.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    >>> images = torch.rand(1, 3, 2, 2)
    >>> both = [confidence(model, images, torch.tensor([c])) for c in (0, 1)]
    >>> round(sum(both).item(), 5)
    1.0
    """
    device = next(model.parameters()).device
    with evaluation_mode(model):
        probabilities = torch.cat([model(part.to(device)).softmax(1).cpu() for part in images.split(batch)])
    return probabilities.gather(1, classes[:, None])[:, 0].double()


def average_drop(
    original: Float[np.ndarray, "*shape"], energy: Float[np.ndarray, "*shape"], axis: int = -1
) -> Float[np.ndarray, "..."] | np.floating:
    """Compute the average drop in confidence over the images whose confidence falls (Eq. 7).

    With the confidence E on an image and O on its energy map::

        100 * sum(E - O) / sum(E)   over the images with O < E

    Where no confidence falls, the ratio is 0 / 0. The function returns 0 there, so that bootstrap resamples stay
    finite. Do not report this 0; ``Statistic.counts`` tells which images count.

    Parameters
    ----------
    original
        Confidence E in the explained class on the images, in [0, 1].
    energy
        Confidence O in the same class on the energy maps, in [0, 1].
    axis
        Axis of the images.

    Returns
    -------
    np.ndarray | np.floating
        Per cent of the confidence, without the axis of the images.

    Examples
    --------
    >>> import numpy as np
    >>> float(average_drop(np.array([0.5, 0.5, 0.2]), np.array([0.25, 0.5, 0.9])))
    50.0
    """
    lost = np.where(energy < original, original - energy, 0)
    return _ratio(lost, np.where(energy < original, original, 0), axis)


def average_increase(
    original: Float[np.ndarray, "*shape"], energy: Float[np.ndarray, "*shape"], axis: int = -1
) -> Float[np.ndarray, "..."] | np.floating:
    """Compute the average increase in confidence over the images whose confidence rises (Eq. 8).

    With the confidence E on an image and O on its energy map::

        100 * sum(O - E) / sum(E)   over the images with O > E

    As in ``average_drop``, the result is 0 where no confidence rises.

    Parameters
    ----------
    original
        Confidence E in the explained class on the images, in [0, 1].
    energy
        Confidence O in the same class on the energy maps, in [0, 1].
    axis
        Axis of the images.

    Returns
    -------
    np.ndarray | np.floating
        Per cent of the confidence, without the axis of the images.

    Examples
    --------
    >>> import numpy as np
    >>> float(average_increase(np.array([0.5, 0.5, 0.25]), np.array([0.25, 0.5, 0.5])))
    100.0
    """
    won = np.where(energy > original, energy - original, 0)
    return _ratio(won, np.where(energy > original, original, 0), axis)


def drop_plus_plus(
    original: Float[np.ndarray, "*shape"], energy: Float[np.ndarray, "*shape"], axis: int = -1
) -> Float[np.ndarray, "..."] | np.floating:
    """Compute the average drop as Grad-CAM++ defines it (Chattopadhay 2018).

    It is ``100 * max(0, E - O) / E``, averaged over all images.

    Parameters
    ----------
    original
        Confidence E in the explained class on the images, in [0, 1].
    energy
        Confidence O in the same class on the energy maps, in [0, 1].
    axis
        Axis of the images.

    Returns
    -------
    np.ndarray | np.floating
        Per cent in [0, 100], without the axis of the images.

    Examples
    --------
    >>> import numpy as np
    >>> float(drop_plus_plus(np.array([0.5, 0.5]), np.array([0.25, 0.9])))
    25.0
    """
    return 100 * relative_drop(original, energy).mean(axis)


def relative_drop(
    original: Float[np.ndarray, "*shape"], energy: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """Compute the relative drop in confidence ``max(0, E - O) / E`` of each image (Chattopadhay 2018).

    Of two maps of an image, Grad-CAM++ counts the one with the smaller drop as the winner.

    Parameters
    ----------
    original
        Confidence E in the explained class on the images, in [0, 1].
    energy
        Confidence O in the same class on the energy maps, in [0, 1].

    Returns
    -------
    np.ndarray
        Values in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> relative_drop(np.array([0.5, 0.5]), np.array([0.25, 0.9]))
    array([0.5, 0. ])
    """
    lost = np.maximum(original - energy, 0)
    return lost / np.where(lost > 0, original, 1)


def increase_plus_plus(
    original: Float[np.ndarray, "*shape"], energy: Float[np.ndarray, "*shape"], axis: int = -1
) -> Float[np.ndarray, "..."] | np.floating:
    """Compute the increase in confidence as Grad-CAM++ defines it (Chattopadhay 2018).

    It is the percentage of images with O > E. The size of the increase does not matter.

    Parameters
    ----------
    original
        Confidence E in the explained class on the images, in [0, 1].
    energy
        Confidence O in the same class on the energy maps, in [0, 1].
    axis
        Axis of the images.

    Returns
    -------
    np.ndarray | np.floating
        Per cent of the images, without their axis.

    Examples
    --------
    >>> import numpy as np
    >>> float(increase_plus_plus(np.array([0.5, 0.5]), np.array([0.25, 0.9])))
    50.0
    """
    return 100 * (energy > original).mean(axis)


def _all(
    original: Float[np.ndarray, "*shape"], energy: Float[np.ndarray, "*shape"]
) -> Bool[np.ndarray, "*shape"]:
    return np.full(original.shape, True)


class Statistic(NamedTuple):
    """Statistic that is not the mean of one column.

    Attributes
    ----------
    columns
        Names of the columns that it is computed from.
    function
        Function of these columns and ``axis``, such as ``average_drop``.
    counts
        Function of the same columns that is True for the rows that count in the statistic.
    """

    columns: tuple[str, ...]
    function: Callable[..., np.ndarray | np.floating]
    counts: Callable[..., np.ndarray]


STATISTICS = {
    "average drop": Statistic(("E", "O"), average_drop, np.greater),
    "average increase": Statistic(("E", "O"), average_increase, np.less),
    "average drop (Grad-CAM++)": Statistic(("E", "O"), drop_plus_plus, _all),
    "increase in confidence (Grad-CAM++)": Statistic(("E", "O"), increase_plus_plus, _all),
}
"""Drop and increase in per cent, as the paper and as Grad-CAM++ define them."""
FEWEST = 5
"""Fewest rows for an interval of a statistic; with fewer, most resamples repeat the same one or two rows."""


def perturbed(
    images: Float[Tensor, "b c h w"], maps: Float[Tensor, "b h w"], steps: int
) -> Iterator[tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]]:
    """Delete and insert the pixels that maps rank highest (RISE, Petsiuk 2018).

    Parameters
    ----------
    images
        Images in [0, 1].
    maps
        Maps of the same size; equal values rank from the top left.
    steps
        Number of steps, at least 1.

    Yields
    ------
    tuple[Tensor, Tensor]
        Images for each share 0, 1 / steps, ..., 1 of the pixels: first with this share of the highest pixels black
        (deletion), then with all other pixels black (insertion).

    Examples
    --------
    >>> import torch
    >>> images, maps = torch.ones(1, 1, 1, 2), torch.tensor([[[0.1, 0.9]]])
    >>> [(deleted.flatten().tolist(), inserted.flatten().tolist()) for deleted, inserted in perturbed(images, maps, 2)]
    [([1.0, 1.0], [0.0, 0.0]), ([1.0, 0.0], [0.0, 1.0]), ([0.0, 0.0], [1.0, 1.0])]
    """
    n_pixels = maps[0].numel()
    rank = (
        maps.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).view(maps.shape)[:, None]
    )
    for step in range(steps + 1):
        first = rank < round(step / steps * n_pixels)
        yield images * ~first, images * first


def perturbation_curves(
    model: nn.Module,
    images: Float[Tensor, "b c h w"],
    maps: Float[Tensor, "b h2 w2"],
    classes: Int[Tensor, " b"],
    steps: int,
) -> Float[Tensor, "2 b points"]:
    """Measure the confidence along deletion and insertion (see ``perturbed``).

    Parameters
    ----------
    model
        CNN that returns logits.
    images
        Images in [0, 1].
    maps
        Maps, which are resized to the images.
    classes
        Class of each image, int64 on the CPU.
    steps
        Number of steps, at least 1.

    Returns
    -------
    Tensor
        Curves of deletion and of insertion at ``steps + 1`` points, float64 on the CPU.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    >>> images, maps = torch.rand(5, 3, 2, 2), torch.rand(5, 2, 2)
    >>> perturbation_curves(model, images, maps, torch.zeros(5, dtype=torch.long), steps=4).shape
    torch.Size([2, 5, 5])
    """
    sized = F.interpolate(maps[:, None], images.shape[-2:], mode="bilinear", antialias=True)[:, 0]
    return torch.stack(
        [
            confidence(model, torch.cat(pair), classes.repeat(2)).view(2, -1)
            for pair in perturbed(images, sized, steps)
        ],
        dim=-1,
    )


def area_under_curve(curves: Float[Tensor, "*batch points"]) -> Float[Tensor, "*batch"]:
    """Compute the area under curves by the trapezoidal rule.

    Parameters
    ----------
    curves
        Values at two or more equidistant points from 0 to 1.

    Returns
    -------
    Tensor
        One area for each curve.

    Examples
    --------
    >>> import torch
    >>> area_under_curve(torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.5, 0.0]]))
    tensor([1.0000, 0.5000])
    """
    return torch.trapezoid(curves, dx=1 / (curves.shape[-1] - 1))


def background_error(maps: Float[Tensor, "b h w"], truth: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Compute the mean of each map over the background, ``sum((1 - GT) IM) / sum(1 - GT)`` (Eq. 9).

    Parameters
    ----------
    maps
        Maps IM in [0, 1].
    truth
        Masks GT of the object.

    Returns
    -------
    Tensor
        One value in [0, 1] for each image, float64; NaN where an image has no background.

    Examples
    --------
    >>> import torch
    >>> maps, truth = torch.tensor([[[0.75, 0.5, 0.0]]]), torch.tensor([[[True, False, False]]])
    >>> background_error(maps, truth)
    tensor([0.2500], dtype=torch.float64)
    """
    return _mean_where(maps, ~truth)


def foreground_share(maps: Float[Tensor, "b h w"], truth: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Compute ``f / (f + b)`` from the means f over the object and b over the background of each map.

    The brightness of a map has no influence. A share of 1/2 means that the map does not single out the object.

    Parameters
    ----------
    maps
        Maps in [0, 1].
    truth
        Masks of the object.

    Returns
    -------
    Tensor
        One value in [0, 1] for each image, float64; 1/2 for an empty map, NaN where the object or the background is
        empty.

    Examples
    --------
    >>> import torch
    >>> maps, truth = torch.tensor([[[0.75, 0.5, 0.0]]]), torch.tensor([[[True, False, False]]])
    >>> foreground_share(maps, truth)
    tensor([0.7500], dtype=torch.float64)
    """
    f, b = _mean_where(maps, truth), _mean_where(maps, ~truth)
    return torch.where(f + b == 0, 0.5, f / (f + b))


def foreground_mean(maps: Float[Tensor, "b h w"], truth: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Compute the mean of each map over the object (section 4.3.4).

    The overall brightness of a map raises this mean, unlike ``foreground_share``.

    Parameters
    ----------
    maps
        Maps in [0, 1].
    truth
        Masks of the object.

    Returns
    -------
    Tensor
        One value in [0, 1] for each image, float64; NaN where an image has no object.

    Examples
    --------
    >>> import torch
    >>> maps, truth = torch.tensor([[[0.75, 0.5, 0.0]]]), torch.tensor([[[True, False, False]]])
    >>> foreground_mean(maps, truth)
    tensor([0.7500], dtype=torch.float64)
    """
    return _mean_where(maps, truth)


def additional_regions(
    maps: Float[Tensor, "b h w"], reference: Float[Tensor, "b h w"], other: Float[Tensor, "b h w"]
) -> Float[Tensor, " b"]:
    """Test by a third method the regions that one map marks and a reference does not (section 4.3.2).

    The result is the mean of ``other`` where only ``maps`` mark, minus its mean where neither marks. ``binarise``
    decides what is marked.

    Parameters
    ----------
    maps
        Maps in [0, 1] whose additional regions are tested.
    reference
        Maps in [0, 1] of the reference method.
    other
        Maps in [0, 1] of a third method.

    Returns
    -------
    Tensor
        One value in [-1, 1] for each image, float64; NaN where one of the two regions is empty.

    Examples
    --------
    >>> import torch
    >>> maps, reference = torch.tensor([[[1.0, 1.0, 0.0]]]), torch.tensor([[[1.0, 0.0, 0.0]]])
    >>> additional_regions(maps, reference, other=torch.tensor([[[0.0, 0.75, 0.25]]]))
    tensor([0.5000], dtype=torch.float64)
    """
    marked, known = binarise(maps), binarise(reference)
    return _mean_where(other, marked & ~known) - _mean_where(other, ~marked & ~known)


def mass_share(maps: Float[Tensor, "b h w"], region: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Compute the share of each map's sum that lies in a region.

    Parameters
    ----------
    maps
        Maps in [0, 1].
    region
        True in the region.

    Returns
    -------
    Tensor
        One value in [0, 1] for each image, float64; NaN for an empty map.

    Examples
    --------
    >>> import torch
    >>> mass_share(torch.tensor([[[0.75, 0.25]]]), torch.tensor([[[True, False]]]))
    tensor([0.7500], dtype=torch.float64)
    """
    maps = maps.double()
    return (maps * region).sum((1, 2)) / maps.sum((1, 2))


def relevance(maps: Float[Tensor, "b h w"], without: Float[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Compute the relevance of a CGMA, the sum of ``|L(S) - L(S*)|`` over the pixels (Eq. 10).

    Parameters
    ----------
    maps
        Maps L(S) from all CGMAs.
    without
        Maps L(S*) with one CGMA replaced.

    Returns
    -------
    Tensor
        One value for each image, float64.

    Examples
    --------
    >>> import torch
    >>> relevance(torch.tensor([[[0.75, 0.5]]]), torch.tensor([[[0.5, 0.75]]]))
    tensor([0.5000], dtype=torch.float64)
    """
    return (maps - without).abs().double().sum((1, 2))


def replaced(
    conditions: Float[Tensor, "n eta h w"], mean: Float[Tensor, "eta h w"]
) -> Iterator[tuple[str, int, Float[Tensor, "n eta h w"]]]:
    """Replace one CGMA at a time, which gives the conditions S* of Eq. 10 (section 5).

    Parameters
    ----------
    conditions
        CGMAs S of each image.
    mean
        Mean CGMAs, as a replacement.

    Yields
    ------
    tuple[str, int, Tensor]
        Replacement, number c of the replaced CGMA, and conditions S*. The replacement is "zeros" (the paper's),
        "mean" (the CGMA of ``mean``) or "another image" (the CGMA of the previous image).

    Examples
    --------
    >>> import torch
    >>> conditions = torch.rand(3, 2, 4, 4)
    >>> [(name, c) for name, c, _ in replaced(conditions, conditions.mean(0))][:3]
    [('zeros', 0), ('zeros', 1), ('mean', 0)]
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


def _ratio(
    above: Float[np.ndarray, "*shape"], below: Float[np.ndarray, "*shape"], axis: int
) -> Float[np.ndarray, "..."] | np.floating:
    total = below.sum(axis)
    return 100 * above.sum(axis) / np.where(total > 0, total, 1)


def _mean_where(maps: Float[Tensor, "b h w"], region: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    return (maps.double() * region).sum((1, 2)) / region.sum((1, 2))


def _check_masks(prediction: Tensor, truth: Tensor) -> None:
    for name, mask in (("prediction", prediction), ("truth", truth)):
        if mask.dtype != torch.bool:
            raise InputError(f"{name} is {mask.dtype}: binarise it first; a mask is bool")
        if mask.ndim != 3:
            raise InputError(f"{name} has shape {tuple(mask.shape)}: give (batch, height, width)")
    if prediction.shape != truth.shape:
        raise InputError(
            f"prediction has shape {tuple(prediction.shape)} and truth {tuple(truth.shape)}: "
            "give masks of the same images and size"
        )


def measures(maps: Tensor, truth: Tensor, mean: Tensor) -> dict[str, np.ndarray]:
    """Measure maps against the teacher's, image by image.

    The Dice coefficient is that of the binarised maps. They are min-max scaled first, as the teacher's maps are.

    Parameters
    ----------
    maps
        Maps (n, H, W) in [0, 1].
    truth
        Maps (n, H, W) of the teacher, in [0, 1].
    mean
        The mean map, expanded to (n, H, W).

    Returns
    -------
    dict[str, np.ndarray]
        Values (n,), float64: "r", Pearson's correlation over pixels; "squared error", its mean over pixels; "error
        of the mean map", the same for ``mean``; and "dice".

    Examples
    --------
    >>> import torch
    >>> truth = torch.tensor([[[0.0, 1.0]]])
    >>> found = measures(truth, truth, torch.full((1, 1, 2), 0.5))
    >>> {name: round(value.item(), 6) for name, value in found.items()}
    {'r': 1.0, 'squared error': 0.0, 'error of the mean map': 0.25, 'dice': 1.0}
    """
    squared, of_mean = (((part - truth).double() ** 2).mean((1, 2)) for part in (maps, mean))
    overlap = dice(binarise(minmax(maps)[0]), binarise(truth))
    found = {"r": correlation(maps, truth), "squared error": squared}
    found |= {"error of the mean map": of_mean, "dice": overlap}
    return {name: values.numpy() for name, values in found.items()}


def skill(error: np.ndarray, of_mean: np.ndarray, axis: int = -1) -> np.ndarray | np.floating:
    """Compute the skill ``1 - mean(error) / mean(of_mean)``.

    It is 1 for perfect maps, and 0 for maps no better than the mean map, which is the same for every image.

    Parameters
    ----------
    error
        Squared error of each image.
    of_mean
        Squared error of the mean map on the same images.
    axis
        Axis of the images.

    Returns
    -------
    np.ndarray | np.floating
        Skill, at most 1, without the axis of the images.

    Examples
    --------
    >>> import numpy as np
    >>> float(skill(np.array([0.1, 0.1]), np.array([0.3, 0.5])))
    0.75
    """
    return 1 - error.mean(axis) / of_mean.mean(axis)
