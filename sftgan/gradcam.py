"""Grad-CAM of every convolution in one forward and one backward (paper, section 3.1)."""

import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sftgan.architectures import check_last_map
from sftgan.errors import InputError, check_name

_ACTIVATIONS = {
    F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.hardswish, F.hardtanh,
    F.prelu, F.softplus, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, torch.tanh, Tensor.tanh,
}  # fmt: skip


@dataclass(frozen=True)
class LayerCams:
    """Grad-CAMs of all N convolutions, in order of execution.

    maps: (B, N, h, w) float in [0, 1], min-max scaled per map; a map without contrast is all zeros.
    names: the N module names. dead: (B, N) bool, True where a map has no contrast. logits: (B, C).
    """

    maps: Tensor
    names: tuple[str, ...]
    dead: Tensor
    logits: Tensor


@dataclass(eq=False)
class _Tap:
    name: str
    output: Tensor
    version: int  # counts the writes to `output` up to the moment it was tapped


def layer_cams(
    model: nn.Module,
    images: Tensor,
    targets: int | Sequence[int] | Tensor | None = None,
    tap: str = "post",
    size: int | tuple[int, int] | None = None,
    gradients: str = "plain",
) -> LayerCams:
    """Grad-CAM of every two-dimensional convolution that `model` executes (paper, section 3.1).

    For layer l with activations A (B, K, h, w) and the logit y of the explained class,

        w_k = mean over positions of dy/dA_k,    CAM_l = min-max(upsample(ReLU(sum over k of w_k A_k))).

    One forward and one `torch.autograd.grad` serve all layers and the whole batch. The maps equal those of
    pytorch-grad-cam, layer by layer. Convolutions whose output is 1 x 1, as in squeeze-and-excitation, carry no map
    and are left out; a convolution that is called twice counts twice, its second call named "conv (call 2)". A
    depthwise convolution whose output goes straight into a 1 x 1 convolution, without even a batch norm between, is
    half of a separable one: the pair is one layer, tapped behind its pointwise half, as Keras counts.

    Parameters
    ----------
    model : a classifier that maps images to logits (B, C). Its mode, parameters and `.grad` are left as
        they were; it may be frozen, and the caller may be under `no_grad` or `inference_mode`.
    images : (B, 3, H, W) or (B, 1, H, W), floating point in [0, 1]. Normalisation belongs into the model:
        see `sftgan.Normalised`.
    targets : the explained class, one for all images or one per image; None: the predicted class.
    tap : "post" takes the activation function's output where one follows a convolution directly (what
        Keras calls the layer's output in VGG, and so the paper's reading), "pre" the convolution's own
        output. In-place activations make no difference.
    size : side or (height, width) of the maps in pixels; None: the images' size. Bilinear; with
        antialiasing where a map shrinks.
    gradients : "plain" as above; "guided" as in the paper's released code: only gradients that are positive where
        the activation is positive, too, are pooled, and the weighted sum goes without the ReLU.

    Raises
    ------
    InputError : images of the wrong type, shape, range or with NaN, or so small that the last convolutions see
        a single pixel; a class index out of range; a model without convolutions, whose output is not (B, C), or
        whose logits have no gradient.
    """
    _check_images(images)
    check_name(tap, ["post", "pre"], "tap")
    check_name(gradients, ["plain", "guided"], "kind of gradients")
    shape = _shape(images, size)
    with torch.inference_mode(False), torch.enable_grad(), evaluation_mode(model):
        images = images.clone() if images.is_inference() else images.detach()
        logits, taps = _forward(_unwrap(model), images, tap)
        score = _score(logits, targets)
        derivatives = torch.autograd.grad(score, [t.output for t in taps], allow_unused=True)
        guided = gradients == "guided"
        cams = [_cam(t.output.detach(), d, shape, guided) for t, d in zip(taps, derivatives, strict=True)]
    maps, dead = minmax(torch.stack(cams, dim=1))
    return LayerCams(maps, tuple(t.name for t in taps), dead, logits.detach())


