"""Intervals: bootstrap over images, and over trainings where there are several; Wilson's for proportions."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest, bootstrap
from torch import Tensor

from sftgan.errors import InputError


def proportion_ci(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval (low, high) of a share, in [0, 1], of n images."""
    interval = binomtest(round(share * n), n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_ci(
    values: np.ndarray | Tensor, level: float = 0.95, n: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval (low, high) of the mean of `values` (images,), from `n` resamples.

    Constant values v give (v, v). A single value says nothing about its spread and gives (nan, nan).
    """
    return statistic_ci(np.mean, values, level=level, n=n, seed=seed)


def statistic_ci(
    statistic: Callable[..., np.ndarray], *columns: np.ndarray | Tensor, **options: Any
) -> tuple[float, float]:
    """The interval (low, high) of `resampled`."""
    return resampled(statistic, *columns, **options)[:2]


class Resampled(NamedTuple):
    """Percentile interval of a statistic, and the two-sided p-value of zero, at least 1 / resamples."""

    low: float
    high: float
    p: float


def resampled(
    statistic: Callable[..., np.ndarray],
    *columns: np.ndarray | Tensor,
    units: np.ndarray | None = None,
    strata: np.ndarray | None = None,
    seeds: np.ndarray | None = None,
    level: float = 0.95,
    n: int = 2000,
    seed: int = 0,
) -> Resampled:
    """Percentile bootstrap of `statistic(*columns, axis)`, whose columns share their rows.

    `units` (rows,) says which image a row is about, where an image has several, such as one for each CNN: whole
    images are drawn, and each must have the same number of rows. None: each row is an image. `strata` (rows,) says
    which data set a row belongs to: images are drawn anew within each data set, as the data sets are given and no
    sample of anything. `seeds` (rows,) says which training: of several, trainings are drawn first and images within
    each of them, as both are samples; an image of one training is none of another. A data set of a single image gives
    NaN. See `bootstrap_ci`, which is this for the mean.
    """
    arrays = [_as_finite(column, "values") for column in columns]
    if not 0 < level < 1:
        raise InputError(f"level is {level}: give a share between 0 and 1, such as 0.95")
    if n < 1:
        raise InputError(f"n is {n}: give at least one resample")
    n_rows = len(arrays[0])
    if {len(array) for array in arrays} != {n_rows}:
        raise InputError(
            f"columns of {', '.join(str(len(a)) for a in arrays)} values: pair those of the same images"
        )
    rows = _rows_of(np.arange(n_rows) if units is None else np.asarray(units))
    if all(np.ptp(array) == 0 for array in arrays) and len(rows) > 1:
        value = float(statistic(*[array[:1] for array in arrays], axis=-1))
        return Resampled(value, value, _two_sided(np.full(n, value)))
    trained = _images_of(rows, seeds, strata)
    if min(len(images) for data_sets in trained for images in data_sets) == 1:
        return Resampled(*[float("nan")] * 3)

    def of_drawn(*drawn: np.ndarray, axis: int) -> np.ndarray:
        taken = rows[np.concatenate(drawn, axis=-1)]
        taken = taken.reshape(*taken.shape[:-2], -1)
        return statistic(*(array[taken] for array in arrays), axis=axis)

    rng, tail = np.random.default_rng(seed), 50 * (1 - level)
    if len(trained) > 1:
        found = np.array([of_drawn(*_drawn(trained, rng), axis=-1) for _ in range(n)])
        low, high = map(float, np.percentile(found, [tail, 100 - tail]))
        return Resampled(low, high, _two_sided(found))
    result = bootstrap(
        trained[0],
        of_drawn,
        confidence_level=level,
        n_resamples=n,
        method="percentile",
        vectorized=True,
        batch=max(1, 10**7 // n_rows),  # at most 80 MB at a time
        rng=rng,
    )
    low, high = map(float, result.confidence_interval)
    return Resampled(low, high, _two_sided(result.bootstrap_distribution))


def _images_of(
    rows: np.ndarray, seeds: np.ndarray | None, strata: np.ndarray | None
) -> list[list[np.ndarray]]:
    """For each seed and each of its strata, which images these are; rows (images, rows of each)."""
    seed, stratum = (
        np.zeros(rows.shape, int) if key is None else np.unique(np.asarray(key), return_inverse=True)[1][rows]
        for key in (seeds, strata)
    )
    if np.ptp(seed, axis=1).any():
        raise InputError("an image has rows of several seeds: count it as another image with each seed")
    of_seeds = [(seed[:, 0] == s, stratum[:, 0]) for s in np.unique(seed)]
    return [[np.flatnonzero(mine & (names == k)) for k in np.unique(names[mine])] for mine, names in of_seeds]


def _drawn(trained: list[list[np.ndarray]], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Images of each data set, drawn from seeds that are drawn, both with replacement."""
    for s in rng.integers(len(trained), size=len(trained)):
        for images in trained[s]:
            yield images[rng.integers(len(images), size=len(images))]


def _two_sided(found: np.ndarray) -> float:
    share = min(np.mean(found <= 0), np.mean(found >= 0))
    return float(np.clip(2 * share, 1 / len(found), 1))


def _rows_of(units: np.ndarray) -> np.ndarray:
    """Indices (images, rows of each) of the rows of each image."""
    _, counts = np.unique(units, return_counts=True)
    if np.ptp(counts):
        raise InputError(
            f"some images have {counts.min()} rows and some {counts.max()}: leave out those that are not complete"
        )
    return np.argsort(units, kind="stable").reshape(len(counts), -1)


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
