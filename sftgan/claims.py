"""The paper's claims, judged on the frames of ``experiments``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sftgan.baselines import CONTROLS
from sftgan.errors import InputError, check_name
from sftgan.metrics import FEWEST, STATISTICS
from sftgan.paper import (
    NOISE,
    NOISE_LEVELS,
    NOISE_SLOPES,
    QUALITATIVE_ORDERINGS,
    RELEVANCE,
    RELEVANCE_MAXIMUM,
    Ordering,
    verdict,
    verdict_between,
)
from sftgan.tables import differences, means, with_seed

UNTESTED = "cannot be tested here"


def judge(scores: pd.DataFrame, orderings: Sequence[Ordering], by: Sequence[str] = ()) -> pd.DataFrame:
    """Judge the paper's orderings by measured values.

    A claim is "cannot be tested here" if it has no data, or if its statistic rests on fewer than
    ``metrics.FEWEST`` rows.

    Parameters
    ----------
    scores
        A frame of ``experiments``, with one row for each method and image.
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


def shown(judged: pd.DataFrame, digits: int = 2) -> pd.DataFrame:
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


def listed(judged: pd.DataFrame, orderings: Sequence[Ordering]) -> dict[str, str]:
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


_FOUND = ["comparison", "n", "difference", "low", "high", "effect size", "verdict"]
COLUMNS = ["claim", "where", "data here", *_FOUND]
_BETTER = "better than every control"


def _judged(scores: pd.DataFrame, o: Ordering) -> dict:
    part = scores if o.truth is None else scores[scores["truth"] == o.truth]
    part = part if o.dataset is None else part[part["dataset"] == o.dataset]
    row = {"claim": o.claim, "where": o.where, "data here": "; ".join(part["data"].unique())}
    if part.empty or _too_few(part, o.measure, (o.larger, o.smaller)):
        return row | {"verdict": UNTESTED}
    columns, function = _measured(o.measure)
    found = differences(part, columns, o.larger, [o.smaller], statistic=function).iloc[0]
    return row | found[_FOUND].to_dict()


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
        A frame of ``experiments``, with one row for each method and image.
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
        The differences of ``tables.differences``, with ``best control`` and ``better than every control``:
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


def between_cnns(shares: pd.DataFrame) -> pd.DataFrame:
    """Judge whether each method tells the two CNNs of ``experiments.shortcuts`` apart.

    The claims are that a method puts more of its map on the patch for the CNN that learned the patch, and
    less on the object. An image whose map is empty for either CNN is left out. The controls "all ones" and
    "luminance" are left out because they do not depend on the CNN.

    Parameters
    ----------
    shares
        Frame of ``experiments.shortcuts``.

    Returns
    -------
    pd.DataFrame
        Rows of ``tables.differences`` with ``claim`` and ``region``, one for each region and method.
    """
    parts = []
    for region, first, second, claim in (
        ("patch", "shortcut", "honest", " puts more on the patch for the shortcut CNN"),
        ("object", "honest", "shortcut", " puts less on the object for the shortcut CNN"),
    ):
        part = shares[(shares["region"] == region) & ~shares["method"].isin(["all ones", "luminance"])]
        both = pairwise(part, "share", ["method", "image"])
        both = both.assign(who=both["method"], method=both["cnn"])
        found = differences(both, "share", first, [second], by=["who"]).rename(columns={"who": "method"})
        parts.append(found.assign(claim=found["method"] + claim, region=region))
    return pd.concat(parts, ignore_index=True)


def beyond_mean_map(shares: pd.DataFrame) -> pd.DataFrame:
    """Judge whether each method puts more of its map on the patch than the CNN's mean map.

    The mean map is the same for every image.

    Parameters
    ----------
    shares
        Frame of ``experiments.shortcuts``.

    Returns
    -------
    pd.DataFrame
        Rows of ``tables.differences`` with ``claim``, one for each CNN and method.
    """
    patch, parts = shares[shares["region"] == "patch"], []
    for method in patch["method"].unique():
        two = patch[patch["method"].isin([method, "mean map"])]
        two = pairwise(two, "share", ["cnn", "image"])
        if method not in CONTROLS and len(two):
            claim = f"{method} puts more on this image's patch than the mean map"
            parts.append(differences(two, "share", method, ["mean map"], by=["cnn"]).assign(claim=claim))
    return pd.concat(parts, ignore_index=True).sort_values("cnn", ascending=False, kind="stable")


