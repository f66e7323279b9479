"""The benchmarks' report, stopwatch and memory counter, on made-up measurements."""

import json
import sys
import types
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import memory
import report
import stopwatch

EXPLAINED = {
    "floor": 0.3, "floor, channels last": 0.2, "CAMs": 0.22, "conditions": 0.23, "generator": 0.1, "enlargement": 0.01,
    "forward": 0.1, "Grad-CAM": 0.5, "Grad-CAM++": 0.6, "SmoothGrad-50": 2.0, "Score-CAM": 1.7, "sftgan": 0.4,
}  # fmt: skip


def timed(seconds, **about):
    """A case in which each round is another factor slower than the first, for everybody."""
    drift = (1.0, 1.5, 3.0, 1.0, 2.0)
    clock = {name: [value * slower for slower in drift] for name, value in seconds.items()}
    return {"extra_info": {"wall": clock, "cpu": clock, **about}}


def layers(net, batch, ours, torchcam, peak):
    seconds = {"TorchCAM": torchcam, "pytorch-grad-cam": 2.0, "floor": 1.0, "sftgan": ours}
    peaks = {"input gradient": 100.0, "TorchCAM": 150.0, "pytorch-grad-cam": 400.0, "sftgan": peak}
    return timed(seconds, suite="all layers", net=net, side=64, batch=batch, peaks=peaks)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    many = {"100": 0.1, "10000": 10.5}
    benchmarks = [
        layers("ResNet50", 1, ours=1.04, torchcam=1.3, peak=104.0),
        layers("ResNet50", 8, ours=0.64, torchcam=1.28, peak=110.0),
        layers("VGG16", 1, ours=1.2, torchcam=1.1, peak=90.0),
        timed(
            EXPLAINED,
            suite="explanation",
            net="VGG16",
            side=224,
            parts={"SmoothGrad-50": [5, 50], "Score-CAM": [16, 512]},
        ),
        timed(many, suite="many images", side=32, peaks={"100": 50.0, "10000": 60.0}),
    ]
    about = {"commit": "abc", "versions": {"torch": "2"}, "hardware": {"cpu": "X", "gpu": None}}
    folder = tmp_path_factory.mktemp("report")
    report.write({"benchmarks": benchmarks, "provenance": about}, folder)
    return folder


def read(folder, name, *index):
    return pd.read_csv(folder / f"{name}.csv", keep_default_na=False).set_index(list(index))


def test_ratios_are_of_calls_in_the_same_round_and_what_is_missing_is_not_run(folder):
    wall = read(folder, "all_layers_wall", "net", "pixels", "batch")
    assert len(wall) == 4 * 3 * 3
    measured = wall.loc[("ResNet50", 64, 8)]
    assert measured.astype(float).to_dict() == {
        "floor, ms": 1500, "sftgan": 0.64, "TorchCAM": 1.28, "pytorch-grad-cam": 2,
    }  # fmt: skip
    assert set(wall.loc[("VGG16", 224, 32)]) == {"not run"}
    memory = read(folder, "memory", "net", "pixels", "batch").loc[("ResNet50", 64, 1)]
    assert memory.astype(float).to_dict() == {
        "input gradient, MiB": 100, "sftgan": 1.04, "TorchCAM": 1.5, "pytorch-grad-cam": 4,
    }  # fmt: skip


def test_targets_name_the_worst_case(folder):
    rows = read(folder, "targets", "target")[["worst case", "where", "reached in", "verdict"]]
    found = {name: tuple(row) for name, row in zip(rows.index, rows.to_numpy(), strict=True)}
    name = "CAMs of all layers of {}: time, in floors".format
    assert found[name("ResNet50")] == ("1.04", "ResNet50, 64 pixels, batch 1", "2 of 2", "met")
    assert found[name("VGG16")] == ("1.2", "VGG16, 64 pixels, batch 1", "0 of 1", "missed")
    assert found[name("MobileNetV2")] == ("not run",) * 4
    peaks = found["CAMs of all layers: peak memory, in input gradients"]
    assert peaks == ("1.1", "ResNet50, 64 pixels, batch 8", "2 of 3", "missed in part")
    assert found["Grad-CAM: time, in explanations of ours"][0] == "1.25"
    assert found["an image among 10000: time, in those of one among 100"][::3] == ("1.05", "met")
    assert found["10000 images: peak memory, in those of 100"][::3] == ("1.2", "missed")


