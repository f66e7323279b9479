"""Train a generator on a folder of pictures for one CNN, and evaluate it on held-out pictures."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from sftgan import metrics
from sftgan.cams.conditions import ConditionSpec
from sftgan.cnns.loading import CNN
from sftgan.controls import linear_fit, linear_map
from sftgan.errors import InputError, check_name
from sftgan.explainer import Explainer
from sftgan.gan.examples import Examples, explain_images
from sftgan.gan.networks import KINDS
from sftgan.gan.training import LOSSES, GANRecipe, generate, train_gan
from sftgan.intervals import bootstrap_ci
from sftgan.pictures import batches, check_writable, pictures_in, stacked

WATCHED = 8  # number of held-out examples whose maps show the progress


@dataclass(frozen=True)
class Prepared:
    """Training data and held-out data of a generator, at the size of its maps.

    Attributes
    ----------
    train
        Examples for training.
    held_out
        Examples for evaluation.
    spec
        Settings that turn Grad-CAMs into conditions and targets.
    checkpoint
        File for the state of the training. Its name depends on the pictures, the CNN's weights and all options
        except the number of epochs.
    """

    train: Examples
    held_out: Examples
    spec: ConditionSpec
    checkpoint: Path

    def summary(self) -> str:
        """Say how many pictures there are, and where the checkpoint is."""
        return (
            f"{len(self.train)} pictures to train on, {len(self.held_out)} held out; the training is saved "
            f"after each epoch in {self.checkpoint}, and the same command resumes from there."
        )


@dataclass(frozen=True)
class Judged:
    """Trained generator, its losses, and its agreement with Grad-CAM on held-out pictures.

    Attributes
    ----------
    explainer
        Explainer with the trained generator.
    losses
        Mean losses, one dictionary per epoch, with "discriminator", "adversarial" and "reconstruction".
    agreement
        "Dice" and "correlation" of "generator", "mean map" and "linear fit", each as (mean, low, high) over the
        held-out pictures, with the limits of the 95 % bootstrap interval.
    pictures
        Number of held-out pictures.
    """

    explainer: Explainer
    losses: list[dict[str, float]]
    agreement: dict[str, dict[str, tuple[float, float, float]]]
    pictures: int

    def losses_by_epoch(self) -> str:
        """Format the mean losses as text, one line per epoch."""
        lines = ["epoch" + "".join(f"{name:>16}" for name in LOSSES)]
        for epoch, losses in enumerate(self.losses, 1):
            lines.append(f"{epoch:>5}" + "".join(f"{losses[name]:>16.4f}" for name in LOSSES))
        return "\n".join(lines)

    def report(self) -> str:
        """Format the agreement as text, one line for the generator and each control, with 95 % intervals."""
        lines = [
            f"agreement with Grad-CAM of the last convolution, mean over the held-out pictures ({self.pictures}):"
        ]
        for name, numbers in self.agreement.items():
            parts = [
                f"{measure} {mean:.3f}{_interval(low, high)}"
                for measure, (mean, low, high) in numbers.items()
            ]
            lines.append(f"  {name:<12}" + "   ".join(parts))
        return "\n".join(lines)


def prepare(
    folder: Path,
    cnn: CNN,
    out: Path,
    recipe: GANRecipe,
    map_size: int = 64,
    size: int | None = None,
    held_out: float = 0.2,
    seed: int = 0,
    batch: int = 8,
    device: str = "cpu",
) -> Prepared:
    """Compute a generator's examples from a folder of pictures, and hold some out at random.

    Pictures that cannot be read are reported on stderr and skipped.

    Parameters
    ----------
    folder
        Folder of pictures, or of class folders with pictures.
    cnn
        CNN whose Grad-CAMs the generator learns to draw.
    out
        File to which the generator will be written; its name ends in ``.safetensors``. The checkpoint is beside it.
    recipe
        Settings of the training.
    map_size
        Side in pixels of the maps that the generator learns to draw.
    size
        Side in pixels of the images that the CNN sees; None for the CNN's own.
    held_out
        Share of the pictures to hold out, in [0, 1]. At least one picture is held out, and at least one is not.
    seed
        Seed of the random split.
    batch
        Number of pictures at a time.
    device
        Device of the CNN.

    Returns
    -------
    Prepared
        Examples for training and evaluation.

    Raises
    ------
    InputError
        If the kind of generator is unknown, ``out`` is not a writable safetensors file, fewer than two pictures can
        be read, or the CNN does not suit the recipe or the size.
    """
    check_name(recipe.kind, KINDS, "generator")
    if out.suffix != ".safetensors":
        raise InputError(f"{out} must be a safetensors file: let its name end in .safetensors.")
    check_writable(out.parent)
    paths = pictures_in(folder)
    spec, side = ConditionSpec(recipe.eta), size or cnn.size
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    options = replace(recipe, epochs=0), map_size, side, held_out, seed
    key = _digest(cnn.model.state_dict(), files, options)
    cnn.model.to(device)
    found = [
        explain_images(cnn.model, stacked(photos), map_size, spec, batch=batch)[0]
        for photos in batches(paths, side, batch, [])
    ]
    n = sum(map(len, found))
    if n < 2:
        raise InputError(
            f"{folder} has fewer than 2 readable pictures: add some, as training and evaluation need one each."
        )
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    n_held = min(max(round(held_out * n), 1), n - 1)
    everything = Examples.concatenate(found)
    return Prepared(
        everything.subset(order[n_held:]),
        everything.subset(order[:n_held]),
        spec,
        out.with_name(f"{out.stem}.{key[:8]}.checkpoint"),
    )


def train(prepared: Prepared, recipe: GANRecipe, seed: int = 0, device: str = "cpu") -> Judged:
    """Train a generator, and compare it with two controls on the held-out pictures.

    The control "mean map" is the average Grad-CAM of the training pictures, the same for all pictures. The control
    "linear fit" maps the conditions and colours of each pixel linearly, with coefficients fitted to the training
    pictures. If there is a checkpoint, the training resumes from it.

    Parameters
    ----------
    prepared
        Result of ``prepare``.
    recipe
        Settings of the training, as given to ``prepare``; only the number of epochs may differ.
    seed
        Seed of the training, as given to ``prepare``.
    device
        Device of the training.

    Returns
    -------
    Judged
        The generator, on the CPU, with its losses and its agreement with Grad-CAM.
    """
    test = prepared.held_out
    watched = test.subset(torch.arange(min(WATCHED, len(test))))
    gan = train_gan(prepared.train, watched, recipe, seed, prepared.checkpoint, device)
    drawn = {
        "generator": generate(gan.generator.to(device), test),
        "mean map": prepared.train.targets.mean(0).expand_as(test.targets),
        "linear fit": linear_map(linear_fit([prepared.train]), test),
    }
    explainer = Explainer(gan.generator.cpu(), prepared.spec, test.targets.shape[-1])
    agreement = {name: _agreement(maps, test.targets) for name, maps in drawn.items()}
    return Judged(explainer, gan.epoch_losses(), agreement, len(test))


def _digest(weights: Mapping[str, Tensor], *rest: object) -> str:
    digest = hashlib.sha256(repr(rest).encode())
    for name, value in weights.items():
        digest.update(name.encode() + value.cpu().float().numpy().tobytes())
    return digest.hexdigest()


def _agreement(
    maps: Float[Tensor, "n h w"], targets: Float[Tensor, "n h w"]
) -> dict[str, tuple[float, float, float]]:
    values = {
        "Dice": metrics.dice(metrics.binarise(maps), metrics.binarise(targets)),
        "correlation": metrics.correlation(maps, targets),
    }
    return {name: (found.mean().item(), *bootstrap_ci(found)) for name, found in values.items()}


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]"


def about(judged: Judged, prepared: Prepared, cnn: CNN, recipe: GANRecipe, seed: int) -> dict[str, str]:
    """Collect the notes that are saved in the generator's file.

    Parameters
    ----------
    judged
        Result of ``train``.
    prepared
        Result of ``prepare``.
    cnn
        CNN that the generator was trained for.
    recipe
        Settings of the training.
    seed
        Seed of the training.

    Returns
    -------
    dict[str, str]
        Notes for ``Explainer.save``.
    """
    return {
        "model": cnn.name,
        "weights": cnn.weights,
        "pictures": f"{len(prepared.train)} to train on, {len(prepared.held_out)} held out",
        "training": f"{len(judged.losses)} epochs, seed {seed}",
        "result": judged.report(),
    }
