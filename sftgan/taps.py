"""Where a net is tapped: the outputs of its convolutions, in order of execution, as one forward pass makes them."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from sftgan.architectures import check_last_map, last_map
from sftgan.errors import InputError

_ACTIVATIONS = {
    F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.hardswish, F.hardtanh,
    F.prelu, F.softplus, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, torch.tanh, Tensor.tanh,
    F.leaky_relu_, F.elu_, F.hardtanh_, torch.selu_, torch.celu_, torch.tanh_, Tensor.tanh_,
}  # fmt: skip
_LOCK = threading.Lock()
_EVALUATED: dict[nn.Module, tuple[int, bool]] = {}  # how often entered, and whether it was in training mode
_STANCES: list[Any] = []  # one for each entry, all of them what undoes the first


@dataclass(frozen=True)
class Tapped:
    """What a forward pass returned, and what was tapped in it: by layer, in order, a name and an output (B, K, h, w).

    anchor: the leaf at which every path of the graph begins.
    """

    returned: Any
    names: tuple[str, ...]
    outputs: list[Tensor | None]
    anchor: Tensor

    def differentiate(self, score: Tensor, receive: Callable[[int, Tensor, Tensor], None]) -> None:
        """Call receive(i, output, gradient) for each layer i on which the score depends, last ones first.

        Each output is let go as soon as its gradient has come, so that little more memory is needed than for the
        backward pass itself. Raises InputError where the score depends on none of the layers.
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
                "the explained scores have no gradient with respect to any convolution: the model detaches its "
                "features or computes them under no_grad."
            )


class _Begin(torch.autograd.Function):
    """The tensor itself, but with its graph beginning here, at the anchor: nothing before is differentiated."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, output: Tensor) -> Tensor:
        ctx.mark_dirty(output)  # else the result is a view, on which in-place operations are refused
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        return None, None


def tap_convolutions(model: nn.Module, images: Tensor, tap: str) -> Tapped:
    """Forward pass that taps every convolution with an output above 1 x 1; see `sftgan.layer_cams`."""
    model = unwrapped(model)
    modules = dict(model.named_modules())
    names = {m: name or "model" for name, m in modules.items() if isinstance(m, nn.Conv2d)}
    if not names:
        raise InputError(
            "the model has no two-dimensional convolution (nn.Conv2d), so Grad-CAM has no layer; of a scripted or "
            "exported model give the one that it was made from."
        )
    images = images.detach()
    if any(isinstance(m, nn.BatchNorm2d) for m in modules.values()) and _faster_channels_last(images):
        with contextlib.suppress(_NeedsContiguous):
            return _run(model, images.contiguous(memory_format=torch.channels_last), tap, names)
    return _run(model, images, tap, names)


def tap_block(model: nn.Module, block: nn.Module, images: Tensor) -> Tapped:
    """Forward pass that taps the output of one module; the last one, where it is called several times."""
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
        raise InputError("the model never called the block whose output is to be explained.")
    return Tapped(returned, ("block",), outputs[-1:], anchor)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module behind `torch.compile` and (Distributed)DataParallel: hooks do not fire inside compiled code."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode and give each its own mode back when the last thread has left."""
    modules = list(model.modules())
    with _LOCK:  # by module, as threads may enter by different wrappers of one net
        for module in modules:
            inside, training = _EVALUATED.get(module, (0, module.training))
            _EVALUATED[module] = inside + 1, training
        if any(module.training for module in modules):
            model.eval()
    try:
        yield
    finally:
        with _LOCK:
            for module in modules:
                inside, training = _EVALUATED.pop(module)
                if inside > 1:
                    _EVALUATED[module] = inside - 1, training
                elif training:
                    module.training = True


