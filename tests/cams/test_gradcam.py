"""layer_cams against pytorch-grad-cam, against hand-computed numbers, and in the traps that users fall into."""

import contextlib
import gc
import threading
import warnings
import weakref

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_grad_cam import GradCAM
from torch import nn
from torch.nn import functional as F

from sftgan import InputError, Normalised, build, layer_cams
from sftgan.cams.gradcam import _enlarged, _extremes, block_cam, coarse_cams, mean_activation, minmax
from tests.cams.any_cnn import randomised


def strong(category):
    """A target whose gradients are so large that pytorch-grad-cam's `+ 1e-7` has no effect."""
    return lambda output: 1e7 * output[category]


def reference(model, layers, images, classes):
    with GradCAM(model, layers) as cam, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.from_numpy(cam(images, [strong(c) for c in classes]))


def tap_layers(net, arch):
    """The modules whose output tap="post" takes: in VGG16 without batch norm the ReLU behind each convolution."""
    modules = dict(net.named_modules())
    names = [n for n, m in modules.items() if isinstance(m, nn.Conv2d)]
    if arch == "vgg16":
        return [modules[f"features.{int(n.split('.')[1]) + 1}"] for n in names]
    return [modules[n] for n in names]


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("arch, n_layers", [("vgg16", 13), ("resnet50", 53), ("mobilenet_v2", 52)])
def test_equals_pytorch_grad_cam_layer_by_layer(arch, n_layers, images):
    torch.manual_seed(0)
    net = randomised(torchvision.models.get_model(arch, weights=None, num_classes=10)).double()
    for module in net.modules():
        if isinstance(module, nn.ReLU | nn.ReLU6):
            module.inplace = False  # pytorch-grad-cam would mix two tensors otherwise
    cams = layer_cams(net, images, targets=[3, 7])
    assert cams.maps.shape == (2, n_layers, 64, 64)
    for i, layer in enumerate(tap_layers(net, arch)):
        alive = ~cams.dead[:, i]
        expected = reference(net, [layer], images, [3, 7])
        torch.testing.assert_close(cams.maps[alive, i].float(), expected[alive], atol=1e-5, rtol=0)
        assert (expected[~alive] == 0).all()
    assert cams.dead.double().mean() < 0.5  # at least half of the maps had contrast to compare


@pytest.mark.parametrize("arch", ["vgg16", "resnet50", "mobilenet_v2"])
@pytest.mark.parametrize("tap", ["post", "pre"])
def test_in_place_activations_make_no_difference(arch, tap, images):
    torch.manual_seed(0)
    net = randomised(torchvision.models.get_model(arch, weights=None, num_classes=10)).double()
    in_place = layer_cams(net, images, targets=1, tap=tap)
    for module in net.modules():
        if isinstance(module, nn.ReLU | nn.ReLU6):
            module.inplace = False
    out_of_place = layer_cams(net, images, targets=1, tap=tap)
    torch.testing.assert_close(in_place.maps, out_of_place.maps, atol=1e-12, rtol=0)


class TwoConvolutions(nn.Module):
    """1x1 convolutions with known weights: everything can be computed by hand."""

    def __init__(self, in_place=True):
        super().__init__()
        self.first = nn.Conv2d(3, 2, 1)
        self.second = nn.Conv2d(2, 1, 1)
        self.in_place = in_place
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]])[..., None, None])
            self.first.bias.copy_(torch.tensor([0.0, 0.5]))
            self.second.weight.copy_(torch.tensor([[2.0, 4.0]])[..., None, None])
            self.second.bias.zero_()

    def forward(self, x):
        x = F.relu(self.first(x), inplace=self.in_place)
        score = self.second(x).mean((2, 3))
        return torch.cat([score, -score], 1)


def ramp():
    images = torch.zeros(1, 3, 2, 2)
    images[0, 0] = torch.tensor([[0.0, 0.2], [0.6, 1.0]])
    return images


