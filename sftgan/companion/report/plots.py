"""Figures of maps, curves and intervals; every function returns a matplotlib figure."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

MAP_COLOURS = "inferno"  # perceptually uniform, unlike the paper's JET: equal steps look equal
METHOD_COLOURS = {
    "LSFT": "#0072b2", "GSFT": "#d55e00", "Grad-CAM": "#009e73",
    "Saliency": "#7f3c8d", "SmoothGrad": "#a5aa99", "Grad-CAM++": "#66a61e", "Score-CAM": "#1b7837",
    "all ones": "#999999", "luminance": "#b8a100", "mean map": "#cc79a7", "class mean map": "#882255",
    "mean activation": "#999933", "last CGMA": "#56b4e9", "mean of CGMAs": "#44aa99", "linear": "#332288",
    "linear (this CNN)": "#6699cc",
}  # fmt: skip
OTHER_COLOURS = ("#332288", "#882255", "#808080", "#999933", "#661100")  # of lines that are not methods
sns.set_theme(
    style="whitegrid", context="notebook", rc={"figure.dpi": 110, "figure.constrained_layout.use": True}
)


def map_grid(
    rows: Sequence[Sequence[Tensor]],
    row_titles: Sequence[str],
    column_titles: Sequence[str],
    cell: float = 0.8,
    scale: bool = True,
    texts: Sequence[Sequence[str]] | None = None,
) -> Figure:
    """Draw a grid of images and maps.

    Parameters
    ----------
    rows
        Rows of equal length. Images are (3, H, W) in [0, 1] and keep their colours; maps are (H, W) in [0,
        1] and become heat maps.
    row_titles
        One title for each row.
    column_titles
        One title for each column.
    cell
        Width and height of one picture in inches.
    scale
        Whether to add the colour bar of the heat maps.
    texts
        A few characters below each picture, in the layout of ``rows``; None for none.

    Returns
    -------
    Figure
        The grid.
    """
    figure, axes = plt.subplots(
        len(rows), len(rows[0]), figsize=(cell * len(rows[0]) + 1.9, cell * len(rows) + 0.5), squeeze=False
    )
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            axis = axes[i, j]
            if picture.ndim == 3:
                axis.imshow(picture.permute(1, 2, 0).numpy(), vmin=0, vmax=1)
            else:
                axis.imshow(picture.numpy(), vmin=0, vmax=1, cmap=MAP_COLOURS)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if texts:
                axis.set_xlabel(texts[i][j], fontsize=8)
            if i == 0:
                axis.set_title(column_titles[j], fontsize=9)
        axes[i, 0].set_ylabel(row_titles[i], rotation=0, ha="right", va="center", fontsize=9)
    if not scale:
        return figure
    colours = ScalarMappable(Normalize(0, 1), MAP_COLOURS)
    bar = figure.colorbar(
        colours, ax=axes, shrink=min(1, 2.2 / len(rows)), fraction=0.03, pad=0.02, ticks=[0, 0.5, 1]
    )
    bar.ax.tick_params(labelsize=8)
    return figure


def intervals(
    frame: pd.DataFrame,
    x: str,
    y: str,
    panel: str | None = None,
    colours: Mapping[str, str] = METHOD_COLOURS,
    reference: tuple[float, str] | None = None,
    limits: tuple[float, float] = (-0.03, 1.03),
    width: float = 3.1,
    reference_in: Collection[str] | None = None,
) -> Figure:
    """Draw means with their intervals, one line for each value of a column.

    Parameters
    ----------
    frame
        One row for each interval, with the columns ``mean``, ``low`` and ``high``.
    x
        Label of the x axis.
    y
        Column whose values are the lines, in order of appearance.
    panel
        Column whose values become panels side by side; None for one panel.
    colours
        Colour of each value of ``y``; black for values without one.
    reference
        Published value and its name, drawn as a dashed line.
    limits
        Limits of the x axis.
    width
        Width of a panel in inches.
    reference_in
        Panels that show the reference; None for all.

    Returns
    -------
    Figure
        The panels.
    """
    panels = [None] if panel is None else list(dict.fromkeys(frame[panel]))
    names = list(dict.fromkeys(frame[y]))
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(width * len(panels) + 1.4, 0.33 * len(names) + 1.5),
        sharey=True,
        squeeze=False,
    )
    line = None
    for axis, value in zip(axes[0], panels, strict=True):
        part = frame if panel is None else frame[frame[panel] == value]
        for _, row in part.iterrows():
            place, colour = names.index(row[y]), colours.get(row[y], "black")
            axis.plot([row["low"], row["high"]], [place, place], color=colour, lw=2.5, solid_capstyle="round")
            axis.plot(row["mean"], place, "o", color=colour, ms=6)
        if reference and (reference_in is None or value in reference_in):
            line = axis.axvline(reference[0], color="black", ls="--", lw=1, label=reference[1])
        axis.set(yticks=range(len(names)), yticklabels=names, xlim=limits, xlabel=x, title=value or "")
        axis.title.set_fontsize(10)
    axes[0, 0].invert_yaxis()
    if line:
        figure.legend(handles=[line], loc="outside lower center", frameon=False, fontsize=9)
    return figure


def fitted(frame: pd.DataFrame, *values: float) -> tuple[float, float]:
    """Compute axis limits that contain all intervals of a frame, with a margin of 5 % on each side.

    Parameters
    ----------
    frame
        Intervals in the columns ``low`` and ``high``.
    *values
        Further values that the limits must contain.

    Returns
    -------
    tuple[float, float]
        Lower and upper limit.

    Examples
    --------
    >>> import pandas as pd
    >>> low, high = fitted(pd.DataFrame({"low": [2.0, 4.0], "high": [6.0, 10.0]}), 0.0)
    >>> print(low, high)
    -0.5 10.5
    """
    low, high = min([frame["low"].min(), *values]), max([frame["high"].max(), *values])
    margin = 0.05 * (high - low)
    return low - margin, high + margin


def intervals_by_group(frame: pd.DataFrame, x: str, group: str, panel: str) -> Figure:
    """Draw means with their intervals, the methods side by side in each group.

    Parameters
    ----------
    frame
        One row for each interval, with the columns ``method``, ``mean``, ``low`` and ``high``.
    x
        Label of the x axis.
    group
        Column whose values are the groups, in order of appearance.
    panel
        Column whose values become panels side by side.

    Returns
    -------
    Figure
        The panels with one common legend.
    """
    panels, groups = list(dict.fromkeys(frame[panel])), list(dict.fromkeys(frame[group]))
    methods = list(dict.fromkeys(frame["method"]))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(2.4 * len(panels) + 1.2, 0.5 * len(groups) + 1.5), sharey=True, squeeze=False
    )
    for axis, value in zip(axes[0], panels, strict=True):
        for _, row in frame[frame[panel] == value].iterrows():
            offset = 0.3 * (methods.index(row["method"]) / max(len(methods) - 1, 1) - 0.5)
            place, colour = groups.index(row[group]) + offset, METHOD_COLOURS.get(row["method"], "black")
            axis.plot([row["low"], row["high"]], [place, place], color=colour, lw=2.5, solid_capstyle="round")
            axis.plot(row["mean"], place, "o", color=colour, ms=5, label=row["method"])
        axis.set(yticks=range(len(groups)), yticklabels=groups, xlabel=x, title=value)
    axes[0, 0].invert_yaxis()
    handles: dict[str, Artist] = {}
    for axis in axes[0]:
        handles |= zip(*reversed(axis.get_legend_handles_labels()), strict=True)
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False
    )
    return figure


def confusion_matrices(matrices: Mapping[str, Tensor], classes: Mapping[str, Sequence[str]]) -> Figure:
    """Draw confusion matrices, each row scaled to a sum of 1.

    Parameters
    ----------
    matrices
        One matrix (C, C) of counts for each panel, by title; rows are the true classes.
    classes
        Names of the C classes, by the same titles.

    Returns
    -------
    Figure
        Up to three panels a row.
    """
    columns = min(3, len(matrices))
    lines = -(-len(matrices) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(2.7 * columns + 0.6, 2.8 * lines), squeeze=False)
    for axis in axes.flat[len(matrices) :]:
        axis.set_axis_off()
    for axis, (title, matrix) in zip(axes.flat, matrices.items(), strict=False):
        share = matrix / matrix.sum(1, keepdim=True).clamp_min(1)
        image = axis.imshow(share.numpy(), vmin=0, vmax=1, cmap="viridis")
        ticks = range(0, len(matrix), 1 if len(matrix) <= 16 else 5)
        axis.set(xticks=ticks, yticks=ticks)
        names = [classes[title][t] for t in ticks]
        axis.set_xticklabels(names, fontsize=6, rotation=90)
        axis.set_yticklabels(names, fontsize=6)
        axis.set_title(title, fontsize=9)
        axis.grid(False)
    figure.supxlabel("predicted class", fontsize=10)
    figure.supylabel("true class", fontsize=10)
    figure.colorbar(image, ax=axes, shrink=0.5, label="share of the true class")
    return figure


def training_curves(losses: Mapping[str, pd.DataFrame], smooth: int = 20) -> Figure:
    """Draw the discriminator, adversarial and reconstruction losses of several GANs.

    Parameters
    ----------
    losses
        One frame for each GAN, by name, with the columns ``step``, ``discriminator``, ``adversarial`` and
        ``reconstruction``.
    smooth
        Number of rows in the running mean.

    Returns
    -------
    Figure
        One panel for each loss.
    """
    parts = {
        "discriminator": "discriminator (BCE)",
        "adversarial": "generator, adversarial (BCE)",
        "reconstruction": "generator, reconstruction",
    }
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 2.7))
    for axis, (column, title) in zip(axes, parts.items(), strict=True):
        for name, frame in losses.items():
            running = frame[column].rolling(smooth, min_periods=1).mean()
            axis.plot(frame["step"], running, label=name, color=METHOD_COLOURS.get(name), lw=1.5)
        axis.set_title(title, fontsize=10)
        axis.set(xlabel="step", yscale="log" if column == "reconstruction" else "linear")
    axes[0].axhline(np.log(2), color="black", ls=":", lw=1, label="guessing: ln 2")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
    return figure


def progress_curves(
    curves: Mapping[str, pd.DataFrame], y: str, y_title: str, reference: tuple[float, str]
) -> Figure:
    """Draw the same learning curves twice: by epoch and by step.

    Parameters
    ----------
    curves
        One frame for each curve, by name, with the columns ``epoch``, ``step`` and ``y``.
    y
        Column to draw, a measure on held-out classes.
    y_title
        Label of the y axis.
    reference
        Value to compare with and its name, drawn as a dashed line.

    Returns
    -------
    Figure
        Two panels.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 2.9), sharey=True)
    for axis, x in zip(axes, ("epoch", "step"), strict=True):
        for name, frame in curves.items():
            axis.plot(frame[x], frame[y], "o-", ms=4, label=name)
        axis.axhline(reference[0], color="black", ls="--", lw=1, label=reference[1])
        axis.set(xlabel=x)
    axes[0].set_ylabel(y_title)
    axes[1].legend(fontsize=9)
    return figure


