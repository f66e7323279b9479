"""Confidence intervals: the bootstrap over images and trainings, and Wilson's interval for proportions."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.stats import binomtest, bootstrap
from torch import Tensor

from sftgan.errors import InputError


def proportion_ci(share: float, n: int) -> tuple[float, float]:
    """Compute Wilson's 95 % interval of a proportion.

    Parameters
    ----------
    share
        Proportion in [0, 1].
    n
        Number of images, at least 1.

    Returns
    -------
    tuple[float, float]
        Lower and upper limit, in [0, 1].

    Examples
    --------
    >>> [round(limit, 3) for limit in proportion_ci(0.9, 100)]
    [0.826, 0.945]
    """
    interval = binomtest(round(share * n), n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_ci(
    values: np.ndarray | Tensor, level: float = 0.95, n: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Compute a percentile bootstrap interval of the mean.

    Parameters
    ----------
    values
        Values (images,).
    level
        Confidence level, between 0 and 1.
    n
        Number of resamples.
    seed
        Seed of the resamples.

    Returns
    -------
    tuple[float, float]
        Lower and upper limit: (v, v) if all values are v, and (nan, nan) for a single value, which says nothing
        about its spread.

    Raises
    ------
    InputError
        If the values are not one-dimensional, finite and at least one, or ``level`` or ``n`` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> low, high = bootstrap_ci(np.array([0.2, 0.4, 0.6, 0.8]))
    >>> low < 0.5 < high
    True
    >>> bootstrap_ci(np.array([0.5, 0.5]))
    (0.5, 0.5)
    """
    return statistic_ci(np.mean, values, level=level, n=n, seed=seed)


def statistic_ci(
    statistic: Callable[..., np.ndarray], *columns: np.ndarray | Tensor, **options: Any
) -> tuple[float, float]:
    """Compute a percentile bootstrap interval of a statistic of one or more columns.

    Parameters
    ----------
    statistic
        Function of the columns and ``axis``, as in ``resampled``.
    *columns
        Columns (rows,) of the same images.
    **options
        Keyword arguments of ``resampled``.

    Returns
    -------
    tuple[float, float]
        Lower and upper limit.

    Raises
    ------
    InputError
        As in ``resampled``.

    Examples
    --------
    >>> import numpy as np
    >>> better, worse = np.array([0.5, 0.7, 0.9]), np.array([0.4, 0.5, 0.6])
    >>> low, high = statistic_ci(lambda a, b, axis: (a - b).mean(axis), better, worse)
    >>> round(low, 2), round(high, 2)
    (0.1, 0.3)
    """
    return resampled(statistic, *columns, **options)[:2]