@pytest.mark.parametrize("in_place", [True, False])
def test_hand_computed_values(in_place):
    cams = layer_cams(TwoConvolutions(in_place), ramp(), targets=0, tap="post")
    # behind the ReLU: x and relu(0.5 - x), weights dy/dA = 2 / 4 pixels and 4 / 4 pixels -> 0.5 x + relu(0.5 - x)
    raw = torch.tensor([[0.5, 0.4], [0.3, 0.5]])
    torch.testing.assert_close(cams.maps[0, 0], (raw - 0.3) / 0.2)
    # second convolution: 2 x + 4 relu(0.5 - x), one channel of weight 1 / 4
    torch.testing.assert_close(cams.maps[0, 1], (raw - 0.3) / 0.2)
    cams = layer_cams(TwoConvolutions(in_place), ramp(), targets=0, tap="pre")
    # before the ReLU the gradient is masked: channel 0 is positive in 3 pixels, channel 1 in 2
    raw = 0.5 * 3 / 4 * ramp()[0, 0] + 1.0 * 2 / 4 * (0.5 - ramp()[0, 0])
    torch.testing.assert_close(cams.maps[0, 0], minmax(raw.relu())[0])


def test_negative_evidence_gives_dead_maps_of_zeros():
    cams = layer_cams(TwoConvolutions(), ramp(), targets=1)
    assert cams.dead.all() and (cams.maps == 0).all()


def test_maps_with_tiny_gradients_keep_their_contrast():
    model = TwoConvolutions()
    with torch.no_grad():
        model.second.weight.mul_(1e-12)
    assert layer_cams(model, ramp(), targets=0).maps.amax().item() == pytest.approx(1.0)


class AddsInPlace(nn.Module):
    def __init__(self, in_place):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1)
        self.in_place = in_place

    def forward(self, x):
        out = self.conv(x)
        if self.in_place:
            out += x.mean(1, keepdim=True)
        else:
            out = out + x.mean(1, keepdim=True)
        return self.head(out.tanh()).mean((2, 3))


@pytest.mark.parametrize("tap", ["post", "pre"])
def test_other_in_place_operations_make_no_difference(tap):
    torch.manual_seed(0)
    model, images = AddsInPlace(True), torch.rand(2, 3, 8, 8)
    in_place = layer_cams(model, images, targets=0, tap=tap)
    model.in_place = False
    torch.testing.assert_close(in_place.maps, layer_cams(model, images, targets=0, tap=tap).maps)


@pytest.fixture
def small():
    torch.manual_seed(0)
    return build("resnet50", n_classes=4, width=1 / 16, size=32, last_map=4).eval()


@pytest.fixture
def batch():
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_explains_the_predicted_class_by_default(small, batch):
    cams = layer_cams(small, batch)
    same = layer_cams(small, batch, targets=cams.logits.argmax(1))
    assert torch.equal(cams.maps, same.maps)
    other = layer_cams(small, batch, targets=(cams.logits.argmax(1) + 1) % 4)
    assert not torch.allclose(cams.maps, other.maps)


def test_an_image_is_explained_alike_alone_and_in_a_batch(small, batch):
    together = layer_cams(small.double(), batch.double(), targets=[0, 1, 2])
    alone = layer_cams(small, batch[1:2].double(), targets=1)
    torch.testing.assert_close(together.maps[1:2], alone.maps, atol=1e-9, rtol=0)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_parameters_and_gradient_contexts(small, batch, context, frozen):
    expected = layer_cams(small, batch, targets=0).maps
    small.requires_grad_(not frozen)
    with context():
        images = batch.clone()
        torch.testing.assert_close(layer_cams(small, images, targets=0).maps, expected)


def test_leaves_the_model_as_it_was(small, batch):
    small.train()
    small.net.layer1.eval()
    modes = [m.training for m in small.modules()]
    grads = [torch.ones_like(p) for p in small.parameters()]
    for parameter, grad in zip(small.parameters(), grads, strict=True):
        parameter.grad = grad
    state = {k: v.clone() for k, v in small.state_dict().items()}
    layer_cams(small, batch)
    assert [m.training for m in small.modules()] == modes
    assert all(p.grad is g and (g == 1).all() for p, g in zip(small.parameters(), grads, strict=True))
    assert all(torch.equal(v, state[k]) for k, v in small.state_dict().items())
    assert not any(m._forward_hooks for m in small.modules())


