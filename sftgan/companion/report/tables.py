"""Tables of tidy frames: means with intervals, paired differences, and their layout on a page."""

import hashlib
from collections.abc import Iterable, Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from sftgan.companion.report.statistics import means, with_seed


def left_out(frame: pd.DataFrame, kept: pd.DataFrame) -> str:
    """Say how many images of a frame are missing from a part of it.

    Parameters
    ----------
    frame
        Whole frame, with the columns ``dataset`` and ``image``.
    kept
        The part that is kept.

    Returns
    -------
    str
        Text such as "3 of 96 images".

    Examples
    --------
    >>> frame = pd.DataFrame({"dataset": "mnist", "image": [0, 1, 2]})
    >>> left_out(frame, frame[:2])
    '1 of 3 images'
    """
    keys = with_seed(frame, ["dataset", "image"])
    n, m = (len(part[keys].drop_duplicates()) for part in (frame, kept))
    return f"{n - m} of {n} images"


def spread(frame: pd.DataFrame, value: str, by: Sequence[str], across: str, digits: int = 2) -> pd.DataFrame:
    """Lay out ``means`` with intervals as text, with one column for each value of a column.

    Parameters
    ----------
    frame
        Tidy frame.
    value
        Column to average.
    by
        Columns that make the rows.
    across
        Column whose values become the columns.
    digits
        Number of decimals.

    Returns
    -------
    pd.DataFrame
        One row for each group of ``by``, with text as in ``with_intervals``.

    Examples
    --------
    >>> frame = pd.DataFrame({"arch": "vgg16", "method": ["A", "A", "B", "B"], "dice": [0.5, 0.5, 0.75, 0.75]})
    >>> spread(frame, "dice", ["arch"], "method").columns.tolist()
    ['arch', 'A', 'B']
    """
    found = means(frame, value, [*by, across])
    text = with_intervals(found, digits=digits).rename(value)
    return found.join(text).set_index([*by, across])[value].unstack(sort=False).reset_index()


def with_intervals(frame: pd.DataFrame, value: str = "mean", digits: int = 2) -> pd.Series:
    """Format each value with its interval.

    The text has no-break spaces, so that it stays on one line.

    Parameters
    ----------
    frame
        Frame with the limits "low" and "high".
    value
        Column of the values.
    digits
        Number of decimals.

    Returns
    -------
    pd.Series
        Text such as "0.31 [0.29, 0.33]", or "0.31" where there is no interval.

    Examples
    --------
    >>> import numpy as np
    >>> frame = pd.DataFrame({"mean": [0.31, 0.5], "low": [0.29, np.nan], "high": [0.33, np.nan]})
    >>> [text.replace("\N{NO-BREAK SPACE}", " ") for text in with_intervals(frame)]
    ['0.31 [0.29, 0.33]', '0.50']
    """
    number, low, high = (frame[name].map(lambda x: f"{x:.{digits}f}") for name in (value, "low", "high"))
    interval = "\N{NO-BREAK SPACE}[" + low + ",\N{NO-BREAK SPACE}" + high + "]"
    return number + interval.where(frame["low"].notna(), "")


def means_as_text(
    frame: pd.DataFrame, values: Sequence[str], by: Sequence[str], digits: int = 2
) -> pd.DataFrame:
    """Lay out the ``means`` of several columns with their intervals as text.

    Parameters
    ----------
    frame
        Tidy frame.
    values
        Columns to average.
    by
        Columns that make the groups.
    digits
        Number of decimals.

    Returns
    -------
    pd.DataFrame
        One row for each group: the columns of ``by``, then ``values`` with text as in ``with_intervals``.

    Examples
    --------
    >>> frame = pd.DataFrame({"method": ["A", "A"], "r": [0.5, 0.5], "dice": [0.75, 0.75]})
    >>> means_as_text(frame, ["r", "dice"], ["method"]).columns.tolist()
    ['method', 'r', 'dice']
    """
    found = frame[list(by)].drop_duplicates(ignore_index=True)
    return found.assign(**{v: with_intervals(means(frame, v, by), digits=digits) for v in values})


def show(frame: pd.DataFrame, digits: int = 2, caption: str = "") -> Styler:
    """Style a frame for a page: rounded, without an index, and with the same HTML in every run.

    Parameters
    ----------
    frame
        Frame to show.
    digits
        Number of decimals.
    caption
        Caption; "" for none. The pages letter their captions Table A, B and so on, because Tables 1 to 3 are the
        paper's.

    Returns
    -------
    Styler
        The styled frame.

    Examples
    --------
    >>> "<td" in show(pd.DataFrame({"r": [0.123]}), caption="Table A. Correlation.").to_html()
    True
    """
    name = hashlib.sha256(" ".join(map(str, frame.columns)).encode()).hexdigest()[:8]
    styled = frame.style.hide(axis="index").format(precision=digits, na_rep="–")
    styled = styled.set_uuid(name).set_table_attributes('class="dataframe"')
    return styled.set_caption(caption) if caption else styled


def markdown(head: Iterable[str], rows: Iterable[Iterable]) -> str:
    """Format a table in Markdown.

    Parameters
    ----------
    head
        Names of the columns.
    rows
        Cells of each row, which may be of any type; a "|" in a cell is escaped.

    Returns
    -------
    str
        Lines without a final line break.

    Examples
    --------
    >>> print(markdown(["CNN", "r"], [["vgg16", 0.5]]))
    | CNN | r |
    | --- | --- |
    | vgg16 | 0.5 |
    """
    names = [*head]
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(str(x).replace("|", "\\|") for x in line) + " |" for line in lines)


def provenance_table(provenance: dict) -> Styler:
    """Lay out the provenance of a notebook's results, with one row for each item.

    Parameters
    ----------
    provenance
        Items by name, as from ``provenance.provenance``. A nested dictionary becomes one line of text without its
        None values.

    Returns
    -------
    Styler
        Table of items and values.

    Examples
    --------
    >>> "cores 2" in provenance_table({"hardware": {"cores": 2, "gpu": None}}).to_html()
    True
    """
    flat = {}
    for name, value in provenance.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items() if v is not None) or "none"
        flat[name] = str(value)
    return show(pd.DataFrame(flat.items(), columns=["item", "value"]), caption="What made this page.")
