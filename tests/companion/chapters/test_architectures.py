"""Diagrams: they say what the networks are, their texts fit their boxes, and the measured figures are right."""

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.patches import FancyBboxPatch
from torch.testing import assert_close

from sftgan.companion.chapters.architectures import (
    LINES,
    block_diagrams,
    conditioning_diagram,
    feature_std,
    gan_diagram,
    responding_layers,
    sft_pictures,
    spread_curves,
)
from sftgan.companion.report.plots import METHOD_COLOURS
from sftgan.gan.networks import Generator, ResidualBlock


@pytest.fixture(autouse=True)
def _clean():
    torch.manual_seed(0)
    yield
    plt.close("all")


def column(axis, x):
    """The texts at x, from top to bottom."""
    texts = [t for t in axis.texts if t.get_text() and abs(t.get_position()[0] - x) < 0.01]
    return [t.get_text() for t in sorted(texts, key=lambda t: t.get_position()[1])]


@pytest.mark.parametrize(("eta", "shown"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 8])])
def test_fig_4_shows_the_trunk_and_the_conditions_of_the_generators(eta, shown):
    trunk = iter(Generator("lsft", eta, width=4).trunk)
    names = ["residual" if isinstance(block, ResidualBlock) else "SFT" for block in trunk]
    assert names == names[:3] * eta
    figure = conditioning_diagram(eta)
    for axis in figure.axes:
        drawn = [text for text in column(axis, 1.32) if text != "⋮"]
        triplets = [f"{name} {k}" if name == "SFT" else name for k in shown for name in names[:3]]
        assert drawn == ["image", "conv.", *triplets, "+", "conv.", "map"]
    local, together = (column(axis, x) for axis, x in zip(figure.axes, (0.45, 0.4), strict=True))
    assert local == [text for k in shown for text in (f"CGMA {k}", "CN")]
    assert together == ["CGMA 1" if eta == 1 else f"CGMA 1\n⋮\nCGMA {eta}", "CN"]
    for axis in figure.axes:
        sft = {t.get_position()[1] for t in axis.texts if t.get_text().startswith("SFT")}
        entries = {t.xy[1] for t in axis.texts if not t.get_text() and abs(t.xy[0] - 0.96) < 0.01}
        assert sorted(entries) == pytest.approx(sorted(sft))


def test_fig_3_names_the_number_of_conditions():
    texts = [t.get_text() for t in gan_diagram(5).axes[0].texts]
    assert "CGMA 1…5" in texts
    assert "5 times" in texts
    assert "discriminator" in texts


@pytest.mark.parametrize("draw", [gan_diagram, block_diagrams, conditioning_diagram])
def test_texts_fit_their_boxes_and_a_phone(draw):
    figure = draw()
    assert figure.get_figwidth() <= 4
    figure.canvas.draw()
    filled = 0
    for axis in figure.axes:
        boxes = [p.get_window_extent() for p in axis.patches if isinstance(p, FancyBboxPatch)]
        for text in filter(lambda t: t.get_text(), axis.texts):
            assert text.get_fontsize() >= 9
            extent = text.get_window_extent()
            around = [
                b for b in boxes if b.contains((extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2)
            ]
            inner = min(around, key=lambda b: b.width * b.height, default=None)
            if inner is not None and inner.width < 0.7 * figure.bbox.width and text.get_text() not in "+×":
                filled += 1
                assert inner.x0 <= extent.x0 and extent.x1 <= inner.x1, text.get_text()
                assert inner.y0 <= extent.y0 and extent.y1 <= inner.y1, text.get_text()
    assert filled >= 8


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_lsft_hears_one_cgma_in_each_layer_and_gsft_all(variant):
    lsft, gsft = (Generator(kind, eta=3, width=4, variant=variant) for kind in ("lsft", "gsft"))
    assert torch.equal(responding_layers(lsft), torch.eye(3, dtype=torch.bool))
    assert torch.equal(
        responding_layers(gsft), torch.ones(33 if variant == "released" else 3, 3, dtype=torch.bool)
    )
    assert not any(m._forward_pre_hooks for m in lsft.modules())


def test_spread_by_hand():
    generator = Generator("gsft", eta=1, width=4)
    images, conditions = torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8)
    first, residual, *rest = feature_std(generator, images, conditions)
    features = generator.head(images)
    assert_close(first, features.std().item())
    assert_close(residual, generator.trunk[0](features).std().item())
    assert len(rest) == len(generator.trunk) - 1
    assert not any(m._forward_hooks for m in generator.modules())
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.zero_()
    assert feature_std(generator, images, conditions) == [0.0] * 4


def test_sft_pictures_show_the_values():
    pictures = {"a": torch.rand(4, 5), "b": 3 * torch.rand(4, 5), "c": -torch.rand(4, 5)}
    figure = sft_pictures(pictures)
    panels = {axis.get_title(): axis.images[0] for axis in figure.axes if axis.get_title()}
    assert list(panels) == list(pictures)
    for title, image in panels.items():
        assert_close(torch.from_numpy(image.get_array().data), pictures[title])
        assert image.get_clim() == (pictures[title].min().item(), pictures[title].max().item())


def test_spread_curves():
    start, other, _ = LINES
    figure = spread_curves({"one": {("LSFT", start): [1, 2], ("GSFT", other): [3, 1]}, "two": {}})
    assert [axis.get_title() for axis in figure.axes] == ["one", "two"]
    lines = figure.axes[0].lines
    assert [list(line.get_ydata()) for line in lines] == [[1, 2], [3, 1]]
    assert [line.get_color() for line in lines] == [METHOD_COLOURS["LSFT"], METHOD_COLOURS["GSFT"]]
    assert [line.get_linestyle() for line in lines] == [LINES[start], LINES[other]]
    assert figure.axes[0].get_yscale() == "log"
