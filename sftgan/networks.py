"""SFT layer, condition network, the two generators and the discriminator (paper, section 3.2).

Two variants. `"paper"` is built from the text and Figs. 3 and 4: LSFT and GSFT are the same network but for the
first convolution of their condition network. `"released"` has the layers, and so the parameter counts, of the
authors' public code, where the two differ in depth as well.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from sftgan.errors import InputError, check_name

KINDS = ("lsft", "gsft")
VARIANTS = ("paper", "released")
SMALLEST = 16  # pixels; the discriminators halve an image three times
DAMPING = 0.1  # of the last convolution of every branch that is added to, or multiplied with, the features


def same_conv(inputs: int, outputs: int, kernel_size: int) -> nn.Module:
    """Convolution with stride 1 that keeps height and width; an even kernel looks one pixel further down and right."""
    before, after = (kernel_size - 1) // 2, kernel_size // 2
    if before == after:
        return nn.Conv2d(inputs, outputs, kernel_size, padding=before)
    pad = nn.ZeroPad2d((before, after, before, after))
    return nn.Sequential(pad, nn.Conv2d(inputs, outputs, kernel_size))


def conv_chain(channels: Sequence[int], kernel_sizes: Sequence[int], slope: float) -> nn.Sequential:
    """Convolutions channels[0] -> channels[1] -> ... with a leaky ReLU between, none after the last."""
    layers: list[nn.Module] = []
    for inputs, outputs, kernel_size in zip(channels[:-1], channels[1:], kernel_sizes, strict=True):
        layers += [same_conv(inputs, outputs, kernel_size), nn.LeakyReLU(slope, inplace=True)]
    return nn.Sequential(*layers[:-1])


class SFTLayer(nn.Module):
    """Spatial feature transform, Eq. 5 and 6: alpha * x + beta, with alpha = 1 + scale(cond), beta = shift(cond).

    forward(x (B, features, H, W), cond (B, condition_features, H, W)) -> (B, features, H, W).
    """

    def __init__(self, features: int, condition_features: int, kernel_size: int = 1):
        super().__init__()
        channels = (condition_features, condition_features, features)
        self.scale = conv_chain(channels, (kernel_size,) * 2, slope=0.1)
        self.shift = conv_chain(channels, (kernel_size,) * 2, slope=0.1)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        return x * (self.scale(cond) + 1) + self.shift(cond)


class ConditionNetwork(nn.Sequential):
    """CGMAs -> the condition features that SFT layers read: (B, channels, H, W) -> (B, features, H, W).

    One kernel size per convolution, `hidden` channels between them.
    """

    def __init__(self, channels: int, hidden: int, features: int, kernel_sizes: Sequence[int]):
        widths = (channels, *(hidden,) * (len(kernel_sizes) - 1), features)
        super().__init__(conv_chain(widths, kernel_sizes, slope=0.1))


class SFTBlock(nn.Module):
    """SFT layer, 3x3 convolution and `activation`; with `skip`, the block's input is added to the result.

    forward(x (B, features, H, W), cond (B, condition_features, H, W)) -> (B, features, H, W).
    """

    def __init__(self, sft: SFTLayer, features: int, activation: nn.Module, skip: bool):
        super().__init__()
        self.sft = sft
        self.conv = same_conv(features, features, 3)
        self.activation = activation
        self.skip = skip

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        out = self.activation(self.conv(self.sft(x, cond)))
        return x + out if self.skip else out


class ResidualBlock(nn.Module):
    """Three convolutions whose result, after `activation`, is added to the block's input.

    forward(x (B, features, H, W)) -> (B, features, H, W).
    """

    def __init__(self, convs: nn.Sequential, activation: nn.Module):
        super().__init__()
        self.convs = convs
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return x + self.activation(self.convs(x))


class Generator(nn.Module):
    """SFT generator: image and CGMAs -> interpretation map (section 3.2, Figs. 3 and 4).

    `kind="lsft"` (3.2.3): one condition network maps each CGMA by itself; CGMA k feeds SFT block k.
    `kind="gsft"` (3.2.2): the condition network maps all `eta` CGMAs together; the result feeds every SFT block.

    forward(images (B, 3, H, W) in [0, 1], conditions (B, eta, h, w)) -> maps (B, H, W) in [0, 1], or, for
    `channels=3` (as in the released code, and so the default of `variant="released"`), JET pictures (B, 3, H, W): those
    of the released variant have no output activation. Conditions of another height and width than the images are
    resized bilinearly. Raises InputError for names and shapes that do not fit.
    """

    def __init__(
        self, kind: str, eta: int = 8, width: int = 64, variant: str = "paper", channels: int | None = None
    ):
        super().__init__()
        self.kind = check_name(kind, KINDS, "generator")
        self.variant = check_name(variant, VARIANTS, "variant")
        self.eta = _check_count(eta, "eta, the number of CGMAs,")
        self.width = _check_count(width, "width, the number of features,")
        released = variant == "released"
        self.condition_network = ConditionNetwork(
            channels=1 if kind == "lsft" else eta,
            hidden=2 * width,
            features=_condition_features(width),
            kernel_sizes=(4, 1, 1, 1, 3) if released else (3, 1),
        )
        self.head = same_conv(3, width, 3)
        blocks = _paper_trunk(eta, width) if not released else _released_trunk(kind, eta, width)
        self.trunk = nn.ModuleList(blocks)
        self.channels = channels or (3 if released else 1)
        self.tail = same_conv(width, self.channels, 3)
        _initialise(self)
        self.to(memory_format=torch.channels_last)  # trains 1.3 to 1.5 times faster on a CPU

    def forward(self, images: Tensor, conditions: Tensor) -> Tensor:
        out = self.logits(images, conditions)
        if self.channels == 1:
            return torch.sigmoid(out).squeeze(1)
        return out if self.variant == "released" else torch.sigmoid(out)

    def logits(self, images: Tensor, conditions: Tensor) -> Tensor:
        """The output of the last convolution: (B, channels, H, W)."""
        _check_images(images, smallest=1)
        _check_conditions(conditions, len(images), self.eta)
        features = self._condition_features(conditions, images.shape[-2:])
        first = x = self.head(images)
        for block in self.trunk:
            x = block(x, next(features)) if isinstance(block, SFTBlock | SFTLayer) else block(x)
        return self.tail(first + x)

    def _condition_features(self, conditions: Tensor, size: torch.Size) -> Iterator[Tensor]:
        """One (B, C, H, W) tensor for each SFT block in turn."""
        if conditions.shape[-2:] != size:
            conditions = _resized(conditions, size)
        if self.kind == "gsft":
            return repeat(self.condition_network(conditions))
        alone = conditions.transpose(0, 1).reshape(-1, 1, *size)  # all first CGMAs, all second ones, ...
        return iter(self.condition_network(alone).unflatten(0, (self.eta, -1)))


class ConcatGenerator(nn.Module):
    """Control: a plain convolutional net that is given the image and all conditions at its input, side by side.

    The blocks of `Generator` with a convolution in the place of each SFT layer, eight triplets for any `eta`, which may
    be 0: then it sees the image only. forward as that of `Generator`, to maps (B, H, W) or pictures (B, 3, H, W).
    """

    def __init__(self, eta: int = 8, width: int = 64, channels: int = 1):
        super().__init__()
        self.eta, self.width, self.channels = eta, width, channels
        self.head = same_conv(3 + eta, width, 3)
        blocks = []
        for block in _paper_trunk(8, width):
            plain = ResidualBlock(conv_chain((width,) * 2, (3,), slope=0.1), nn.LeakyReLU(0.1, inplace=True))
            blocks.append(plain if isinstance(block, SFTBlock) else block)
        self.trunk = nn.Sequential(*blocks)
        self.tail = same_conv(width, channels, 3)
        _initialise(self)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, conditions: Tensor) -> Tensor:
        _check_images(images, smallest=1)
        _check_conditions(conditions, len(images), self.eta)
        if self.eta and conditions.shape[-2:] != images.shape[-2:]:
            conditions = _resized(conditions, images.shape[-2:])
        given = [images, conditions] if self.eta else [images]
        first = self.head(torch.cat(given, 1))
        out = torch.sigmoid(self.tail(first + self.trunk(first)))
        return out.squeeze(1) if self.channels == 1 else out


def concat_width(width: int) -> int:
    """Width of the `ConcatGenerator` that has, at eta = 8, as nearly as can be the parameters of an LSFT generator."""
    goal = count_parameters(Generator("lsft", 8, width))
    return min(range(1, 3 * width), key=lambda w: abs(count_parameters(ConcatGenerator(8, w)) - goal))


def _resized(conditions: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(conditions, size, mode="bilinear", align_corners=False, antialias=True)


def _condition_features(width: int) -> int:
    return max(4, width // 2)


def _paper_trunk(eta: int, width: int) -> Iterator[nn.Module]:
    """`eta` times residual block, SFT block, residual block (Fig. 4).

    The paper gives no kernel sizes: 3-1-3 in residual blocks costs a quarter less than 3-3-3 at width 64.
    """

    def residual() -> ResidualBlock:
        return ResidualBlock(conv_chain((width,) * 4, (3, 1, 3), slope=0.1), nn.Identity())

    for _ in range(eta):
        yield residual()
        sft = SFTLayer(width, _condition_features(width), kernel_size=1)
        yield SFTBlock(sft, width, nn.LeakyReLU(0.1, inplace=True), skip=False)
        yield residual()


def _released_trunk(kind: str, eta: int, width: int) -> Iterator[nn.Module]:
    """LSFT: `eta` SFT blocks with residual blocks between them. GSFT: 32 SFT blocks and an SFT layer."""

    def sft() -> SFTLayer:
        return SFTLayer(width, _condition_features(width), kernel_size=3)

    if kind == "gsft":
        for _ in range(32):
            yield SFTBlock(sft(), width, nn.ReLU(inplace=True), skip=True)
        yield sft()
    else:
        for k in range(eta):
            if k > 0:
                convs = conv_chain((width, width, 2 * width, width), (3, 3, 3), slope=0.3)
                yield ResidualBlock(convs, nn.LeakyReLU(0.3, inplace=True))
            yield SFTBlock(sft(), width, nn.Identity(), skip=True)
    yield same_conv(width, width, 3)


class Discriminator(nn.Module):
    """Tells (image, Grad-CAM map) pairs from (image, generated map) pairs: one logit per image, high for real.

    forward(images (B, 3, H, W), maps) -> (B,). Maps are (B, H, W), or (B, 3, H, W) for `channels=3`, which is the only
    choice for `variant="released"`.
    The paper variant takes any image of at least 16 x 16 pixels; the released one ends in dense layers and takes
    images of `size` x `size` pixels only. Raises InputError for names and shapes that do not fit.
    """

    def __init__(self, width: int = 64, variant: str = "paper", size: int = 64, channels: int = 1):
        super().__init__()
        self.variant = check_name(variant, VARIANTS, "variant")
        self.channels = 3 if variant == "released" else channels
        _check_count(width, "width, the number of features,")
        self.size = size if variant == "released" else None
        if self.size is None:
            self.net: nn.Module = _strided_net(3 + self.channels, width)
        elif size >= SMALLEST:
            self.net = _PairNet(width, size)
        else:
            raise InputError(f"size is {size}: give a discriminator images of at least {SMALLEST} pixels")
        _initialise(self)

    def forward(self, images: Tensor, maps: Tensor) -> Tensor:
        _check_images(images, SMALLEST)
        batch, _, height, width = images.shape
        wanted = (batch, height, width) if self.channels == 1 else (batch, 3, height, width)
        if maps.shape != wanted:
            raise InputError(
                f"maps have shape {tuple(maps.shape)}: give the discriminator {wanted}, as the images ask"
            )
        if self.size is not None:
            if (height, width) != (self.size, self.size):
                raise InputError(f"images are {height} x {width}: resize them to {self.size} x {self.size}")
            return self.net(images, maps)
        return self.net(torch.cat([images, maps.view(batch, -1, height, width)], dim=1)).mean(dim=(1, 2, 3))


def _strided_net(channels: int, width: int) -> nn.Sequential:
    """(B, channels, H, W) -> (B, 1, H/8, W/8), a logit for each patch."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((channels, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers, same_conv(4 * width, 1, 3))


