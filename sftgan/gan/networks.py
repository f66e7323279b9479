"""SFT layer, condition network, the two generators and the discriminator (paper, section 3.2).

There are two variants. ``"paper"`` follows the text and Figs. 3 and 4: LSFT and GSFT differ only in the first
convolution of their condition network. ``"released"`` has the layers, and so the parameter counts, of the
authors' public code, where the two also differ in depth.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from sftgan.errors import InputError, check_name

KINDS = ("lsft", "gsft")
VARIANTS = ("paper", "released")
SMALLEST = 16  # pixels; the discriminators halve an image three times
DAMPING = 0.1  # initial scale of the last convolution of each branch that changes the features


def same_conv(inputs: int, outputs: int, kernel_size: int) -> nn.Module:
    """Build a convolution with stride 1 that keeps height and width.

    An even kernel reaches one pixel further down and right than up and left.

    Parameters
    ----------
    inputs
        Number of input channels.
    outputs
        Number of output channels.
    kernel_size
        Side of the kernel in pixels.

    Returns
    -------
    nn.Module
        A module that maps (b, inputs, h, w) to (b, outputs, h, w).

    Examples
    --------
    >>> import torch
    >>> same_conv(3, 8, kernel_size=4)(torch.zeros(1, 3, 5, 7)).shape
    torch.Size([1, 8, 5, 7])
    """
    before, after = (kernel_size - 1) // 2, kernel_size // 2
    if before == after:
        return nn.Conv2d(inputs, outputs, kernel_size, padding=before)
    pad = nn.ZeroPad2d((before, after, before, after))
    return nn.Sequential(pad, nn.Conv2d(inputs, outputs, kernel_size))


def conv_chain(channels: Sequence[int], kernel_sizes: Sequence[int], slope: float) -> nn.Sequential:
    """Build a chain of convolutions with a leaky ReLU between them and none after the last.

    Parameters
    ----------
    channels
        Numbers of channels: convolution i maps ``channels[i]`` to ``channels[i + 1]`` channels.
    kernel_sizes
        One kernel size for each convolution, so one fewer than ``channels``.
    slope
        Negative slope of the leaky ReLUs.

    Returns
    -------
    nn.Sequential
        The chain, which keeps height and width.

    Examples
    --------
    >>> [type(layer).__name__ for layer in conv_chain((3, 8, 4), (3, 1), slope=0.1)]
    ['Conv2d', 'LeakyReLU', 'Conv2d']
    """
    layers: list[nn.Module] = []
    for inputs, outputs, kernel_size in zip(channels[:-1], channels[1:], kernel_sizes, strict=True):
        layers += [same_conv(inputs, outputs, kernel_size), nn.LeakyReLU(slope, inplace=True)]
    return nn.Sequential(*layers[:-1])


class SFTLayer(nn.Module):
    """Spatial feature transform (SFT) of features by a condition (Eq. 5 and 6).

    Two small chains of convolutions, ``scale`` and ``shift``, read the condition::

        alpha * x + beta,  with alpha = 1 + scale(cond) and beta = shift(cond)

    Parameters
    ----------
    features
        Number of channels of the features.
    condition_features
        Number of channels of the condition.
    kernel_size
        Kernel size of the two convolutions in each chain.

    Examples
    --------
    >>> import torch
    >>> layer = SFTLayer(features=8, condition_features=4)
    >>> layer(torch.zeros(2, 8, 16, 16), torch.zeros(2, 4, 16, 16)).shape
    torch.Size([2, 8, 16, 16])
    """

    def __init__(self, features: int, condition_features: int, kernel_size: int = 1):
        super().__init__()
        channels = (condition_features, condition_features, features)
        self.scale = conv_chain(channels, (kernel_size,) * 2, slope=0.1)
        self.shift = conv_chain(channels, (kernel_size,) * 2, slope=0.1)

    def forward(
        self, x: Float[Tensor, "b features h w"], cond: Float[Tensor, "b condition_features h w"]
    ) -> Float[Tensor, "b features h w"]:
        """Scale and shift features by what the two chains make of the condition.

        Parameters
        ----------
        x
            Features (b, features, h, w).
        cond
            Condition (b, condition_features, h, w) of the same height and width.

        Returns
        -------
        Tensor
            Transformed features (b, features, h, w).
        """
        return x * (self.scale(cond) + 1) + self.shift(cond)


class ConditionNetwork(nn.Sequential):
    """Chain of convolutions that turns CGMAs into the condition features of SFT layers (section 3.2).

    It maps (b, channels, h, w) to (b, features, h, w).

    Parameters
    ----------
    channels
        Number of CGMAs that are read together.
    hidden
        Number of channels between the convolutions.
    features
        Number of condition features.
    kernel_sizes
        One kernel size for each convolution.

    Examples
    --------
    >>> import torch
    >>> net = ConditionNetwork(channels=8, hidden=16, features=4, kernel_sizes=(3, 1))
    >>> net(torch.zeros(1, 8, 16, 16)).shape
    torch.Size([1, 4, 16, 16])
    """

    def __init__(self, channels: int, hidden: int, features: int, kernel_sizes: Sequence[int]):
        widths = (channels, *(hidden,) * (len(kernel_sizes) - 1), features)
        super().__init__(conv_chain(widths, kernel_sizes, slope=0.1))


class SFTBlock(nn.Module):
    """SFT layer, 3 x 3 convolution and activation, with or without a skip connection.

    Parameters
    ----------
    sft
        The SFT layer.
    features
        Number of channels of the features.
    activation
        Module that is applied after the convolution.
    skip
        Whether the block's input is added to the result.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> block = SFTBlock(SFTLayer(8, 4), 8, nn.ReLU(), skip=True)
    >>> block(torch.zeros(2, 8, 16, 16), torch.zeros(2, 4, 16, 16)).shape
    torch.Size([2, 8, 16, 16])
    """

    def __init__(self, sft: SFTLayer, features: int, activation: nn.Module, skip: bool):
        super().__init__()
        self.sft = sft
        self.conv = same_conv(features, features, 3)
        self.activation = activation
        self.skip = skip

    def forward(
        self, x: Float[Tensor, "b features h w"], cond: Float[Tensor, "b condition_features h w"]
    ) -> Float[Tensor, "b features h w"]:
        """Apply SFT layer, convolution and activation; add the input if there is a skip connection.

        Parameters
        ----------
        x
            Features (b, features, h, w).
        cond
            Condition (b, condition_features, h, w) of the same height and width.

        Returns
        -------
        Tensor
            Features (b, features, h, w).
        """
        out = self.activation(self.conv(self.sft(x, cond)))
        return x + out if self.skip else out


class ResidualBlock(nn.Module):
    """Chain of convolutions whose result, after an activation, is added to the block's input.

    Parameters
    ----------
    convs
        The convolutions; they keep the number of channels, height and width.
    activation
        Module that is applied after the convolutions.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> block = ResidualBlock(conv_chain((8, 8, 8, 8), (3, 1, 3), slope=0.1), nn.Identity())
    >>> block(torch.zeros(2, 8, 16, 16)).shape
    torch.Size([2, 8, 16, 16])
    """

    def __init__(self, convs: nn.Sequential, activation: nn.Module):
        super().__init__()
        self.convs = convs
        self.activation = activation

    def forward(self, x: Float[Tensor, "b features h w"]) -> Float[Tensor, "b features h w"]:
        """Add the activated result of the convolutions to the input.

        Parameters
        ----------
        x
            Features (b, features, h, w).

        Returns
        -------
        Tensor
            Features (b, features, h, w).
        """
        return x + self.activation(self.convs(x))


class Generator(nn.Module):
    """SFT generator: from an image and its CGMAs to an interpretation map (section 3.2, Figs. 3 and 4).

    LSFT (3.2.3): the condition network maps each CGMA separately, and CGMA k feeds SFT block k.
    GSFT (3.2.2): the condition network maps all CGMAs together, and the result feeds every SFT block.

    Parameters
    ----------
    kind
        ``"lsft"`` or ``"gsft"``.
    eta
        Number of CGMAs per image.
    width
        Number of features.
    variant
        ``"paper"`` or ``"released"``.
    channels
        1 for maps, 3 for JET pictures of them; None for what the variant does: 1 for ``"paper"``, 3 for
        ``"released"``.

    Raises
    ------
    InputError
        If ``kind`` or ``variant`` is unknown, or ``eta`` or ``width`` is not a whole number of at least 1.

    Examples
    --------
    >>> import torch
    >>> generator = Generator("lsft", eta=2, width=4)
    >>> generator(torch.rand(1, 3, 16, 16), torch.rand(1, 2, 8, 8)).shape
    torch.Size([1, 16, 16])
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

    def forward(
        self, images: Float[Tensor, "b 3 h w"], conditions: Float[Tensor, "b eta h2 w2"]
    ) -> Float[Tensor, "b h w"] | Float[Tensor, "b 3 h w"]:
        """Generate interpretation maps.

        Parameters
        ----------
        images
            Images (b, 3, h, w) in [0, 1].
        conditions
            CGMAs (b, eta, h2, w2) in [0, 1]; they are resized bilinearly to the size of the images.

        Returns
        -------
        Tensor
            Maps (b, h, w) in [0, 1], or JET pictures (b, 3, h, w) if ``channels`` is 3: in [0, 1] for the
            paper variant, without an output activation for the released one.

        Raises
        ------
        InputError
            If a shape or the type of the images does not fit.
        """
        out = self.logits(images, conditions)
        if self.channels == 1:
            return torch.sigmoid(out).squeeze(1)
        return out if self.variant == "released" else torch.sigmoid(out)

    def logits(
        self, images: Float[Tensor, "b 3 h w"], conditions: Float[Tensor, "b eta h2 w2"]
    ) -> Float[Tensor, "b channels h w"]:
        """Compute the output of the last convolution, before any output activation.

        Parameters
        ----------
        images
            Images (b, 3, h, w) in [0, 1].
        conditions
            CGMAs (b, eta, h2, w2) in [0, 1].

        Returns
        -------
        Tensor
            Logits (b, channels, h, w).

        Raises
        ------
        InputError
            If a shape or the type of the images does not fit.
        """
        _check_images(images, smallest=1)
        _check_conditions(conditions, len(images), self.eta)
        features = self._condition_features(conditions, images.shape[-2:])
        first = x = self.head(images)
        for block in self.trunk:
            x = block(x, next(features)) if isinstance(block, SFTBlock | SFTLayer) else block(x)
        return self.tail(first + x)

    def _condition_features(
        self, conditions: Float[Tensor, "b eta h2 w2"], size: torch.Size
    ) -> Iterator[Float[Tensor, "b c h w"]]:
        """Return one tensor for each SFT block, in order."""
        if conditions.shape[-2:] != size:
            conditions = _resized(conditions, size)
        if self.kind == "gsft":
            return repeat(self.condition_network(conditions))
        alone = conditions.transpose(0, 1).reshape(-1, 1, *size)  # all first CGMAs, all second CGMAs, ...
        return iter(self.condition_network(alone).unflatten(0, (self.eta, -1)))