def test_a_target_is_judged_on_the_slower_clock():
    target = report.Target("t", 1.0, at_least=True, values={"here": (1.5, 0.9)})
    assert target.row()[3:] == [0.9, "here", "0 of 1", "missed"]


def test_what_was_run_in_part_is_scaled_to_the_whole(folder):
    methods = read(folder, "explanation", "method")
    assert methods.loc["SmoothGrad-50", "wall, ms"] == 1.5 * 20_000
    assert methods.loc["Score-CAM", "of sftgan's"] == pytest.approx((0.1 + 1.6 * 512 / 16) / 0.4, rel=1e-3)
    assert methods["run"].to_dict() == {
        "sftgan": "all", "Grad-CAM": "all", "Grad-CAM++": "all", "SmoothGrad-50": "5 of 50", "Score-CAM": "16 of 512",
    }  # fmt: skip


def test_steps_add_up(folder):
    took = read(folder, "steps", "step")["ms"]
    assert took.to_dict() == pytest.approx({
        "forward and backward": 300, "CAM arithmetic": 30, "averages": 15, "generator": 150, "enlargement": 15,
        "the rest": 90, "whole explanation": 600,
    })  # fmt: skip
    assert took.iloc[:-1].sum() == pytest.approx(took.iloc[-1])


def test_every_call_is_kept_and_figures_are_pictures(folder):
    kept = pd.read_csv(folder / "rounds.csv")
    assert len(kept) == 5 * (3 * 4 + len(EXPLAINED) + 2)
    assert kept["wall"].min() == EXPLAINED["enlargement"]
    for name in ("all_layers", "memory", "explanation"):
        assert plt.imread(folder / f"{name}.png").std() > 0.05
    assert json.loads((folder / "provenance.json").read_text())["commit"] == "abc"
    assert read(folder, "machine", "item").loc["hardware", "value"] == "cpu X"


def test_the_page_shows_what_the_report_writes(folder):
    page = (Path(__file__).parents[1] / "book" / "performance.md").read_text()
    for path in folder.iterdir():
        if path.suffix in (".csv", ".png") and path.name != "rounds.csv":
            assert page.count(f"../figures/benchmarks/{path.name}\n") == 1, path.name


def test_rivals_take_turns():
    called = []
    calls = {name: lambda name=name: called.append(name) for name in "abc"}

    def pedantic(target, args, setup, rounds):
        for _ in range(rounds):
            setup()
            target(*args)

    benchmark = types.SimpleNamespace(pedantic=pedantic, extra_info={})
    stopwatch.interleave(benchmark, "b", calls, rounds=2)
    assert called == ["a", "c", "b"] * 2
    assert {name: len(times) for name, times in benchmark.extra_info["cpu"].items()} == {
        "a": 2,
        "b": 2,
        "c": 2,
    }
    assert [stopwatch.n_rounds(seconds) for seconds in (0.001, 0.2, 9)] == [25, 10, 5]


def forty_let_go_then_fifty():
    for _ in range(3):
        torch.ones(40 * 2**18)
    return torch.ones(50 * 2**18)


def test_peak_memory_is_what_was_alive_at_once():
    """In the process made for it: in this one, freed memory of other tests would be used again."""
    with memory.process() as process:
        peak = process.submit(memory.peak_mib, forty_let_go_then_fifty).result()
    assert peak == pytest.approx(50, abs=3)


def test_too_much_memory_is_no_error():
    assert memory.peak_mib(lambda: torch.empty(2**50)) is None
    with pytest.raises(RuntimeError, match="another"):
        memory.peak_mib(lambda: (_ for _ in ()).throw(RuntimeError("another")))
