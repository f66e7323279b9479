"""Means, paired differences and their verdicts."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sftgan.errors import InputError, check_name
from sftgan.intervals import resampled, statistic_ci


def verdict(low: float, high: float) -> str:
    """Judge the claim that a difference is positive by its interval.

    Every claim is judged by this criterion.

    Parameters
    ----------
    low
        Lower end of the measured interval.
    high
        Upper end of the measured interval.

    Returns
    -------
    str
        "holds" if the whole interval lies above zero, "does not hold" if no part of it does, and "depends"
        (undecided) otherwise.

    Examples
    --------
    >>> verdict(0.1, 0.3), verdict(-0.3, -0.1), verdict(-0.1, 0.1)
    ('holds', 'does not hold', 'depends')
    """
    if low > 0:
        return "holds"
    if high <= 0:
        return "does not hold"
    return "depends"


def verdict_between(low: float, high: float, at_least: float, at_most: float) -> str:
    """Judge the claim that a value lies within a range by its interval.

    Parameters
    ----------
    low
        Lower end of the measured interval.
    high
        Upper end of the measured interval.
    at_least
        Lower end of the claimed range.
    at_most
        Upper end of the claimed range.

    Returns
    -------
    str
        "holds" if the whole interval lies in the range, "does not hold" if no part of it does, and "depends"
        (undecided) otherwise.

    Examples
    --------
    >>> verdict_between(0.45, 0.55, 0.4, 0.6), verdict_between(0.5, 0.7, 0.4, 0.6)
    ('holds', 'depends')
    """
    if at_least <= low and high <= at_most:
        return "holds"
    if high < at_least or low > at_most:
        return "does not hold"
    return "depends"


def means(
    frame: pd.DataFrame, value: str | Sequence[str], by: Sequence[str], statistic: Callable = np.mean
) -> pd.DataFrame:
    """Average a column over the images of each group, with 95 % bootstrap intervals.

    The rows of one ``image`` of one ``dataset``, such as those of several CNNs, are drawn together, and images are
    drawn within their data set. If the column ``seed`` has several values, seeds are drawn first, and an image
    counts once for each seed; see ``intervals.resampled``.

    Parameters
    ----------
    frame
        Tidy frame with one value in each row.
    value
        Column to average, or the columns of ``statistic``.
    by
        Columns that make the groups, which keep their order of appearance.
    statistic
        Function of the columns and ``axis`` that takes the place of the mean, such as ``metrics.average_drop`` of
        the columns E and O.

    Returns
    -------
    pd.DataFrame
        One row for each group: the columns of ``by``, the number of images "n", "mean", "low" and "high".

    Examples
    --------
    >>> frame = pd.DataFrame({"method": ["A", "A", "B", "B"], "dice": [0.5, 0.5, 0.75, 0.75]})
    >>> means(frame, "dice", ["method"]).values.tolist()
    [['A', 2, 0.5, 0.5, 0.5], ['B', 2, 0.75, 0.75, 0.75]]
    """
    columns = [value] if isinstance(value, str) else list(value)
    rows = []
    for key, group in frame.groupby(list(by), sort=False):
        arrays = [group[column].to_numpy(dtype=float) for column in columns]
        units = _images(group)
        drawn = {"units": units, "strata": group.get("dataset"), "seeds": group.get("seed")}
        low, high = statistic_ci(statistic, *arrays, **drawn)
        rows.append([*key, len(np.unique(units)), float(statistic(*arrays, axis=-1)), low, high])
    return pd.DataFrame(rows, columns=[*by, "n", "mean", "low", "high"])


def differences(
    frame: pd.DataFrame,
    value: str | Sequence[str],
    first: str,
    others: Sequence[str],
    by: Sequence[str] = (),
    statistic: Callable = np.mean,
) -> pd.DataFrame:
    """Compare one method with others on the same images.

    Images and seeds are drawn as in ``means``. The p-value comes from the same resamples as the interval. It is
    two-sided and not corrected; see ``holm``.

    Parameters
    ----------
    frame
        Tidy frame with the columns ``dataset``, ``arch``, ``image`` and ``method``, and ``seed`` if there are several
        trainings.
    value
        Column to compare, or the columns of ``statistic``.
    first
        Method from which the others are subtracted.
    others
        The other methods.
    by
        Columns that make groups, which keep their order of appearance.
    statistic
        Function of the columns and ``axis``, whose values are subtracted.

    Returns
    -------
    pd.DataFrame
        One row for each group and other method: the columns of ``by``, then "comparison", "n", "difference", "low",
        "high", "p", "effect size" and "verdict". The verdict judges the claim that ``first`` is larger. The effect
        size is Cohen's d_z, the mean of the images' differences over their standard deviation. It is NaN if this
        deviation is 0, and for any statistic other than the mean.

    Raises
    ------
    InputError
        If the frame is empty or lacks a method.

    Examples
    --------
    >>> frame = pd.DataFrame({"image": [0, 1, 2, 0, 1, 2], "method": list("AAABBB"), "r": [4, 6, 8, 1, 2, 3]})
    >>> found = differences(frame.assign(dataset="mnist", arch="vgg16"), "r", "A", ["B"])
    >>> found[["comparison", "n", "difference", "effect size", "verdict"]].values.tolist()
    [['A − B', 3, 4.0, 4.0, 'holds']]
    """
    if frame.empty:
        raise InputError("there is nothing to compare: the frame has no rows.")
    for method in (first, *others):
        check_name(method, frame["method"].unique(), "method")
    columns = [value] if isinstance(value, str) else list(value)
    rows = []
    for key, group in frame.groupby(list(by), sort=False) if by else [((), frame)]:
        wide = group.pivot(index=with_seed(frame, _INDEX), columns="method", values=columns)
        about = wide.index.to_frame()
        units = _images(about)
        drawn: dict[str, Any] = {"units": units, "strata": about["dataset"], "seeds": about.get("seed")}
        for other in others:
            arrays = [
                wide[column][method].to_numpy(dtype=float) for method in (first, other) for column in columns
            ]
            low, high, p = resampled(_minus(statistic), *arrays, **drawn)
            difference = float(_minus(statistic)(*arrays, axis=-1))
            size = _effect_size(arrays[0] - arrays[1], units) if statistic is np.mean else np.nan
            row = [f"{first} − {other}", len(np.unique(units)), difference, low, high, p, size]
            rows.append([*key, *row, verdict(low, high)])
    names = ["comparison", "n", "difference", "low", "high", "p", "effect size", "verdict"]
    return pd.DataFrame(rows, columns=[*by, *names])


_INDEX = ["dataset", "arch", "image"]


def with_seed(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Put "seed" before the names of columns if the frame has this column.

    Parameters
    ----------
    frame
        Frame to look at.
    names
        Columns that identify a row within one training.

    Returns
    -------
    list[str]
        Columns that identify a row among all trainings.

    Examples
    --------
    >>> with_seed(pd.DataFrame(columns=["seed", "image", "dice"]), ["image"])
    ['seed', 'image']
    """
    return ["seed", *names] if "seed" in frame else list(names)


