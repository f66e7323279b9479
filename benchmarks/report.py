"""From what `pytest benchmarks --benchmark-json=RESULTS.json` measured to the book's tables and figures.

    python benchmarks/report.py RESULTS.json [FOLDER]

Ratios are medians over the rounds of the ratio within a round, in which all rivals were called one after the other.
"""

import argparse
import importlib.metadata
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from cases import BATCHES, FLOOR, GRADCAM, NETS, OURS, PLAIN, SIDES, TORCHCAM
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from sftgan.provenance import ROOT, provenance

PEERS = ("torchcam", "captum", "opencv-python-headless", "pytest-benchmark")
CLOCKS = ("wall", "cpu")
COLOURS = {OURS: "#0072b2", TORCHCAM: "#d55e00", GRADCAM: "#009e73"}
MARKERS = {OURS: "o", TORCHCAM: "s", GRADCAM: "^"}
TICKS = (0.5, 0.7, 1, 1.5, 2, 3, 5, 8, 12)
NOT_RUN = "not run"
Case = dict[str, Any]


def where_from() -> dict:
    """`sftgan.provenance`, with the versions of the libraries that only the benchmarks need."""
    here = provenance()
    here["versions"] |= {name: importlib.metadata.version(name) for name in PEERS}
    return here


def ratios(case: Case, clock: str, above: str, below: str) -> np.ndarray:
    """By round, how many times longer `above` took than `below`."""
    return whole(case, clock, above) / whole(case, clock, below)


def whole(case: Case, clock: str, method: str) -> np.ndarray:
    """Seconds by round. Of what was run in part the time of the whole: every sample or channel takes the same."""
    times = np.array(case[clock][method])
    run, needed = case.get("parts", {}).get(method, (1, 1))
    once = np.array(case[clock]["forward"]) if method == "Score-CAM" else 0.0  # before its first channel
    return once + (times - once) * needed / run


def rounds(cases: Sequence[Case]) -> pd.DataFrame:
    """All that was timed, as measured: one row for each call, in seconds."""
    rows = [
        [case["suite"], case.get("net"), case["side"], case.get("batch"), method, i, *pair]
        for case in cases
        for method in case["wall"]
        for i, pair in enumerate(zip(case["wall"][method], case["cpu"][method], strict=True))
    ]
    return pd.DataFrame(rows, columns=["suite", "net", "pixels", "batch", "method", "round", *CLOCKS])


def all_layers(cases: Sequence[Case], clock: str) -> pd.DataFrame:
    """Floor in ms, and the rivals' times in floors, for every net, size and batch; NaN where not run."""
    return _grid(
        cases,
        "floor, ms",
        lambda case: 1000 * float(np.median(case[clock][FLOOR])),
        lambda case, method: float(np.median(ratios(case, clock, method, FLOOR))),
    )


def memory(cases: Sequence[Case]) -> pd.DataFrame:
    """Peak of plain autograd in MiB, and the rivals' peaks in these, for every net, size and batch."""
    return _grid(
        cases,
        "input gradient, MiB",
        lambda case: case["peaks"][PLAIN],
        lambda case, method: case["peaks"][method] / case["peaks"][PLAIN],
    )


def _grid(
    cases: Sequence[Case],
    unit: str,
    reference: Callable[[Case], float],
    ratio: Callable[[Case, str], float],
) -> pd.DataFrame:
    of = {(c["net"], c["side"], c["batch"]): c for c in cases if c["suite"] == "all layers"}
    rows = []
    for key in product(NETS.values(), SIDES, BATCHES):
        case = of.get(key)
        values = [reference(case), *(ratio(case, m) for m in COLOURS)] if case else [np.nan] * 4
        rows.append([*key, *values])
    return pd.DataFrame(rows, columns=["net", "pixels", "batch", unit, *COLOURS])


def explanation(cases: Sequence[Case]) -> pd.DataFrame:
    """Each method's time for one image, and how many of our explanations that is."""
    rows = []
    for case in _suite(cases, "explanation"):
        for method in (OURS, "Grad-CAM", "Grad-CAM++", "SmoothGrad-50", "Score-CAM"):
            run, needed = case["parts"].get(method, (1, 1))
            times = [1000 * np.median(whole(case, clock, method)) for clock in CLOCKS]
            relative = np.median(ratios(case, "wall", method, OURS))
            part = "all" if run == needed else f"{run} of {needed}"
            rows.append([case["net"], method, *times, relative, part])
    return pd.DataFrame(rows, columns=["net", "method", "wall, ms", "CPU, ms", "of sftgan's", "run"])