def shortcut_claims(shares: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims of section 4.3.6.

    "Both methods mark the background" can be tested only if Grad-CAM itself tells the shortcut CNN from the
    honest one (see ``between_cnns``). "LSFT marks more of it" can be tested only if one of the two methods
    does.

    Parameters
    ----------
    shares
        Frame of ``experiments.shortcuts``.

    Returns
    -------
    pd.DataFrame
        Rows as in ``judge``.
    """
    told = between_cnns(shares).set_index(["region", "method"])["verdict"]
    tells = {method: told.get(("patch", method)) == "holds" for method in ("Grad-CAM", "LSFT")}
    learned = shares[(shares["region"] == "patch") & (shares["cnn"] == "shortcut")]
    learned = learned[learned["method"].isin(tells)]
    marks = above_zero(learned, "beyond", ["method"])
    marks["claim"] = marks["method"] + " marks the background that the CNN uses"
    marks["comparison"] = "share on the patch − its area"
    both = pairwise(learned, "share", ["image"])
    more = differences(both, "share", "LSFT", ["Grad-CAM"]) if len(both) else pd.DataFrame(index=[0])
    more["claim"] = "LSFT finds additional regions (our reading: more of the patch than Grad-CAM)"
    found = pd.concat([marks.assign(testable=tells["Grad-CAM"]), more.assign(testable=any(tells.values()))])
    found = found.assign(**{"where": "section 4.3.6", "data here": "; ".join(learned["data"].unique())})
    found["verdict"] = found["verdict"].where(found["testable"] & found["n"].notna(), UNTESTED)
    return found.reindex(columns=COLUMNS).astype({"n": "Int64"}).reset_index(drop=True)


def qualitative_claims(frames: Mapping[str, pd.DataFrame], shares: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims of sections 4.3.2 to 4.3.6.

    Parameters
    ----------
    frames
        Frames of ``experiments``: "likeness" is ``analogy``; "unseen" is ``scores`` and "intensity" is
        ``intensities`` of the unseen pairs; "strategies" is ``by_strategy``.
    shares
        Frame of ``experiments.shortcuts``.

    Returns
    -------
    pd.DataFrame
        Rows as in ``judge``.
    """
    likeness = frames["likeness"]
    lsft = likeness[(likeness["method"] == "LSFT") & (likeness["dataset"] == "mnist")]
    additional = above_zero(lsft, "additional", ["data"]).rename(columns={"data": "data here"})
    if additional.empty:  # MNIST was not selected
        additional = pd.DataFrame([{"verdict": UNTESTED}])
    additional = additional.assign(
        claim="LSFT's additional regions are those of Vanilla Saliency", where="section 4.3.2",
        comparison="Saliency where only LSFT marks − where neither marks",
    )  # fmt: skip
    judged = [judge(frames[name], orderings) for name, orderings in QUALITATIVE_ORDERINGS.items()]
    found = pd.concat([additional, *judged, shortcut_claims(shares)], ignore_index=True)
    return found[COLUMNS].astype({"n": "Int64"})


def word_claims(words: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims of section 4.3.7.

    A claim is tested on the images whose caption has both roles and for which the measure is defined.

    Parameters
    ----------
    words
        Frame of ``words.by_role``.

    Returns
    -------
    pd.DataFrame
        One row for each claim, as in ``judge``, the paper's claims first.
    """
    rows, data = [], ", ".join(words["data"].unique())
    named = words.assign(method=words["method"] + " (" + words["role"] + ")")
    claims = [(said, *claim) for said, listed in _WORD_CLAIMS.items() for claim in listed]
    for said, claim, measure, first, second in claims:
        known = named[named["method"].isin([first, second])].dropna(subset=[measure])
        both = known[known.groupby(with_seed(known, ["image"]))["method"].transform("nunique") == 2]
        row: dict[Any, Any] = {"claim": claim, "who says so": said, "data here": data}
        row["comparison"] = f"{first} − {second}"
        if len(both):
            found = differences(both, measure, first, [second]).iloc[0]
            row |= found[_FOUND].to_dict()
        else:
            row |= {"verdict": UNTESTED}
        rows.append(row)
    columns = ["who says so", *(column for column in COLUMNS if column != "where")]
    return pd.DataFrame(rows, columns=columns).astype({"n": "Int64"})


_METHODS = ("LSFT", "GSFT", "Grad-CAM")
_WORD_CLAIMS = {  # whose claims: (claim, measure, method and role with the larger value, and with the smaller)
    "the paper (4.3.7)": [
        ("LSFT gives subjects more intensity than verbs", "intensity", "LSFT (subject)", "LSFT (verb)"),
        ("LSFT localises subjects better than Grad-CAM", "on the subject", "LSFT (subject)", "Grad-CAM (subject)"),
    ],
    "beyond the paper": [
        ("GSFT localises subjects better than Grad-CAM", "on the subject", "GSFT (subject)", "Grad-CAM (subject)"),
        *((f"{m} marks the subject more for its own word than for the second noun", "on the subject",
           f"{m} (subject)", f"{m} (second noun)") for m in _METHODS),
        *((f"{m} gives subjects more intensity than verbs", "intensity", f"{m} (subject)", f"{m} (verb)")
          for m in ("GSFT", "Grad-CAM")),
        *((f"{m} gives second nouns more intensity than verbs", "intensity", f"{m} (second noun)", f"{m} (verb)")
          for m in _METHODS),
    ],
}  # fmt: skip


_IMAGE = ["strategy", "dataset", "data", "arch", "image", "method"]
_EQUAL = (0.4, 0.6)
_LOST = ["intensity lost", "foreground share lost"]


def noise_claims(measured: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims of section 4.4 for each strategy.

    Only the paper's densities, 0.05 to 0.5, are judged: levels by the means over them, and changes by the
    slopes over them. Slopes need at least two densities.

    Parameters
    ----------
    measured
        Frame of ``experiments.noise``.

    Returns
    -------
    pd.DataFrame
        Rows as in ``judge``, with the strategy and the densities judged.
    """
    noisy = measured[measured["density"].between(*NOISE)]
    densities = sorted(noisy["density"].unique())
    keys = with_seed(noisy, _IMAGE)
    levels = noisy.groupby(keys, sort=False)[["background", "foreground share"]].mean().reset_index()
    slopes = slopes_by_density(noisy) if len(densities) > 1 else levels.head(0)
    parts = [
        judge(frame[frame["strategy"] == strategy], orderings).assign(strategy=strategy)
        for strategy in measured["strategy"].unique()
        for frame, orderings in ((levels, NOISE_LEVELS), (slopes, NOISE_SLOPES))
    ]
    named = ", ".join(f"{d:g}" for d in densities) or f"no density from {NOISE[0]:g} to {NOISE[1]:g}"
    return pd.concat(parts, ignore_index=True).assign(densities=named)[["strategy", "densities", *COLUMNS]]


def slopes_by_density(noisy: pd.DataFrame) -> pd.DataFrame:
    """Compute the least-squares slopes of background error and foreground share over the noise density.

    Parameters
    ----------
    noisy
        Frame of ``experiments.noise`` with at least two densities.

    Returns
    -------
    pd.DataFrame
        One row for each image and method.
    """
    keys = [noisy[key] for key in with_seed(noisy, _IMAGE)]
    centred = noisy["density"] - noisy["density"].groupby(keys).transform("mean")
    values = noisy[["background", "foreground share"]]
    above = values.mul(centred, axis=0).groupby(keys, sort=False).sum()
    return above.div((centred**2).groupby(keys, sort=False).sum(), axis=0).reset_index()


def first_half(frame: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """Compute the share of a sum that the first half of the CGMAs has.

    The middle one of an odd number of CGMAs counts half.

    Parameters
    ----------
    frame
        One row for each group and CGMA ``c``.
    value
        Column to sum.
    by
        Columns that make the groups.

    Returns
    -------
    pd.DataFrame
        The share of each group in the column ``first half``; NaN if the sum is 0.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"image": 0, "c": range(4), "relevance": [3.0, 3.0, 1.0, 1.0]})
    >>> first_half(frame, "relevance", ["image"])
       image  first half
    0      0        0.75
    """
    first = frame.assign(first=frame[value] * _weight(frame["c"]))
    sums = first.groupby(list(by), sort=False)[["first", value]].sum()
    return (sums["first"] / sums[value]).rename("first half").reset_index()


def relevance_claims(measured: pd.DataFrame) -> pd.DataFrame:
    """Judge the claim of section 5.3 that the first and the last CGMAs are equally important.

    The claim holds if the first half of the CGMAs has 40 to 60 % of the relevance, with the whole interval.

    Parameters
    ----------
    measured
        Frame of ``experiments.relevance``.

    Returns
    -------
    pd.DataFrame
        One row for each generator, replacement and pair. The paper's own case, LSFT with zeros, comes first.
    """
    by = ["method", "replacement", "data", "arch"]
    keys = with_seed(measured, [*by, "dataset", "image"])
    shares = first_half(measured, "relevance", keys).dropna(subset="first half")
    found = means(shares, "first half", by).rename(columns={"mean": "first half"})
    found["claim"] = found["method"] + " relies equally on the first and the last CGMAs"
    found["data here"] = found["data"] + ", " + found["arch"]
    found["verdict"] = [
        verdict_between(low, high, *_EQUAL) for low, high in found[["low", "high"]].itertuples(index=False)
    ]
    columns = ["claim", "data here", "replacement", "n", "first half", "low", "high", "verdict"]
    return _paper_first(found)[["who says so", *columns]]


def published_relevance() -> pd.DataFrame:
    """Return Fig. 14 of the paper as a frame.

    Returns
    -------
    pd.DataFrame
        One row for each ``pair``, ``image`` and CGMA ``c``, with ``share`` in per cent of the largest
        possible relevance.
    """
    rows = [
        (pair, image, c, 100 * value / RELEVANCE_MAXIMUM)
        for pair, images in RELEVANCE.items()
        for image, values in images.items()
        for c, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["pair", "image", "c", "share"])


def blackout_claims(measured: pd.DataFrame) -> pd.DataFrame:
    """Judge what section 5.3 says of single CGMAs, over all pairs.

    Intensity is the map's mean. Localisation is its foreground share, which dimming does not change.

    Parameters
    ----------
    measured
        Frame of ``experiments.relevance``.

    Returns
    -------
    pd.DataFrame
        One row for each claim, generator and replacement. The paper's own case, LSFT with zeros, comes
        first.
    """
    last = measured["c"] == measured["c"].max()
    weight = _weight(measured["c"])
    without_last, first, late = (_mean_lost(measured, w) for w in (last, weight, 1 - weight))
    intensity, share = _LOST
    judged = [
        ("without the last CGMA the map is dimmer", "mean of the map, with − without", without_last[intensity]),
        ("without one of the first CGMAs the map marks the object less well",
         "foreground share, with − without", first[share]),
        ("the last CGMAs matter more to the intensity than the first",
         "mean of the map lost, last half − first half", late[intensity] - first[intensity]),
        ("the first CGMAs matter more to the localisation than the last",
         "foreground share lost, first half − last half", first[share] - late[share]),
    ]  # fmt: skip
    parts = [
        above_zero(lost.rename("lost").reset_index(), "lost", ["method", "replacement"]).assign(
            claim=claim, comparison=comparison
        )
        for claim, comparison, lost in judged
    ]
    found = pd.concat(parts, ignore_index=True).assign(**{"data here": "; ".join(measured["data"].unique())})
    columns = ["claim", "method", "replacement", "data here", "comparison", "n", "left out"]
    return _paper_first(found)[["who says so", *columns, "difference", "low", "high", "verdict"]]


def _weight(c: pd.Series) -> pd.Series:
    """1 for the first half of the CGMAs, 0 for the last half, 1/2 for the middle one of an odd number."""
    return ((c.max() + 1) / 2 - c).clip(0, 1)


def _mean_lost(measured: pd.DataFrame, weight: pd.Series) -> pd.DataFrame:
    """What a map loses without a CGMA, averaged with weights over the CGMAs, for each map and replacement."""
    names = with_seed(measured, ["method", "replacement", "dataset", "arch", "image"])
    keys = [measured[key] for key in names]
    lost = measured[_LOST].mul(weight, axis=0).groupby(keys, sort=False).sum(min_count=1)
    return lost.div(weight.groupby(keys, sort=False).sum(), axis=0)


def _paper_first(found: pd.DataFrame) -> pd.DataFrame:
    """Sort the rows on the paper's own case, LSFT with zeros, before the others."""
    papers = (found["method"] == "LSFT") & (found["replacement"] == "zeros")
    found = found.assign(**{"who says so": papers.map({True: "the paper (5.3)", False: "beyond the paper"})})
    return found.sort_values("who says so", ascending=False, kind="stable", ignore_index=True)