def block_cam(
    model: nn.Module,
    block: nn.Module,
    images: Tensor,
    targets: int | Sequence[int] | Tensor | None = None,
    size: int | tuple[int, int] | None = None,
) -> Tensor:
    """Grad-CAM (B, H, W) in [0, 1] of the output of any module that has one (B, K, h, w); see `layer_cams`.

    For nets whose last convolution is one branch of several, such as InceptionV3: its last block is the layer.
    """
    _check_images(images)
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        outputs.append(output if output.requires_grad else output.detach().requires_grad_())
        return outputs[-1]

    with torch.inference_mode(False), torch.enable_grad(), evaluation_mode(model):
        handle = block.register_forward_hook(keep)
        try:
            logits = _unwrap(model)(images.clone() if images.is_inference() else images.detach())
        finally:
            handle.remove()
        if not outputs:
            raise InputError("the model never called the block whose output is to be explained.")
        (gradient,) = torch.autograd.grad(_score(logits, targets), outputs[-1:])
        cam = _cam(outputs[-1].detach(), gradient, _shape(images, size))
    return minmax(cam)[0]


@torch.no_grad()
def mean_activation(
    model: nn.Module, layer: nn.Module, images: Tensor, size: int | tuple[int, int] | None = None
) -> Tensor:
    """Mean over the channels of a layer's output, min-max scaled: (B, H, W) in [0, 1]; see `layer_cams`.

    Only a forward pass: it knows nothing of any class.
    """
    _check_images(images)
    outputs: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.clone()))
    try:
        with evaluation_mode(model):
            _unwrap(model)(images)
    finally:
        handle.remove()
    mean = outputs[-1].relu().mean(1, keepdim=True)
    return minmax(F.interpolate(mean, _shape(images, size), mode="bilinear", antialias=True)[:, 0])[0]


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


def _shape(images: Tensor, size: int | tuple[int, int] | None) -> tuple[int, int]:
    if size is None:
        return tuple(images.shape[-2:])
    return (size, size) if isinstance(size, int) else size


def _score(logits: Tensor, targets: int | Sequence[int] | Tensor | None) -> Tensor:
    """Sum over the images of the explained class's logit; images do not mix, so its gradient is that of each."""
    if not logits.requires_grad:
        raise InputError(
            "the logits have no gradient with respect to any convolution: the model detaches them or computes them "
            "under no_grad."
        )
    return logits.gather(1, _class_indices(logits.detach(), targets)[:, None]).sum()


def _cam(activation: Tensor, gradient: Tensor | None, size: tuple[int, int], guided: bool = False) -> Tensor:
    """Unscaled Grad-CAM (B, H, W) of one layer; zeros where the logit does not depend on the layer."""
    if activation.dtype != torch.float64:
        activation = activation.float()
    if gradient is None:
        return activation.new_zeros((activation.shape[0], *size))
    gradient = gradient.to(activation.dtype)
    if guided:
        gradient = gradient.clamp_min(0) * (activation > 0)
    cam = (gradient.mean((2, 3), keepdim=True) * activation).sum(1, keepdim=True)
    cam = cam if guided else cam.relu()
    return F.interpolate(cam, size, mode="bilinear", antialias=True)[:, 0]