def steps(cases: Sequence[Case]) -> pd.DataFrame:
    """What each step of our explanation takes, in ms and as a share of the whole, which was timed by itself."""
    rows = []
    for case in _suite(cases, "explanation"):
        took = {name: 1000 * np.array(times) for name, times in case["wall"].items()}
        floor = min((took["floor"], took["floor, channels last"]), key=np.median)
        drawn = took["generator"] + took["enlargement"]
        parts = {
            "forward and backward": floor,
            "CAM arithmetic": took["CAMs"] - floor,
            "averages": took["conditions"] - took["CAMs"],
            "generator": took["generator"],
            "enlargement": took["enlargement"],
            "the rest": took[OURS] - took["conditions"] - drawn,
            "whole explanation": took[OURS],
        }
        for step, times in parts.items():
            rows.append([case["net"], step, np.median(times), 100 * np.median(times / took[OURS])])
    return pd.DataFrame(rows, columns=["net", "step", "ms", "share, %"])


def many_images(cases: Sequence[Case]) -> pd.DataFrame:
    """Time of an image in ms, and the peak of the memory in MiB, by the number of images."""
    rows = []
    for case in _suite(cases, "many images"):
        for n, peak in case["peaks"].items():
            rows.append([int(n), *(1000 * np.median(case[clock][n]) / int(n) for clock in CLOCKS), peak])
    return pd.DataFrame(
        rows, columns=["images", "wall, ms per image", "CPU, ms per image", "peak memory, MiB"]
    )


@dataclass
class Target:
    """A ratio to reach; `values` are those reached, on the wall clock and the CPU's, by where."""

    name: str
    goal: float
    at_least: bool = False
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def row(self) -> list:
        sign = "≥" if self.at_least else "≤"
        if not self.values:
            return [self.name, f"{sign} {self.goal:g}", None, None, None, NOT_RUN, NOT_RUN]
        pick = min if self.at_least else max
        worst = {place: pick(ratios) for place, ratios in self.values.items()}
        place = pick(worst, key=lambda at: worst[at])
        reached = sum(v >= self.goal if self.at_least else v <= self.goal for v in worst.values())
        verdict = "met" if reached == len(worst) else "missed in part" if reached else "missed"
        middle = float(np.median([ratios[0] for ratios in self.values.values()]))
        return [
            self.name, f"{sign} {self.goal:g}", middle, worst[place], place, f"{reached} of {len(worst)}", verdict,
        ]  # fmt: skip


def targets(cases: Sequence[Case]) -> pd.DataFrame:
    """What was to be reached, and whether it was, on both clocks; the worst case is named."""
    columns = ["target", "goal", "middle case", "worst case", "where", "reached in", "verdict"]
    return pd.DataFrame([target.row() for target in _targets(cases)], columns=columns)


def _targets(cases: Sequence[Case]) -> Iterator[Target]:
    grid = _suite(cases, "all layers")

    def both(case: Case, above: str, below: str) -> tuple[float, ...]:
        return tuple(float(np.median(ratios(case, clock, above, below))) for clock in CLOCKS)

    for net, goal in (("VGG16", 1.05), ("ResNet50", 1.05), ("MobileNetV2", 1.15)):
        reached = {_place(c): both(c, OURS, FLOOR) for c in grid if c["net"] == net}
        yield Target(f"CAMs of all layers of {net}: time, in floors", goal, False, reached)
    for net in ("ResNet50", "MobileNetV2"):
        reached = {_place(c): both(c, TORCHCAM, OURS) for c in grid if c["net"] == net}
        yield Target(f"CAMs of all layers of {net}: TorchCAM's time, in ours", 1.5, True, reached)
    reached = {_place(c): both(c, TORCHCAM, OURS) for c in grid}
    yield Target("CAMs of all layers of every net: TorchCAM's time, in ours", 1, True, reached)
    reached = {_place(c): (c["peaks"][OURS] / c["peaks"][PLAIN],) for c in grid}
    yield Target("CAMs of all layers: peak memory, in input gradients", 1.05, False, reached)

    one = _suite(cases, "explanation")
    for method, goal in (("Grad-CAM", 1), ("SmoothGrad-50", 10), ("Score-CAM", 100)):
        reached = {c["net"]: both(c, method, OURS) for c in one}
        yield Target(f"{method}: time, in explanations of ours", goal, True, reached)

    many = _suite(cases, "many images")
    few, lots = (min(many[0]["peaks"], key=int), max(many[0]["peaks"], key=int)) if many else ("", "")
    each = {f"{lots} images": tuple(v * int(few) / int(lots) for v in both(c, lots, few)) for c in many}
    yield Target(f"an image among {lots}: time, in those of one among {few}", 1.1, False, each)
    peaks = {f"{lots} images": (c["peaks"][lots] / c["peaks"][few],) for c in many}
    yield Target(f"{lots} images: peak memory, in those of {few}", 1.1, False, peaks)


