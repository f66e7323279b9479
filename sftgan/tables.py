"""Views of tidy frames: means with intervals, paired differences, and how they are shown."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from sftgan.errors import InputError, check_name
from sftgan.metrics import STATISTICS, statistic_ci
from sftgan.paper import Ordering, verdict


def means(
    frame: pd.DataFrame, value: str | Sequence[str], by: Sequence[str], statistic: Callable = np.mean
) -> pd.DataFrame:
    """One row for each group: n, mean, and the 95 % bootstrap interval (low, high) of the mean over its n images.

    Rows of one `image` of one `dataset`, such as those of several CNNs, are drawn together.
    `statistic` of one or more columns, such as `metrics.average_drop` of E and O, may stand for the mean.
    Groups keep their order of appearance.
    """
    columns = [value] if isinstance(value, str) else list(value)
    rows = []
    for key, group in frame.groupby(list(by), sort=False):
        arrays = [group[column].to_numpy(dtype=float) for column in columns]
        units = _images(group)
        low, high = statistic_ci(statistic, *arrays, units=units)
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
    """`first` minus each of the other methods, over the same images: difference, 95 % interval, verdict.

    The verdict judges the claim that `first` is larger. `by` makes groups, in order of appearance. `value`,
    `statistic` and n are those of `means`.
    """
    if frame.empty:
        raise InputError("there is nothing to compare: no image is left.")
    for method in (first, *others):
        check_name(method, frame["method"].unique(), "method")
    columns = [value] if isinstance(value, str) else list(value)
    index = ["dataset", "arch", "image"]
    rows = []
    for key, group in frame.groupby(list(by), sort=False) if by else [((), frame)]:
        wide = group.pivot(index=index, columns="method", values=columns)
        units = _images(wide.index.to_frame())
        for other in others:
            arrays = [
                wide[column][method].to_numpy(dtype=float) for method in (first, other) for column in columns
            ]
            low, high = statistic_ci(_minus(statistic), *arrays, units=units)
            difference = float(_minus(statistic)(*arrays, axis=-1))
            n = len(np.unique(units))
            rows.append([*key, f"{first} − {other}", n, difference, low, high, verdict(low, high)])
    return pd.DataFrame(rows, columns=[*by, "comparison", "n", "difference", "low", "high", "verdict"])


def _images(frame: pd.DataFrame) -> np.ndarray:
    """A number for each row, the same for rows about the same image; without a column `image` each row is one."""
    keys = [key for key in ("dataset", "image") if key in frame]
    if "image" not in keys:
        return np.arange(len(frame))
    return frame.reset_index(drop=True).groupby(keys, sort=False).ngroup().to_numpy()


def _minus(statistic: Callable) -> Callable:
    """The difference of a statistic between the first and the second half of its columns."""

    def difference(*columns: np.ndarray, axis: int) -> np.ndarray:
        half = len(columns) // 2
        return statistic(*columns[:half], axis=axis) - statistic(*columns[half:], axis=axis)

    return difference


def wins(frame: pd.DataFrame, value: str, methods: Sequence[str], against: str) -> pd.DataFrame:
    """How often each method's `value` is above that of the method `against`, on the same images.

    One row per method: win, tie and loss in per cent of n images, and the 95 % interval (low, high) of the wins.
    Ties count for nobody.
    """
    wide = frame.pivot(index=["dataset", "arch", "image"], columns="method", values=value)
    rows = []
    for method in methods:
        won, tied = wide[method] > wide[against], wide[method] == wide[against]
        units = _images(wide.index.to_frame())
        low, high = statistic_ci(np.mean, 100.0 * won.to_numpy(), units=units)
        shares = [100 * won.mean(), low, high, 100 * tied.mean(), 100 * (~won & ~tied).mean()]
        rows.append([method, len(np.unique(units)), *shares])
    return pd.DataFrame(rows, columns=["method", "n", "win", "low", "high", "tie", "loss"])


def margins(frame: pd.DataFrame, value: str, against: str) -> pd.DataFrame:
    """`frame` with a column margin: 100, 0 or -100 where `value` is above, at or below that of the method `against`.

    Its mean is wins minus losses, in per cent of the images.
    """
    index = ["dataset", "arch", "image"]
    other = frame[frame["method"] == against].set_index(index)[value]
    aligned = other.reindex(pd.MultiIndex.from_frame(frame[index])).to_numpy()
    return frame.assign(margin=100.0 * np.sign(frame[value].to_numpy() - aligned))


def judge(scores: pd.DataFrame, orderings: Sequence[Ordering]) -> pd.DataFrame:
    """Judge the paper's orderings by `scores` (see `experiments`): one row for each, with interval and verdict."""
    rows = []
    for o in orderings:
        part = scores if o.truth is None else scores[scores["truth"] == o.truth]
        part = part if o.dataset is None else part[part["dataset"] == o.dataset]
        data = ", ".join(part["data"].unique()) if o.dataset else "all"
        row = {"claim": o.claim, "where": o.where, "data here": data}
        if len(part):
            columns, statistic = STATISTICS.get(o.measure, (o.measure, np.mean))
            found = differences(part, columns, o.larger, [o.smaller], statistic=statistic).iloc[0]
            row |= found[["comparison", "n", "difference", "low", "high", "verdict"]].to_dict()
        else:
            row |= {"verdict": "cannot be tested here"}
        rows.append(row)
    columns = ["claim", "where", "data here", "comparison", "n", "difference", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns).astype({"n": "Int64"})


