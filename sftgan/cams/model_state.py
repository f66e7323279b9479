"""A model's mode, wrappers and hooks while it is explained, restored afterwards."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from sftgan.errors import InputError


@torch.no_grad()
def check_last_map(model: nn.Module, size: int, channels: int = 3) -> None:
    """Check that the last convolution returns a map of more than one pixel for images of a given size.

    Parameters
    ----------
    model
        CNN that takes the images.
    size
        Side of the images in pixels.
    channels
        Number of channels of the images.

    Raises
    ------
    InputError
        If the map has a single pixel or none; the message names the smallest size up to 1024 that works.

    Examples
    --------
    >>> check_last_map(nn.Sequential(nn.Conv2d(3, 4, 3)), size=8)
    """
    if last_map(model, size, channels) > 1:
        return
    if last_map(model, 1024, channels) <= 1:
        raise InputError(
            f"images of {size} pixels shrink to at most one pixel at the last convolution, where Grad-CAM cannot "
            "localise anything: no size up to 1024 pixels is enough, so choose another CNN."
        )
    smallest = next(s for s in range(size + 1, 1025) if last_map(model, s, channels) > 1)
    raise InputError(
        f"images of {size} pixels shrink to at most one pixel at the last convolution, where Grad-CAM cannot localise "
        f"anything: use at least {smallest} pixels."
    )


def last_map(model: nn.Module, size: int, channels: int) -> int:
    """Measure the shorter side of the last convolution's output, by a forward pass of a black image.

    Parameters
    ----------
    model
        CNN that takes the image. Its mode is left as it was.
    size
        Side of the image in pixels.
    channels
        Number of channels of the image.

    Returns
    -------
    int
        Side in pixels; 0 if the model cannot take so small an image.

    Examples
    --------
    >>> last_map(nn.Sequential(nn.Conv2d(3, 4, kernel_size=3, stride=2)), size=32, channels=3)
    15
    """
    sides: list[int] = []
    handles = [
        m.register_forward_hook(lambda _module, _inputs, output: sides.append(min(output.shape[-2:])))
        for m in model.modules()
        if isinstance(m, nn.Conv2d)
    ]
    weight = next(model.parameters())
    with hooked(handles), evaluation_mode(model):
        try:
            model(weight.new_zeros(1, channels, size, size))
        except RuntimeError:
            return 0
    return sides[-1]


def resolve(accelerator: str) -> str:
    """Choose the accelerator that "auto" stands for on this machine.

    Parameters
    ----------
    accelerator
        "auto", "cpu" or "cuda".

    Returns
    -------
    str
        "cpu" or "cuda"; "auto" becomes "cuda" if there is a CUDA device.

    Raises
    ------
    InputError
        If ``accelerator`` is "cuda" and there is no CUDA device.

    Examples
    --------
    >>> resolve("cpu")
    'cpu'
    """
    if accelerator == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise InputError("accelerator is 'cuda', but PyTorch finds no CUDA device: choose 'cpu' or 'auto'.")
    return accelerator


_LOCK = threading.Lock()
_EVALUATED: dict[nn.Module, tuple[int, bool]] = {}  # number of entries, and whether it was in training mode
_STANCES: list[Any] = []  # one for each entry; each is the stance set by the first entry


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside ``torch.compile`` and (Distributed)DataParallel.

    Hooks do not fire inside compiled code.

    Parameters
    ----------
    model
        Module, wrapped any number of times or not at all.

    Returns
    -------
    nn.Module
        The innermost module.

    Examples
    --------
    >>> from torch import nn
    >>> unwrapped(nn.DataParallel(nn.ReLU()))
    ReLU()
    """
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode for the time of a context.

    Each module gets its own mode back when the last thread has left.

    Parameters
    ----------
    model
        Module whose modules are put into evaluation mode.

    Yields
    ------
    None
        Nothing.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Dropout().train()
    >>> with evaluation_mode(model):
    ...     print(model.training)
    False
    >>> model.training
    True
    """
    modules = list(model.modules())
    entered: list[nn.Module] = []
    try:
        with _LOCK:  # by module, as threads may enter by different wrappers of one net
            for module in modules:
                inside, training = _EVALUATED.get(module, (0, module.training))
                _EVALUATED[module] = inside + 1, training
                entered.append(module)
            if any(module.training for module in modules):
                model.eval()
        yield
    finally:
        with _LOCK:
            for module in entered:
                inside, training = _EVALUATED.pop(module)
                if inside > 1:
                    _EVALUATED[module] = inside - 1, training
                elif training:
                    module.training = True


@contextlib.contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Prevent every part of a model from being compiled, or from running compiled, for the time of a context.

    Hooks do not fire inside compiled code. Process-wide, if any part of the model is compiled.

    Parameters
    ----------
    model
        Module that may have compiled parts.

    Yields
    ------
    None
        Nothing.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.ReLU()
    >>> with eager(model):
    ...     model(torch.tensor([-1.0, 1.0]))
    tensor([0., 1.])
    """
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
    """Remove hooks at the end of a context, also after an exception.

    Parameters
    ----------
    handles
        Handles of the hooks.

    Yields
    ------
    None
        Nothing.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.ReLU()
    >>> with hooked([model.register_forward_hook(print)]):
    ...     len(model._forward_hooks)
    1
    >>> len(model._forward_hooks)
    0
    """
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
