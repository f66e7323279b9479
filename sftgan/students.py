"""What a student of an expensive map is given, what it is compared with, and how its maps are measured."""

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
"""What one or two passes through the CNN give without any cumulative average."""
INPUTS = {
    "image": (),
    "image + free": FREE,
    "image + CGMAs": ("CGMAs",),
    "image + free + CGMAs": (*FREE, "CGMAs"),
}
WITHOUT, WITH = "image + free", "image + free + CGMAs"
"""The two that decide: they differ in the CGMAs only."""
FEW, MANY = "teacher, few samples", "teacher, many samples"
Source = tuple[Explained, Tensor, Tensor]
"""Of one CNN's images: what is explained, and (n, H, W) the input gradient and the map to be learned."""


def channels(source: Source) -> dict[str, Tensor]:
    """All that can be given beside the image, (n, channels, H, W) in [0, 1] by name."""
    explained, gradient, target = source
    n = len(target)
    free = (explained.examples.targets[:n], explained.activation[:n], gradient[:n])
    maps = dict(zip(FREE, (part[:, None] for part in free), strict=True))
    return maps | {"CGMAs": explained.examples.conditions[:n]}


def examples(source: Source, inputs: str, side: int) -> Examples:
    """The examples at side x side; channels that are not in `INPUTS[inputs]` are zeros, so that all nets are alike."""
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
    """`baselines.linear_map` (n, H, W) of the conditions alone, without the colours, fitted to all of `train`."""
    colourless = [replace(part, images=part.images[:, :0]) for part in (*train, test)]
    return linear_map(linear_fit(colourless[:-1]), colourless[-1])


def controls(test: Source, train: Sequence[Source], side: int) -> dict[str, Tensor]:
    """Maps (n, H, W) in [0, 1] by name: no generator, and of the teacher no more than a student sees of it."""
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
    """By image, of maps (n, H, W) in [0, 1] against the truth: r, squared error, that of the mean map, and Dice.

    For Dice maps are min-max scaled first, as the truth is.
    """
    squared, of_mean = (((part - truth).double() ** 2).mean((1, 2)) for part in (maps, mean))
    dice = metrics.dice(metrics.binarise(minmax(maps)[0]), metrics.binarise(truth))
    found = {"r": metrics.correlation(maps, truth), "squared error": squared}
    found |= {"error of the mean map": of_mean, "dice": dice}
    return {name: values.numpy() for name, values in found.items()}


def skill(error: np.ndarray, of_mean: np.ndarray, axis: int = -1) -> np.ndarray:
    """1 - error / error of the mean map: 1 is perfect, 0 no better than the same map for every image."""
    return 1 - error.mean(axis) / of_mean.mean(axis)


def areas(
    model: nn.Module, images: Tensor, classes: Tensor, maps: Tensor, steps: int
) -> dict[str, np.ndarray]:
    """By image the areas below the curves of deletion and insertion; maps (n, h, w) are brought to the images' size."""
    found = metrics.area_under_curve(metrics.perturbation_curves(model, images, maps, classes, steps))
    return {"deletion": found[0].numpy(), "insertion": found[1].numpy()}


def cpu_seconds(work: Mapping[str, Callable[[], object]], images: int, rounds: int = 3) -> pd.DataFrame:
    """CPU seconds per image of several pieces of work, medians of interleaved rounds."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, call in work.items():
            began = time.process_time()
            call()
            taken[name].append((time.process_time() - began) / images)
    return pd.DataFrame({"what": list(taken), "seconds": [float(np.median(t)) for t in taken.values()]})
