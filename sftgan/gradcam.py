"""Grad-CAM of every convolution in one forward and one backward (paper, section 3.1)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only

from sftgan.errors import InputError, check_name
from sftgan.taps import Tapped, eager, evaluation_mode, hooked, tap_block, tap_convolutions, unwrapped
from sftgan.targets import Targets, score

Size = int | tuple[int, int] | None
_ROUNDING = 8  # units in the last place: a map with no more contrast than that is flat
_BEYOND = 1e-5  # what resizing leaves of [0, 1] by rounding
_TOGETHER = 16  # layers that are scaled at once


@dataclass(frozen=True)
class LayerCams:
    """Grad-CAMs of all N convolutions, in order of execution.

    maps: (B, N, h, w) float in [0, 1], min-max scaled per map; a map without contrast is all zeros.
    names: the N module names. dead: (B, N) bool, True where a map has no contrast.
    logits: (B, C), or whatever else the model returned, its tensors detached.
    """

    maps: Tensor
    names: tuple[str, ...]
    dead: Tensor
    logits: Tensor


@dataclass(frozen=True)
class CoarseCams:
    """Grad-CAMs of all N convolutions as small as their layers, so scaled that, enlarged to `shape`, each has [0, 1].

    groups: layers of one resolution, by their places (n,) among the N, and their maps (B, n, h, w).
    names, dead and logits: as in `LayerCams`.
    """

    groups: tuple[tuple[Tensor, Tensor], ...]
    names: tuple[str, ...]
    dead: Tensor
    logits: Tensor
    shape: tuple[int, int]

    def maps(self) -> Tensor:
        """All maps at `shape`: (B, N, H, W) in [0, 1]."""
        like = self.groups[0][1]
        maps = like.new_empty((*self.dead.shape, *self.shape))
        for places, coarse in self.groups:
            maps[:, places] = _enlarged(coarse, self.shape)
        return maps.clamp_(0, 1)

    def sums(self, weights: Tensor) -> Tensor:
        """Weighted sums of the maps at `shape`: (B, K, H, W) by weights (K, N), one enlargement per resolution."""
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
    images: Tensor,
    targets: Targets = None,
    tap: str = "post",
    size: Size = None,
    gradients: str = "plain",
) -> LayerCams:
    """Grad-CAM of every two-dimensional convolution that `model` executes (paper, section 3.1).

    For layer l with activations A (B, K, h, w) and the logit y of the explained class,

        w_k = mean over positions of dy/dA_k,    CAM_l = min-max(upsample(ReLU(sum over k of w_k A_k))).

    One forward and one backward serve all layers and the whole batch. Layers are let go as their gradients arrive, so
    that little more memory is needed than for a backward pass. One layer at a time the maps equal those of
    pytorch-grad-cam, but where an in-place activation overwrites what that library reads, or its `+ 1e-7` hides maps
    of small gradients. Convolutions whose output is 1 x 1, as in squeeze-and-excitation, carry no map and are left
    out; a convolution that is called twice counts twice, its second call named "conv (call 2)". A depthwise
    convolution whose output goes straight into a 1 x 1 convolution, without even a batch norm between, is half of a
    separable one: the pair is one layer, tapped behind its pointwise half, as Keras counts.

    Parameters
    ----------
    model : a classifier that maps images to logits (B, C), or with callable `targets` any net. Its mode, parameters
        and `.grad` are left as they were; it may be frozen, compiled or wrapped for several devices, and the caller may
        be under `no_grad`, `inference_mode` or autocast.
    images : (B, 3, H, W) or (B, 1, H, W), floating point in [0, 1], where the model is. Normalisation belongs into the
        model: see `sftgan.Normalised`.
    targets : what is explained, see `sftgan.targets.Targets`: None, the predicted class; class indices; weights of the
        outputs; or callables, those of pytorch-grad-cam among them.
    tap : "post" takes the activation function's output where one follows a convolution directly (what
        Keras calls the layer's output in VGG, and so the paper's reading), "pre" the convolution's own
        output. In-place activations make no difference.
    size : side or (height, width) of the maps in pixels; None: the images' size. Bilinear; with
        antialiasing where a map shrinks.
    gradients : "plain" as above; "guided" as in the paper's released code: only gradients that are positive where
        the activation is positive, too, are pooled, and the weighted sum goes without the ReLU.

    Raises
    ------
    InputError : images of the wrong type, shape, range, device or with NaN, or so small that the last convolutions see
        a single pixel; targets that do not fit the model's output; a model without convolutions, or whose scores have
        no gradient.
    """
    cams = coarse_cams(model, images, targets, tap, size, gradients)
    return LayerCams(cams.maps(), cams.names, cams.dead, cams.logits)


def coarse_cams(
    model: nn.Module,
    images: Tensor,
    targets: Targets = None,
    tap: str = "post",
    size: Size = None,
    gradients: str = "plain",
) -> CoarseCams:
    """The same as `layer_cams`, but before the maps are enlarged: (B, n, h, w) for each resolution."""
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
    images: Tensor,
    targets: Targets = None,
    size: Size = None,
) -> Tensor:
    """Grad-CAM (B, H, W) in [0, 1] of the output of any module that has one (B, K, h, w); see `layer_cams`.

    For nets whose last convolution is one branch of several, such as InceptionV3: its last block is the layer.
    """
    check_images(model, images)
    with _differentiable(model):
        tapped = tap_block(model, block, images.clone() if images.is_inference() else images.detach())
        return _explained(tapped, images, targets, _shape(images, size)).maps()[:, 0]


@torch.no_grad()
def mean_activation(model: nn.Module, layer: nn.Module, images: Tensor, size: Size = None) -> Tensor:
    """Mean over the channels of a layer's output, min-max scaled: (B, H, W) in [0, 1]; see `layer_cams`.

    Only a forward pass: it knows nothing of any class.
    """
    check_images(model, images)
    outputs: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.clone()))
    with hooked([handle]), evaluation_mode(model):
        unwrapped(model)(images)
    mean = outputs[-1].relu().mean(1, keepdim=True)
    return minmax(_enlarged(mean, _shape(images, size))[:, 0])[0]


def minmax(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Scale each map (..., h, w) to [0, 1]; returns the maps and a bool (...) that flags those without contrast.

    A flat map becomes zeros. Division is by the range itself, not by the range plus a constant, so that maps
    with tiny gradients keep their full contrast.
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
    tapped: Tapped, images: Tensor, targets: Targets, shape: tuple[int, int], guided: bool = False
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


def _weighted_sum(activation: Tensor, gradient: Tensor, guided: bool) -> Tensor:
    """Grad-CAM (B, h, w) of one layer, unscaled, from activation and gradient (B, K, h, w)."""
    if activation.dtype not in (torch.float32, torch.float64):
        activation, gradient = activation.float(), gradient.float()
    if guided:
        gradient = gradient.clamp_min(0) * (activation > 0)
    weights = gradient.mean((2, 3)).unsqueeze(1)
    return torch.bmm(weights, activation.flatten(2)).view(len(activation), *activation.shape[2:])


def _scaled(
    raw: list[Tensor], shape: tuple[int, int], positive: bool
) -> tuple[tuple[tuple[Tensor, Tensor], ...], Tensor]:
    """Groups and dead maps of `CoarseCams` from one (B, h, w) for each layer, or from the `positive` part of it."""
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


def _enlarged(maps: Tensor, shape: tuple[int, int]) -> Tensor:
    """Maps (B, n, h, w) in another resolution (H, W)."""
    if maps.shape[-2:] == shape:
        return maps
    shrinks = maps.shape[-2] > shape[0] or maps.shape[-1] > shape[1]
    return F.interpolate(maps, shape, mode="bilinear", antialias=shrinks)


def _extremes(maps: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Least and largest value (B, n, 1, 1) of maps (B, n, h, w) when they are enlarged to `shape`.

    Between four pixels of a map the enlarged one is bilinear, so its extremes are among the first and the last rows
    and columns there: a few of many, where the enlargement is great.
    """
    (h, w), (height, width) = maps.shape[-2:], shape
    if 2 * h + 2 < height and 2 * w + 2 < width:
        rows, columns = _border(h, height).to(maps), _border(w, width).to(maps)
        maps = rows @ maps @ columns.T
    else:
        maps = _enlarged(maps, shape)
    return maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)


