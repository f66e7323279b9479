"""Figures: pictures of maps, curves and intervals. Every function returns a matplotlib figure."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

MAP_COLOURS = "inferno"  # perceptually uniform, unlike the paper's JET: equal steps look equal
METHOD_COLOURS = {
    "LSFT": "#0072b2", "GSFT": "#d55e00", "Grad-CAM": "#009e73",
    "Saliency": "#7f3c8d", "SmoothGrad": "#a5aa99", "Grad-CAM++": "#66a61e", "Score-CAM": "#1b7837",
    "all ones": "#999999", "luminance": "#b8a100", "mean map": "#cc79a7", "last CGMA": "#56b4e9",
}  # fmt: skip

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
) -> Figure:
    """Points `mean` with bars from `low` to `high`, one line for each value of `y`; `panel` makes columns.

    `reference` is a published value and its name, drawn as a dashed line.
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
    for axis, value in zip(axes[0], panels, strict=True):
        part = frame if panel is None else frame[frame[panel] == value]
        for _, row in part.iterrows():
            place, colour = names.index(row[y]), colours.get(row[y], "black")
            axis.plot([row["low"], row["high"]], [place, place], color=colour, lw=2.5, solid_capstyle="round")
            axis.plot(row["mean"], place, "o", color=colour, ms=6)
        if reference:
            axis.axvline(reference[0], color="black", ls="--", lw=1, label=reference[1])
        axis.set(yticks=range(len(names)), yticklabels=names, xlim=limits, xlabel=x, title=value or "")
        axis.title.set_fontsize(10)
    axes[0, 0].invert_yaxis()
    if reference:
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize=9
        )
    return figure


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
    handles = {}
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
    axes[0].axhline(np.log(2), color="black", ls=":", lw=1)
    axes[0].text(0, np.log(2), "guessing: ln 2", fontsize=8, va="bottom")
    axes[0].legend(fontsize=9)
    return figure


def progress_curves(curves: Mapping[str, pd.DataFrame], y: str, y_title: str) -> Figure:
    """A measure on held-out classes, by epoch and by step: the same curves twice."""
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 2.9), sharey=True)
    for axis, x in zip(axes, ("epoch", "step"), strict=True):
        for name, frame in curves.items():
            axis.plot(frame[x], frame[y], "o-", ms=4, label=name)
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


def curves(
    frame: pd.DataFrame, x: str, y: str, panel: str, x_title: str, y_title: str, hue: str = "method"
) -> Figure:
    """Mean of `y` by `x` with 95 % bootstrap bands, one line for each `hue`, one panel for each `panel`."""
    panels = list(dict.fromkeys(frame[panel]))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.3 * len(panels) + 0.8, 3.1), sharey=True, squeeze=False
    )
    names = list(dict.fromkeys(frame[hue]))
    colours = {
        name: METHOD_COLOURS.get(name, c)
        for name, c in zip(names, sns.color_palette(n_colors=len(names)), strict=True)
    }
    for axis, value in zip(axes[0], panels, strict=True):
        part = frame[frame[panel] == value]
        sns.lineplot(
            part,
            x=x,
            y=y,
            hue=hue,
            style=hue,
            markers=True,
            dashes=False,
            palette=colours,
            seed=0,
            n_boot=500,
            ax=axis,
        )
        axis.set(xlabel=x_title, ylabel=y_title, title=value)
        axis.title.set_fontsize(10)
        axis.get_legend().remove()
    figure.legend(
        *axis.get_legend_handles_labels(), loc="outside lower center", ncols=len(names), frameon=False
    )
    return figure


def relevance_profiles(
    profiles: Mapping[str, Mapping[str, Sequence[float]]], y_title: str, columns: int = 3
) -> Figure:
    """Values by CGMA, one panel for each key, one line for each key of its values."""
    lines = -(-len(profiles) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(3.1 * columns + 0.6, 2.5 * lines + 0.3), sharey=True, squeeze=False
    )
    for axis in axes.flat[len(profiles) :]:
        axis.set_axis_off()
    for axis, (title, rows) in zip(axes.flat, profiles.items(), strict=False):
        for name, values in rows.items():
            axis.plot(range(len(values)), values, "o-", ms=4, lw=1.5, label=name)
        axis.set(xlabel="CGMA", title=title)
        axis.title.set_fontsize(10)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend(fontsize=8)
    axes[0, 0].set_ylim(bottom=0)  # shared by all, and last, as it ends the scaling
    for line in axes:
        line[0].set_ylabel(y_title)
    return figure


def against_area(frame: pd.DataFrame, y: str, y_title: str, panel: str) -> Figure:
    """One point for each `method`: its mean `area` and `y`, one panel for each `panel`."""
    panels = list(dict.fromkeys(frame[panel]))
    figure, axes = plt.subplots(1, len(panels), figsize=(3.8 * len(panels), 3.2), sharey=True, squeeze=False)
    for axis, value in zip(axes[0], panels, strict=True):
        for _, row in frame[frame[panel] == value].iterrows():
            colour = METHOD_COLOURS.get(row["method"], "black")
            axis.plot(row["area"], row[y], "o", ms=8, color=colour, label=row["method"], clip_on=False)
        axis.set(xlabel="mean of the map (area)", title=value, xlim=(0, 1.06))
        axis.title.set_fontsize(10)
    axes[0, 0].set_ylabel(y_title)
    axes[0, -1].legend(fontsize=9, loc="center left", bbox_to_anchor=(1.05, 0.5), frameon=False)
    return figure


def counts(frame: pd.DataFrame, group: str, parts: Sequence[str]) -> Figure:
    """Stacked horizontal bars: one row for each `group`, one segment for each column in `parts`, labelled."""
    figure, axis = plt.subplots(figsize=(8, 0.32 * len(frame) + 1.2))
    left = np.zeros(len(frame))
    for part in parts:
        values = frame[part].to_numpy(dtype=float)
        colour = METHOD_COLOURS.get(part, "#808080")
        bars = axis.barh(frame[group].astype(str), values, left=left, color=colour, label=part, height=0.75)
        axis.bar_label(
            bars, [f"{v:g}" if v else "" for v in values], label_type="center", color="white", fontsize=8
        )
        left += values
    axis.invert_yaxis()
    axis.grid(False)
    axis.set(xlim=(0, left.max()))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=len(parts), frameon=False)
    return figure


def power_curves(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Power of a test by the true share of preferences: frames with `share` and `power`, one line for each key."""
    figure, axis = plt.subplots(figsize=(5.6, 3.2))
    for name, frame in curves.items():
        axis.plot(frame["share"], frame["power"], lw=2, label=name)
    axis.axhline(0.8, color="black", ls=":", lw=1)
    axis.set(xlabel="true share of questions won", ylabel="chance of a significant result", ylim=(0, 1.02))
    axis.legend(fontsize=9)
    return figure