def _suite(cases: Sequence[Case], suite: str) -> list[Case]:
    return [case for case in cases if case["suite"] == suite]


def _place(case: Case) -> str:
    return f"{case['net']}, {case['side']} pixels, batch {case['batch']}"


def machine(about: dict) -> pd.DataFrame:
    """What measured: one row for each item."""
    rows = [
        (name, ", ".join(f"{k} {v}" for k, v in value.items() if v is not None) if isinstance(value, dict) else value)
        for name, value in about.items()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["item", "value"])


def draw_grid(frame: pd.DataFrame, x: str) -> plt.Figure:
    """Ratios of the rivals as points, a panel for each net, a line for each size and batch."""
    long = frame.melt(["net", "pixels", "batch"], list(COLOURS), "method", x).dropna()
    long = long.sort_values(["pixels", "batch"], kind="stable")
    case = long["pixels"].astype(str) + " px, batch " + long["batch"].astype(str)
    long["case"] = pd.Categorical(case, case.unique())
    grid = _points(
        long, x, "case", hue="method", style="method", palette=COLOURS, markers=MARKERS, height=3.2
    )
    sns.move_legend(grid, "upper center", bbox_to_anchor=(0.45, 0), ncols=len(COLOURS), title=None)
    return grid.figure


def draw_explanation(frame: pd.DataFrame) -> plt.Figure:
    """Each method's time for an image, in ours, a panel for each net."""
    x = "time, in ours"
    return _points(frame.rename(columns={"of sftgan's": x}), x, "method", height=2.6).figure


def _points(frame: pd.DataFrame, x: str, y: str, **options: Any) -> sns.FacetGrid:
    grid = sns.relplot(frame, x=x, y=y, col="net", col_wrap=2, aspect=1.3, s=60, **options)
    grid.set(xscale="log", ylabel="").set_titles("{col_name}")
    least, most = frame[x].min(), frame[x].max()
    for axis in grid.axes.flat:
        axis.axvline(1, color="black", lw=1, ls="--")
        axis.xaxis.set_major_locator(FixedLocator(TICKS if most < TICKS[-1] else [1, 10, 100, 1000]))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    grid.set(xlim=(0.8 * min(least, 0.8), 1.25 * most))
    return grid


def write(results: dict, folder: Path) -> None:
    """All tables and figures of one run, and what made them (JSON), into a folder."""
    cases = [benchmark["extra_info"] for benchmark in results["benchmarks"]]
    tables = {
        "all_layers_wall": all_layers(cases, "wall"),
        "all_layers_cpu": all_layers(cases, "cpu"),
        "memory": memory(cases),
        "explanation": explanation(cases),
        "steps": steps(cases),
        "many_images": many_images(cases),
        "targets": targets(cases),
        "machine": machine(results["provenance"]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.4g", na_rep=NOT_RUN)
    rounds(cases).to_csv(folder / "rounds.csv", index=False, float_format="%.6g")
    sns.set_theme(style="whitegrid", context="notebook")
    figures = {
        "all_layers": draw_grid(tables["all_layers_wall"], "time, in floors"),
        "memory": draw_grid(tables["memory"], "peak memory, in input gradients"),
        "explanation": draw_explanation(tables["explanation"]),
    }
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=150, bbox_inches="tight")
        plt.close(figure)
    (folder / "provenance.json").write_text(json.dumps(results["provenance"], indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="what pytest-benchmark wrote")
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "figures" / "benchmarks")
    options = parser.parse_args()
    write(json.loads(options.results.read_text()), options.folder)


if __name__ == "__main__":
    main()
