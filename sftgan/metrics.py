"""Confusion counts and Dice of binarised maps (paper, section 4.2), and bootstrap intervals over images.

Two places where the paper cannot be taken by the letter:

- Section 4.2.1 describes a false positive as "foreground as background" and a false negative as "foreground as
  foreground". Here they are the usual ones: a false positive is background that the map calls foreground, a false
  negative is foreground that the map calls background.
- Section 4.2.2 makes the binarised Grad-CAM the ground truth, yet Table 2 has a Grad-CAM column, which would be 1
  throughout. Truth is therefore an argument: pass the strokes of the symbol, or the binarised Grad-CAM.
"""

import numpy as np
import torch
from scipy.stats import bootstrap
from torch import Tensor

from sftgan.errors import InputError


def binarise(maps: Tensor, threshold: float = 127) -> Tensor:
    """Foreground of maps in [0, 1]: maps * 255 > threshold, with the threshold in 0..255. Any shape -> bool."""
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


def bootstrap_ci(
    values: np.ndarray | Tensor, level: float = 0.95, n: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval (low, high) of the mean of `values` (images,), from `n` resamples.

    Constant values v give (v, v). A single value says nothing about its spread and gives (nan, nan).
    """
    values = _as_finite(values, "values")
    if not 0 < level < 1:
        raise InputError(f"level is {level}: give a share between 0 and 1, such as 0.95")
    if n < 1:
        raise InputError(f"n is {n}: give at least one resample")
    if len(values) == 1:
        return float("nan"), float("nan")
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    batch = max(1, 10**7 // len(values))  # at most 80 MB at a time
    result = bootstrap(
        (values,),
        np.mean,
        confidence_level=level,
        n_resamples=n,
        method="percentile",
        vectorized=True,
        batch=batch,
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def paired_ci(
    a: np.ndarray | Tensor, b: np.ndarray | Tensor, level: float = 0.95, n: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of a - b over the same images and its bootstrap interval: (difference, low, high)."""
    a, b = _as_finite(a, "a"), _as_finite(b, "b")
    if a.shape != b.shape:
        raise InputError(f"a has {len(a)} values and b has {len(b)}: pair the values of the same images")
    return float(np.mean(a - b)), *bootstrap_ci(a - b, level, n, seed)


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


def _as_finite(values: np.ndarray | Tensor, name: str) -> np.ndarray:
    values = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise InputError(f"{name} has shape {values.shape}: give one value for each image, at least one")
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise InputError(
            f"{name} holds NaN or infinity at {bad} of {len(values)} images: drop or define those first"
        )
    return values
