"""The score that is explained, from a model's output and the targets that the user gives."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from sftgan.errors import InputError

Targets = (
    int
    | np.integer
    | Sequence[int]
    | Shaped[np.ndarray, "..."]
    | Shaped[Tensor, "..."]
    | Callable[[Any], Tensor]
    | Sequence[Callable[[Any], Tensor]]
    | None
)
"""What to explain.

- None: the predicted class of each image.
- An integer: the class of all images.
- A sequence of integers, or an integer tensor or array (B,): the class of each image.
- A floating-point tensor of the output's shape: weights of the outputs, for several labels at once.
- A sequence of callables, one for each image, such as pytorch-grad-cam's targets: each maps the output for its image
  to a score.
- One callable: it maps all that the model returns to the scores (B,), or to their sum.

A binary head has outputs (B, 1) or (B,). The score of its class 1 is the logit, that of class 0 the negative logit.
"""


def split(targets: Targets, n_images: int, batch: int) -> Iterator[Targets]:
    """Split targets into batches of images.

    Parameters
    ----------
    targets
        Targets of all images.
    n_images
        Number of images.
    batch
        Number of images in a batch; the last batch may be smaller.

    Yields
    ------
    Targets
        Targets of one batch; targets that serve all images are repeated as they are.

    Raises
    ------
    InputError
        If there is one target for each image, but another number of images.

    Examples
    --------
    >>> list(split([4, 2, 0], n_images=3, batch=2))
    [[4, 2], [0]]
    >>> list(split(None, n_images=3, batch=2))
    [None, None]
    """
    starts = range(0, n_images, batch)
    own = targets.ndim > 0 if isinstance(targets, Tensor | np.ndarray) else isinstance(targets, Sequence)
    each: Any = targets
    if not own:
        yield from (targets for _ in starts)
        return
    if len(each) != n_images:
        raise InputError(f"there are {len(each)} targets for {n_images} images: give one per image.")
    yield from (each[i : i + batch] for i in starts)


def score(output: Any, targets: Targets, n_images: int) -> Float[Tensor, ""]:
    """Compute the sum over the images of the scores to explain.

    Images do not interact in the model, so with respect to one image's features the gradient of the sum is that
    of the image's own score.

    Parameters
    ----------
    output
        What the model returned.
    targets
        What to explain.
    n_images
        Number of images.

    Returns
    -------
    Tensor
        The sum, a scalar with a gradient.

    Raises
    ------
    InputError
        If targets and output do not fit each other, or the scores are not finite or have no gradient.

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[1.0, 2.0], [5.0, 3.0]], requires_grad=True)
    >>> score(logits, None, n_images=2)
    tensor(7., grad_fn=<SumBackward0>)
    >>> score(logits, [0, 1], n_images=2)
    tensor(4., grad_fn=<SumBackward0>)
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
            f"the targets returned {got} for the model's output: return one score per image, ({n_images},)."
        )
    if not scores.requires_grad:
        raise InputError(
            "the explained scores have no gradient with respect to any convolution: neither the model nor the "
            "targets may detach them or compute them under no_grad."
        )
    if not scores.isfinite().all():  # their sum may overflow in half precision
        raise InputError(
            "the explained scores are NaN or infinite: check the model's weights and the targets."
        )
    return scores.sum()


def _are_callables(targets: Targets) -> bool:
    return isinstance(targets, Sequence) and len(targets) > 0 and all(callable(t) for t in targets)


def _of_each(output: Any, targets: Any, n_images: int) -> Float[Tensor, " b"]:
    if len(targets) != n_images:
        raise InputError(f"there are {len(targets)} targets for {n_images} images: give one per image.")
    single = isinstance(output, Mapping) or not hasattr(output, "__len__") or getattr(output, "ndim", 1) == 0
    if single or len(output) != n_images:
        raise InputError(
            f"targets, one per image, need a model that returns one output per image, but this one returned "
            f"{type(output).__name__}: give a single callable for the whole output."
        )
    scores = [target(part) for target, part in zip(targets, output, strict=True)]
    for made in scores:
        if not isinstance(made, Tensor) or made.numel() != 1:
            got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise InputError(f"a target returned {got} for an image's output: return a single number.")
    return torch.stack([made.reshape(()) for made in scores])


def _logits(output: Any, n_images: int) -> Float[Tensor, "b classes"]:
    """Return an output (B, C) as it is, and an output (B,) as (B, 1)."""
    if isinstance(output, Tensor) and output.shape == (n_images,):
        return output[:, None]
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != n_images:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(
            f"the model must return logits of shape ({n_images}, classes), got {got}: for other outputs, give a "
            "callable as targets that returns one score per image."
        )
    return output


def _of_labels(output: Any, targets: Any, n_images: int) -> Float[Tensor, " b"]:
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


def _class_indices(logits: Float[Tensor, "b classes"], targets: Any) -> Int[Tensor, " b"]:
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
