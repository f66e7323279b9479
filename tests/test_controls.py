"""The trivial controls, by numbers."""

import pytest
import torch
from torch import nn

from sftgan.cams.gradcam import layer_cams
from sftgan.cnns.architectures import build, target_layer
from sftgan.companion.study import methods as study_methods
from sftgan.controls import CONTROLS, controls, linear_fit, linear_map, luminance
from sftgan.errors import InputError
from sftgan.gan.examples import Examples, ExplainedImages


def explained_of(images, conditions, targets, predictions=None) -> ExplainedImages:
    n = len(images)
    classes = torch.zeros(n, dtype=torch.long) if predictions is None else torch.tensor(predictions)
    shown = Examples(images, conditions, targets)
    return ExplainedImages(
        shown, classes, classes, None, None, torch.zeros(3), torch.full_like(targets, 0.25)
    )


@pytest.fixture
def pair():
    images = torch.zeros(2, 3, 2, 2)
    images[0, 0, 0, 0] = 1.0  # a red pixel: grey 0.299
    images[0, 1, 0, 1] = 1.0  # a green one: 0.587
    conditions = torch.zeros(2, 3, 2, 2)
    conditions[0, -1] = torch.tensor([[0.2, 0.4], [0.6, 0.6]])
    conditions[:, 0] = 0.9
    conditions[0, 0, 0, 0] = 0.0  # not the last CGMA: of no influence
    targets = torch.stack([torch.tensor([[0.0, 1.0], [0.5, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])])
    return explained_of(images, conditions, torch.full((2, 2, 2), 0.5)), explained_of(
        images, conditions, targets
    )


def test_values(pair):
    maps = controls(*pair, linear_fit([pair[1].examples]))
    assert tuple(maps) == CONTROLS
    assert torch.equal(maps["all ones"], torch.ones(2, 2, 2))
    torch.testing.assert_close(maps["luminance"][0], torch.tensor([[0.299 / 0.587, 1.0], [0.0, 0.0]]))
    torch.testing.assert_close(maps["last CGMA"][0], torch.tensor([[0.0, 0.5], [1.0, 1.0]]))
    torch.testing.assert_close(maps["mean of CGMAs"][0], torch.tensor([[0.0, 11 / 13], [1.0, 1.0]]))
    assert torch.equal(maps["mean activation"], torch.full((2, 2, 2), 0.25))
    for one in maps["mean map"]:
        assert torch.equal(one, torch.tensor([[0.5, 1.0], [0.25, 0.0]]))
    assert "linear" not in controls(*pair)


def test_flat_images_and_conditions_give_zeros_not_nan(pair):
    maps = controls(*pair)
    assert torch.equal(maps["luminance"][1], torch.zeros(2, 2))
    assert torch.equal(maps["last CGMA"][1], torch.zeros(2, 2))


def test_the_targets_of_the_test_examples_have_no_influence(pair):
    """But for the class mean map, which is an oracle."""
    test, train = pair
    shown, fit = test.examples, linear_fit([train.examples])
    other = explained_of(shown.images, shown.conditions, 1 - shown.targets**2)
    for name, maps in controls(test, train, fit).items():
        assert torch.equal(maps, controls(other, train, fit)[name]) == (name != "class mean map")


def test_the_class_mean_leaves_the_image_itself_out():
    targets = torch.tensor([0.0, 0.2, 0.4, 0.9])[:, None, None].expand(4, 2, 2).clone()
    images, conditions = torch.zeros(4, 3, 2, 2), torch.zeros(4, 1, 2, 2)
    test = explained_of(images, conditions, targets, predictions=[7, 7, 7, 3])
    train = explained_of(images, conditions, torch.full((4, 2, 2), 0.6))
    means = controls(test, train)["class mean map"][:, 0, 0]
    torch.testing.assert_close(means, torch.tensor([0.3, 0.2, 0.1, 0.6]))  # the last has no company


def test_the_linear_fit_finds_what_made_the_target():
    rng = torch.Generator().manual_seed(0)
    images, conditions = torch.rand(6, 3, 4, 4, generator=rng), torch.rand(6, 2, 4, 4, generator=rng)
    targets = 0.1 + 0.3 * conditions[:, 1] + 0.2 * images[:, 2]
    made = Examples(images, conditions, targets)
    coefficients = linear_fit([made.subset(torch.arange(3)), made.subset(torch.arange(3, 6))])
    expected = torch.tensor([0.0, 0.3, 0.0, 0.0, 0.2, 0.1], dtype=torch.float64)
    torch.testing.assert_close(coefficients, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(linear_map(coefficients, made), targets)
    assert linear_map(10 * coefficients, made).max() == 1


# The paper's other methods


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return build("vgg16", 5, 1 / 16, 16, 4).eval()


def explained(net, methods=study_methods.OTHER_METHODS, images=None, seed=0, arch="vgg16"):
    images = (
        torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) if images is None else images
    )
    return dict(study_methods.method_maps(net, target_layer(net, arch), images, methods, seed))


def test_every_method_gives_scaled_maps_of_the_images_size(net):
    found = explained(net)
    assert tuple(found) == study_methods.OTHER_METHODS
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


@pytest.mark.parametrize("arch", ["vgg19", "resnet50", "mobilenet_v2"])
def test_grad_cam_is_ours_for_other_nets_too(arch):
    torch.manual_seed(0)
    net = build(arch, 5, 1 / 16, 16, 4).eval()
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    theirs = explained(net, ("Grad-CAM",), images, arch=arch)["Grad-CAM"]
    torch.testing.assert_close(theirs, layer_cams(net, images).maps[:, -1], atol=1e-3, rtol=0)


def test_the_activation_is_the_relu_right_behind_a_convolution(net):
    conv = target_layer(net, "vgg16")
    relu = study_methods.activation(net, conv)
    assert isinstance(conv, nn.Conv2d) and isinstance(relu, nn.ReLU)
    layers = list(net.net.features)
    assert layers.index(relu) == layers.index(conv) + 2, "their batch norm is between them"
    assert study_methods.activation(net, relu) is relu
    resnet, mobilenet = (build(arch, 5, 1 / 16, 16, 4) for arch in ("resnet50", "mobilenet_v2"))
    last = target_layer(resnet, "resnet50")
    assert study_methods.activation(resnet, last) is last, "its ReLU comes behind the sum with the shortcut"
    assert isinstance(study_methods.activation(mobilenet, target_layer(mobilenet, "mobilenet_v2")), nn.ReLU6)


def test_score_cam_weighs_positive_activations_by_the_score_of_what_they_show():
    """By hand, for a net of one convolution and a head that counts; every map of the convolution is negative."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    net = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    nn.init.constant_(net[0].weight, -0.1)
    net[1].bias.data = torch.tensor([3.0, 2.0, 1.0, 2.5])
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found = dict(study_methods.method_maps(net, net[0], images, ["Score-CAM"]))["Score-CAM"]
    with torch.no_grad():
        assert (net[0](images) < 0).all(), "of which any weighted sum is black"
        activations = body(images)
        for image, maps, drawn in zip(images, activations, found, strict=True):
            masks = torch.stack([(m - m.min()) / (m.max() - m.min()) for m in maps])
            c = net(image[None]).argmax(1)
            weights = net(image * masks[:, None])[:, c][:, 0].softmax(0)
            expected = (weights[:, None, None] * maps).sum(0)
            low, high = expected.min(), expected.max()
            torch.testing.assert_close(drawn, (expected - low) / (high - low), atol=1e-4, rtol=0)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_luminance_keeps_the_type_of_the_images(dtype):
    red_and_green = torch.eye(3, dtype=dtype)[None, :, None, :2]
    assert luminance(red_and_green).tolist() == [[[0.0, 1.0]]] and luminance(red_and_green).dtype == dtype