class _PairNet(nn.Module):
    """The released discriminator: image and map apart, then together, then dense layers."""

    def __init__(self, width: int, size: int):
        super().__init__()
        self.image = _BlockGroup(3, width)
        self.map = _BlockGroup(3, width)
        self.both = nn.Sequential(_BlockGroup(2 * width, width), _BlockGroup(width, width // 2))
        flat = (width // 2) * (size // 8) ** 2
        hidden = [nn.Linear(flat, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU()]
        self.dense = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(16, 1))

    def forward(self, images: Tensor, maps: Tensor) -> Tensor:
        pair = torch.cat([self.image(images), self.map(maps)], dim=1)
        return self.dense(self.both(pair)).squeeze(1)


class _BlockGroup(nn.Module):
    """Three blocks of three 3x3 convolutions: plain, with skip, with skip and max pooling by 2."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.first, self.second, self.third = (_relu_block(n, outputs) for n in (inputs, outputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + self.second(x)
        return F.max_pool2d(x, 2) + F.max_pool2d(self.third(x), 2)


def _relu_block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n in (inputs, outputs, outputs):
        layers += [same_conv(n, outputs, 3), nn.ReLU()]
    return nn.Sequential(*layers)


def _initialise(module: nn.Module) -> None:
    """Glorot weights, zero biases, and damped ends of branches: dozens of undamped SFT layers in a row explode."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    with torch.no_grad():
        for conv in _branch_ends(module.modules()):
            conv.weight.mul_(DAMPING)


def _branch_ends(modules: Iterable[nn.Module]) -> Iterator[Any]:
    for part in modules:
        if isinstance(part, SFTLayer):
            yield part.scale[-1]
            yield part.shift[-1]
        elif isinstance(part, ResidualBlock):
            yield part.convs[-1]
        elif isinstance(part, SFTBlock) and part.skip:
            yield part.conv


def _check_count(value: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{what} is {value!r}: give a whole number from 1 on")
    return value


def _check_images(images: Tensor, smallest: int) -> None:
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"images have shape {tuple(images.shape)}: give (batch, 3, height, width)")
    if not images.is_floating_point():
        raise InputError(f"images are {images.dtype}: give floating-point values in [0, 1]")
    if min(images.shape[-2:]) < smallest:
        height, width = images.shape[-2:]
        raise InputError(f"images are {height} x {width}: give at least {smallest} x {smallest} pixels")


def _check_conditions(conditions: Tensor, batch: int, eta: int) -> None:
    if conditions.ndim != 4:
        raise InputError(
            f"conditions have shape {tuple(conditions.shape)}: give (batch, {eta}, height, width)"
        )
    if conditions.shape[1] != eta:
        raise InputError(
            f"conditions hold {conditions.shape[1]} CGMAs per image but this generator takes {eta}: "
            f"compute them with eta={eta}"
        )
    if len(conditions) != batch:
        raise InputError(
            f"there are {len(conditions)} sets of conditions for {batch} images: give one set per image"
        )


def count_parameters(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def flops(generator: Generator, size: int) -> int:
    """Floating-point operations (a multiply-add counts as two) of one map of a `size` x `size` pixel image."""
    like = next(generator.parameters())
    image, conditions = like.new_zeros(1, 3, size, size), like.new_zeros(1, generator.eta, size, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        generator(image, conditions)
    return counter.get_total_flops()
