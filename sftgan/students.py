"""Inputs, controls and measures of students, which are generators that learn expensive maps."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sftgan import metrics
from sftgan.baselines import linear_fit, linear_map
from sftgan.errors import check_name
from sftgan.explained import Explained
from sftgan.gradcam import minmax
from sftgan.training import Examples

FREE = ("Grad-CAM", "mean activation", "input gradient")
"""Maps that one or two passes through the CNN give, without any CGMA."""
INPUTS = {
    "image": (),
    "image + free": FREE,
    "image + CGMAs": ("CGMAs",),
    "image + free + CGMAs": (*FREE, "CGMAs"),
}
"""Names of the channels that a student sees beside the image, by the name of its inputs."""
WITHOUT, WITH = "image + free", "image + free + CGMAs"
"""Inputs whose comparison decides: they differ only in the CGMAs."""
FEW, MANY = "teacher, few samples", "teacher, many samples"
"""Names of the teacher's own maps: those that the students learn, and those that all maps are measured against."""
Source = tuple[Explained, Tensor, Tensor]
"""Images explained for one CNN, and maps (n, H, W) of their first n images: the input gradient and the target."""


def channels(source: Source) -> dict[str, Tensor]:
    """Collect all channels that a student may see beside the image.

    Parameters
    ----------
    source
        Explained images of one CNN, with input gradients and targets.

    Returns
    -------
    dict[str, Tensor]
        Channels (n, channels, H, W) in [0, 1], by the names in ``FREE`` and "CGMAs".
    """
    explained, gradient, target = source
    n = len(target)
    free = (explained.examples.targets[:n], explained.activation[:n], gradient[:n])
    maps = dict(zip(FREE, (part[:, None] for part in free), strict=True))
    return maps | {"CGMAs": explained.examples.conditions[:n]}


def examples(source: Source, inputs: str, side: int) -> Examples:
    """Build the examples of a student at a small size.

    The channels that the student does not see are zeros, so all students have the same network.

    Parameters
    ----------
    source
        Explained images of one CNN, with input gradients and targets.
    inputs
        Name from ``INPUTS``.
    side
        Height and width of the examples, in pixels.

    Returns
    -------
    Examples
        The first n images, with all channels as conditions and the teacher's maps as targets.

    Raises
    ------
    InputError
        If ``inputs`` is unknown.
    """
    check_name(inputs, INPUTS, "inputs")
    given = channels(source)
    conditions = torch.cat(
        [part if name in INPUTS[inputs] else torch.zeros_like(part) for name, part in given.items()], 1
    )
    target = source[2]
    images = source[0].examples.images[: len(target)]
    small = [
        F.interpolate(part, (side, side), mode="bilinear", antialias=True).clamp(0, 1)
        for part in (images, conditions, target[:, None])
    ]
    return Examples(small[0], small[1], small[2][:, 0])


def linear(train: Sequence[Examples], test: Examples) -> Tensor:
    """Fit ``baselines.linear_map`` to the conditions alone, without the colours.

    Parameters
    ----------
    train
        Training examples, which are fitted together.
    test
        Examples to draw the maps of.

    Returns
    -------
    Tensor
        Maps (n, H, W) of ``test``, in [0, 1].

    Examples
    --------
    >>> import torch
    >>> conditions = torch.rand(2, 1, 4, 4)
    >>> part = Examples(torch.rand(2, 3, 4, 4), conditions, 0.5 * conditions[:, 0])
    >>> torch.allclose(linear([part], part), part.targets, atol=1e-5)
    True
    """
    colourless = [replace(part, images=part.images[:, :0]) for part in (*train, test)]
    return linear_map(linear_fit(colourless[:-1]), colourless[-1])


def controls(test: Source, train: Sequence[Source], side: int) -> dict[str, Tensor]:
    """Compute the maps that a student has to beat.

    None of them needs a generator, and none sees more of the teacher than a student does.

    Parameters
    ----------
    test
        Explained images of one CNN, with input gradients and targets.
    train
        The same for each CNN that the students learn from.
    side
        Height and width at which the linear maps are fitted, in pixels.

    Returns
    -------
    dict[str, Tensor]
        Maps (n, H, W) in [0, 1] by name: the linear maps of the inputs ``WITHOUT`` and ``WITH``, the mean of the
        training targets, the Grad-CAM and the mean activation.
    """
    size = tuple(test[2].shape[-2:])
    fitted = {
        f"linear: {inputs.removeprefix('image + ')}": metrics.resized(
            linear([examples(one, inputs, side) for one in train], examples(test, inputs, side)), size
        )
        for inputs in (WITHOUT, WITH)
    }
    given = channels(test)
    mean = torch.cat([one[2] for one in train]).mean(0).expand_as(test[2])
    return fitted | {"mean map": mean} | {name: given[name][:, 0] for name in FREE[:2]}


