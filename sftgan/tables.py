"""Views of tidy frames: means with intervals, paired differences, and how they are shown."""

import hashlib
from collections.abc import Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from sftgan.errors import check_name
from sftgan.metrics import bootstrap_ci, paired_ci
from sftgan.paper import Ordering, verdict


def means(frame: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """One row for each group: n, mean, and the 95 % bootstrap interval (low, high) of the mean over images.

    Groups keep their order of appearance.
    """
    rows = []
    for key, group in frame.groupby(list(by), sort=False):
        low, high = bootstrap_ci(group[value].to_numpy())
        rows.append([*key, len(group), group[value].mean(), low, high])
    return pd.DataFrame(rows, columns=[*by, "n", "mean", "low", "high"])


def differences(
    frame: pd.DataFrame, value: str, first: str, others: Sequence[str], by: Sequence[str] = ()
) -> pd.DataFrame:
    """`first` minus each of the other methods, over the same images: difference, 95 % interval, verdict.

    The verdict judges the claim that `first` is larger. `by` makes groups, in order of appearance.
    """
    for method in (first, *others):
        check_name(method, frame["method"].unique(), "method")
    index = ["dataset", "arch", "image"]
    rows = []
    for key, group in frame.groupby(list(by), sort=False) if by else [((), frame)]:
        wide = group.pivot(index=index, columns="method", values=value)
        for other in others:
            difference, low, high = paired_ci(wide[first].to_numpy(), wide[other].to_numpy())
            rows.append([*key, f"{first} − {other}", len(wide), difference, low, high, verdict(low, high)])
    return pd.DataFrame(rows, columns=[*by, "comparison", "n", "difference", "low", "high", "verdict"])


def judge(scores: pd.DataFrame, orderings: Sequence[Ordering]) -> pd.DataFrame:
    """Judge the paper's orderings by `scores` (see `Study.scores`): one row for each, with interval and verdict."""
    rows = []
    for o in orderings:
        part = scores[scores["truth"] == o.truth]
        part = part if o.dataset is None else part[part["dataset"] == o.dataset]
        row = {"claim": o.claim, "where": o.where, "data here": ", ".join(part["data"].unique())}
        if len(part):
            found = differences(part, o.measure, o.larger, [o.smaller]).iloc[0]
            row |= found[["comparison", "n", "difference", "low", "high", "verdict"]].to_dict()
        else:
            row |= {"verdict": "cannot be tested here"}
        rows.append(row)
    columns = ["claim", "where", "data here", "comparison", "n", "difference", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns).astype({"n": "Int64"})


def first_to_reach(curves: dict[str, pd.DataFrame], column: str, share: float) -> pd.DataFrame:
    """For each learning curve the first epoch and step at which `column` reaches `share` of the best of all curves.

    A curve that never does has missing values.
    """
    goal = share * max(curve[column].max() for curve in curves.values())
    rows = []
    for name, curve in curves.items():
        reached = curve[curve[column] >= goal].head(1)
        rows.append([name, goal, *(reached[c].iloc[0] if len(reached) else pd.NA for c in ("epoch", "step"))])
    return pd.DataFrame(rows, columns=["trained on", f"{column} to reach", "epoch", "step"])


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


def show(frame: pd.DataFrame, digits: int = 2) -> Styler:
    """A frame as a page shows it: no index, rounded, the same HTML in every run."""
    name = hashlib.sha256(" ".join(map(str, frame.columns)).encode()).hexdigest()[:8]
    styled = frame.style.hide(axis="index").format(precision=digits, na_rep="–")
    return styled.set_uuid(name).set_table_attributes('class="dataframe"')


def provenance_table(provenance: dict) -> Styler:
    """What made the results of a notebook, one line for each item."""
    flat = {}
    for name, value in provenance.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items() if v is not None) or "none"
        flat[name] = str(value)
    return show(pd.DataFrame(flat.items(), columns=["item", "value"]))