class _Recorder(TorchFunctionMode):
    """Remembers each convolution's output and, for tap="post", moves on to the activation behind it.

    The mode and the hooks act in the thread that entered it only: other threads may use the model.
    `protected` names the layers whose tapped tensor must not be handed on itself, but as a copy.
    """

    def __init__(self, model: nn.Module, tap: str, protected: frozenset[str] = frozenset()):
        super().__init__()
        self.tap = tap
        self.protected = protected
        self.taps: list[_Tap] = []
        self.passed_on: dict[int, tuple[_Tap, Tensor, int]] = {}  # by id: tap, tensor, its version
        self.halves: dict[int, tuple[_Tap, Tensor, int]] = {}  # the same, of depthwise convolutions
        self.calls: Counter[str] = Counter()
        self.pixel: str | None = (
            None  # the last padded convolution that made one pixel, if no map came behind it
        )
        self.thread = threading.get_ident()
        self.names = {m: name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        tap, tensor, version = self.passed_on.get(id(args[0]) if args else None, (None, None, None))
        direct = func in _ACTIVATIONS and tap is not None and tensor._version == version
        result = func(*args, **(kwargs or {}))
        if not direct:
            return result
        tap.output, tap.version = result, result._version
        return result.clone() if tap.name in self.protected else result

    def hook(self, module: nn.Module, inputs: tuple, output: Tensor) -> Tensor | None:
        if threading.get_ident() != self.thread:
            return None
        name = self.names[module] or "model"
        if output.shape[-2:].numel() == 1:
            if max(module.kernel_size) > 1 and module.padding not in ("valid", (0, 0)):
                self.pixel = name
            return None
        self.pixel = None
        self.calls[name] += 1
        if self.calls[name] > 1:
            name = f"{name} (call {self.calls[name]})"
        if not output.requires_grad:  # frozen parameters: the graph begins here
            output = output.detach().requires_grad_().clone()
        half, tensor, version = self.halves.get(id(inputs[0]), (None, None, None))
        if half in self.taps and tensor._version == version and module.kernel_size == (1, 1):
            self.taps.remove(half)
        tap = _Tap(name, output, output._version)
        self.taps.append(tap)
        passed_on = output.clone() if self.tap == "pre" or name in self.protected else output
        if self.tap == "post":
            self.passed_on[id(passed_on)] = tap, passed_on, passed_on._version
        if module.groups == module.in_channels > 1:
            self.halves[id(passed_on)] = tap, passed_on, passed_on._version
        return passed_on


def _forward(
    model: nn.Module, images: Tensor, tap: str, protected: frozenset[str] = frozenset()
) -> tuple[Tensor, list[_Tap]]:
    recorder = _Recorder(model, tap, protected)
    if not recorder.names:
        raise InputError(
            "the model has no two-dimensional convolution (nn.Conv2d), so Grad-CAM has no layer."
        )
    handles = [m.register_forward_hook(recorder.hook) for m in recorder.names]
    try:
        with recorder:
            logits = model(images)
    finally:
        for handle in handles:
            handle.remove()
    if recorder.pixel:
        check_last_map(model, min(images.shape[-2:]), images.shape[1])
        raise InputError(f"the images are too small: {recorder.pixel!r} makes a single pixel of them.")
    if not recorder.taps:
        raise InputError("the model called none of its convolutions, or none has an output above 1 x 1.")
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"the model must return logits of shape ({len(images)}, classes), got {got}.")
    overwritten = frozenset(t.name for t in recorder.taps if t.output._version != t.version)
    if (
        overwritten and not protected
    ):  # something else than an activation wrote in place: once more, on copies
        return _forward(model, images, tap, overwritten)
    return logits, recorder.taps


def _unwrap(model: nn.Module) -> nn.Module:
    """The module behind `torch.compile`: hooks do not fire inside compiled code."""
    return getattr(model, "_orig_mod", model)


@contextmanager
def evaluation_mode(model: nn.Module):
    """Put every module into evaluation mode and give each its own mode back afterwards."""
    training = [m for m in model.modules() if m.training]
    try:
        model.eval()
        yield
    finally:
        for module in training:
            module.training = True


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"images must be a floating-point tensor in [0, 1], got {got}: divide bytes by 255.")
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.numel() == 0:
        raise InputError(
            f"images must have the shape (B, 3, H, W) or (B, 1, H, W), got {tuple(images.shape)}."
        )
    low, high = images.aminmax()
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise InputError("images contain NaN or infinite values: clean them first.")
    if low < 0 or high > 1:
        raise InputError(
            f"images must lie in [0, 1], got [{low:.3g}, {high:.3g}]: put the normalisation into the model, "
            "with sftgan.Normalised(model, mean, std)."
        )


def _class_indices(logits: Tensor, targets: int | Sequence[int] | Tensor | None) -> Tensor:
    n_images, n_classes = logits.shape
    if targets is None:
        return logits.argmax(1)
    indices = torch.as_tensor(targets, device=logits.device)
    if indices.is_floating_point() or indices.dtype == torch.bool:
        raise InputError(f"targets must be class indices (integers), got {indices.dtype}.")
    if indices.shape not in [(), (n_images,)]:
        raise InputError(
            f"targets must be one class index or {n_images}, one per image, got shape {tuple(indices.shape)}."
        )
    indices = indices.long().expand(n_images)
    if indices.min() < 0 or indices.max() >= n_classes:
        wrong = int(indices.min() if indices.min() < 0 else indices.max())
        raise InputError(
            f"class index {wrong} is out of range: the model has {n_classes} classes, 0 to {n_classes - 1}."
        )
    return indices