def measures(maps: Tensor, truth: Tensor, mean: Tensor) -> dict[str, np.ndarray]:
    """Measure maps against the teacher's, image by image.

    The Dice coefficient is that of the binarised maps. They are min-max scaled first, as the teacher's maps are.

    Parameters
    ----------
    maps
        Maps (n, H, W) in [0, 1].
    truth
        Maps (n, H, W) of the teacher, in [0, 1].
    mean
        The mean map, expanded to (n, H, W).

    Returns
    -------
    dict[str, np.ndarray]
        Values (n,), float64: "r", Pearson's correlation over pixels; "squared error", its mean over pixels; "error
        of the mean map", the same for ``mean``; and "dice".

    Examples
    --------
    >>> import torch
    >>> truth = torch.tensor([[[0.0, 1.0]]])
    >>> found = measures(truth, truth, torch.full((1, 1, 2), 0.5))
    >>> {name: round(value.item(), 6) for name, value in found.items()}
    {'r': 1.0, 'squared error': 0.0, 'error of the mean map': 0.25, 'dice': 1.0}
    """
    squared, of_mean = (((part - truth).double() ** 2).mean((1, 2)) for part in (maps, mean))
    dice = metrics.dice(metrics.binarise(minmax(maps)[0]), metrics.binarise(truth))
    found = {"r": metrics.correlation(maps, truth), "squared error": squared}
    found |= {"error of the mean map": of_mean, "dice": dice}
    return {name: values.numpy() for name, values in found.items()}


def skill(error: np.ndarray, of_mean: np.ndarray, axis: int = -1) -> np.ndarray | np.floating:
    """Compute the skill ``1 - mean(error) / mean(of_mean)``.

    It is 1 for perfect maps, and 0 for maps no better than the mean map, which is the same for every image.

    Parameters
    ----------
    error
        Squared error of each image.
    of_mean
        Squared error of the mean map on the same images.
    axis
        Axis of the images.

    Returns
    -------
    np.ndarray | np.floating
        Skill, at most 1, without the axis of the images.

    Examples
    --------
    >>> import numpy as np
    >>> float(skill(np.array([0.1, 0.1]), np.array([0.3, 0.5])))
    0.75
    """
    return 1 - error.mean(axis) / of_mean.mean(axis)


def areas(
    model: nn.Module, images: Tensor, classes: Tensor, maps: Tensor, steps: int
) -> dict[str, np.ndarray]:
    """Compute the areas under the curves of deletion and insertion of each image.

    Parameters
    ----------
    model
        CNN that returns logits.
    images
        Images (n, 3, H, W) in [0, 1].
    classes
        Class of each image (n,), int64 on the CPU.
    maps
        Maps (n, h, w), which are resized to the images.
    steps
        Number of steps of the curves, at least 1.

    Returns
    -------
    dict[str, np.ndarray]
        Areas (n,) in [0, 1], float64, as "deletion" and "insertion".

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    >>> found = areas(model, torch.rand(5, 3, 2, 2), torch.zeros(5, dtype=torch.long), torch.rand(5, 2, 2), steps=4)
    >>> {name: value.shape for name, value in found.items()}
    {'deletion': (5,), 'insertion': (5,)}
    """
    found = metrics.area_under_curve(metrics.perturbation_curves(model, images, maps, classes, steps))
    return {"deletion": found[0].numpy(), "insertion": found[1].numpy()}


def cpu_seconds(work: Mapping[str, Callable[[], object]], images: int, rounds: int = 3) -> pd.DataFrame:
    """Measure the CPU time per image of several pieces of work.

    Each round times every piece once, so that a slow spell of the machine affects all of them.

    Parameters
    ----------
    work
        Functions to time, by name.
    images
        Number of images that each function processes.
    rounds
        Number of rounds.

    Returns
    -------
    pd.DataFrame
        One row for each piece of work: "what", its name, and "seconds", the median over the rounds, in CPU seconds
        per image.

    Examples
    --------
    >>> cpu_seconds({"sum": lambda: sum(range(100))}, images=1).columns.tolist()
    ['what', 'seconds']
    """
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, call in work.items():
            began = time.process_time()
            call()
            taken[name].append((time.process_time() - began) / images)
    return pd.DataFrame({"what": list(taken), "seconds": [float(np.median(t)) for t in taken.values()]})