def test_hooks_are_gone_and_modes_back_after_an_exception(small, batch):
    small.train()
    small.net.fc.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        layer_cams(small, batch)
    assert small.training and not any(m._forward_hooks for m in small.modules())


def test_two_threads_on_one_model(small, batch):
    expected = [layer_cams(small, batch, targets=t).maps for t in range(4)]
    got = [None] * 4

    def work(target):
        got[target] = [layer_cams(small, batch, targets=target).maps for _ in range(5)]

    threads = [threading.Thread(target=work, args=(t,)) for t in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for target in range(4):
        assert all(torch.equal(maps, expected[target]) for maps in got[target])


def test_compiled_models_are_unwrapped(small, batch):
    compiled = torch.compile(small, backend="eager")
    torch.testing.assert_close(
        layer_cams(compiled, batch, targets=0).maps, layer_cams(small, batch, targets=0).maps
    )


def test_autocast_and_bfloat16(small, batch):
    exact = layer_cams(small, batch, targets=0)
    with torch.autocast("cpu", torch.bfloat16):
        rough = layer_cams(small, batch, targets=0)
    assert rough.maps.dtype == torch.float32 and torch.isfinite(rough.maps).all()
    assert np.corrcoef(rough.maps[:, 0].flatten(), exact.maps[:, 0].flatten())[0, 1] > 0.95
    rough = layer_cams(small.bfloat16(), batch.bfloat16(), targets=0)
    assert rough.maps.dtype == torch.float32 and torch.isfinite(rough.maps).all()


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.unused = nn.Conv2d(3, 3, 3)

    def forward(self, x):
        return self.conv(self.conv(x).sigmoid()).mean((2, 3))


def test_a_convolution_called_twice_counts_twice_and_an_unused_one_not_at_all(batch):
    cams = layer_cams(Shared(), batch)
    assert cams.names == ("conv", "conv (call 2)")


def test_one_by_one_outputs_carry_no_map(batch):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.Flatten())
    assert layer_cams(model, batch).names == ("0",)


def test_size(small, batch):
    assert layer_cams(small, batch, size=8).maps.shape == (3, 53, 8, 8)
    assert layer_cams(small, batch, size=(8, 16)).maps.shape == (3, 53, 8, 16)


NAN = torch.full((1, 3, 32, 32), float("nan"))


@pytest.mark.parametrize(
    "images, sentence",
    [
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "divide bytes by 255"),
        (np.zeros((1, 3, 32, 32)), "floating-point tensor"),
        (torch.zeros(3, 32, 32), r"\(B, 3, H, W\).*\(3, 32, 32\)"),
        (torch.zeros(1, 4, 32, 32), r"\(1, 4, 32, 32\)"),
        (torch.zeros(0, 3, 32, 32), r"\(0, 3, 32, 32\)"),
        (NAN, "NaN"),
        (torch.full((1, 3, 32, 32), 2.0), r"\[0, 1\], got \[2, 2\].*Normalised"),
    ],
)
def test_bad_images_are_refused_in_one_sentence(small, images, sentence):
    with pytest.raises(InputError, match=sentence):
        layer_cams(small, images)


@pytest.mark.parametrize(
    "targets, sentence",
    [
        (4, "class index 4 is out of range: the model has 4 classes"),
        ([0, 1, -1], "class index -1"),
        ([0, 1], "one class index or 3"),
        ([0.5, 1, 1], "integers"),
    ],
)
def test_bad_targets_are_refused_in_one_sentence(small, batch, targets, sentence):
    with pytest.raises(InputError, match=sentence):
        layer_cams(small, batch, targets)


def test_models_that_cannot_be_explained_are_refused_in_one_sentence(batch):
    with pytest.raises(InputError, match="no two-dimensional convolution"):
        layer_cams(nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)), batch)
    with pytest.raises(InputError, match="called none of its convolutions"):
        layer_cams(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 2, 1), nn.Flatten()), batch)
    with pytest.raises(InputError, match=r"logits of shape \(3, classes\), got \(3, 2, 32, 32\)"):
        layer_cams(nn.Conv2d(3, 2, 1), batch)
    with pytest.raises(InputError, match="tap"):
        layer_cams(Shared(), batch, tap="past")


