"""The paper's other methods, and the teachers of the students, by numbers."""

import pytest
import torch
from torch import nn

from sftgan import InputError
from sftgan.cams.gradcam import layer_cams
from sftgan.cnns.architectures import build, target_layer
from sftgan.companion.study import methods as study_methods
from sftgan.companion.study.methods import CELLS, KEPT, TEACHERS, rise_masks, teacher_maps


class LooksAt(nn.Module):
    """The logit of class 1 is eight times the mean of a 4 x 4 patch; class 0 has a constant logit."""

    def __init__(self, top=4, left=8):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        nn.init.constant_(self.conv.weight, 1 / 3)
        nn.init.zeros_(self.conv.bias)
        self.patch = slice(top, top + 4), slice(left, left + 4)

    def forward(self, images):
        seen = self.conv(images).relu()[:, 0]
        seen = seen[:, *self.patch].mean((1, 2))
        return torch.stack([torch.full_like(seen, 0.1), 8 * seen], 1)


@pytest.mark.parametrize("shape", [(32, 32), (20, 33)])
def test_masks_are_soft_random_and_half_open(shape):
    torch.manual_seed(0)
    masks = torch.cat([rise_masks(64, *shape) for _ in range(8)])
    assert masks.shape == (512, *shape) and masks.min() >= 0 and masks.max() <= 1
    assert abs(masks.mean().item() - KEPT) < 0.02
    assert masks.mean(0).sub(KEPT).abs().max() < 0.15, "no place is favoured"
    assert len(masks.unique(dim=0)) == 512
    cell = -(-shape[1] // CELLS)
    assert (masks.diff(dim=2).abs() <= 1 / cell + 1e-6).all(), "bilinear: a cell wide from 0 to 1"


@pytest.mark.parametrize(("name", "samples"), [("SmoothGrad", 8), ("RISE", 1500), ("input gradient", None)])
def test_the_patch_that_decides_is_found(name, samples):
    model = LooksAt()
    patch = torch.zeros(16, 16, dtype=torch.bool)
    patch[model.patch] = True
    (found,) = teacher_maps(model, model.conv, torch.full((1, 3, 16, 16), 0.5), name, samples)
    assert found.shape == (16, 16) and found.min() == 0 and found.max() == 1
    assert found[patch].min() > found[~patch].max() or (name == "RISE" and found[patch].mean() > 0.8)
    assert patch.flatten()[found.flatten().argmax()]


def test_smoothgrad_of_a_linear_patch_is_exact():
    model = LooksAt()
    (found,) = teacher_maps(model, model.conv, torch.full((1, 3, 16, 16), 0.9), "SmoothGrad", 2)
    expected = torch.zeros(16, 16)
    expected[model.patch] = 1
    assert torch.equal(found, expected)


class Weighted(nn.Module):
    """The logit of class 1 weighs the left half of 16 x 16 pixels by 2, the right half by 1, and one pixel by 500."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1)
        self.weights = torch.ones(16, 16)
        self.weights[:, :8] = 2
        self.weights[3, 12] = 500

    def forward(self, images):
        seen = (self.conv(images)[:, 0] * 0 + images.mean(1) * self.weights).mean((1, 2))
        return torch.stack([seen * 0, seen], 1)


def test_one_outlying_pixel_does_not_take_up_the_scale_of_smoothgrad():
    model = Weighted()
    (found,) = teacher_maps(model, model.conv, torch.full((1, 3, 16, 16), 0.5), "SmoothGrad", 2)
    assert (found[:, :8] == 1).all() and found[3, 12] == 1
    assert found[:, 8:].sum() == 1


def test_more_masks_agree_better_and_seeds_draw_other_ones():
    model, images = LooksAt(), torch.full((2, 3, 16, 16), 0.5)
    few, again, other = (teacher_maps(model, model.conv, images, "RISE", 20, seed) for seed in (0, 0, 1))
    assert torch.equal(few, again) and not torch.equal(few, other)
    assert not torch.equal(few[0], few[1]), "each image has masks of its own"
    many, other_many = (teacher_maps(model, model.conv, images, "RISE", 400, seed) for seed in (0, 1))
    assert (many - other_many).abs().mean() < 0.5 * (few - other).abs().mean()


def test_the_models_mode_and_the_random_state_are_left_alone():
    model, before = LooksAt().train(), torch.get_rng_state()
    teacher_maps(model, model.conv, torch.rand(1, 3, 16, 16, generator=torch.Generator()), "RISE", 2)
    assert model.training and torch.equal(torch.get_rng_state(), before)


def test_bad_requests_are_refused():
    model, images = LooksAt(), torch.rand(1, 3, 16, 16)
    with pytest.raises(InputError, match="did you mean 'RISE'"):
        teacher_maps(model, model.conv, images, "RISSE", 4)
    for samples in (None, 0):
        with pytest.raises(InputError, match="whole number of at least 1"):
            teacher_maps(model, model.conv, images, "SmoothGrad", samples)
    assert TEACHERS == ("SmoothGrad", "RISE", "Score-CAM")


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
