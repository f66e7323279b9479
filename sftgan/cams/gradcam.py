"""Grad-CAMs of all convolutions from one forward and one backward pass (paper, section 3.1)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only

from sftgan.cams.model_state import eager, evaluation_mode, hooked, unwrapped
from sftgan.cams.taps import Tapped, tap_block, tap_convolutions
from sftgan.cams.targets import Targets, score
from sftgan.errors import InputError, check_name

Size = int | tuple[int, int] | None
"""Size of maps, the side or (height, width) in pixels; None for the size of the images."""
_ROUNDING = 8  # units in the last place: a map with no more contrast than this is flat
_BEYOND = 1e-5  # tolerance for resize rounding
_TOGETHER = 16  # layers that are scaled at once


@dataclass(frozen=True)
class LayerCams:
    """Grad-CAMs of all N convolutions, in order of execution.

    Attributes
    ----------
    maps
        Maps (B, N, h, w) in [0, 1], each min-max scaled; a map without contrast is all zeros.
    names
        Names of the N modules.
    dead
        bool (B, N), True where a map has no contrast.
    logits
        Logits (B, C), or whatever else the model returned, with its tensors detached.
    """

    maps: Float[Tensor, "b n h w"]
    names: tuple[str, ...]
    dead: Bool[Tensor, "b n"]
    logits: Any


@dataclass(frozen=True)
class CoarseCams:
    """Grad-CAMs of all N convolutions at the resolution of their layers.

    Each map is scaled so that it reaches from 0 to 1 after it has been enlarged to ``shape``.

    Attributes
    ----------
    groups
        Layers of one resolution: their indices (n,) among the N layers, and their maps (B, n, h, w).
    names
        Names of the N modules, in order of execution.
    dead
        bool (B, N), True where a map has no contrast.
    logits
        Logits (B, C), or whatever else the model returned, with its tensors detached.
    shape
        Height and width to which the maps are enlarged.
    """

    groups: tuple[tuple[Int[Tensor, " _"], Float[Tensor, "b _ _ _"]], ...]
    names: tuple[str, ...]
    dead: Bool[Tensor, "b n"]
    logits: Any
    shape: tuple[int, int]

    def maps(self) -> Float[Tensor, "b n h w"]:
        """Enlarge all maps to ``shape``.

        Returns
        -------
        Tensor
            Maps (B, N, H, W) in [0, 1].

        Examples
        --------
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        >>> coarse_cams(model, torch.rand(2, 3, 8, 8)).maps().shape
        torch.Size([2, 1, 8, 8])
        """
        like = self.groups[0][1]
        maps = like.new_empty((*self.dead.shape, *self.shape))
        for places, coarse in self.groups:
            maps[:, places] = _enlarged(coarse, self.shape)
        return maps.clamp_(0, 1)

    def sums(self, weights: Float[Tensor, "k n"]) -> Float[Tensor, "b k h w"]:
        """Compute weighted sums of the maps at ``shape``.

        The maps are summed at the resolution of their layers, and each resolution is enlarged once.

        Parameters
        ----------
        weights
            Weights (K, N): one row for each sum, one column for each layer.

        Returns
        -------
        Tensor
            Sums (B, K, H, W).

        Examples
        --------
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        >>> cams = coarse_cams(model, torch.rand(2, 3, 8, 8))
        >>> torch.equal(cams.sums(torch.ones(1, 1)).clamp(0, 1), cams.maps())
        True
        """
        coarse_sums: dict[torch.Size, Tensor] = {}
        for places, coarse in self.groups:
            part = torch.einsum("kn,bnhw->bkhw", weights.to(coarse)[:, places], coarse)
            before = coarse_sums.get(part.shape)
            coarse_sums[part.shape] = part if before is None else before + part
        sums = self.groups[0][1].new_zeros(len(self.dead), len(weights), *self.shape)
        for part in coarse_sums.values():
            sums += _enlarged(part, self.shape)
        return sums


def layer_cams(
    model: nn.Module,
    images: Float[Tensor, "b channels h w"],
    targets: Targets = None,
    tap: str = "post",
    size: Size = None,
    gradients: str = "plain",
) -> LayerCams:
    """Compute the Grad-CAM of every two-dimensional convolution that a model executes (paper, section 3.1).

    For layer l with activations A (B, K, h, w) and the logit y of the explained class::

        w_k = mean over positions of dy/dA_k
        CAM_l = min-max(upsample(ReLU(sum over k of w_k A_k)))

    One forward and one backward pass serve all layers and the whole batch. Each activation is released as soon
    as its gradient has arrived, so little more memory is needed than for a backward pass.

    For a single layer, the maps equal those of pytorch-grad-cam, except where an in-place activation overwrites
    what that library reads, or where its ``+ 1e-7`` hides maps with small gradients.

    A convolution whose output is 1 x 1, as in squeeze-and-excitation, has no map and is left out. A convolution
    that is called twice counts twice; its second call is named "conv (call 2)". A depthwise convolution whose
    output goes straight into a 1 x 1 convolution, without even a batch norm between them, is half of a separable
    convolution: the pair is one layer, tapped after its pointwise half, as Keras counts.

    Parameters
    ----------
    model
        Classifier that maps images to logits (B, C) or, if ``targets`` is callable, any network. It may be
        frozen, compiled or wrapped for several devices, and the caller may be under ``no_grad``,
        ``inference_mode`` or autocast. Its mode, parameters and ``.grad`` are left as they were.
    images
        Images (B, 3, H, W) or (B, 1, H, W) in [0, 1], on the model's device. The normalisation belongs into
        the model: see ``sftgan.Normalised``.
    targets
        What to explain: None for the predicted class, class indices, weights of the outputs, or callables such
        as those of pytorch-grad-cam; see ``sftgan.cams.targets.Targets``.
    tap
        "post" takes the output of the activation function where one follows a convolution directly. In VGG,
        Keras calls this the layer's output, so we read the paper this way. "pre" takes the output of the
        convolution itself. In-place activations make no difference.
    size
        Side or (height, width) of the maps in pixels; None for the size of the images. Resizing is bilinear,
        with antialiasing where a map shrinks.
    gradients
        "plain" follows the formula. "guided" follows the paper's released code: the mean is over gradients
        that are positive where the activation is positive too, with zero elsewhere, and there is no ReLU.

    Returns
    -------
    LayerCams
        The maps with the names of their layers, and what the model returned.

    Raises
    ------
    InputError
        If the images have the wrong type, shape, range or device, contain NaN, or are so small that the last
        convolutions see a single pixel; if the targets do not fit the model's output; if the model has no
        convolutions, or the scores have no gradient; if ``tap``, ``size`` or ``gradients`` is invalid.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    >>> cams = layer_cams(model, torch.rand(2, 3, 8, 8))
    >>> cams.names, cams.maps.shape
    (('0',), torch.Size([2, 1, 8, 8]))
    """
    cams = coarse_cams(model, images, targets, tap, size, gradients)
    return LayerCams(cams.maps(), cams.names, cams.dead, cams.logits)


def coarse_cams(
    model: nn.Module,
    images: Float[Tensor, "b channels h w"],
    targets: Targets = None,
    tap: str = "post",
    size: Size = None,
    gradients: str = "plain",
) -> CoarseCams:
    """Compute the Grad-CAMs of ``layer_cams`` without enlarging them.

    Parameters
    ----------
    model
        Classifier that maps images to logits (B, C) or, if ``targets`` is callable, any network. It may be
        frozen, compiled or wrapped for several devices, and the caller may be under ``no_grad``,
        ``inference_mode`` or autocast. Its mode, parameters and ``.grad`` are left as they were.
    images
        Images (B, 3, H, W) or (B, 1, H, W) in [0, 1], on the model's device. The normalisation belongs into
        the model: see ``sftgan.Normalised``.
    targets
        What to explain: None for the predicted class, class indices, weights of the outputs, or callables such
        as those of pytorch-grad-cam; see ``sftgan.cams.targets.Targets``.
    tap
        "post" takes the output of the activation function where one follows a convolution directly. In VGG,
        Keras calls this the layer's output, so we read the paper this way. "pre" takes the output of the
        convolution itself. In-place activations make no difference.
    size
        Side or (height, width) of the maps in pixels; None for the size of the images. Resizing is bilinear,
        with antialiasing where a map shrinks.
    gradients
        "plain" follows the formula. "guided" follows the paper's released code: the mean is over gradients
        that are positive where the activation is positive too, with zero elsewhere, and there is no ReLU.

    Returns
    -------
    CoarseCams
        The maps at the resolution of their layers, grouped by resolution.

    Raises
    ------
    InputError
        If the images have the wrong type, shape, range or device, contain NaN, or are so small that the last
        convolutions see a single pixel; if the targets do not fit the model's output; if the model has no
        convolutions, or the scores have no gradient; if ``tap``, ``size`` or ``gradients`` is invalid.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    >>> [(indices, maps.shape) for indices, maps in coarse_cams(model, torch.rand(2, 3, 8, 8)).groups]
    [(tensor([0]), torch.Size([2, 1, 6, 6]))]
    """
    check_images(model, images)
    shape = _shape(images, size)
    check_name(tap, ["post", "pre"], "tap")
    check_name(gradients, ["plain", "guided"], "kind of gradients")
    with _differentiable(model):
        tapped = tap_convolutions(model, images, tap)
        return _explained(tapped, images, targets, shape, gradients == "guided")


def block_cam(
    model: nn.Module,
    block: nn.Module,
    images: Float[Tensor, "b channels h w"],
    targets: Targets = None,
    size: Size = None,
) -> Float[Tensor, "b h2 w2"]:
    """Compute the Grad-CAM of the output of one module; see ``layer_cams``.

    This serves networks whose last convolution is one branch of several, such as InceptionV3: there the target
    layer is the last block.

    Parameters
    ----------
    model
        Classifier that maps images to logits (B, C) or, if ``targets`` is callable, any network.
    block
        Module of the model with an output (B, K, h, w). If it is called several times, the last call counts.
    images
        Images (B, 3, H, W) or (B, 1, H, W) in [0, 1], on the model's device.
    targets
        What to explain; see ``sftgan.cams.targets.Targets``.
    size
        Side or (height, width) of the maps in pixels; None for the size of the images.

    Returns
    -------
    Tensor
        Maps (B, H, W) in [0, 1], each min-max scaled.

    Raises
    ------
    InputError
        If images, targets or size are invalid, as for ``layer_cams``, or the model does not call the block.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    >>> block_cam(model, model[1], torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 8, 8])
    """
    check_images(model, images)
    with _differentiable(model):
        tapped = tap_block(model, block, images.clone() if images.is_inference() else images.detach())
        return _explained(tapped, images, targets, _shape(images, size)).maps()[:, 0]


@torch.no_grad()
def mean_activation(
    model: nn.Module, layer: nn.Module, images: Float[Tensor, "b channels h w"], size: Size = None
) -> Float[Tensor, "b h2 w2"]:
    """Compute the mean over the channels of a layer's output after a ReLU, min-max scaled.

    This takes only a forward pass and does not depend on any class.

    Parameters
    ----------
    model
        Any network that takes the images.
    layer
        Module of the model with an output (B, K, h, w). If it is called several times, the last call counts.
    images
        Images (B, 3, H, W) or (B, 1, H, W) in [0, 1], on the model's device.
    size
        Side or (height, width) of the maps in pixels; None for the size of the images.

    Returns
    -------
    Tensor
        Maps (B, H, W) in [0, 1].

    Raises
    ------
    InputError
        If images or size are invalid, as for ``layer_cams``.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    >>> mean_activation(model, model[1], torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 8, 8])
    """
    check_images(model, images)
    outputs: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.clone()))
    with hooked([handle]), evaluation_mode(model):
        unwrapped(model)(images)
    mean = outputs[-1].relu().mean(1, keepdim=True)
    return minmax(_enlarged(mean, _shape(images, size))[:, 0])[0]


def minmax(
    maps: Float[Tensor, "*batch h w"],
) -> tuple[Float[Tensor, "*batch h w"], Bool[Tensor, "*batch"]]:
    """Scale each map to [0, 1].

    The divisor is the range itself, not the range plus a constant, so maps with tiny gradients keep their full
    contrast.

    Parameters
    ----------
    maps
        Maps (..., h, w).

    Returns
    -------
    tuple[Tensor, Tensor]
        The scaled maps (..., h, w), where a flat map is all zeros, and a bool (...) that is True for flat maps.

    Examples
    --------
    >>> import torch
    >>> minmax(torch.tensor([[[2.0, 3.0, 4.0]], [[5.0, 5.0, 5.0]]]))
    (tensor([[[0.0000, 0.5000, 1.0000]],
    <BLANKLINE>
            [[0.0000, 0.0000, 0.0000]]]), tensor([False,  True]))
    """
    low = maps.amin((-2, -1), keepdim=True)
    shifted = maps - low
    span = shifted.amax((-2, -1), keepdim=True)
    scaled = shifted / span.clamp_min(torch.finfo(maps.dtype).tiny)
    return scaled, (span == 0)[..., 0, 0]


@contextmanager
def _differentiable(model: nn.Module) -> Iterator[None]:
    with torch.inference_mode(False), torch.enable_grad(), evaluation_mode(model), eager(model):
        yield


def _explained(
    tapped: Tapped,
    images: Float[Tensor, "b channels h w"],
    targets: Targets,
    shape: tuple[int, int],
    guided: bool = False,
) -> CoarseCams:
    total = score(tapped.returned, targets, len(images))
    sides = [output.shape[2:] for output in tapped.outputs if output is not None]
    raw: dict[int, Tensor] = {}

    def receive(i: int, activation: Tensor, gradient: Tensor) -> None:
        raw[i] = _weighted_sum(activation, gradient, guided)

    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        tapped.differentiate(total, receive)
        like = next(iter(raw.values()))
        in_order = [
            raw[i] if i in raw else like.new_zeros(len(images), *side) for i, side in enumerate(sides)
        ]
        groups, dead = _scaled(in_order, shape, positive=not guided)
    logits = tree_map_only(Tensor, Tensor.detach, tapped.returned)
    return CoarseCams(groups, tapped.names, dead, logits, shape)


def _weighted_sum(
    activation: Float[Tensor, "b k h w"], gradient: Float[Tensor, "b k h w"], guided: bool
) -> Float[Tensor, "b h w"]:
    """Compute the Grad-CAM of one layer, before the ReLU and unscaled."""
    if activation.dtype not in (torch.float32, torch.float64):
        activation, gradient = activation.float(), gradient.float()
    if guided:
        gradient = gradient.clamp_min(0) * (activation > 0)
    weights = gradient.mean((2, 3)).unsqueeze(1)
    return torch.bmm(weights, activation.flatten(2)).view(len(activation), *activation.shape[2:])


def _scaled(
    raw: list[Float[Tensor, "b _ _"]], shape: tuple[int, int], positive: bool
) -> tuple[tuple[tuple[Int[Tensor, " _"], Float[Tensor, "b _ _ _"]], ...], Bool[Tensor, "b n"]]:
    """Return groups and dead maps of ``CoarseCams``, from the maps themselves or from their positive parts."""
    places: dict[torch.Size, list[int]] = {}
    for i, cam in enumerate(raw):
        places.setdefault(cam.shape[1:], []).append(i)
    dead = torch.empty(len(raw[0]), len(raw), dtype=torch.bool, device=raw[0].device)
    groups = []
    for at in (
        alike[i : i + _TOGETHER] for alike in places.values() for i in range(0, len(alike), _TOGETHER)
    ):
        maps = torch.stack([raw[i] for i in at], 1)
        maps = maps.relu_() if positive else maps
        low, high = _extremes(maps, shape)
        span, size = high - low, torch.maximum(high, -low)
        alive = (span > _ROUNDING * torch.finfo(maps.dtype).eps * size) & span.isfinite()
        maps = torch.where(alive, (maps - low) / span, 0)
        index = torch.tensor(at, device=maps.device)
        dead[:, index] = ~alive[..., 0, 0]
        groups.append((index, maps))
    return tuple(groups), dead


def _enlarged(maps: Float[Tensor, "b n h w"], shape: tuple[int, int]) -> Float[Tensor, "b n h2 w2"]:
    """Resize maps to another resolution, larger or smaller."""
    if maps.shape[-2:] == shape:
        return maps
    shrinks = maps.shape[-2] > shape[0] or maps.shape[-1] > shape[1]
    return F.interpolate(maps, shape, mode="bilinear", antialias=shrinks)


def _extremes(
    maps: Float[Tensor, "b n h w"], shape: tuple[int, int]
) -> tuple[Float[Tensor, "b n 1 1"], Float[Tensor, "b n 1 1"]]:
    """Find the least and the largest value of each map after it has been enlarged to ``shape``."""
    # Between four pixels of a map, the enlarged map is bilinear: its extremes are in the first and the last rows
    # and columns there. For a large enlargement these are few.
    (h, w), (height, width) = maps.shape[-2:], shape
    if 2 * h + 2 < height and 2 * w + 2 < width:
        rows, columns = _border(h, height).to(maps), _border(w, width).to(maps)
        maps = rows @ maps @ columns.T
    else:
        maps = _enlarged(maps, shape)
    return maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)


@lru_cache(256)
def _border(n: int, m: int) -> Float[Tensor, "rows n"]:
    """From the matrix (m, n) that enlarges n pixels to m, take the first and last row between any two pixels."""
    whole = F.interpolate(torch.eye(n, dtype=torch.float64)[None, :, :, None], (m, 1), mode="bilinear")
    left = torch.tensor([((2 * i + 1) * n - m) // (2 * m) for i in range(m)])  # the pixel before
    jump = left.diff() != 0
    edge = torch.tensor([True])
    return whole[0, :, :, 0].T[torch.cat([edge, jump]) | torch.cat([jump, edge])].contiguous()


def _shape(images: Float[Tensor, "b channels h w"], size: Size) -> tuple[int, int]:
    shape = tuple(images.shape[-2:]) if size is None else (size, size) if isinstance(size, int) else size
    if (
        not isinstance(shape, Sequence)
        or len(shape) != 2
        or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in shape)
    ):
        raise InputError(
            f"size must be a whole number of pixels or (height, width), each at least 1, got {size!r}."
        )
    return shape[0], shape[1]


def check_images(model: nn.Module, images: Float[Tensor, "b channels h w"]) -> None:
    """Check that images are floating point (B, 1, H, W) or (B, 3, H, W) in [0, 1] on the model's device.

    Parameters
    ----------
    model
        Model that the images are meant for.
    images
        Images to check.

    Raises
    ------
    InputError
        If the model is no ``nn.Module``, or the images have the wrong type, shape, range or device or contain NaN.

    Examples
    --------
    >>> import torch
    >>> try:
    ...     check_images(torch.nn.Identity(), torch.full((1, 3, 8, 8), torch.nan))
    ... except InputError as error:
    ...     print(error)
    images contain NaN or infinite values: replace these first.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"the model must be a torch.nn.Module, got {type(model).__name__}.")
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"images must be a floating-point tensor in [0, 1], got {got}: divide bytes by 255.")
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.numel() == 0:
        raise InputError(
            f"images must have the shape (B, 3, H, W) or (B, 1, H, W), got {tuple(images.shape)}."
        )
    weight = next(model.parameters(), images)
    if weight.device != images.device:
        raise InputError(
            f"the model is on {weight.device} and the images are on {images.device}: move one of them with .to()."
        )
    low, high = images.aminmax()
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise InputError("images contain NaN or infinite values: replace these first.")
    if low < -_BEYOND or high > 1 + _BEYOND:
        raise InputError(
            f"images must lie in [0, 1], got [{low:.3g}, {high:.3g}]: put the normalisation into the model, "
            "with sftgan.Normalised(model, mean, std)."
        )