@contextlib.contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Let nothing of a model be compiled, or run compiled: hooks do not fire there. It counts for the whole process."""
    if not any(map(_is_compiled, model.modules())):
        yield
        return
    with _LOCK:
        _STANCES.append(_STANCES[0] if _STANCES else torch.compiler.set_stance("force_eager"))
    try:
        yield
    finally:
        with _LOCK:
            stance = _STANCES.pop()
            if not _STANCES:
                stance.__exit__(None, None, None)


def _is_compiled(module: nn.Module) -> bool:
    return (
        module._compiled_call_impl is not None
        or "_orig_mod" in module._modules
        or hasattr(module.forward, "_torchdynamo_orig_callable")
    )


@contextlib.contextmanager
def hooked(handles: list[RemovableHandle]) -> Iterator[None]:
    """Remove hooks at the end, whatever happens."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(eq=False)
class _Tap:
    name: str
    output: Tensor
    version: int  # counts the writes to `output` up to the moment it was tapped


class _Recorder(TorchFunctionMode):
    """Remembers each convolution's output and, for tap="post", moves on to the activation behind it.

    The mode and the hooks act in the thread that entered it only: other threads may use the model.
    `protected` names the layers whose tapped tensor must not be handed on itself, but as a copy.
    """

    def __init__(self, names: dict[nn.Conv2d, str], tap: str, anchor: Tensor, protected: frozenset[str]):
        super().__init__()
        self.names = names
        self.tap = tap
        self.anchor = anchor
        self.protected = protected
        self.taps: list[_Tap] = []
        self.passed_on: dict[int, tuple[_Tap, Tensor, int]] = {}  # by id: tap, tensor, its version
        self.halves: dict[int, tuple[_Tap, Tensor, int]] = {}  # the same, of depthwise convolutions
        self.calls: Counter[str] = Counter()
        self.anchored: set[Any] = set()  # nodes of the graph whose paths are known to begin at the anchor
        # the last padded convolution that made one pixel, if no map came behind it
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
        """The same tensor, overwritten by one whose graph begins at the anchor."""
        begun = _Begin.apply(self.anchor, tensor)
        self.anchored |= {begun.grad_fn} - {None}  # none under no_grad
        return begun

    def _begun(self, output: Tensor) -> bool:
        """Whether the graph behind a convolution's output goes back to the anchor, where the images come from."""
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
        with torch._C.DisableTorchFunction():  # or each look at a tensor would go through this mode
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


def _faster_channels_last(images: Tensor) -> bool:
    """Whether nets with batch norm are faster on such images with the channels last, as measured; up to twice so.

    Nets without gain nothing. A single large image is not worth the weights' rearrangement.
    """
    return images.device.type == "cpu" and (len(images) > 1 or min(images.shape[-2:]) <= 96)


def _writes(tensor: Tensor) -> int:
    """How often it was written to; inference tensors do not count."""
    return 0 if tensor.is_inference() else tensor._version


class _NeedsContiguous(Exception):
    """The model reshapes its features with `view`, which wants channels first."""


def _run(
    model: nn.Module,
    images: Tensor,
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
                    f"the model's weights are {weight.dtype} and the images {images.dtype}: convert one with .to()."
                ) from error
            raise
    side, channels = min(images.shape[-2:]), images.shape[1]
    if recorder.pixel and any(last_map(model, side * k, channels) > 1 for k in (2, 4, 8)):
        check_last_map(model, side, channels)
        raise InputError(f"the images are too small: {recorder.pixel!r} makes a single pixel of them.")
    if not recorder.taps:
        raise InputError("the model called none of its convolutions, or none has an output above 1 x 1.")
    for t in recorder.taps:
        if len(t.output) != len(images):
            raise InputError(
                f"the convolution {t.name!r} sees a batch of {len(t.output)} for {len(images)} images: its maps "
                "cannot be told apart by image."
            )
    written = frozenset(t.name for t in recorder.taps if _writes(t.output) != t.version)
    if written and not protected:  # something else than an activation wrote in place: once more, on copies
        del returned, recorder, t  # and the graph with them
        return _run(model, images, tap, names, written)
    return Tapped(returned, tuple(t.name for t in recorder.taps), [t.output for t in recorder.taps], anchor)
