"""Inputs, controls and measures of students, which are generators that learn expensive maps."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sftgan import metrics
from sftgan.cams.conditions import ConditionSpec
from sftgan.cams.gradcam import block_cam, mean_activation
from sftgan.cnns.architectures import last_block, target_layer
from sftgan.companion.study.cache import Config, Runtime, Stage
from sftgan.companion.study.methods import TEACHERS, teacher_maps
from sftgan.companion.study.stages import CLASSIFIER, EXPLAINED, IMAGE_DATA
from sftgan.controls import linear_fit, linear_map
from sftgan.errors import check_name
from sftgan.gan.examples import Examples, ExplainedImages, explain_images
from sftgan.gan.networks import Generator
from sftgan.gan.training import GANRecipe, generate, train_gan
from sftgan.metrics import resized

FREE_INPUTS = ("Grad-CAM", "mean activation", "input gradient")
"""Maps that one or two passes through the CNN give, without any CGMA."""
INPUTS = {
    "image": (),
    "image + free": FREE_INPUTS,
    "image + CGMAs": ("CGMAs",),
    "image + free + CGMAs": (*FREE_INPUTS, "CGMAs"),
}
"""Names of the channels that a student sees beside the image, by the name of its inputs."""
WITHOUT, WITH = "image + free", "image + free + CGMAs"
"""Inputs whose comparison decides: they differ only in the CGMAs."""
FEW, MANY = "teacher, few samples", "teacher, many samples"
"""Names of the teacher's own maps, those that the students learn, and those that all maps are measured against."""
Source = tuple[ExplainedImages, Tensor, Tensor]
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
        Channels (n, channels, H, W) in [0, 1], by the names in ``FREE_INPUTS`` and "CGMAs".
    """
    explained, gradient, target = source
    n = len(target)
    free = (explained.examples.targets[:n], explained.activation[:n], gradient[:n])
    maps = dict(zip(FREE_INPUTS, (part[:, None] for part in free), strict=True))
    return maps | {"CGMAs": explained.examples.conditions[:n]}


def student_examples(source: Source, inputs: str, side: int) -> Examples:
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
    """Fit ``controls.linear_map`` to the conditions alone, without the colours.

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
            linear(
                [student_examples(one, inputs, side) for one in train], student_examples(test, inputs, side)
            ),
            size,
        )
        for inputs in (WITHOUT, WITH)
    }
    given = channels(test)
    mean = torch.cat([one[2] for one in train]).mean(0).expand_as(test[2])
    return fitted | {"mean map": mean} | {name: given[name][:, 0] for name in FREE_INPUTS[:2]}


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


def _taught(config: Config, runtime: Runtime, checkpoint: Path) -> Tensor:
    explained = config["explained"]
    model = CLASSIFIER(explained["cnn"], runtime).model.to(runtime.device)
    images = IMAGE_DATA(explained["data"], runtime).chosen(**explained["images"]).batch()[: config["n"]]
    layer = target_layer(model, explained["cnn"]["arch"])
    maps = teacher_maps(model, layer, images, config["name"], config["samples"], config["seed"])
    return resized(maps, (explained["size"], explained["size"]))


def _source(config: Config, runtime: Runtime) -> Source:
    """Return the explained images of one CNN, with the input gradients and the maps that the students learn."""
    taught = (TAUGHT(config[name], runtime) for name in ("gradient", "few"))
    return EXPLAINED(config["explained"], runtime), *taught


def _student(config: Config, runtime: Runtime, checkpoint: Path) -> Generator:
    sources = (_source(one, runtime) for one in config["train"])
    train = Examples.concatenate(
        [student_examples(source, config["inputs"], config["side"]) for source in sources]
    )
    recipe = GANRecipe(**config["recipe"])
    watched = train.subset(torch.arange(1))
    return train_gan(train, watched, recipe, config["seed"], checkpoint, runtime.accelerator).generator


def _drawn(config: Config, runtime: Runtime, checkpoint: Path) -> dict[str, Tensor]:
    test, *train = (_source(one, runtime) for one in (config["test"], *config["train"]))
    maps, side = {}, config["side"]
    for method, student in config["students"].items():
        shown = student_examples(test, student["inputs"], side)
        net = STUDENT(student, runtime).to(runtime.device)
        maps[method] = resized(generate(net, shown), tuple(test[2].shape[-2:]))
    maps |= controls(test, train, side)
    return maps | {FEW: test[2], MANY: TAUGHT(config["test"]["many"], runtime)}


def _scored(config: Config, runtime: Runtime, checkpoint: Path) -> pd.DataFrame:
    explained = config["test"]["explained"]
    model = CLASSIFIER(explained["cnn"], runtime).model.to(runtime.device)
    maps, frames = DRAWN(config, runtime), []
    n = len(maps[MANY])
    images = IMAGE_DATA(explained["data"], runtime).chosen(**explained["images"]).batch()[:n]
    classes = EXPLAINED(explained, runtime).predictions[:n]
    for method, drawn in maps.items():
        columns = metrics.measures(drawn, maps[MANY], maps["mean map"])
        columns |= areas(model, images, classes, drawn, config["steps"])
        frames.append(pd.DataFrame({"method": method, "image": range(n)} | columns))
    return pd.concat(frames, ignore_index=True)


def _timed(config: Config, runtime: Runtime, checkpoint: Path) -> pd.DataFrame:
    explained, n = config["explained"], config["timed"]
    arch, size, spec = explained["cnn"]["arch"], explained["size"], ConditionSpec(**explained["reading"])
    model = CLASSIFIER(explained["cnn"], runtime).model.to(runtime.device)
    images = IMAGE_DATA(explained["data"], runtime).chosen(**explained["images"]).batch()[:n]
    layer, block = target_layer(model, arch), last_block(model, arch)
    side, eta = next((s["side"], s["recipe"]["eta"]) for s in config["nets"].values())
    blank = Examples(
        torch.zeros(n, 3, side, side), torch.zeros(n, eta, side, side), torch.zeros(n, side, side)
    )
    nets = {kind: STUDENT(student, runtime).to(runtime.device) for kind, student in config["nets"].items()}
    on_device = images.to(runtime.device)
    work: dict[str, Callable[[], object]] = {
        "Grad-CAM": lambda: block_cam(model, layer, on_device, size=size),
        "mean activation": lambda: mean_activation(model, layer, on_device, size),
        "input gradient": lambda: teacher_maps(model, layer, images, "input gradient"),
        "CGMAs": lambda: explain_images(model, images, size, spec, block),
    }
    work |= {kind: partial(generate, net, blank) for kind, net in nets.items()}
    work |= {
        name: partial(teacher_maps, model, layer, images, name, config["few"].get(name), config["seed"])
        for name in TEACHERS
    }
    return cpu_seconds(work, n)


TAUGHT = Stage(_taught)
"""A teacher's maps (n, H, W) of one CNN's images."""
STUDENT = Stage(_student)
"""A student, trained on the maps of several CNNs."""
DRAWN = Stage(_drawn)
"""Maps (n, H, W) of the students, the controls and the teacher, by method."""
SCORED = Stage(_scored)
"""Measures of all methods against the teacher with many samples, with one row for each method and image."""
TIMED = Stage(_timed)
"""CPU seconds per image of the teachers, the students and their inputs."""
