"""What is explained: from a model's output and what the user asks for to one score."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sftgan.errors import InputError

Targets = (
    int
    | Sequence[int]
    | np.ndarray
    | Tensor
    | Callable[[Any], Tensor]
    | Sequence[Callable[[Any], Tensor]]
    | None
)
"""What to explain.

- None: the predicted class of each image.
- int, a sequence of them, or an integer tensor or array (B,): classes, one for all images or one per image.
- Floating-point tensor of the output's shape: weights of the outputs, for several labels at once.
- Sequence of callables, one per image, each given that image's output: pytorch-grad-cam's targets.
- One callable, given all that the model returns: the scores (B,), or their sum.

A binary head has outputs (B, 1) or (B,). Its class 1 has the logit as its score, class 0 the negative logit.
"""


def split(targets: Targets, n_images: int, batch: int) -> Iterator[Targets]:
    """The targets of `batch` images after another; those that are the same for all images are repeated."""
    starts = range(0, n_images, batch)
    own = targets.ndim > 0 if isinstance(targets, Tensor | np.ndarray) else isinstance(targets, Sequence)
    each: Any = targets
    if not own:
        yield from (targets for _ in starts)
        return
    if len(each) != n_images:
        raise InputError(f"there are {len(each)} targets for {n_images} images: give one per image.")
    yield from (each[i : i + batch] for i in starts)


def score(output: Any, targets: Targets, n_images: int) -> Tensor:
    """Sum over the images of what is explained: as images do not mix, its gradient is that of each one.

    `output` is what the model returned. Raises InputError where targets and output do not fit, or where the scores
    are not finite or without a gradient.
    """
    if _are_callables(targets):
        scores = _of_each(output, targets, n_images)
    elif callable(targets):
        scores = targets(output)
    else:
        scores = _of_labels(output, targets, n_images)
    if not isinstance(scores, Tensor) or scores.shape not in [(), (n_images,), (n_images, 1)]:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise InputError(
            f"the targets made {got} of the model's output: return one score per image, ({n_images},)."
        )
    if not scores.requires_grad:
        raise InputError(
            "the explained scores have no gradient with respect to any convolution: the model or the targets detach "
            "them or compute them under no_grad."
        )
    if not scores.isfinite().all():  # their sum may be beyond half precision
        raise InputError(
            "the explained scores are NaN or infinite: check the model's weights and the targets."
        )
    return scores.sum()


def _are_callables(targets: Targets) -> bool:
    return isinstance(targets, Sequence) and len(targets) > 0 and all(callable(t) for t in targets)


def _of_each(output: Any, targets: Any, n_images: int) -> Tensor:
    if len(targets) != n_images:
        raise InputError(f"there are {len(targets)} targets for {n_images} images: give one per image.")
    single = isinstance(output, Mapping) or not hasattr(output, "__len__") or getattr(output, "ndim", 1) == 0
    if single or len(output) != n_images:
        raise InputError(
            f"targets, one per image, need a model that returns one output per image, but it returned "
            f"{type(output).__name__}: give a single callable for the whole output."
        )
    scores = [target(part) for target, part in zip(targets, output, strict=True)]
    for made in scores:
        if not isinstance(made, Tensor) or made.numel() != 1:
            got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise InputError(f"a target made {got} of an image's output: it must return a single number.")
    return torch.stack([made.reshape(()) for made in scores])


def _logits(output: Any, n_images: int) -> Tensor:
    """Logits (B, C) of an output (B, C) or (B,)."""
    if isinstance(output, Tensor) and output.shape == (n_images,):
        return output[:, None]
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != n_images:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(
            f"the model must return logits of shape ({n_images}, classes), got {got}: for other outputs give targets "
            "as a callable that makes one score per image of them."
        )
    return output


def _of_labels(output: Any, targets: Any, n_images: int) -> Tensor:
    logits = _logits(output, n_images)
    if isinstance(targets, Tensor) and targets.is_floating_point():
        if targets.shape != output.shape:
            raise InputError(
                f"targets that are weights must have the shape of the model's output, {tuple(output.shape)}, "
                f"got {tuple(targets.shape)}; classes are integers."
            )
        return (logits * targets.view_as(logits).to(logits)).sum(1)
    if logits.shape[1] == 1:
        logits = torch.cat([-logits, logits], dim=1)
    return logits.gather(1, _class_indices(logits.detach(), targets)[:, None])[:, 0]


def _class_indices(logits: Tensor, targets: int | Sequence[int] | Tensor | None) -> Tensor:
    n_images, n_classes = logits.shape
    if targets is None:
        return logits.argmax(1)
    try:
        indices = torch.as_tensor(targets, device=logits.device)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"targets must be class indices, weights of the outputs, or callables, got {type(targets).__name__}."
        ) from None
    if indices.is_floating_point() or indices.dtype == torch.bool:
        raise InputError(
            "targets must be class indices (integers), or weights of the outputs as a torch tensor, got "
            f"{indices.dtype}."
        )
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
