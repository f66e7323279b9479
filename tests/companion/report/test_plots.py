"""Figures show the numbers they are given, with titles and labels."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex

from sftgan.companion.report import plots


@pytest.fixture(autouse=True)
def close_all():
    before = plt.get_backend()
    plt.switch_backend("Agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


def drawn(figure):
    """Layout and rendering work, without a warning turned error."""
    figure.canvas.draw()
    return [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]


def texts(labels) -> list[str]:
    return [label.get_text() for label in labels]


def test_map_grid_shows_images_as_they_are_and_maps_as_heat():
    image = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    low, high = torch.full((4, 4), 0.2), torch.full((4, 4), 0.9)
    axes = drawn(
        plots.map_grid([[image, low, high], [image, high, low]], ["a", "b"], ["image", "K=0", "K=1"])
    )
    assert [axis.get_title() for axis in axes] == ["image", "K=0", "K=1", "", "", ""]
    assert [axis.get_ylabel() for axis in axes] == ["a", "", "", "b", "", ""]
    shown = [axis.images[0] for axis in axes]
    np.testing.assert_array_equal(shown[0].get_array(), image.permute(1, 2, 0))
    assert [float(s.get_array()[0, 0]) for s in shown[1:3]] == pytest.approx([0.2, 0.9])
    assert all(s.get_clim() == (0, 1) and s.get_cmap().name == "inferno" for s in (shown[1], shown[5]))
    assert all(len(axis.get_xticks()) == len(axis.get_yticks()) == 0 for axis in axes)


def test_map_grid_has_one_scale_for_all():
    figure = plots.map_grid([[torch.zeros(4, 4)]], ["a"], ["one"])
    figure.canvas.draw()
    (bar,) = [axis for axis in figure.axes if axis.get_label() == "<colorbar>"]
    assert texts(bar.get_yticklabels()) == ["0.0", "0.5", "1.0"]


@pytest.fixture
def frame():
    rows = [("strokes", "LSFT", 0.5, 0.4, 0.6), ("strokes", "other", 0.3, 0.2, 0.35),
            ("Grad-CAM", "LSFT", 0.7, 0.65, 0.8), ("Grad-CAM", "other", 0.1, 0.0, 0.2)]  # fmt: skip
    return pd.DataFrame(rows, columns=["truth", "method", "mean", "low", "high"])


def test_intervals(frame):
    figure = plots.intervals(frame, "Dice", "method", panel="truth", reference=(0.6588, "published"))
    left, right = drawn(figure)
    assert [axis.get_title() for axis in (left, right)] == ["strokes", "Grad-CAM"]
    assert left.get_xlabel() == "Dice" and texts(left.get_yticklabels()) == ["LSFT", "other"]
    assert left.yaxis_inverted(), "the first method stands on top"
    bar, point, other_bar, other_point, reference = right.lines
    assert list(bar.get_xdata()) == [0.65, 0.8] and list(bar.get_ydata()) == [0, 0]
    assert list(point.get_xdata()) == [0.7]
    assert list(other_bar.get_xdata()) == [0.0, 0.2] and list(other_point.get_ydata()) == [1]
    assert to_hex(bar.get_color()) == plots.METHOD_COLOURS["LSFT"]
    assert list(reference.get_xdata()) == [0.6588, 0.6588]
    assert texts(figure.legends[0].get_texts()) == ["published"]


def test_a_reference_stands_only_where_it_belongs(frame):
    figure = plots.intervals(
        frame, "Dice", "method", panel="truth", reference=(0.6588, "published"), reference_in=["strokes"]
    )
    left, right = drawn(figure)
    assert len(left.lines) == 5 and len(right.lines) == 4
    assert texts(figure.legends[0].get_texts()) == ["published"]
    nowhere = plots.intervals(frame, "Dice", "method", reference=(0.5, "published"), reference_in=[])
    assert nowhere.legends == []


def test_intervals_without_panels_and_reference(frame):
    figure = plots.intervals(frame[frame["truth"] == "strokes"], "Dice", "method", limits=(0.2, 0.7))
    (axis,) = drawn(figure)
    assert axis.get_title() == "" and axis.get_xlim() == (0.2, 0.7) and figure.legends == []


def test_limits_that_fit():
    frame = pd.DataFrame({"low": [0.2, 0.1], "high": [0.3, 0.6]})
    assert plots.fitted(frame) == pytest.approx((0.075, 0.625))
    assert plots.fitted(frame, 0.0, 1.0) == pytest.approx((-0.05, 1.05))


def test_intervals_by_group(frame):
    frame = pd.concat([frame.assign(dataset=d, arch="vgg16") for d in ("mnist", "emnist")])
    frame = frame[frame["truth"] == "strokes"]
    figure = plots.intervals_by_group(frame, "Dice", group="dataset", panel="arch")
    (axis,) = drawn(figure)
    assert axis.get_title() == "vgg16" and texts(axis.get_yticklabels()) == ["mnist", "emnist"]
    assert texts(figure.legends[0].get_texts()) == ["LSFT", "other"]
    places = [line.get_ydata()[0] for line in axis.lines[::2]]
    assert len(set(places)) == 4 and all(abs(p - g) < 0.5 for p, g in zip(places, (0, 0, 1, 1), strict=True))


def test_confusion_matrices_are_scaled_by_row():
    matrices = {
        name: torch.tensor([[3, 1], [0, 0]]) for name in ("vgg16 on mnist", "b", "c", "d")
    }  # a class without images stays empty
    classes = {name: ["zero", "one"] for name in matrices}
    figure = plots.confusion_matrices(matrices, classes)
    axes = drawn(figure)
    shown = [axis for axis in axes if axis.images]
    assert [axis.get_title() for axis in shown] == list(matrices) and len(axes) == 6
    np.testing.assert_array_equal(shown[0].images[0].get_array(), [[0.75, 0.25], [0, 0]])
    assert texts(shown[0].get_xticklabels()) == texts(shown[0].get_yticklabels()) == ["zero", "one"]
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("predicted class", "true class")


def test_many_classes_get_every_fifth_name():
    names = [f"class {i}" for i in range(26)]
    (axis,) = drawn(plots.confusion_matrices({"x": torch.eye(26, dtype=torch.int64)}, {"x": names}))
    assert texts(axis.get_xticklabels()) == [names[i] for i in (0, 5, 10, 15, 20, 25)]


def test_training_curves():
    columns = {
        "discriminator": [0.5, 0.7, 0.9],
        "adversarial": [1.0, 1.0, 4.0],
        "reconstruction": [0.1, 0.01, 0.01],
    }
    losses = pd.DataFrame({"step": [1, 2, 3], "epoch": 1, **columns})
    first, second, third = drawn(plots.training_curves({"LSFT": losses, "GSFT": losses * 2}, smooth=2))
    assert [a.get_title() for a in (first, second, third)] == [
        "discriminator (BCE)", "generator, adversarial (BCE)", "generator, reconstruction",
    ]  # fmt: skip
    assert all(a.get_xlabel() == "step" for a in (first, second, third))
    np.testing.assert_allclose(second.lines[0].get_ydata(), [1.0, 1.0, 2.5])  # running means
    np.testing.assert_allclose(first.lines[1].get_ydata(), [1.0, 1.2, 1.6])
    assert (first.get_yscale(), third.get_yscale()) == ("linear", "log")
    assert list(first.lines[2].get_ydata()) == [math.log(2)] * 2
    assert texts(first.figure.legends[0].get_texts()) == ["LSFT", "GSFT", "guessing: ln 2"]


def test_progress_curves():
    curve = pd.DataFrame({"epoch": [0, 1], "step": [0, 30], "dice": [0.2, 0.6]})
    curves = {"three": curve, "one": curve * 2}
    by_epoch, by_step = drawn(plots.progress_curves(curves, "dice", "Dice", (0.4, "same")))
    assert (by_epoch.get_xlabel(), by_step.get_xlabel(), by_epoch.get_ylabel()) == ("epoch", "step", "Dice")
    assert list(by_epoch.lines[0].get_xdata()) == [0, 1] and list(by_step.lines[1].get_xdata()) == [0, 60]
    assert list(by_step.lines[0].get_ydata()) == [0.2, 0.6]
    assert texts(by_step.get_legend().get_texts()) == ["three", "one", "same"]
    assert list(by_step.lines[2].get_ydata()) == [0.4, 0.4]


def test_correlation_curves():
    rows = [
        {"arch": arch, "K": k, "kind": kind, "r": r + 0.1 * image}
        for arch in ("vgg16", "resnet50")
        for kind, values in (("single layer", (0.0, 0.5)), ("average", (0.2, 0.6)))
        for k, r in enumerate(values)
        for image in (0, 1)
    ]
    figure = plots.correlation_curves(pd.DataFrame(rows))
    left, right = drawn(figure)
    assert (left.get_title(), right.get_title()) == ("vgg16", "resnet50")
    assert left.get_xlabel() == "K" and left.get_ylabel() == "correlation with the last layer"
    np.testing.assert_allclose(left.lines[0].get_ydata(), [0.05, 0.55])
    np.testing.assert_allclose(left.lines[1].get_ydata(), [0.25, 0.65])
    assert texts(figure.legends[0].get_texts()) == ["single layer", "average"]


def test_dead_layers():
    shares = {"vgg16": torch.tensor([0.0, 0.25]), "resnet50": torch.tensor([1.0, 0.5, 0.0])}
    left, right = drawn(plots.dead_layers(shares))
    assert [bar.get_height() for bar in right.patches] == [1.0, 0.5, 0.0]
    assert [bar.get_center()[0] for bar in left.patches] == [1, 2]
    assert (left.get_title(), left.get_ylabel(), left.get_ylim()) == ("vgg16", "share of images", (0, 1))


def test_every_method_has_a_colour_of_its_own():
    from sftgan.companion.study import frames, methods

    methods = {*frames.METHODS, *methods.OTHER_METHODS}

    assert methods == set(plots.METHOD_COLOURS)
    assert len(set(plots.METHOD_COLOURS.values())) == len(methods)


def test_map_grid_has_texts_below_and_may_do_without_a_scale():
    figure = plots.map_grid([[torch.zeros(4, 4)] * 2], ["a"], ["", ""], scale=False, texts=[["0.5", "word"]])
    axes = drawn(figure)
    assert [axis.get_xlabel() for axis in axes] == ["0.5", "word"] and len(figure.axes) == 2


def test_curves_are_means_in_panels():
    frame = pd.DataFrame({
        "density": [0.1, 0.1, 0.2, 0.2] * 2, "value": [1, 3, 2, 4, 5, 5, 6, 6], "method": "LSFT",
        "strategy": ["similar"] * 4 + ["dissimilar"] * 4,
    })  # fmt: skip
    axes = drawn(plots.curves(frame, "density", "value", "strategy", "noise", "error"))
    assert [axis.get_title() for axis in axes] == ["similar", "dissimilar"]
    assert axes[0].lines[0].get_ydata().tolist() == [2, 3] and axes[1].lines[0].get_ydata().tolist() == [5, 6]
    assert to_hex(axes[0].lines[0].get_color()) == plots.METHOD_COLOURS["LSFT"]
    assert (axes[0].get_xlabel(), axes[0].get_ylabel()) == ("noise", "error")


def test_stacked_curves_share_the_x_axis_and_have_dotted_levels():
    error = pd.DataFrame({
        "density": [0.1, 0.2] * 4, "value": [3.0, 4, 5, 6, 7, 8, 9, 10], "method": ["LSFT", "LSFT", "GSFT", "GSFT"] * 2,
        "strategy": ["similar"] * 4 + ["dissimilar"] * 4,
    })  # fmt: skip
    right = error.assign(arch="vgg16", right=[1.0, 0, 1, 0, 1, 1, 1, 1], chance=[0.1] * 4 + [0.2] * 4)
    rows = [
        plots.Lines(error, "value", "error", bottom=0),
        plots.Lines(right, "right", "accuracy", hue="arch", level="chance"),
    ]
    axes = drawn(plots.stacked_curves(rows, "density", "strategy", "noise density"))
    assert [axis.get_title() for axis in axes] == ["similar", "dissimilar", "", ""]
    assert [axis.get_xlabel() for axis in axes] == ["", "", "noise density", "noise density"]
    assert [axis.get_ylabel() for axis in axes] == ["error", "", "accuracy", ""]
    assert axes[0].get_ylim()[0] == 0 and axes[0].get_ylim() == axes[1].get_ylim()
    assert [list(line.get_ydata()) for line in axes[1].lines[:2]] == [[7, 8], [9, 10]]
    levels = [[line for line in axis.lines if line.get_label() == "chance"] for axis in axes]
    assert [len(found) for found in levels] == [0, 0, 1, 1]
    assert [found[0].get_ydata()[0] for found in levels[2:]] == pytest.approx([0.1, 0.2])
    legends = [texts(axes[k].get_legend().get_texts()) for k in (1, 3)]
    assert legends == [["LSFT", "GSFT"], ["vgg16", "chance"]] and axes[0].get_legend() is None


def test_relevance_profiles_have_a_line_with_a_band_for_each_row_and_a_panel_for_each_pair():
    rows = [
        (f"pair {k}", name, c, value)
        for k in range(3)
        for name, values in {"one": (1, 2, 3 * k), "two": (3, 2, 1)}.items()
        for c, value in enumerate(values)
    ]
    frame = pd.DataFrame(rows, columns=["pair", "replacement", "c", "mean"])
    frame = frame.assign(low=frame["mean"] - 0.5, high=frame["mean"] + 0.5)
    axes = drawn(plots.relevance_profiles(frame, "relevance", "replacement"))
    assert [axis.get_title() for axis in axes] == ["pair 0", "pair 1", "pair 2"]
    assert [list(line.get_ydata()) for line in axes[2].lines] == [[1, 2, 6], [3, 2, 1]]
    band = axes[2].collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == 0.5 and band[:, 1].max() == 6.5
    assert texts(axes[0].get_legend().get_texts()) == ["one", "two"] and axes[0].get_ylabel() == "relevance"
    low, high = axes[0].get_ylim()
    assert low == 0 and high > 6.5, "no panel's line is cut off"
    without = frame[["pair", "replacement", "c", "mean"]].query("pair == 'pair 0'")
    (only,) = drawn(plots.relevance_profiles(without, "relevance", "replacement", top=9))
    assert only.get_ylim() == (0, 9) and not only.collections, "no intervals, no band"


def test_points_against_area_are_named():
    columns = {"area": [0.3, 1.0], "mean": [40, 90], "low": [35, 80], "high": [45, 95], "strategy": "similar"}
    frame = pd.DataFrame({"method": ["LSFT", "all ones"]} | columns)
    (axis,) = drawn(plots.against_area(frame, "wins", "strategy"))
    assert [line.get_xydata().tolist() for line in axis.lines] == [
        [[0.3, 35.0], [0.3, 45.0]], [[0.3, 40.0]], [[1.0, 80.0], [1.0, 95.0]], [[1.0, 90.0]],
    ]  # fmt: skip
    assert texts(axis.get_legend().get_texts()) == ["LSFT", "all ones"]
    points = axis.lines[1::2]
    assert {point.get_markerfacecolor() for point in points} == {"none"}, "what lies below shows through"
    assert len({point.get_marker() for point in points}) == 2


def test_counts_are_stacked():
    frame = pd.DataFrame({"task": ["x", "y"], "LSFT": [16, 7], "tie": [1, 0], "Grad-CAM": [3, 3]})
    (axis,) = drawn(plots.counts(frame, "task", ["LSFT", "tie", "Grad-CAM"]))
    bars = [(bar.get_x(), bar.get_width()) for bar in axis.patches]
    assert bars == [(0, 16), (0, 7), (16, 1), (7, 0), (17, 3), (7, 3)]
    assert texts(axis.texts) == ["16", "7", "1", "", "3", "3"]


def test_power_curves():
    frame = pd.DataFrame({"share": [0.5, 1.0], "power": [0.05, 1.0]})
    (axis,) = drawn(plots.power_curves({"ten": frame}))
    assert axis.lines[0].get_xydata().tolist() == [[0.5, 0.05], [1.0, 1.0]]
    assert texts(axis.get_legend().get_texts()) == ["ten"]