@lru_cache(256)
def _border(n: int, m: int) -> Tensor:
    """Of the matrix (m, n) that enlarges n pixels to m, the first and the last row between each two pixels."""
    whole = F.interpolate(torch.eye(n, dtype=torch.float64)[None, :, :, None], (m, 1), mode="bilinear")
    left = torch.tensor([((2 * i + 1) * n - m) // (2 * m) for i in range(m)])  # the pixel before
    jump = left.diff() != 0
    edge = torch.tensor([True])
    return whole[0, :, :, 0].T[torch.cat([edge, jump]) | torch.cat([jump, edge])].contiguous()


def _shape(images: Tensor, size: Size) -> tuple[int, int]:
    shape = tuple(images.shape[-2:]) if size is None else (size, size) if isinstance(size, int) else size
    if (
        not isinstance(shape, Sequence)
        or len(shape) != 2
        or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in shape)
    ):
        raise InputError(f"size must be a number of pixels or (height, width), from 1 on, got {size!r}.")
    return shape[0], shape[1]


def check_images(model: nn.Module, images: Tensor) -> None:
    """Raise InputError for images other than (B, 1, H, W) or (B, 3, H, W) in [0, 1] where the model is."""
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
        raise InputError("images contain NaN or infinite values: clean them first.")
    if low < -_BEYOND or high > 1 + _BEYOND:
        raise InputError(
            f"images must lie in [0, 1], got [{low:.3g}, {high:.3g}]: put the normalisation into the model, "
            "with sftgan.Normalised(model, mean, std)."
        )