def _images(frame: pd.DataFrame) -> np.ndarray:
    """Number the images of the rows; without a column ``image``, each row is an image."""
    keys = [key for key in ("seed", "dataset", "image") if key in frame]
    if "image" not in keys:
        return np.arange(len(frame))
    return frame.reset_index(drop=True).groupby(keys, sort=False).ngroup().to_numpy()


def _effect_size(differences: np.ndarray, units: np.ndarray) -> float:
    """Compute Cohen's d_z of paired differences, after averaging the rows of each image."""
    images = pd.Series(differences).groupby(units).mean()
    deviation = images.std()
    rounding = 1e-12 * images.abs().max()
    return float(images.mean() / deviation) if deviation > rounding else float("nan")


def holm(table: pd.DataFrame) -> pd.DataFrame:
    """Correct the p-values of a table of ``differences`` by Holm's method.

    A verdict is withdrawn if its interval excludes zero and its corrected p-value is not below 0.05: it becomes
    "depends", or "undecided" in the tables of ``claims.against_best_control``. As p is at least 1 / 2000, this
    happens to every such verdict in a table of 100 or more pairs.

    Parameters
    ----------
    table
        Rows of ``differences`` or ``claims.against_best_control``, corrected together. Rows without a p-value do not
        count.

    Returns
    -------
    pd.DataFrame
        The table with the column "p (Holm)" and with corrected verdicts.

    Raises
    ------
    InputError
        If the table has no column "p", or if statsmodels is not installed.

    Examples
    --------
    >>> table = pd.DataFrame({"low": [0.1, 0.1], "high": [0.3, 0.3], "p": [0.001, 0.06], "verdict": "holds"})
    >>> holm(table)[["p (Holm)", "verdict"]].values.tolist()
    [[0.002, 'holds'], [0.06, 'depends']]
    """
    try:
        from statsmodels.stats.multitest import multipletests
    except ImportError as error:
        raise InputError("Holm's correction needs statsmodels: run `pip install statsmodels`.") from error
    check_name("p", table.columns, "column")
    tested = table["p"].notna()
    adjusted = pd.Series(np.nan, table.index)
    if tested.any():
        adjusted[tested] = multipletests(table.loc[tested, "p"], method="holm")[1]
    chance = ((table["low"] > 0) | (table["high"] < 0)) & ~(adjusted < 0.05)
    words = {"verdict": "depends", "better than every control": "undecided"}
    turned = {name: table[name].mask(chance, word) for name, word in words.items() if name in table}
    return table.assign(**{"p (Holm)": adjusted}, **turned)


def _minus(statistic: Callable) -> Callable:
    """Return the statistic of the first half of the columns minus that of the second half."""

    def difference(*columns: np.ndarray, axis: int) -> np.ndarray:
        half = len(columns) // 2
        return statistic(*columns[:half], axis=axis) - statistic(*columns[half:], axis=axis)

    return difference


def margins(frame: pd.DataFrame, value: str, against: str) -> pd.Series:
    """Say for each row whether its value is above, at or below that of one method on the same image.

    The mean is the percentage of wins minus the percentage of losses.

    Parameters
    ----------
    frame
        Tidy frame with the columns ``dataset``, ``arch``, ``image`` and ``method``, and ``seed`` if there are several
        trainings.
    value
        Column to compare.
    against
        Method to compare with.

    Returns
    -------
    pd.Series
        100 for a win, 0 for a tie and -100 for a loss; NaN where ``against`` has no row for the image.

    Raises
    ------
    InputError
        If the frame lacks the method.

    Examples
    --------
    >>> frame = pd.DataFrame({"image": [0, 1, 0, 1], "method": list("AABB"), "dice": [0.5, 0.5, 0.75, 0.5]})
    >>> margins(frame.assign(dataset="mnist", arch="vgg16"), "dice", "A").tolist()
    [0.0, 0.0, 100.0, 0.0]
    """
    check_name(against, frame["method"].unique(), "method")
    index = with_seed(frame, _INDEX)
    other = frame[frame["method"] == against].set_index(index)[value]
    aligned = other.reindex(pd.MultiIndex.from_frame(frame[index])).to_numpy()
    return pd.Series(100.0 * np.sign(frame[value].to_numpy() - aligned), frame.index)
