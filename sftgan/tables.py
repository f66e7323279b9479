"""Views of tidy frames: means with intervals, paired differences, and how they are shown."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from sftgan.bootstrap import resampled, statistic_ci
from sftgan.errors import InputError, check_name
from sftgan.paper import verdict


def means(
    frame: pd.DataFrame, value: str | Sequence[str], by: Sequence[str], statistic: Callable = np.mean
) -> pd.DataFrame:
    """One row for each group: n, mean, and the 95 % bootstrap interval (low, high) of the mean over its n images.

    Rows of one `image` of one `dataset`, such as those of several CNNs, are drawn together, images within their
    data set. With several in a column `seed`, seeds are drawn first, and n counts the images of each (see
    `bootstrap.resampled`).
    `statistic` of one or more columns, such as `metrics.average_drop` of E and O, may stand for the mean.
    Groups keep their order of appearance.
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
    """`first` minus each of the other methods, over the same images: difference, 95 % interval, verdict.

    The verdict judges the claim that `first` is larger. `by` makes groups, in order of appearance. `value`,
    `statistic` and n are those of `means`. p is two-sided, of the same resamples as the interval: see `holm`. The
    effect size is Cohen's d_z: the mean of the images' differences over their standard deviation; NaN if that is 0,
    and for any other statistic than the mean.
    """
    if frame.empty:
        raise InputError("there is nothing to compare: no image is left.")
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
    """The columns `names`, and before them `seed` where the frame has it: what tells rows apart over seeds too."""
    return ["seed", *names] if "seed" in frame else list(names)


def _images(frame: pd.DataFrame) -> np.ndarray:
    """A number for each row, the same for rows about the same image; without a column `image` each row is one."""
    keys = [key for key in ("seed", "dataset", "image") if key in frame]
    if "image" not in keys:
        return np.arange(len(frame))
    return frame.reset_index(drop=True).groupby(keys, sort=False).ngroup().to_numpy()


def _effect_size(differences: np.ndarray, units: np.ndarray) -> float:
    """Cohen's d_z of paired differences, each image's rows averaged first."""
    images = pd.Series(differences).groupby(units).mean()
    deviation = images.std()
    rounding = 1e-12 * images.abs().max()
    return float(images.mean() / deviation) if deviation > rounding else float("nan")


def holm(table: pd.DataFrame) -> pd.DataFrame:
    """`differences` of many pairs with "p (Holm)", the p-value among all of the table's rows that have one.

    A verdict stands only if it is below 0.05: where the interval excludes zero and it is not, the verdict becomes
    "depends" ("undecided" in `claims.against_best_control`). As p is at least 1 / 2000, a table can tell of fewer than
    100 pairs.
    """
    try:
        from statsmodels.stats.multitest import multipletests
    except ImportError as error:
        raise InputError("Holm's correction needs a package: run `pip install statsmodels`.") from error
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
    """The difference of a statistic between the first and the second half of its columns."""

    def difference(*columns: np.ndarray, axis: int) -> np.ndarray:
        half = len(columns) // 2
        return statistic(*columns[:half], axis=axis) - statistic(*columns[half:], axis=axis)

    return difference


def margins(frame: pd.DataFrame, value: str, against: str) -> pd.Series:
    """For each row 100, 0 or -100: `value` is above, at or below that of the method `against` on the same image.

    The mean is wins minus losses in per cent of the images; clipped at 0 it is wins, and ties count for nobody.
    """
    check_name(against, frame["method"].unique(), "method")
    index = with_seed(frame, _INDEX)
    other = frame[frame["method"] == against].set_index(index)[value]
    aligned = other.reindex(pd.MultiIndex.from_frame(frame[index])).to_numpy()
    return pd.Series(100.0 * np.sign(frame[value].to_numpy() - aligned), frame.index)


def left_out(frame: pd.DataFrame, kept: pd.DataFrame) -> str:
    """How many images of a frame are not in the part of it that is kept, in words: "3 of 96 images"."""
    keys = with_seed(frame, ["dataset", "image"])
    n, m = (len(part[keys].drop_duplicates()) for part in (frame, kept))
    return f"{n - m} of {n} images"


def spread(frame: pd.DataFrame, value: str, by: Sequence[str], across: str, digits: int = 2) -> pd.DataFrame:
    """`means` with intervals as text: one row for each group `by`, one column for each value of `across`."""
    found = means(frame, value, [*by, across])
    text = with_intervals(found, digits=digits).rename(value)
    return found.join(text).set_index([*by, across])[value].unstack(sort=False).reset_index()


def with_intervals(frame: pd.DataFrame, value: str = "mean", digits: int = 2) -> pd.Series:
    """Text such as "0.31 [0.29, 0.33]" for each row, with spaces at which no line breaks; "0.31" if there is none."""
    number, low, high = (frame[name].map(lambda x: f"{x:.{digits}f}") for name in (value, "low", "high"))
    interval = "\N{NO-BREAK SPACE}[" + low + ",\N{NO-BREAK SPACE}" + high + "]"
    return number + interval.where(frame["low"].notna(), "")


def means_as_text(
    frame: pd.DataFrame, values: Sequence[str], by: Sequence[str], digits: int = 2
) -> pd.DataFrame:
    """One row for each group: the means of several columns, each with its interval as text, see `means`."""
    found = frame[list(by)].drop_duplicates(ignore_index=True)
    return found.assign(**{v: with_intervals(means(frame, v, by), digits=digits) for v in values})


def show(frame: pd.DataFrame, digits: int = 2, caption: str = "") -> Styler:
    """A frame as a page shows it: no index, rounded, the same HTML in every run.

    The pages letter the captions, Table A, B, ..., as Table 1 to 3 are the paper's.
    """
    name = hashlib.sha256(" ".join(map(str, frame.columns)).encode()).hexdigest()[:8]
    styled = frame.style.hide(axis="index").format(precision=digits, na_rep="–")
    styled = styled.set_uuid(name).set_table_attributes('class="dataframe"')
    return styled.set_caption(caption) if caption else styled


def markdown(head: Iterable[str], rows: Iterable[Iterable]) -> str:
    """A table in Markdown."""
    names = [*head]
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(str(x).replace("|", "\\|") for x in line) + " |" for line in lines)


def provenance_table(provenance: dict) -> Styler:
    """What made the results of a notebook, one line for each item."""
    flat = {}
    for name, value in provenance.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items() if v is not None) or "none"
        flat[name] = str(value)
    return show(pd.DataFrame(flat.items(), columns=["item", "value"]), caption="What made this page.")
