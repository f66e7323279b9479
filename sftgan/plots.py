"""Figures: pictures of maps, curves and intervals. Every function returns a matplotlib figure."""

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
OTHER_COLOURS = ("#332288", "#882255", "#808080", "#999933", "#661100")  # of lines that are no methods

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
    """A grid of images (3, H, W) in [0, 1], shown as they are, and maps (H, W) in [0, 1], shown as heat maps.

    scale: whether the heat maps' colour bar stands beside them. texts: a few characters below each picture.
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
    """Points `mean` with bars from `low` to `high`, one line for each value of `y`; `panel` makes columns.

    `reference` is a published value and its name, drawn as a dashed line in the panels `reference_in` (None: in all).
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
    """Limits of an axis that holds all intervals of a frame, and some values, with a margin of a twentieth."""
    low, high = min([frame["low"].min(), *values]), max([frame["high"].max(), *values])
    margin = 0.05 * (high - low)
    return low - margin, high + margin


def intervals_by_group(frame: pd.DataFrame, x: str, group: str, panel: str) -> Figure:
    """Points `mean` with bars from `low` to `high` for each `method`, side by side in each `group`, by `panel`."""
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
    """Confusion matrices (C, C), rows the true class, each row scaled to 1; one panel for each key."""
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
    """Discriminator, adversarial and reconstruction loss by step for several GANs, as running means."""
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
    """A measure on held-out classes, by epoch and by step: the same curves twice.

    `reference` is a value to compare with and its name, drawn as a dashed line.
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
    """Mean of `r` by position `K`, one panel for each `arch`, one line for each `kind`, 95 % bootstrap bands."""
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
    """Share of images (N,) for which each convolution's Grad-CAM is empty, one panel for each CNN."""
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
    """One row of panels of `stacked_curves`: means of the column `y`, one line for each `hue`.

    level: a column whose mean is drawn dotted, under its name. bottom: where the axis begins, None: where the data do.
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
    """Mean of `y` by `x` with 95 % bootstrap bands, one line for each `hue`, one panel for each `panel`."""
    return stacked_curves([Lines(frame, y, y_title, hue)], x, panel, x_title)


def stacked_curves(rows: Sequence[Lines], x: str, panel: str, x_title: str) -> Figure:
    """Rows of panels, one for each `panel`, on the same x axis: means by `x` with 95 % bootstrap bands."""
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
    """Column `mean` by CGMA `c`, one panel for each `pair`, one line for each `hue`.

    Columns `low` and `high`, if any, are drawn as bands. top: where the axis ends, which begins at 0.
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
    axes[0, 0].set_ylim(0, top)  # shared by all, and last, as it ends the scaling
    axes[0, 0].set_ylabel(y_title)
    return figure


def against_area(frame: pd.DataFrame, y_title: str, panel: str) -> Figure:
    """One hollow point for each `method`: its `area` and `mean` with a bar from `low` to `high`, by `panel`."""
    panels, methods = list(dict.fromkeys(frame[panel])), list(dict.fromkeys(frame["method"]))
    markers = dict(zip(methods, itertools.cycle("os^Dv<>"), strict=False))  # points may lie on one another
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
    """Stacked horizontal bars: one row for each `group`, one segment for each column in `parts`, labelled.

    unit: what is counted. panel: a column that says it row by row; its values make panels, one above the other.
    colours: of the parts; grey where there is none.
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
    """Power of a test by the true share of preferences: frames with `share` and `power`, one line for each key."""
    figure, axis = plt.subplots(figsize=(5.6, 3.2))
    for name, frame in curves.items():
        axis.plot(frame["share"], frame["power"], lw=2, label=name)
    axis.axhline(0.8, color="black", ls=":", lw=1)
    axis.text(0.5, 0.79, "80 %", fontsize=8, va="top")
    axis.set(xlabel="true share of questions won", ylabel="chance of a significant result", ylim=(0, 1.02))
    axis.legend(fontsize=9)
    return figure