def test_normalised_applies_mean_and_deviation():
    net = Normalised(nn.Identity(), mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0))
    out = net(torch.ones(1, 3, 1, 1))
    assert out.flatten().tolist() == [2.0, 1.0, 0.5]


# Separable convolutions and blocks


class Separable(nn.Module):
    """conv, depthwise, (something between), pointwise, head."""

    def __init__(self, between: nn.Module | None = None, pointwise_kernel: int = 1, groups: int = 4):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=groups)
        self.between = between
        self.pointwise = nn.Conv2d(4, 6, pointwise_kernel, padding=pointwise_kernel // 2)
        self.head = nn.Linear(6, 3)

    def forward(self, images):
        x = self.depthwise(torch.relu(self.first(images)))
        x = x if self.between is None else self.between(x)
        return self.head(self.pointwise(x).mean((2, 3)))


@pytest.mark.parametrize("tap", ["post", "pre"])
def test_a_separable_convolution_is_one_layer_behind_its_pointwise_half(tap):
    torch.manual_seed(0)
    model, images = Separable(), torch.rand(2, 3, 8, 8)
    cams = layer_cams(model, images, tap=tap)
    assert cams.names == ("first", "pointwise")
    apart = layer_cams(Separable(nn.Identity()), images, tap=tap)  # the same tensor: still one layer
    assert apart.names == ("first", "pointwise")
    model.requires_grad_(False)
    frozen = layer_cams(model, images, tap=tap)
    assert frozen.names == cams.names
    torch.testing.assert_close(frozen.maps, cams.maps)


@pytest.mark.parametrize(
    "model",
    [
        Separable(nn.BatchNorm2d(4)), Separable(nn.ReLU()), Separable(nn.ReLU(inplace=True)),
        Separable(pointwise_kernel=3), Separable(groups=2),
    ],
)  # fmt: skip
def test_whatever_lies_between_makes_two_layers(model):
    names = layer_cams(model, torch.rand(1, 3, 8, 8)).names
    assert names == ("first", "depthwise", "pointwise")


def test_block_cam_by_hand():
    torch.manual_seed(0)
    branches = nn.ModuleList([nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 2, 1)])

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.branches = branches

        def forward(self, x):
            return torch.cat([branch(x).relu() for branch in self.branches], 1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block()
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.block(x).mean((2, 3)))

    model, images = Net().train(), torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        output = model.block(images)
        weighted = (output * model.head.weight[[2, 0]][:, :, None, None]).sum(1).relu()
    low, high = weighted.amin((1, 2), keepdim=True), weighted.amax((1, 2), keepdim=True)
    ours = block_cam(model, model.block, images, targets=[2, 0])
    torch.testing.assert_close(ours, (weighted - low) / (high - low))
    assert model.training and not model.block._forward_hooks and model.head.weight.grad is None
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with torch.inference_mode():
        torch.testing.assert_close(block_cam(model, model.block, images, [2, 0]), ours)
    assert block_cam(model, model.block, images, size=5).shape == (2, 5, 5)
    with pytest.raises(InputError, match="class index 3 is out of range"):
        block_cam(model, model.block, images, targets=3)


def test_images_too_small_for_a_map_are_refused_with_a_size_that_works():
    """At 32 pixels the last block of ResNet50 sees one pixel, and its maps would silently be missing."""
    with pytest.raises(
        InputError, match="images of 32 pixels shrink to .* one pixel.*: use at least 33 pixels"
    ):
        layer_cams(torchvision.models.resnet50(num_classes=3), torch.rand(1, 3, 32, 32))
    assert len(layer_cams(torchvision.models.resnet50(num_classes=3), torch.rand(1, 3, 33, 33)).names) == 53


def test_a_convolution_that_is_a_dense_layer_carries_no_map_and_is_no_error():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 8), nn.Flatten(), nn.Linear(2, 3)
    )
    assert layer_cams(model, torch.rand(2, 3, 8, 8)).names == ("0",)


def test_a_padded_convolution_behind_global_pooling_carries_no_map_and_is_no_error():
    """It makes a pixel of a pixel, whatever the size of the images."""
    behind = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 3, padding=1), nn.Flatten(), nn.Linear(4, 3)]
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), *behind)
    assert layer_cams(model, torch.rand(2, 3, 8, 8)).names == ("0",)