class Resampled(NamedTuple):
    """Percentile interval of a statistic, and its p-value.

    Attributes
    ----------
    low
        Lower limit.
    high
        Upper limit.
    p
        Two-sided p-value of the hypothesis that the statistic is zero, at least 1 / resamples.
    """

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
    """Resample the images, and the trainings if there are several, and compute a statistic of each resample.

    Without ``seeds``, or with a single seed, images are drawn with replacement. With several seeds, the trainings
    are drawn first and then the images of each drawn training, because both are samples. An image counts as a
    different image in each training, and needs a different unit there.

    Parameters
    ----------
    statistic
        Function of the columns and ``axis``, the axis of the rows, such as ``np.mean``.
    *columns
        Columns (rows,). Row i of each column is about the same image.
    units
        Image (rows,) that each row is about, for images with several rows, such as one row for each CNN. The rows
        of an image are drawn together, and every image must have the same number of rows. None if each row is an
        image.
    strata
        Data set (rows,) of each row; None for a single data set. Images are drawn within each data set, because the
        data sets are fixed.
    seeds
        Training (rows,) of each row; None for a single training.
    level
        Confidence level, between 0 and 1.
    n
        Number of resamples.
    seed
        Seed of the resamples.

    Returns
    -------
    Resampled
        Percentile interval and p-value. All three are NaN if a data set has a single image. The interval is (v, v) if
        each column is constant and v is their statistic.

    Raises
    ------
    InputError
        If a column is not one-dimensional, finite and at least one value long, if the columns differ in length, if
        images differ in their number of rows or have rows of several seeds, or if ``level`` or ``n`` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> values, cnns = np.array([0.2, 0.4, 0.3, 0.7, 0.6, 0.8]), 2
    >>> found = resampled(np.mean, values, units=np.repeat([0, 1, 2], cnns))
    >>> bool(found.low < values.mean() < found.high), found.p
    (True, 0.0005)
    """
    arrays = [_as_finite(column, "values") for column in columns]
    if not 0 < level < 1:
        raise InputError(f"level is {level}: give a number between 0 and 1, such as 0.95")
    if n < 1:
        raise InputError(f"n is {n}: draw at least one resample")
    n_rows = len(arrays[0])
    if {len(array) for array in arrays} != {n_rows}:
        raise InputError(
            f"columns have {', '.join(str(len(a)) for a in arrays)} values: give all columns the same images"
        )
    rows = _rows_of(np.arange(n_rows) if units is None else np.asarray(units))
    if all(np.ptp(array) == 0 for array in arrays) and len(rows) > 1:
        value = float(statistic(*[array[:1] for array in arrays], axis=-1))
        return Resampled(value, value, _two_sided(np.full(n, value)))
    trained = _images_of(rows, seeds, strata)
    if min(len(images) for data_sets in trained for images in data_sets) == 1:
        return Resampled(*[float("nan")] * 3)

    def of_drawn(*drawn: np.ndarray, axis: int) -> np.ndarray | np.floating:
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
    rows: Int[np.ndarray, "images rows"], seeds: np.ndarray | None, strata: np.ndarray | None
) -> list[list[Int[np.ndarray, " _"]]]:
    """Return the indices of the images of each seed and, within it, of each stratum."""
    seed, stratum = (
        np.zeros(rows.shape, int) if key is None else np.unique(np.asarray(key), return_inverse=True)[1][rows]
        for key in (seeds, strata)
    )
    if np.ptp(seed, axis=1).any():
        raise InputError("an image has rows of several seeds: give it a different unit for each seed")
    of_seeds = [(seed[:, 0] == s, stratum[:, 0]) for s in np.unique(seed)]
    return [[np.flatnonzero(mine & (names == k)) for k in np.unique(names[mine])] for mine, names in of_seeds]


def _drawn(
    trained: list[list[Int[np.ndarray, " _"]]], rng: np.random.Generator
) -> Iterator[Int[np.ndarray, " _"]]:
    """Draw seeds with replacement, and images with replacement from each data set of each drawn seed."""
    for s in rng.integers(len(trained), size=len(trained)):
        for images in trained[s]:
            yield images[rng.integers(len(images), size=len(images))]


def _two_sided(found: Float[np.ndarray, " resamples"]) -> float:
    """Compute the two-sided p-value of zero, at least 1 / resamples."""
    share = min(np.mean(found <= 0), np.mean(found >= 0))
    return float(np.clip(2 * share, 1 / len(found), 1))


def _rows_of(units: Shaped[np.ndarray, " rows"]) -> Int[np.ndarray, "images rows_of_each"]:
    """Return the indices of the rows of each image."""
    _, counts = np.unique(units, return_counts=True)
    if np.ptp(counts):
        raise InputError(
            f"some images have {counts.min()} rows and others {counts.max()}: leave out the incomplete images"
        )
    return np.argsort(units, kind="stable").reshape(len(counts), -1)


def _as_finite(values: np.ndarray | Tensor, name: str) -> Float[np.ndarray, " rows"]:
    values = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise InputError(
            f"{name} have the shape {values.shape}: give one-dimensional values, one for each image"
        )
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise InputError(
            f"{name} are NaN or infinite at {bad} of {len(values)} images: leave these images out or give values"
        )
    return values
