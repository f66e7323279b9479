"""Outputs of a network's convolutions, recorded in order of execution during one forward pass."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sftgan.cams.model_state import check_last_map, hooked, last_map, unwrapped
from sftgan.errors import InputError

_ACTIVATIONS = {
    F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.hardswish, F.hardtanh,
    F.prelu, F.softplus, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, torch.tanh, Tensor.tanh,
    F.leaky_relu_, F.elu_, F.hardtanh_, torch.selu_, torch.celu_, torch.tanh_, Tensor.tanh_,
}  # fmt: skip


@dataclass(frozen=True)
class Tapped:
    """Result of a forward pass, with the outputs of its layers in order of execution.

    Attributes
    ----------
    returned
        What the model returned.
    names
        Names of the layers.
    outputs
        One output (B, K, h, w) for each layer; None after ``differentiate`` has released it.
    anchor
        Leaf at which every path of the graph begins.
    """

    returned: Any
    names: tuple[str, ...]
    outputs: list[Float[Tensor, "b _ _ _"] | None]
    anchor: Float[Tensor, ""]

    def differentiate(self, score: Float[Tensor, ""], receive: Callable[[int, Tensor, Tensor], None]) -> None:
        """Differentiate a score with respect to the outputs of the layers.

        Each output is released as soon as its gradient has arrived, so little more memory is needed than for
        the backward pass itself.

        Parameters
        ----------
        score
            Scalar that depends on the outputs.
        receive
            Called as ``receive(i, output, gradient)`` for each layer i on which the score depends, last layers
            first; output and gradient are (B, K, h, w).

        Raises
        ------
        InputError
            If the score depends on none of the layers.

        Examples
        --------
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3))
        >>> tapped = tap_convolutions(model, torch.rand(1, 3, 8, 8), "pre")
        >>> tapped.differentiate(tapped.returned.sum(), lambda i, output, gradient: print(i, gradient.shape))
        1 torch.Size([1, 2, 4, 4])
        0 torch.Size([1, 4, 6, 6])
        """

        def take(i: int, gradient: Tensor) -> None:
            output, self.outputs[i] = self.outputs[i], None
            if output is not None:
                receive(i, output.detach(), gradient)

        reached = [(i, o) for i, o in enumerate(self.outputs) if o is not None and o.requires_grad]
        with hooked([output.register_hook(partial(take, i)) for i, output in reached]):
            del reached
            torch.autograd.grad(score, self.anchor, allow_unused=True)
        if all(output is not None for output in self.outputs):
            raise InputError(
                "the explained scores have no gradient with respect to any convolution: the model must not detach "
                "its features or compute them under no_grad."
            )


class _Begin(torch.autograd.Function):
    """Identity whose graph begins at the anchor: nothing before it is differentiated."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, output: Tensor) -> Tensor:
        ctx.mark_dirty(output)  # else the result is a view, which forbids in-place operations
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        return None, None


def tap_convolutions(model: nn.Module, images: Float[Tensor, "b channels h w"], tap: str) -> Tapped:
    """Run a forward pass that taps every convolution with an output larger than 1 x 1.

    ``sftgan.layer_cams`` says which convolutions count as one layer.

    Parameters
    ----------
    model
        Network in evaluation mode.
    images
        Images (B, C, H, W); they are left as they are.
    tap
        "post" for the output of the activation that directly follows a convolution, where there is one; "pre"
        for the convolution's own output.

    Returns
    -------
    Tapped
        What the model returned, with one output for each layer.

    Raises
    ------
    InputError
        If the model has or calls no two-dimensional convolution, the images are too small, their dtype is not
        the model's, or a convolution sees another number of images.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    >>> tapped = tap_convolutions(model, torch.rand(1, 3, 8, 8), "post")
    >>> tapped.names, bool((tapped.outputs[0] >= 0).all())
    (('0', '2'), True)
    """
    model = unwrapped(model)
    modules = dict(model.named_modules())
    names = {m: name or "model" for name, m in modules.items() if isinstance(m, nn.Conv2d)}
    if not names:
        raise InputError(
            "the model has no two-dimensional convolution (nn.Conv2d), so Grad-CAM has no layer: give another "
            "model or, instead of a scripted or exported one, the original."
        )
    images = images.detach()
    if any(isinstance(m, nn.BatchNorm2d) for m in modules.values()) and _faster_channels_last(images):
        with contextlib.suppress(_NeedsContiguous):
            return _run(model, images.contiguous(memory_format=torch.channels_last), tap, names)
    return _run(model, images, tap, names)