class ConcatGenerator(nn.Module):
    """Control without SFT: a plain convolutional net that reads the image and all conditions together.

    Image and conditions are concatenated at the input. The net has the blocks of ``Generator``, with a
    residual convolution in place of each SFT block, always in eight triplets.

    Parameters
    ----------
    eta
        Number of CGMAs per image; with 0 the net sees only the image.
    width
        Number of features.
    channels
        1 for maps, 3 for JET pictures of them.

    Examples
    --------
    >>> import torch
    >>> net = ConcatGenerator(eta=2, width=4)
    >>> net(torch.rand(1, 3, 16, 16), torch.rand(1, 2, 8, 8)).shape
    torch.Size([1, 16, 16])
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

    def forward(
        self, images: Float[Tensor, "b 3 h w"], conditions: Float[Tensor, "b eta h2 w2"]
    ) -> Float[Tensor, "b h w"] | Float[Tensor, "b 3 h w"]:
        """Generate interpretation maps.

        Parameters
        ----------
        images
            Images (b, 3, h, w) in [0, 1].
        conditions
            CGMAs (b, eta, h2, w2) in [0, 1]; they are resized bilinearly to the size of the images.

        Returns
        -------
        Tensor
            Maps (b, h, w), or JET pictures (b, 3, h, w) if ``channels`` is 3; both in [0, 1].

        Raises
        ------
        InputError
            If a shape or the type of the images does not fit.
        """
        _check_images(images, smallest=1)
        _check_conditions(conditions, len(images), self.eta)
        if self.eta and conditions.shape[-2:] != images.shape[-2:]:
            conditions = _resized(conditions, images.shape[-2:])
        given = [images, conditions] if self.eta else [images]
        first = self.head(torch.cat(given, 1))
        out = torch.sigmoid(self.tail(first + self.trunk(first)))
        return out.squeeze(1) if self.channels == 1 else out


def concat_width(width: int) -> int:
    """Find the width that gives ``ConcatGenerator`` about as many parameters as an LSFT generator.

    Both have eta = 8. The search builds many nets and so draws random numbers.

    Parameters
    ----------
    width
        Width of the LSFT generator.

    Returns
    -------
    int
        Width of the ``ConcatGenerator``.
    """
    goal = count_parameters(Generator("lsft", 8, width))
    return min(range(1, 3 * width), key=lambda w: abs(count_parameters(ConcatGenerator(8, w)) - goal))


def _resized(conditions: Float[Tensor, "b eta h2 w2"], size: torch.Size) -> Float[Tensor, "b eta h w"]:
    return F.interpolate(conditions, size, mode="bilinear", align_corners=False, antialias=True)


def _condition_features(width: int) -> int:
    return max(4, width // 2)


def _paper_trunk(eta: int, width: int) -> Iterator[nn.Module]:
    """Yield residual block, SFT block, residual block, ``eta`` times over (Fig. 4)."""

    # The paper gives no kernel sizes: 3-1-3 costs a quarter less than 3-3-3 at width 64.
    def residual() -> ResidualBlock:
        return ResidualBlock(conv_chain((width,) * 4, (3, 1, 3), slope=0.1), nn.Identity())

    for _ in range(eta):
        yield residual()
        sft = SFTLayer(width, _condition_features(width), kernel_size=1)
        yield SFTBlock(sft, width, nn.LeakyReLU(0.1, inplace=True), skip=False)
        yield residual()


def _released_trunk(kind: str, eta: int, width: int) -> Iterator[nn.Module]:
    """Yield ``eta`` SFT blocks with residual blocks between (LSFT), or 32 SFT blocks and a layer (GSFT)."""

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
    """Discriminator that tells pairs of image and Grad-CAM map from pairs of image and generated map.

    The paper variant takes images of at least 16 x 16 pixels. The released variant ends in dense layers, so
    it takes images of one size only.

    Parameters
    ----------
    width
        Number of features.
    variant
        ``"paper"`` or ``"released"``.
    size
        Side of the images in pixels, at least 16; used by the released variant only.
    channels
        1 for maps, 3 for JET pictures of them; the released variant always takes 3.

    Raises
    ------
    InputError
        If ``variant`` is unknown, ``width`` is not a whole number of at least 1, or ``size`` is too small.

    Examples
    --------
    >>> import torch
    >>> discriminator = Discriminator(width=4)
    >>> discriminator(torch.rand(2, 3, 16, 16), torch.rand(2, 16, 16)).shape
    torch.Size([2])
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
            raise InputError(f"size is {size}: give a size of at least {SMALLEST} pixels")
        _initialise(self)

    def forward(
        self, images: Float[Tensor, "b 3 h w"], maps: Float[Tensor, "b h w"] | Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, " b"]:
        """Judge how real pairs of image and map look.

        Parameters
        ----------
        images
            Images (b, 3, h, w) in [0, 1].
        maps
            Maps (b, h, w), or JET pictures (b, 3, h, w) if ``channels`` is 3.

        Returns
        -------
        Tensor
            One logit for each pair, (b,); high for Grad-CAM maps.

        Raises
        ------
        InputError
            If a shape or the type of the images does not fit, or the images do not have the size that the
            released variant was built for.
        """
        _check_images(images, SMALLEST)
        batch, _, height, width = images.shape
        wanted = (batch, height, width) if self.channels == 1 else (batch, 3, height, width)
        if maps.shape != wanted:
            raise InputError(
                f"maps have shape {tuple(maps.shape)}: give {wanted} to fit images and discriminator"
            )
        if self.size is not None:
            if (height, width) != (self.size, self.size):
                raise InputError(f"images are {height} x {width}: resize them to {self.size} x {self.size}")
            return self.net(images, maps)
        return self.net(torch.cat([images, maps.view(batch, -1, height, width)], dim=1)).mean(dim=(1, 2, 3))


