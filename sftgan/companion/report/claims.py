"""The paper's claims, judged on the frames of ``experiments``."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sftgan.companion.report.statistics import differences, means, verdict, with_seed
from sftgan.errors import InputError, check_name
from sftgan.metrics import FEWEST, STATISTICS

UNTESTED = "cannot be tested here"


class Ordering(NamedTuple):
    """A claim that one method's mean of a measure is larger than another's.

    Attributes
    ----------
    claim
        The claim in words.
    where
        Where the paper makes it, or "beyond the paper".
    measure
        Column of a frame, or one of ``metrics.STATISTICS``.
    larger
        Method with the larger value.
    smaller
        Method with the smaller value.
    truth
        Ground truth to which the claim is limited; None for frames without a ground truth.
    dataset
        Data set to which the claim is limited; None for all.
    """

    claim: str
    where: str
    measure: str
    larger: str
    smaller: str
    truth: str | None = None
    dataset: str | None = None


def judge(scores: pd.DataFrame, orderings: Sequence[Ordering], by: Sequence[str] = ()) -> pd.DataFrame:
    """Judge the paper's orderings by measured values.

    A claim is "cannot be tested here" if it has no data, or if its statistic rests on fewer than
    ``metrics.FEWEST`` rows.

    Parameters
    ----------
    scores
        Frame with one row for each method and image.
    orderings
        Claims to judge.
    by
        Columns that make groups, which are judged one by one, in order of appearance.

    Returns
    -------
    pd.DataFrame
        One row for each group and claim: the columns of ``by``, then ``COLUMNS``. ``data here`` says what
        the claim was tested on.
    """
    if not by:
        rows = [_judged(scores, ordering) for ordering in orderings]
        return pd.DataFrame(rows, columns=COLUMNS).astype({"n": "Int64"})
    parts = []
    for key, part in scores.groupby(list(by), sort=False):
        group: dict[str, Any] = dict(zip(by, key, strict=True))
        parts.append(judge(part, orderings).assign(**group))
    return pd.concat(parts, ignore_index=True)[[*by, *COLUMNS]]


def as_table(judged: pd.DataFrame, digits: int = 2) -> pd.DataFrame:
    """Prepare judged rows for a page.

    Parameters
    ----------
    judged
        Rows of ``judge`` or of another function of this module.
    digits
        Decimal places of the interval.

    Returns
    -------
    pd.DataFrame
        The same rows, with the interval and ``p (Holm)`` as text, n as ``images``, and without p.
    """
    low, high = (
        judged[name].map(lambda x: f"{x:.{digits}f}", na_action="ignore").astype("string")
        for name in ("low", "high")
    )
    numbers = {"images": judged["n"], "interval": "[" + low + ",\N{NO-BREAK SPACE}" + high + "]"}
    if "p (Holm)" in judged:
        numbers["p (Holm)"] = judged["p (Holm)"].map(lambda p: f"{p:.2g}", na_action="ignore")
    table = judged.assign(**numbers).drop(columns=["n", "low", "high", "p"], errors="ignore")
    last = ["comparison", "images", "difference", "interval", "effect size", "p (Holm)", "verdict", _BETTER]
    last = [name for name in last if name in table]
    return table[[*table.columns.drop(last), *last]]


def by_verdict(judged: pd.DataFrame, orderings: Sequence[Ordering]) -> dict[str, str]:
    """Group claims by their verdict.

    Parameters
    ----------
    judged
        Rows of ``judge``.
    orderings
        The claims that were judged.

    Returns
    -------
    dict[str, str]
        For each verdict its claims as text, or "none". A claim about one data set is followed by the data
        that it was tested on.
    """
    named = [o.claim for o in orderings if o.dataset]
    text: dict[str, list[str]] = {"holds": [], "does not hold": [], "depends": [], UNTESTED: []}
    for row in judged.to_dict("records"):
        here = f" (here on {row['data here']})" if row["claim"] in named and row["data here"] else ""
        text[row["verdict"]].append(row["claim"] + here)
    return {verdict: "; ".join(claims) or "none" for verdict, claims in text.items()}


JUDGED = ["comparison", "n", "difference", "low", "high", "effect size", "verdict"]
COLUMNS = ["claim", "where", "data here", *JUDGED]
_BETTER = "better than every control"


def _judged(scores: pd.DataFrame, o: Ordering) -> dict:
    part = scores if o.truth is None else scores[scores["truth"] == o.truth]
    part = part if o.dataset is None else part[part["dataset"] == o.dataset]
    row = {"claim": o.claim, "where": o.where, "data here": "; ".join(part["data"].unique())}
    if part.empty or _too_few(part, o.measure, (o.larger, o.smaller)):
        return row | {"verdict": UNTESTED}
    columns, function = _measured(o.measure)
    found = differences(part, columns, o.larger, [o.smaller], statistic=function).iloc[0]
    return row | found[JUDGED].to_dict()


def _measured(measure: str) -> tuple[list[str], Callable]:
    """The columns and the function of a statistic, or of a column's mean."""
    found = STATISTICS.get(measure)
    return (list(found.columns), found.function) if found else ([measure], np.mean)