def correlation_curves(frame: pd.DataFrame) -> Figure:
    """Draw the mean correlation with the last layer by position, with 95 % bootstrap bands.

    Parameters
    ----------
    frame
        Columns ``arch`` (one panel each), ``kind`` (one line each), position ``K`` and correlation ``r``.

    Returns
    -------
    Figure
        The panels with one common legend.
    """
    archs = list(dict.fromkeys(frame["arch"]))
    figure, axes = plt.subplots(
        1, len(archs), figsize=(3 * len(archs) + 0.6, 2.9), sharey=True, squeeze=False
    )
    for axis, arch in zip(axes[0], archs, strict=True):
        part = frame[frame["arch"] == arch]
        sns.lineplot(part, x="K", y="r", hue="kind", style="kind", markers=True, seed=0, n_boot=500, ax=axis)
        axis.set(xlabel="K", ylabel="correlation with the last layer", title=arch)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.get_legend().remove()
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def dead_layers(shares: Mapping[str, Tensor]) -> Figure:
    """Draw the share of images for which each convolution's Grad-CAM is empty.

    Parameters
    ----------
    shares
        The shares (N,) of the N convolutions in order of execution, by the name of the CNN.

    Returns
    -------
    Figure
        One panel for each CNN.
    """
    figure, axes = plt.subplots(
        1, len(shares), figsize=(3 * len(shares) + 0.6, 2.5), sharey=True, squeeze=False
    )
    for axis, (name, share) in zip(axes[0], shares.items(), strict=True):
        axis.bar(np.arange(1, len(share) + 1), share.numpy(), width=0.9, color="#0072b2", linewidth=0)
        axis.set(xlabel="convolution, in order of execution", title=name, ylim=(0, 1))
        axis.xaxis.label.set_fontsize(10)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0, 0].set_ylabel("share of images")
    return figure