def _strided_net(channels: int, width: int) -> nn.Sequential:
    """Build a net from (b, channels, h, w) to one logit for each patch, (b, 1, h // 8, w // 8)."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((channels, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers, same_conv(4 * width, 1, 3))


class _PairNet(nn.Module):
    """Released discriminator: image and map separately, then together, then dense layers."""

    def __init__(self, width: int, size: int):
        super().__init__()
        self.image = _BlockGroup(3, width)
        self.map = _BlockGroup(3, width)
        self.both = nn.Sequential(_BlockGroup(2 * width, width), _BlockGroup(width, width // 2))
        flat = (width // 2) * (size // 8) ** 2
        hidden = [nn.Linear(flat, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU()]
        self.dense = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(16, 1))

    def forward(
        self, images: Float[Tensor, "b 3 h w"], maps: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, " b"]:
        pair = torch.cat([self.image(images), self.map(maps)], dim=1)
        return self.dense(self.both(pair)).squeeze(1)


class _BlockGroup(nn.Module):
    """Three blocks of three 3 x 3 convolutions: plain, with skip, with skip and max pooling by 2."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.first, self.second, self.third = (_relu_block(n, outputs) for n in (inputs, outputs, outputs))

    def forward(self, x: Float[Tensor, "b inputs h w"]) -> Float[Tensor, "b outputs h2 w2"]:
        x = self.first(x)
        x = x + self.second(x)
        return F.max_pool2d(x, 2) + F.max_pool2d(self.third(x), 2)


def _relu_block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n in (inputs, outputs, outputs):
        layers += [same_conv(n, outputs, 3), nn.ReLU()]
    return nn.Sequential(*layers)


def _initialise(module: nn.Module) -> None:
    """Set Glorot weights and zero biases; damp the ends of branches, or dozens of SFT layers explode."""
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
        raise InputError(f"{what} is {value!r}: give a whole number of at least 1")
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
    """Count the trainable parameters of a module.

    Parameters
    ----------
    module
        Any module.

    Returns
    -------
    int
        Number of parameters that require a gradient.

    Examples
    --------
    >>> from torch import nn
    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def flops(generator: Generator, size: int) -> int:
    """Count the floating-point operations that one map takes; a multiply-add counts as two.

    Parameters
    ----------
    generator
        The generator.
    size
        Side of the image in pixels.

    Returns
    -------
    int
        Operations for one square image.

    Examples
    --------
    >>> flops(Generator("gsft", eta=1, width=4), size=10)
    212800
    """
    like = next(generator.parameters())
    image, conditions = like.new_zeros(1, 3, size, size), like.new_zeros(1, generator.eta, size, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        generator(image, conditions)
    return counter.get_total_flops()
