"""A generator of one's own: trained on a folder of pictures and one CNN, and judged on pictures held out."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import pandas as pd
import torch
from torch import Tensor

from sftgan import metrics
from sftgan.baselines import linear_fit, linear_map
from sftgan.bootstrap import bootstrap_ci
from sftgan.errors import InputError, check_name
from sftgan.explain import Explainer
from sftgan.explained import examples
from sftgan.models import CNN
from sftgan.networks import KINDS
from sftgan.photos import batches, check_writable, pictures_in, stacked
from sftgan.reading import Reading
from sftgan.training import Examples, GANRecipe, generate, train_gan

WATCHED = 8  # held-out examples whose maps show the progress


@dataclass(frozen=True)
class Prepared:
    """What a generator is trained on and judged by, at the size of its maps.

    checkpoint: where the state of the training is kept; it goes with the pictures, the CNN's weights and all options
    but the number of epochs.
    """

    train: Examples
    held_out: Examples
    reading: Reading
    checkpoint: Path

    def summary(self) -> str:
        """How many pictures there are, and where the checkpoint lies."""
        return (
            f"{len(self.train)} pictures to train on, {len(self.held_out)} held out; the state of the training after "
            f"each epoch is kept in {self.checkpoint}, from which the same command goes on."
        )


@dataclass(frozen=True)
class Judged:
    """A trained generator, its losses by epoch, and how well it agrees with Grad-CAM on pictures held out.

    losses: index epoch; columns discriminator, adversarial, reconstruction. agreement: for "generator", "mean map" and
    "linear fit", Dice and correlation as (mean, low, high) over that many `pictures`, with the 95 % bootstrap interval.
    """

    explainer: Explainer
    losses: pd.DataFrame
    agreement: dict[str, dict[str, tuple[float, float, float]]]
    pictures: int

    def losses_by_epoch(self) -> str:
        """The mean losses of each epoch, a line for each."""
        return self.losses.to_string(float_format="{:.4f}".format)

    def report(self) -> str:
        """The agreement, a line for each that draws, with 95 % bootstrap intervals."""
        lines = [
            f"agreement with Grad-CAM of the last convolution, mean over the pictures held out ({self.pictures}):"
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
    """Let a CNN look at the pictures of a folder, or of the class folders in it, and split them at random.

    out: the file that the generator will go to. map_size: side in pixels of the maps that the generator learns to draw.
    size: of the images that the CNN sees; None: the CNN's own. held_out: share of the pictures to judge by. Pictures
    that cannot be read are told of on stderr. Raises InputError for what cannot be used, most of it before the CNN
    sees anything.
    """
    check_name(recipe.kind, KINDS, "generator")
    if out.suffix != ".safetensors":
        raise InputError(f"{out} is to be a safetensors file: let its name end in .safetensors.")
    check_writable(out.parent)
    paths = pictures_in(folder)
    reading, side = Reading(recipe.eta), size or cnn.size
    state = {name: value.cpu().float().numpy() for name, value in cnn.model.state_dict().items()}
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    options = replace(recipe, epochs=0), map_size, side, held_out, seed
    key = joblib.hash((state, files, options))
    cnn.model.to(device)
    found = [
        examples(cnn.model, stacked(photos), map_size, reading, batch=batch)[0]
        for photos in batches(paths, side, batch, [])
    ]
    n = sum(map(len, found))
    if n < 2:
        raise InputError(
            f"{folder} has fewer than 2 pictures that can be read: one to train on and one to judge by are needed."
        )
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    n_held = min(max(round(held_out * n), 1), n - 1)
    everything = Examples.concatenate(found)
    return Prepared(
        everything.subset(order[n_held:]),
        everything.subset(order[:n_held]),
        reading,
        out.with_name(f"{out.stem}.{key[:8]}.checkpoint"),
    )


def train(prepared: Prepared, recipe: GANRecipe, seed: int = 0, device: str = "cpu") -> Judged:
    """Train a generator, or go on from the checkpoint, and compare it on the pictures held out with two controls.

    "mean map" is the average Grad-CAM of the training pictures, the same for each; "linear fit" a linear map of the
    conditions and colours of each pixel, fitted to the training pictures.
    """
    test = prepared.held_out
    watched = test.subset(torch.arange(min(WATCHED, len(test))))
    gan = train_gan(prepared.train, watched, recipe, seed, prepared.checkpoint, device)
    drawn = {
        "generator": generate(gan.generator.to(device), test),
        "mean map": prepared.train.targets.mean(0).expand_as(test.targets),
        "linear fit": linear_map(linear_fit([prepared.train]), test),
    }
    losses = gan.losses.groupby("epoch")[["discriminator", "adversarial", "reconstruction"]].mean()
    explainer = Explainer(gan.generator.cpu(), prepared.reading, test.targets.shape[-1])
    agreement = {name: _agreement(maps, test.targets) for name, maps in drawn.items()}
    return Judged(explainer, losses, agreement, len(test))


def _agreement(maps: Tensor, targets: Tensor) -> dict[str, tuple[float, float, float]]:
    values = {
        "Dice": metrics.dice(metrics.binarise(maps), metrics.binarise(targets)),
        "correlation": metrics.correlation(maps, targets),
    }
    return {name: (found.mean().item(), *bootstrap_ci(found)) for name, found in values.items()}


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]"


def about(judged: Judged, prepared: Prepared, cnn: CNN, recipe: GANRecipe, seed: int) -> dict[str, str]:
    """What is kept in the file of the generator."""
    return {
        "model": cnn.name,
        "weights": cnn.weights,
        "pictures": f"{len(prepared.train)} to train on, {len(prepared.held_out)} held out",
        "training": f"{len(judged.losses)} epochs, seed {seed}",
        "result": judged.report(),
    }