class Lines(NamedTuple):
    """One row of panels of ``stacked_curves``.

    Attributes
    ----------
    frame
        Values, one row for each image and point of the x axis.
    y
        Column whose mean is drawn.
    title
        Label of the y axis.
    hue
        Column whose values are the lines.
    level
        Column whose mean is drawn as a dotted line with the column's name; None for none.
    bottom
        Lower limit of the y axis; None to fit the data.
    """

    frame: pd.DataFrame
    y: str
    title: str
    hue: str = "method"
    level: str | None = None
    bottom: float | None = None


def curves(
    frame: pd.DataFrame, x: str, y: str, panel: str, x_title: str, y_title: str, hue: str = "method"
) -> Figure:
    """Draw the mean of a column with 95 % bootstrap bands, in one row of panels.

    Parameters
    ----------
    frame
        Values, one row for each image and point of the x axis.
    x
        Column of the x axis.
    y
        Column whose mean is drawn.
    panel
        Column whose values become panels.
    x_title
        Label of the x axis.
    y_title
        Label of the y axis.
    hue
        Column whose values are the lines.

    Returns
    -------
    Figure
        The panels.
    """
    return stacked_curves([Lines(frame, y, y_title, hue)], x, panel, x_title)


def stacked_curves(rows: Sequence[Lines], x: str, panel: str, x_title: str) -> Figure:
    """Draw several rows of panels over the same x axis, as means with 95 % bootstrap bands.

    Parameters
    ----------
    rows
        What each row shows.
    x
        Column of the x axis.
    panel
        Column whose values become the panels of a row.
    x_title
        Label of the x axis.

    Returns
    -------
    Figure
        One row of panels for each of ``rows``.
    """
    panels = list(dict.fromkeys(rows[0].frame[panel]))
    figure, axes = plt.subplots(
        len(rows),
        len(panels),
        figsize=(3 * len(panels) + 1.8, 2.5 * len(rows) + 0.6),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for line, row in zip(axes, rows, strict=True):
        names = list(dict.fromkeys(row.frame[row.hue]))
        other = itertools.cycle(OTHER_COLOURS)
        colours = {name: METHOD_COLOURS.get(name) or next(other) for name in names}
        looks = {"hue_order": names, "style_order": names, "palette": colours}
        for axis, value in zip(line, panels, strict=True):
            part = row.frame[row.frame[panel] == value]
            sns.lineplot(part, x=x, y=row.y, hue=row.hue, style=row.hue, markers=True, dashes=False,
                         n_boot=500, seed=0, ax=axis, **looks)  # fmt: skip
            if row.level:
                axis.axhline(part[row.level].mean(), color="black", ls=":", lw=1.5, label=row.level)
            if pd.api.types.is_integer_dtype(part[x]):
                axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.set(xlabel=x_title, ylabel=row.title)
            axis.label_outer()
            axis.get_legend().remove()
        if row.bottom is not None:
            line[0].set_ylim(bottom=row.bottom)
        line[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=9)
    for axis, value in zip(axes[0], panels, strict=True):
        axis.set_title(value, fontsize=10)
    return figure


def relevance_profiles(frame: pd.DataFrame, y_title: str, hue: str, top: float | None = None) -> Figure:
    """Draw the mean relevance of each CGMA, one panel for each pair.

    Parameters
    ----------
    frame
        Columns ``pair``, CGMA ``c`` and ``mean``. Columns ``low`` and ``high``, if present, are drawn as
        bands.
    y_title
        Label of the y axis.
    hue
        Column whose values are the lines.
    top
        Upper limit of the y axis, which begins at 0; None to fit the data.

    Returns
    -------
    Figure
        The panels.
    """
    pairs = list(frame.groupby("pair", sort=False))
    figure, axes = plt.subplots(
        1, len(pairs), figsize=(3.1 * len(pairs) + 0.6, 2.8), sharey=True, squeeze=False
    )
    for axis, (pair, part) in zip(axes[0], pairs, strict=True):
        lines = part.groupby(hue, sort=False)
        for (name, values), colour in zip(lines, itertools.cycle(OTHER_COLOURS), strict=False):
            axis.plot(values["c"], values["mean"], "o-", ms=4, lw=1.5, label=name, color=colour)
            if "low" in values:
                axis.fill_between(values["c"], values["low"], values["high"], alpha=0.2, color=colour)
        axis.set(xlabel="CGMA", title=pair)
        axis.title.set_fontsize(10)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend(fontsize=8)
    axes[0, 0].set_ylim(0, top)  # for all panels; comes last, as it switches autoscaling off
    axes[0, 0].set_ylabel(y_title)
    return figure


def against_area(frame: pd.DataFrame, y_title: str, panel: str) -> Figure:
    """Draw each method's mean with its interval over the area of its maps.

    Parameters
    ----------
    frame
        Columns ``method``, ``area``, ``mean``, ``low`` and ``high``.
    y_title
        Label of the y axis.
    panel
        Column whose values become panels side by side.

    Returns
    -------
    Figure
        The panels, with one hollow marker for each method.
    """
    panels, methods = list(dict.fromkeys(frame[panel])), list(dict.fromkeys(frame["method"]))
    markers = dict(zip(methods, itertools.cycle("os^Dv<>"), strict=False))  # points may overlap
    figure, axes = plt.subplots(1, len(panels), figsize=(3.8 * len(panels), 3.2), sharey=True, squeeze=False)
    for axis, value in zip(axes[0], panels, strict=True):
        for _, row in frame[frame[panel] == value].iterrows():
            method, place = row["method"], row["area"]
            colour = METHOD_COLOURS.get(method, "black")
            axis.plot([place, place], [row["low"], row["high"]], color=colour, lw=1.5, alpha=0.7)
            axis.plot(
                place, row["mean"], markers[method], ms=8, mfc="none", mew=1.8, color=colour, label=method
            )
        axis.set(xlabel="mean of the map (area)", title=value, xlim=(0, 1.06))
        axis.title.set_fontsize(10)
    axes[0, 0].set_ylabel(y_title)
    axes[0, -1].legend(fontsize=9, loc="center left", bbox_to_anchor=(1.05, 0.5), frameon=False)
    return figure


def counts(
    frame: pd.DataFrame,
    group: str,
    parts: Sequence[str],
    unit: str = "",
    panel: str | None = None,
    colours: Mapping[str, str] = METHOD_COLOURS,
) -> Figure:
    """Draw counts as stacked horizontal bars with their numbers.

    Parameters
    ----------
    frame
        One row for each bar.
    group
        Column of the bars' names.
    parts
        Columns of counts, one segment each.
    unit
        What is counted: the label of the x axis.
    panel
        Column that names the unit of each row; its values become panels, one above the other. None for one
        panel with ``unit``.
    colours
        Colour of each part; grey for parts without one.

    Returns
    -------
    Figure
        The panels with one common legend.
    """
    panels = {unit: frame} if panel is None else dict(list(frame.groupby(panel, sort=False)))
    figure, axes = plt.subplots(
        len(panels),
        squeeze=False,
        figsize=(8, 0.32 * len(frame) + 0.7 * len(panels) + 0.5),
        height_ratios=[len(part) for part in panels.values()],
    )
    for axis, (counted, part) in zip(axes[:, 0], panels.items(), strict=True):
        left = np.zeros(len(part))
        for name in parts:
            values = part[name].to_numpy(dtype=float)
            colour = colours.get(name, "#808080")
            bars = axis.barh(range(len(part)), values, left=left, color=colour, label=name, height=0.75)
            texts = [f"{v:g}" if v else "" for v in values]
            axis.bar_label(bars, texts, label_type="center", color="white", fontsize=8)
            left += values
        axis.set(yticks=range(len(part)), yticklabels=part[group], ylim=(len(part) - 0.5, -0.5))
        axis.set(xlim=(0, max(1, left.max())), xlabel=counted)
        axis.grid(False)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(
        *axis.get_legend_handles_labels(), loc="outside lower center", ncols=len(parts), frameon=False
    )
    return figure


def power_curves(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the power of a test by the true share of preferences.

    Parameters
    ----------
    curves
        One frame for each line, by name, with the columns ``share`` and ``power``.

    Returns
    -------
    Figure
        One panel, with a dotted line at 80 %.
    """
    figure, axis = plt.subplots(figsize=(5.6, 3.2))
    for name, frame in curves.items():
        axis.plot(frame["share"], frame["power"], lw=2, label=name)
    axis.axhline(0.8, color="black", ls=":", lw=1)
    axis.text(0.5, 0.79, "80 %", fontsize=8, va="top")
    axis.set(xlabel="true share of questions won", ylabel="chance of a significant result", ylim=(0, 1.02))
    axis.legend(fontsize=9)
    return figure
