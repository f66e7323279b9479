"""Figures of the architectures (paper, Figs. 3 and 4), and measurements on the networks themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from sftgan.cams.model_state import hooked
from sftgan.companion.report import plots
from sftgan.gan.networks import Generator, SFTLayer

# Pale tints that colour-blind readers can tell apart; every box is labelled as well.
DATA, PLAIN, RESIDUAL, SFT, CONDITION, JUDGE = "white", "#e8e8e8", "#cfe6f7", "#ffd9a8", "#bfe8d8", "#f0d3e3"
INK, FONT = "#222222", 9.5
LINES = {"as built here": "-", "PyTorch's default": "--", "Glorot, not damped": ":"}
Point = tuple[float, float]


class _Sheet:
    """Boxes and arrows on a sheet of ``width`` x ``height`` inches; y grows downwards."""

    def __init__(self, axis: Axes, width: float, height: float):
        self.axis = axis
        axis.set(xlim=(-0.1, width), ylim=(height, 0), aspect="equal")
        axis.set_axis_off()

    def box(
        self, x: float, y: float, text: str, colour: str, width: float = 0.95, height: float = 0.38
    ) -> None:
        """Draw a box centred on (x, y)."""
        corner = (x - width / 2, y - height / 2)
        shape = "round,pad=0,rounding_size=0.06"
        self.axis.add_patch(FancyBboxPatch(corner, width, height, boxstyle=shape, fc=colour, ec=INK, lw=1))
        self.text(x, y, text)

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        style = {"ha": "center", "va": "center", "fontsize": FONT, "color": INK, "linespacing": 1.05, **style}
        self.axis.text(x, y, text, **style)

    def arrow(self, *points: Point, style: str = "-|>", **line: Any) -> None:
        """Draw a line through ``points`` with its head at the last one."""
        if len(points) > 2:
            self.line(*points[:-1], **line)
        line = {"lw": 1.2, "color": INK, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9} | line
        self.axis.annotate("", points[-1], points[-2], arrowprops={"arrowstyle": style} | line)

    def line(self, *points: Point, **line: Any) -> None:
        line = {"lw": 1.2, "color": INK, **line}
        self.axis.plot(*zip(*points, strict=True), **line)

    def column(self, x: float, boxes: Sequence[tuple[float, str, str]], width: float) -> None:
        """Draw boxes (y, text, colour) below each other, with arrows from each to the next."""
        for y, text, colour in boxes:
            self.box(x, y, text, colour, width)
        for (y, *_), (below, *_) in zip(boxes[:-1], boxes[1:], strict=True):
            self.arrow((x, y + 0.19), (x, below - 0.19))

    def plus(self, x: float, y: float, sign: str = "+") -> None:
        self.axis.plot(x, y, "o", ms=13, mfc="white", mec=INK, mew=1, zorder=3)
        self.text(x, y, sign, zorder=4)


def _sheets(panels: int, width: float, height: float) -> tuple[Figure, list[_Sheet]]:
    figure, axes = plt.subplots(1, panels, figsize=(panels * width, height), squeeze=False)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)  # the theme in ``plots`` switches it on
    engine.set(w_pad=0, h_pad=0.02, wspace=0)
    return figure, [_Sheet(axis, width, height) for axis in axes[0]]


def gan_diagram(eta: int = 8) -> Figure:
    """Draw Fig. 3: the CNN's maps on the right, the generator on the left, the discriminator below both.

    Parameters
    ----------
    eta
        Number of CGMAs and of repeated blocks.

    Returns
    -------
    Figure
        The diagram.
    """
    figure, (s,) = _sheets(1, 3.8, 6.9)
    x, right, trunk = 1.0, 2.9, [(1.0, "convolution", PLAIN), (1.75, "residual", RESIDUAL)]
    trunk += [(2.4, "SFT", SFT), (3.05, "residual", RESIDUAL), (3.85, "convolution", PLAIN)]
    group = FancyBboxPatch((0.42, 1.45), 1.16, 1.9, boxstyle="round,pad=0", fc="none", ec=INK, ls="--", lw=1)
    s.axis.add_patch(group)
    s.text(1.62, 3.48, f"{eta} times", ha="right", style="italic")
    s.text(0.2, 2.4, "generator", rotation=90, weight="bold")
    s.column(x, [(0.25, "image", DATA), *trunk, (4.6, "generated\nmap", DATA)], 0.95)

    s.column(right, [(0.25, "CNN to be explained", PLAIN), (1.0, "Grad-CAM of\neach convolution", DATA)], 1.5)
    s.arrow((x + 0.475, 0.25), (right - 0.75, 0.25))
    s.column(2.6, [(1.75, f"CGMA 1…{eta}", DATA), (2.4, "condition\nnetwork", CONDITION)], 0.9)
    s.arrow((2.6, 1.19), (2.6, 1.56))
    s.arrow((2.15, 2.4), (x + 0.475, 2.4))
    s.box(right, 4.6, "Grad-CAM of the\nlast convolution", DATA, 1.25)
    s.arrow((3.4, 1.19), (3.4, 4.41))

    s.arrow((x + 0.475, 4.6), (right - 0.625, 4.6), style="<|-|>", ls="--")
    s.text(1.87, 4.36, "squared\nerror", style="italic", va="bottom")
    s.box(1.95, 5.65, "discriminator", JUDGE, 2.3)
    s.arrow((x, 4.79), (x + 0.25, 5.46))
    s.arrow((right, 4.79), (right - 0.25, 5.46))
    s.text(1.95, 5.16, "one of the two", style="italic")
    s.arrow((x - 0.475, 0.25), (0.05, 0.25), (0.05, 5.65), (0.8, 5.65))
    s.text(0.12, 5.82, "image", style="italic", ha="left", va="top")
    s.column(1.95, [(6.45, "Grad-CAM or generated?", DATA)], 1.9)
    s.arrow((1.95, 5.84), (1.95, 6.26))
    s.text(2.05, 6.05, "binary cross entropy", style="italic", ha="left")
    return figure


def block_diagrams() -> Figure:
    """Draw the blocks of Fig. 3: the SFT block, whose SFT layer is Eqs. 5 and 6, and the residual block."""
    figure, (left, right) = _sheets(2, 1.9, 4.1)
    left.text(0.95, 0.15, "SFT block", weight="bold")
    left.box(0.4, 0.55, "features", DATA, 0.75)
    left.arrow((0.4, 0.74), (0.4, 3.06))
    left.box(1.35, 0.55, "condition", DATA, 0.9)
    for x, y, sign, name in ((1.06, 1.95, "×", "α"), (1.62, 2.45, "+", "β")):
        left.arrow((x, 0.74), (x, 1.06))
        left.box(x, 1.25, "conv.\nconv.", CONDITION, 0.52)
        left.arrow((x, 1.44), (x, y), (0.5, y))
        left.plus(0.4, y, sign)
        left.text(x - 0.06, y - 0.12, name, ha="right", fontsize=11)
    left.text(0.95, 2.72, "SFT layer", style="italic", ha="left")
    left.column(0.4, [(3.25, "conv.", SFT), (3.85, "features", DATA)], 0.75)

    right.text(0.95, 0.15, "residual block", weight="bold")
    x, convolutions = 0.8, [(y, "convolution", RESIDUAL) for y in (1.3, 1.86, 2.42)]
    right.column(x, [(0.55, "features", DATA), *convolutions], 0.95)
    right.arrow((x, 2.61), (x, 3.66))
    right.arrow((x, 0.9), (1.65, 0.9), (1.65, 2.98), (x + 0.1, 2.98))
    right.plus(x, 2.98)
    right.box(x, 3.85, "features", DATA, 0.95)
    return figure


def conditioning_diagram(eta: int = 8) -> Figure:
    """Draw Fig. 4: the same trunk twice, conditioned locally (LSFT, left) and globally (GSFT, right).

    Parameters
    ----------
    eta
        Number of CGMAs; the first two and the last are drawn.

    Returns
    -------
    Figure
        The diagram.
    """
    shown = sorted({1, min(2, eta), eta})
    rows, y = {}, 1.45
    for k in shown:
        y += 0.45 if k > 3 else 0  # room for the dots
        rows[k], y = y, y + 1.53
    end = y - 0.02
    figure, sheets = _sheets(2, 1.9, end + 1.3)
    for s, kind in zip(sheets, ("LSFT", "GSFT"), strict=True):
        s.text(0.95, 0.12, kind, weight="bold", color=plots.METHOD_COLOURS[kind], fontsize=11)
        _trunk(s, rows, end)
    _local(sheets[0], rows)
    _global(sheets[1], rows, eta)
    return figure


def _trunk(s: _Sheet, rows: Mapping[int, float], end: float) -> None:
    x = 1.32
    boxes = [(0.42, "image", DATA), (0.9, "conv.", PLAIN)]
    for k, y in rows.items():
        boxes += [(y, "residual", RESIDUAL), (y + 0.48, f"SFT {k}", SFT), (y + 0.96, "residual", RESIDUAL)]
        if k > 3:
            s.text(x, y - 0.43, "⋮", bbox={"fc": "white", "ec": "none", "pad": 0}, fontsize=14, zorder=5)
    s.column(x, boxes, 0.72)
    s.arrow((x, boxes[-1][0] + 0.19), (x, end + 0.3))
    s.column(x, [(end + 0.49, "conv.", PLAIN), (end + 1.05, "map", DATA)], 0.72)
    s.arrow((x, 1.15), (1.8, 1.15), (1.8, end + 0.05), (x + 0.1, end + 0.05))
    s.plus(x, end + 0.05)


def _local(s: _Sheet, rows: Mapping[int, float]) -> None:
    centres = [y + 0.48 for y in rows.values()]
    s.line((0, centres[0]), (0, centres[-1]), ls=":", zorder=0.5)
    if len(rows) > 1:
        white = {"fc": "white", "ec": "none", "pad": 0}
        s.text(-0.02, centres[0] + 0.75, "same weights", rotation=90, style="italic", bbox=white, zorder=0.6)
    for (k, y), centre in zip(rows.items(), centres, strict=True):
        s.column(0.45, [(y - 0.08, f"CGMA {k}", DATA), (centre, "CN", CONDITION)], 0.7)
        s.arrow((0.8, centre), (0.96, centre))


def _global(s: _Sheet, rows: Mapping[int, float], eta: int) -> None:
    top = rows[1]
    s.box(0.4, top - 0.28, f"CGMA 1\n⋮\nCGMA {eta}" if eta > 1 else "CGMA 1", DATA, 0.7, 0.78)
    s.arrow((0.4, top + 0.11), (0.4, top + 0.29))
    s.box(0.4, top + 0.48, "CN", CONDITION, 0.7)
    for y in rows.values():
        s.arrow((0.84, top + 0.48), (0.84, y + 0.48), (0.96, y + 0.48))
    s.line((0.75, top + 0.48), (0.84, top + 0.48))


def sft_pictures(pictures: Mapping[str, Tensor]) -> Figure:
    """Draw maps, two in a row, each with its own colour scale.

    Parameters
    ----------
    pictures
        Maps (H, W) by title.

    Returns
    -------
    Figure
        The maps with their titles and colour bars.
    """
    lines = -(-len(pictures) // 2)
    figure, axes = plt.subplots(lines, 2, figsize=(3.8, 1.9 * lines), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (title, picture) in zip(axes.flat, pictures.items(), strict=False):
        image = axis.imshow(picture.numpy(), cmap="cividis", interpolation="nearest")
        axis.set_title(title, fontsize=10)
        figure.colorbar(image, ax=axis, fraction=0.046, pad=0.04).ax.tick_params(labelsize=9)
    return figure


def spread_curves(spreads: Mapping[str, Mapping[tuple[str, str], Sequence[float]]]) -> Figure:
    """Draw the standard deviation of the features after each block of the trunk.

    Parameters
    ----------
    spreads
        One panel for each key, its title. Within a panel, (generator, initialisation) -> the values of
        ``spread``; initialisations are the keys of ``LINES``.

    Returns
    -------
    Figure
        The panels, one above the other.
    """
    figure, axes = plt.subplots(len(spreads), 1, figsize=(3.8, 2.5 * len(spreads) + 1.2), squeeze=False)
    for axis, (title, curves) in zip(axes[:, 0], spreads.items(), strict=True):
        for (kind, start), values in curves.items():
            axis.plot(
                values, color=plots.METHOD_COLOURS[kind], ls=LINES[start], lw=1.8, label=f"{kind}, {start}"
            )
        axis.set(yscale="log", ylabel="standard deviation")
        axis.set_title(title, fontsize=10)
    axes[-1, 0].set_xlabel("block of the trunk")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize=9)
    return figure


def responding_layers(generator: Generator, size: int = 8) -> Tensor:
    """Find which CGMAs change the condition of which SFT layer, by changing one CGMA at a time.

    Parameters
    ----------
    generator
        Generator to test on random maps.
    size
        Height and width of the random maps.

    Returns
    -------
    Tensor
        bool (SFT layers in order of execution, eta), True where the CGMA changes the layer's condition.

    Examples
    --------
    >>> from sftgan import Generator
    >>> responding_layers(Generator("lsft", eta=2)).tolist()
    [[True, False], [False, True]]
    """
    images, conditions = torch.rand(1, 3, size, size), torch.rand(1, generator.eta, size, size)
    seen: list[Tensor] = []
    layers = [m for m in generator.modules() if isinstance(m, SFTLayer)]
    handles = [m.register_forward_pre_hook(lambda _, given: seen.append(given[1])) for m in layers]
    with hooked(handles), torch.no_grad():
        for k in range(generator.eta + 1):  # the last slice is empty: the run without a change
            changed = conditions.clone()
            changed[:, k : k + 1] = 0
            generator(images, changed)
    runs = torch.stack(seen).unflatten(0, (generator.eta + 1, len(layers)))
    return (runs[:-1] != runs[-1]).flatten(2).any(2).T


def feature_std(generator: Generator, images: Tensor, conditions: Tensor) -> list[float]:
    """Compute the standard deviation of the features after the head and each block of the trunk.

    Parameters
    ----------
    generator
        Generator to test.
    images
        Images (B, 3, H, W) in [0, 1].
    conditions
        CGMAs (B, eta, H, W) in [0, 1].

    Returns
    -------
    list[float]
        One value for the head, which is the first convolution, and one for each block.
    """
    values: list[float] = []
    handles = [
        m.register_forward_hook(lambda *call: values.append(call[2].std().item()))
        for m in (generator.head, *generator.trunk)
    ]
    with hooked(handles), torch.no_grad():
        generator(images, conditions)
    return values
