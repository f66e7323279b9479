"""The trivial controls, by numbers."""

import pytest
import torch

from sftgan import baselines
from sftgan.architectures import build, target_layer
from sftgan.baselines import CONTROLS, controls
from sftgan.errors import InputError
from sftgan.gradcam import layer_cams
from sftgan.training import Examples


@pytest.fixture
def examples():
    images = torch.zeros(2, 3, 2, 2)
    images[0, 0, 0, 0] = 1.0  # a red pixel: grey 0.299
    images[0, 1, 0, 1] = 1.0  # a green one: 0.587
    conditions = torch.zeros(2, 3, 2, 2)
    conditions[0, -1] = torch.tensor([[0.2, 0.4], [0.6, 0.6]])
    conditions[:, 0] = 0.9
    conditions[0, 0, 0, 0] = 0.0  # not the last CGMA: of no influence
    test = Examples(images, conditions, torch.full((2, 2, 2), 0.5))
    targets = torch.stack([torch.tensor([[0.0, 1.0], [0.5, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])])
    return test, Examples(images, conditions, targets)


def test_values(examples):
    maps = controls(*examples)
    assert tuple(maps) == CONTROLS
    assert torch.equal(maps["all ones"], torch.ones(2, 2, 2))
    torch.testing.assert_close(maps["luminance"][0], torch.tensor([[0.299 / 0.587, 1.0], [0.0, 0.0]]))
    torch.testing.assert_close(maps["last CGMA"][0], torch.tensor([[0.0, 0.5], [1.0, 1.0]]))
    for one in maps["mean map"]:
        assert torch.equal(one, torch.tensor([[0.5, 1.0], [0.25, 0.0]]))


def test_flat_images_and_conditions_give_zeros_not_nan(examples):
    maps = controls(*examples)
    assert torch.equal(maps["luminance"][1], torch.zeros(2, 2))
    assert torch.equal(maps["last CGMA"][1], torch.zeros(2, 2))


def test_the_targets_of_the_test_examples_have_no_influence(examples):
    test, train = examples
    other = Examples(test.images, test.conditions, 1 - test.targets**2)
    for name, maps in controls(test, train).items():
        assert torch.equal(maps, controls(other, train)[name])


# The paper's other methods


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return build("vgg16", 5, 1 / 16, 16, 4).eval()


def explained(net, methods=baselines.METHODS, images=None, seed=0):
    images = (
        torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) if images is None else images
    )
    return dict(baselines.maps(net, target_layer(net, "vgg16"), images, methods, seed))


def test_every_method_gives_scaled_maps_of_the_images_size(net):
    found = explained(net)
    assert tuple(found) == baselines.METHODS
    for maps in found.values():
        assert maps.shape == (3, 16, 16) and maps.dtype == torch.float32
        assert maps.amin((1, 2)).tolist() == [0] * 3 and set(maps.amax((1, 2)).tolist()) <= {0.0, 1.0}


def test_grad_cam_is_ours_and_saliency_is_the_gradient(net):
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(2)).requires_grad_()
    found = explained(net, ("Grad-CAM", "Saliency"), images.detach())
    torch.testing.assert_close(
        found["Grad-CAM"], layer_cams(net, images.detach()).maps[:, -1], atol=1e-4, rtol=0
    )
    net(images).amax(1).sum().backward()
    slope = images.grad.abs().amax(1)
    low, high = slope.amin((1, 2), keepdim=True), slope.amax((1, 2), keepdim=True)
    torch.testing.assert_close(found["Saliency"], (slope - low) / (high - low), atol=1e-5, rtol=0)


def test_smoothgrad_is_drawn_by_the_seed_and_alters_nothing(net):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    net.train()
    a, b, c = (explained(net, ("SmoothGrad",), seed=seed)["SmoothGrad"] for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(torch.rand(3), expected), "the global random numbers are left alone"
    assert net.training
    net.eval()


def test_nothing_is_printed(net, capfd):
    explained(net)
    assert capfd.readouterr() == ("", ""), "Score-CAM has a progress bar of its own"


def test_unknown_methods_and_missing_libraries_are_said(net, monkeypatch):
    with pytest.raises(InputError, match="unknown method 'ScoreCAM': did you mean 'Score-CAM'"):
        explained(net, ("ScoreCAM",))
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    with pytest.raises(
        InputError, match="comparing with other methods needs captum: run `pip install captum`"
    ):
        explained(net, ("Saliency",))
