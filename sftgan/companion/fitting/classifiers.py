"""Fitting of the paper's CNNs to images, and their predictions (section 4.1)."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from sftgan.cams.model_state import hooked
from sftgan.cnns.normalised import Normalised
from sftgan.companion.data.datasets import ImageData, Split
from sftgan.errors import InputError, check_name
from sftgan.files import load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class ClassifierRecipe:
    """Settings for fitting a CNN.

    Attributes
    ----------
    optimiser
        "adamw", "adam" or "sgd" (with Nesterov momentum 0.9).
    lr
        Learning rate: the peak of a one-cycle schedule, or constant.
    one_cycle
        Whether the learning rate follows a one-cycle schedule. The schedule also cycles the momentum (beta 1
        of Adam) from 0.95 to 0.85 and back.
    batch
        Number of images in a batch.
    epochs
        Number of epochs, unless ``min_steps`` needs more.
    head_epochs
        Epochs on the last linear layer alone, before all others. Its input features are computed once. For
        pretrained CNNs.
    min_steps
        Least number of optimiser steps: small data sets train for more epochs to reach it.
    last_convolutions
        Fit only this many of the last convolutions and everything defined after them, and keep the statistics
        of batch norm; None fits everything. For pretrained CNNs.
    """

    optimiser: str = "adamw"
    lr: float = 1e-2
    one_cycle: bool = True
    batch: int = 32
    epochs: int = 8
    head_epochs: int = 0
    min_steps: int = 0
    last_convolutions: int | None = None

    def epochs_of(self, n_images: int) -> int:
        """Return the number of epochs for a number of training images."""
        return max(self.epochs, math.ceil(self.min_steps / self.steps_of(n_images)))

    def steps_of(self, n_images: int) -> int:
        """Return the number of steps per epoch for a number of training images."""
        return math.ceil(n_images / self.batch)


@dataclass(frozen=True)
class Fitted:
    """A fitted CNN with its learning curve and its results on the test images.

    Attributes
    ----------
    model
        The CNN in evaluation mode.
    curve
        One row per epoch: epoch, loss, held_back_accuracy.
    test_accuracy
        Accuracy on the test images, in [0, 1].
    confusion
        Confusion matrix int64 (C, C) of the test images; its rows are the true classes.
    """

    model: Normalised
    curve: pd.DataFrame
    test_accuracy: float
    confusion: Tensor


def fit(
    model: Normalised,
    data: ImageData,
    recipe: ClassifierRecipe,
    seed: int = 0,
    checkpoint: Path | None = None,
    device: str | torch.device = "cpu",
) -> Fitted:
    """Fit a CNN to training images and evaluate it on test images (section 4.1).

    A tenth of the training images is held back. The CNN keeps the weights of the earliest epoch with the best
    accuracy on this tenth. If the last layer is fitted first, the weights after that compete too. The test
    images influence no choice.

    Parameters
    ----------
    model
        The CNN; it is fitted in place.
    data
        Training and test images.
    recipe
        Settings of the fit.
    seed
        Seed of the held-back images, the order of the images and dropout.
    checkpoint
        File that the state is written to after every epoch; None for no file. A run that was killed resumes
        from it and ends with the same weights, on a CPU bit for bit.
    device
        Device to fit on.

    Returns
    -------
    Fitted
        The CNN, its learning curve and its test results.

    Raises
    ------
    InputError
        If there are fewer than 3 training images, the recipe does not fit the CNN, or the loss is not finite.
    """
    model = model.to(device).to(memory_format=torch.channels_last)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    n_held = max(1, len(order) // 10)
    if len(order) - n_held < 2:
        raise InputError(
            f"a CNN needs at least 3 training images, {data.label} has {len(order)}: load more of them."
        )
    held, train = data.train.subset(order[:n_held]), data.train.subset(order[n_held:])
    n_epochs, frozen = recipe.epochs_of(len(train)), _freeze(model, recipe.last_convolutions)
    optimiser, schedule = _optimiser(model, recipe, steps=max(1, recipe.steps_of(len(train)) * n_epochs))
    rows: list[dict] = []
    best: dict[str, Any] = {"accuracy": -1.0, "weights": {}}
    saved = load_checkpoint(checkpoint)
    if recipe.head_epochs and not saved:
        _fit_head(model, train, recipe.head_epochs, seed)
        best = _better(best, model, _accuracy(_confusion(model, held, len(data.classes))))
    if saved:
        rows, best = saved["rows"], saved["best"]
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
    epochs = tqdm(range(len(rows), n_epochs), desc="fitting the CNN", unit="epoch", disable=None)
    for epoch in epochs:
        with torch.random.fork_rng():
            torch.manual_seed(seed * 1000 + epoch)  # dropout
            loss = _fit_epoch(model, train, recipe, optimiser, schedule, seed * 1000 + epoch)
            if math.isfinite(loss) and not recipe.last_convolutions:
                _recompute_batch_norm(model, train, recipe.batch)
        if not math.isfinite(loss):
            raise InputError(
                f"the CNN's loss became {loss} in epoch {epoch + 1}: lower its learning rate (now {recipe.lr:g})."
            )
        accuracy = _accuracy(_confusion(model, held, len(data.classes)))
        rows.append({"epoch": epoch + 1, "loss": loss, "held_back_accuracy": accuracy})
        epochs.set_postfix(loss=loss, accuracy=accuracy)
        best = _better(best, model, accuracy)
        save_checkpoint(checkpoint, {
            "rows": rows, "best": best, "model": model.state_dict(),
            "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict(),
        })  # fmt: skip
    model.load_state_dict(best["weights"])
    for parameter in frozen:
        parameter.requires_grad_(True)
    model.eval()
    confusion = _confusion(model, data.test, len(data.classes))
    return Fitted(model, pd.DataFrame(rows), _accuracy(confusion), confusion)


@torch.no_grad()
def predict(model: nn.Module, split: Split, batch: int = 256) -> Tensor:
    """Compute the logits of all images of a split.

    Parameters
    ----------
    model
        The CNN, on any device; it is put into evaluation mode.
    split
        The images.
    batch
        Number of images per forward pass.

    Returns
    -------
    Tensor
        Logits float32 (n, C), on the CPU.
    """
    device = next(model.parameters()).device
    model.eval()
    return torch.cat([
        model(split.batch(index).to(device, memory_format=torch.channels_last)).float().cpu()
        for index in torch.arange(len(split)).split(batch)
    ])  # fmt: skip


def _optimiser(model: nn.Module, recipe: ClassifierRecipe, steps: int) -> tuple[Optimizer, LRScheduler]:
    check_name(recipe.optimiser, ["adamw", "adam", "sgd"], "optimiser")
    optimiser: Optimizer
    fitted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if recipe.optimiser == "sgd":
        optimiser = torch.optim.SGD(fitted, recipe.lr, momentum=0.9, nesterov=True)
    else:
        kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
        optimiser = kind(fitted, recipe.lr)
    if recipe.one_cycle:
        return optimiser, torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.lr, total_steps=steps)
    return optimiser, torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)


def _freeze(model: nn.Module, last_convolutions: int | None) -> list[nn.Parameter]:
    """Freeze and return the parameters defined before the last convolutions; none if these are None."""
    if last_convolutions is None:
        return []
    modules = list(model.modules())
    places = [i for i, module in enumerate(modules) if isinstance(module, nn.Conv2d)]
    if last_convolutions > len(places):
        raise InputError(
            f"last_convolutions is {last_convolutions}, but the CNN has {len(places)}: give at most as many."
        )
    before = modules[: places[-last_convolutions]]
    frozen = [parameter for module in before for parameter in module.parameters(recurse=False)]
    for parameter in frozen:
        parameter.requires_grad_(False)
    return frozen


def _better(best: dict, model: nn.Module, accuracy: float) -> dict:
    """Return the more accurate of the best weights so far and the present ones; the former in a tie."""
    if accuracy <= best["accuracy"]:
        return best
    return {"accuracy": accuracy, "weights": {k: v.clone() for k, v in model.state_dict().items()}}


def _fit_head(model: nn.Module, train: Split, epochs: int, seed: int) -> None:
    """Fit the last linear layer alone by Adam, on features that are computed once."""
    *_, head = [module for module in model.modules() if isinstance(module, nn.Linear)]
    caught: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0]))
    with hooked([handle]):
        predict(model, train)
    features, labels = torch.cat(caught), train.labels.to(caught[0].device)
    optimiser = torch.optim.Adam(head.parameters(), 1e-2)
    for epoch in range(epochs):
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed * 1000 + epoch))
        for index in order.split(32):
            loss = F.cross_entropy(head(features[index]), labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def _fit_epoch(
    model: nn.Module,
    train: Split,
    recipe: ClassifierRecipe,
    optimiser: Optimizer,
    schedule: LRScheduler,
    seed: int,
) -> float:
    """Fit for one pass over the training images and return the mean loss."""
    device = next(model.parameters()).device
    model.train()
    if recipe.last_convolutions:
        for norm in [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]:
            norm.eval()
    losses = []
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    for index in order.split(recipe.batch):
        if len(index) > 1:  # batch norm needs two images
            images = train.batch(index).to(device, memory_format=torch.channels_last)
            loss = F.cross_entropy(model(images), train.labels[index].to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        schedule.step()
    return torch.stack(losses).mean().item()


@torch.no_grad()
def _recompute_batch_norm(model: nn.Module, train: Split, batch: int, n_images: int = 512) -> None:
    """Compute the batch-norm statistics of the present weights; after short training running averages lag."""
    device = next(model.parameters()).device
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # plain average over the batches
    model.train()
    for index in torch.arange(min(n_images, len(train))).split(batch):
        if len(index) > 1:
            model(train.batch(index).to(device, memory_format=torch.channels_last))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _confusion(model: nn.Module, split: Split, n_classes: int) -> Tensor:
    pairs = split.labels * n_classes + predict(model, split).argmax(1)
    return torch.bincount(pairs, minlength=n_classes**2).view(n_classes, n_classes)


def _accuracy(confusion: Tensor) -> float:
    return (confusion.trace() / confusion.sum()).item()