def _too_few(part: pd.DataFrame, measure: str, methods: Sequence[str]) -> bool:
    """Whether a statistic rests on fewer than ``metrics.FEWEST`` rows for one of the methods."""
    statistic = STATISTICS.get(measure)
    if not statistic:
        return False
    groups = (part.loc[part["method"] == method, list(statistic.columns)] for method in methods)
    return min(int(statistic.counts(*group.to_numpy().T).sum()) for group in groups) < FEWEST


def against_best_control(
    scores: pd.DataFrame,
    measure: str,
    methods: Sequence[str],
    controls: Sequence[str],
    by: Sequence[str],
    larger: bool = True,
) -> pd.DataFrame:
    """Compare each method with the best of the controls, group by group.

    The best control is chosen on the same images, and this choice favours the control. A "yes" is therefore
    strict, and a "no" may be due to the choice.

    Parameters
    ----------
    scores
        Frame with one row for each method and image.
    measure
        Column of ``scores``, or one of ``metrics.STATISTICS``.
    methods
        Methods to compare.
    controls
        Methods to choose the best control from; a method is never its own control.
    by
        Columns that make the groups.
    larger
        Whether larger values are better.

    Returns
    -------
    pd.DataFrame
        The differences of ``statistics.differences``, with ``best control`` and ``better than every control``:
        "yes" if the whole 95 % interval lies on the better side of zero, "no" if no part of it does, and
        "undecided" otherwise; or "cannot be tested here", as in ``judge``.

    Raises
    ------
    InputError
        If a control is missing, or if the measure is undefined for some image.
    """
    columns, function = _measured(measure)
    words = {"holds": "yes", "does not hold": "no", "depends": "undecided"}
    rows = []
    for key, group in scores.groupby(list(by), sort=False):
        for method in methods:
            best = _best(group, measure, [control for control in controls if control != method], larger)
            found = differences(group, columns, method, [best], statistic=function).iloc[0]
            low, high = sorted(found[["low", "high"]] * (1 if larger else -1))
            word = UNTESTED if _too_few(group, measure, (method, best)) else words[verdict(low, high)]
            row = dict(zip(by, key, strict=True)) | {"method": method, "best control": best}
            rows.append(row | found.drop(["comparison", "verdict"]).to_dict() | {_BETTER: word})
    return pd.DataFrame(rows)


def _best(group: pd.DataFrame, measure: str, methods: Sequence[str], larger: bool) -> str:
    columns, function = _measured(measure)
    reached = {}
    for method in methods:
        check_name(method, group["method"].unique(), "method")
        reached[method] = function(*group.loc[group["method"] == method, columns].to_numpy().T, axis=-1)
    if np.isnan([*reached.values()]).any():
        raise InputError(f"{measure} is undefined for some images: drop them with `claims.pairwise` first.")
    return (max if larger else min)(reached, key=reached.__getitem__)


def above_zero(frame: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """Judge the claim that the mean of a column is above zero, group by group.

    Parameters
    ----------
    frame
        One row for each image.
    value
        Column whose mean is judged. Rows without a value (NaN) are left out.
    by
        Columns that make the groups, in order of appearance.

    Returns
    -------
    pd.DataFrame
        One row for each group. ``difference`` is the mean over n images, and ``left out`` counts the rows
        without a value.
    """
    undefined = frame[value].isna().groupby([frame[key] for key in by], sort=False).sum()
    found = means(frame.dropna(subset=value), value, by).rename(columns={"mean": "difference"})
    table = undefined.rename("left out").reset_index().merge(found, how="left", on=list(by))
    table["verdict"] = [
        UNTESTED if pd.isna(n) else verdict(low, high)
        for n, low, high in table[["n", "low", "high"]].itertuples(index=False)
    ]
    return table.astype({"n": "Int64"})


def pairwise(frame: pd.DataFrame, value: str, units: Sequence[str]) -> pd.DataFrame:
    """Keep only the units for which every compared row has a value.

    Parameters
    ----------
    frame
        Rows to compare.
    value
        Column that may be undefined (NaN).
    units
        Columns that identify a unit, such as an image.

    Returns
    -------
    pd.DataFrame
        The rows of the complete units.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"image": [0, 0, 1, 1], "share": [0.1, 0.2, 0.3, float("nan")]})
    >>> pairwise(frame, "share", ["image"])
       image  share
    0      0    0.1
    1      0    0.2
    """
    keys = [frame[key] for key in with_seed(frame, units)]
    undefined = frame[value].isna().groupby(keys).transform("any")
    return frame[~undefined]