def first_to_reach(curves: dict[str, pd.DataFrame], column: str, share: float) -> pd.DataFrame:
    """For each learning curve the first epoch and step at which `column` reaches `share` of the best of all curves.

    A curve that never does has missing values. "epochs" and "steps" are how far each curve goes.
    """
    goal = share * max(curve[column].max() for curve in curves.values())
    rows = []
    for name, curve in curves.items():
        reached = curve[curve[column] >= goal].head(1)
        row = {"trained on": name, "goal": goal}
        for unit in ("epoch", "step"):
            row |= {unit: reached[unit].iloc[0] if len(reached) else pd.NA, f"{unit}s": curve[unit].iloc[-1]}
        rows.append(row)
    return pd.DataFrame(rows)


def sooner(first: pd.Series, second: pd.Series, unit: str) -> str:
    """Judge, by two rows of `first_to_reach`, the claim that the first reaches the goal in fewer epochs or steps.

    A curve that ends too early to tell makes it "cannot be tested here".
    """
    at, other, end = first[unit], second[unit], second[f"{unit}s"]
    if pd.notna(at) and (at < other if pd.notna(other) else at <= end):
        return "holds"
    if pd.notna(other) and (pd.notna(at) or first[f"{unit}s"] >= other):
        return "does not hold"
    return "cannot be tested here"


def with_intervals(frame: pd.DataFrame, value: str = "mean", digits: int = 2) -> pd.Series:
    """Text such as "0.31 [0.29, 0.33]" for each row, with spaces at which no line breaks."""
    numbers = frame[[value, "low", "high"]].map(lambda x: f"{x:.{digits}f}")
    return (
        numbers[value]
        + "\N{NO-BREAK SPACE}["
        + numbers["low"]
        + ",\N{NO-BREAK SPACE}"
        + numbers["high"]
        + "]"
    )


def show(frame: pd.DataFrame, digits: int = 2, caption: str = "") -> Styler:
    """A frame as a page shows it: no index, rounded, the same HTML in every run.

    The pages letter the captions, Table A, B, ..., as Table 1 to 3 are the paper's.
    """
    name = hashlib.sha256(" ".join(map(str, frame.columns)).encode()).hexdigest()[:8]
    styled = frame.style.hide(axis="index").format(precision=digits, na_rep="–")
    styled = styled.set_uuid(name).set_table_attributes('class="dataframe"')
    return styled.set_caption(caption) if caption else styled


def provenance_table(provenance: dict) -> Styler:
    """What made the results of a notebook, one line for each item."""
    flat = {}
    for name, value in provenance.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items() if v is not None) or "none"
        flat[name] = str(value)
    return show(pd.DataFrame(flat.items(), columns=["item", "value"]), caption="What made this page.")