def test_logits_without_a_gradient_are_said_in_a_sentence():
    class Detached(nn.Sequential):
        def forward(self, x):
            return super().forward(x).detach()

    model = Detached(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(InputError, match="the explained scores have no gradient"):
        layer_cams(model, torch.rand(2, 3, 8, 8))


def _one_conv():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 5))
    torch.manual_seed(0)
    for module in (net[0], net[3]):
        module.reset_parameters()
    return net.double().eval(), torch.rand(2, 3, 8, 8, dtype=torch.float64)


def test_guided_gradients_are_positive_at_positive_activations():
    """By hand, on a net whose gradient is its last weights."""
    net, images = _one_conv()
    activation = net[1](net[0](images)).detach()
    gradient = net[3].weight[2].view(4, 8, 8).expand(2, -1, -1, -1)
    kept = gradient.clamp_min(0) * (activation > 0)
    expected = minmax((kept.mean((2, 3), keepdim=True) * activation).sum(1))[0]
    maps = layer_cams(net, images, 2, gradients="guided").maps[:, 0]
    assert torch.allclose(maps, expected) and not torch.allclose(maps, layer_cams(net, images, 2).maps[:, 0])
    with pytest.raises(InputError, match="unknown kind of gradients 'guide': did you mean 'guided'"):
        layer_cams(net, images, gradients="guide")


def test_the_mean_activation_knows_no_class():
    net, images = _one_conv()
    expected = minmax(net[1](net[0](images)).mean(1))[0].detach()
    assert torch.allclose(mean_activation(net, net[1], images), expected)
    assert mean_activation(net, net[1], images, size=5).shape == (2, 5, 5)
    net[3].reset_parameters()
    assert torch.allclose(mean_activation(net, net[1], images), expected)


@settings(deadline=None, max_examples=60)
@given(h=st.integers(1, 9), w=st.integers(1, 9), height=st.integers(1, 70), width=st.integers(1, 70))
def test_the_extremes_of_an_enlarged_map_are_known_before_it_is_enlarged(h, w, height, width):
    maps = torch.rand(2, 3, h, w, generator=torch.Generator().manual_seed(h + 10 * w), dtype=torch.float64)
    low, high = _extremes(maps, (height, width))
    enlarged = _enlarged(maps, (height, width))
    torch.testing.assert_close(low, enlarged.amin((2, 3), keepdim=True), atol=1e-12, rtol=0)
    torch.testing.assert_close(high, enlarged.amax((2, 3), keepdim=True), atol=1e-12, rtol=0)


def test_a_flat_map_is_dead_whatever_rounding_makes_of_it():
    """Enlarging 0.1 gives values that differ in the last place, which is no contrast."""
    model = nn.Sequential(
        nn.Conv2d(3, 1, 1), nn.AvgPool2d(4), nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(9, 2)
    )
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(0.1)
        model[4].weight.fill_(1.0)
    cams = layer_cams(model, torch.rand(1, 3, 12, 12), targets=0, size=37)
    assert cams.dead.all() and (cams.maps == 0).all()


class Fails(Exception):
    pass


@pytest.mark.parametrize("fails", [False, True])
def test_no_activation_outlives_an_explanation(fails):
    """Without the help of the garbage collector, which may come late."""
    model = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)), nn.Flatten(), nn.Linear(192, 2))
    refs = []
    for conv in model[:4]:
        conv.register_forward_hook(lambda _module, _inputs, output: refs.append(weakref.ref(output)))

    def target(logits):
        if fails:
            raise Fails
        return logits[:, 0]

    gc.disable()
    try:
        with pytest.raises(Fails) if fails else contextlib.nullcontext():
            layer_cams(model, torch.rand(2, 3, 8, 8), targets=target)
        assert len(refs) == 4 and not any(ref() is not None for ref in refs)
    finally:
        gc.enable()


def test_the_coarse_maps_are_as_small_as_their_layers(small, batch):
    cams = coarse_cams(small, batch, targets=0)
    sides = sorted({maps.shape[-1] for _, maps in cams.groups})
    assert sides == [4, 8, 16] and len(cams.names) == 53
    assert torch.equal(cams.maps(), layer_cams(small, batch, targets=0).maps)