def tap_block(model: nn.Module, block: nn.Module, images: Float[Tensor, "b channels h w"]) -> Tapped:
    """Run a forward pass that taps the output of one module.

    Parameters
    ----------
    model
        Network in evaluation mode.
    block
        Module of the model with an output (B, K, h, w). If it is called several times, the last call counts.
    images
        Images (B, C, H, W).

    Returns
    -------
    Tapped
        What the model returned, with the single output of the layer "block".

    Raises
    ------
    InputError
        If the model does not call the block.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
    >>> tap_block(model, model[1], torch.rand(1, 3, 8, 8)).outputs[0].shape
    torch.Size([1, 4, 6, 6])
    """
    model = unwrapped(model)
    outputs: list[Tensor | None] = []
    anchor = images.new_zeros((), requires_grad=True)

    def keep(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        kept = _Begin.apply(anchor, output.detach())
        outputs.append(kept)
        return kept.clone()

    with hooked([block.register_forward_hook(keep)]):
        returned = model(images)
    if not outputs:
        raise InputError(
            "the model never called the block to explain: give a module that its forward pass calls."
        )
    return Tapped(returned, ("block",), outputs[-1:], anchor)


@dataclass(eq=False)
class _Tap:
    name: str
    output: Tensor
    version: int  # number of writes to `output` before it was tapped


class _Recorder(TorchFunctionMode):
    """Records each convolution's output, or with ``tap="post"`` that of the activation after it."""

    # The mode and the hooks act only in the thread that entered the mode: other threads may use the model.
    # `protected` names the layers that hand on a copy of their tapped tensor, not the tensor itself.

    def __init__(self, names: dict[nn.Conv2d, str], tap: str, anchor: Tensor, protected: frozenset[str]):
        super().__init__()
        self.names = names
        self.tap = tap
        self.anchor = anchor
        self.protected = protected
        self.taps: list[_Tap] = []
        self.passed_on: dict[int, tuple[_Tap, Tensor, int]] = {}  # by id: tap, tensor, its version
        self.halves: dict[int, tuple[_Tap, Tensor, int]] = {}  # the same for depthwise convolutions
        self.calls: Counter[str] = Counter()
        self.anchored: set[Any] = set()  # nodes of the graph whose paths are known to begin at the anchor
        # the last padded convolution with an output of one pixel, if no larger output followed
        self.pixel: str | None = None
        self.thread = threading.get_ident()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = self.passed_on.get(id(args[0])) if args and func in _ACTIVATIONS else None
        direct = found is not None and _writes(found[1]) == found[2]
        result = func(*args, **(kwargs or {}))
        if not direct:
            return result
        tap = self.passed_on.pop(id(args[0]))[0]
        tap.output, tap.version = result, _writes(result)
        return result.clone() if tap.name in self.protected else result

    def begin(self, tensor: Tensor) -> Tensor:
        """Make the tensor's graph begin at the anchor, in place."""
        begun = _Begin.apply(self.anchor, tensor)
        self.anchored |= {begun.grad_fn} - {None}  # none under no_grad
        return begun

    def _begun(self, output: Tensor) -> bool:
        """Tell whether the graph of a convolution's output leads back to the anchor, and so to the images."""
        nodes: list[Any] = [output.grad_fn]
        seen: set[Any] = {None}
        while nodes:
            node = nodes.pop()
            if node in self.anchored:
                return True
            if node not in seen:
                seen.add(node)
                nodes += [before for before, _ in node.next_functions]
        return False

    def hook(self, module: nn.Conv2d, inputs: tuple, output: Tensor) -> Tensor | None:
        if threading.get_ident() != self.thread:
            return None
        with torch._C.DisableTorchFunction():  # else each access to a tensor would go through this mode
            return self._tap(module, inputs, output)

    def _tap(self, module: nn.Conv2d, inputs: tuple, output: Tensor) -> Tensor | None:
        name = self.names[module]
        if output.shape[-2:].numel() == 1:
            if max(module.kernel_size) > 1 and module.padding not in ("valid", (0, 0)):
                self.pixel = name
            return None
        self.pixel = None
        self.calls[name] += 1
        if self.calls[name] > 1:
            name = f"{name} (call {self.calls[name]})"
        if not self.taps or not self._begun(output):
            output = self.begin(output.detach())
        else:
            self.anchored.add(output.grad_fn)
        half = self.halves.pop(id(inputs[0]), None) if inputs else None
        if half and half[0] in self.taps and _writes(half[1]) == half[2] and module.kernel_size == (1, 1):
            self.taps.remove(half[0])
        tap = _Tap(name, output, _writes(output))
        self.taps.append(tap)
        passed_on = output.clone() if self.tap == "pre" or name in self.protected else output
        if self.tap == "post":
            self.passed_on[id(passed_on)] = tap, passed_on, _writes(passed_on)
        if module.groups == module.in_channels > 1:
            self.halves[id(passed_on)] = tap, passed_on, _writes(passed_on)
        return passed_on


def _faster_channels_last(images: Float[Tensor, "b channels h w"]) -> bool:
    """Tell whether networks with batch norm are faster on these images with the channels last."""
    # As measured: up to twice as fast. Networks without batch norm gain nothing, and for a single large image
    # rearranging the weights takes longer than it saves.
    return images.device.type == "cpu" and (len(images) > 1 or min(images.shape[-2:]) <= 96)


def _writes(tensor: Tensor) -> int:
    """Return the number of in-place writes to a tensor; 0 for inference tensors, which do not count them."""
    return 0 if tensor.is_inference() else tensor._version


class _NeedsContiguous(Exception):
    """The model reshapes its features with ``view``, which needs channels first."""


def _run(
    model: nn.Module,
    images: Float[Tensor, "b channels h w"],
    tap: str,
    names: dict[nn.Conv2d, str],
    protected: frozenset[str] = frozenset(),
) -> Tapped:
    anchor = images.new_zeros((), requires_grad=True)
    recorder = _Recorder(names, tap, anchor, protected)
    with hooked([m.register_forward_hook(recorder.hook) for m in names]), recorder:
        try:
            returned = model(recorder.begin(images.clone()))
        except RuntimeError as error:
            if "view size is not compatible" in str(error) and not images.is_contiguous():
                raise _NeedsContiguous from error
            weight = next(iter(names)).weight
            if weight.dtype != images.dtype:
                raise InputError(
                    f"the model's weights are {weight.dtype} and the images are {images.dtype}: "
                    "convert one of them with .to()."
                ) from error
            raise
    side, channels = min(images.shape[-2:]), images.shape[1]
    if recorder.pixel and any(last_map(model, side * k, channels) > 1 for k in (2, 4, 8)):
        check_last_map(model, side, channels)
        raise InputError(
            f"the images are too small: the convolution {recorder.pixel!r} reduces them to a single pixel; "
            "give larger ones."
        )
    if not recorder.taps:
        raise InputError(
            "the model called none of its convolutions with an output larger than 1 x 1: give larger images or "
            "another model."
        )
    for t in recorder.taps:
        if len(t.output) != len(images):
            raise InputError(
                f"the convolution {t.name!r} sees a batch of {len(t.output)} for {len(images)} images, so its maps "
                "belong to no single image: give a model that keeps images apart."
            )
    written = frozenset(t.name for t in recorder.taps if _writes(t.output) != t.version)
    if written and not protected:  # an operation that is no activation wrote in place: run again, on copies
        del returned, recorder, t  # frees the graph
        return _run(model, images, tap, names, written)
    return Tapped(returned, tuple(t.name for t in recorder.taps), [t.output for t in recorder.taps], anchor)
