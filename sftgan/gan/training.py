"""Adversarial training of the SFT generators (paper, section 4.1, "Training SFT-GANs")."""

import itertools
import math
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from sftgan.cams.conditions import scalar, to_jet
from sftgan.errors import InputError, check_name
from sftgan.files import load_checkpoint, save_checkpoint
from sftgan.gan.examples import Examples
from sftgan.gan.networks import ConcatGenerator, Discriminator, Generator, concat_width


@dataclass(frozen=True)
class GANRecipe:
    """Settings of the training of an SFT-GAN.

    The generator minimises ``BCE + weight * reconstruction`` by Adam with beta 1 = 0.5. The paper names
    binary cross entropy and mean squared error; the weight and the learning rate are those of the released
    code and of pix2pix. An unknown name raises ``InputError``.

    Attributes
    ----------
    kind
        Generator: ``"lsft"`` or ``"gsft"``.
    eta
        Number of CGMAs per image.
    width
        Number of features of generator and discriminator.
    epochs
        Number of passes over the training examples.
    batch
        Number of examples per step.
    lr
        Learning rate.
    reconstruction
        Reconstruction loss: ``"mse"`` or ``"mae"``.
    weight
        Weight of the reconstruction loss.
    output
        What the generator produces: ``"scalar"`` maps, or ``"jet"`` pictures of them.
    adversarial
        Adversarial loss: ``"bce"`` on logits; ``"softmax"``, the softmax over one unit of the released code
        taken literally, which has no gradient; ``"off"`` trains no discriminator.
    discriminator_period
        The discriminator is updated once in so many steps, starting with the first.
    discriminator_input
        What the discriminator sees beside the generated map in the generator's step: the image
        (``"pair"``) or the target map (``"released"``).
    layers
        Variant of generator and discriminator: ``"paper"`` or ``"released"``.
    modulation
        ``"sft"``, or ``"concatenation"`` for ``ConcatGenerator``.

    Examples
    --------
    >>> GANRecipe(kind="gsft", epochs=5).lr
    0.0002
    """

    kind: str = "lsft"
    eta: int = 8
    width: int = 64
    epochs: int = 20
    batch: int = 16
    lr: float = 2e-4
    reconstruction: str = "mse"
    weight: float = 100.0
    output: str = "scalar"
    adversarial: str = "bce"
    discriminator_period: int = 1
    discriminator_input: str = "pair"
    layers: str = "paper"
    modulation: str = "sft"

    def __post_init__(self) -> None:
        for name, values in CHOICES.items():
            check_name(getattr(self, name), values, name)


CHOICES = {
    "reconstruction": ("mse", "mae"),
    "output": ("scalar", "jet"),
    "adversarial": ("bce", "softmax", "off"),
    "discriminator_input": ("pair", "released"),
    "layers": ("paper", "released"),
    "modulation": ("sft", "concatenation"),
}
"""The values that each name in a recipe may take; the paper's comes first."""
LOSSES = ("discriminator", "adversarial", "reconstruction")
"""Names of the losses of a training."""


@dataclass(frozen=True)
class TrainedGAN:
    """A trained generator and the course of its training.

    Attributes
    ----------
    generator
        The generator in evaluation mode, on the CPU: a ``Generator``, or a ``ConcatGenerator`` if the
        recipe's modulation is ``"concatenation"``.
    losses
        One dictionary per step, with step, epoch, discriminator, adversarial and reconstruction.
    epochs
        One dictionary per epoch, with epoch and step, its last one; epoch 0 is the untrained net.
    previews
        Maps (epochs + 1, n, h, w) in [0, 1] of the watched examples, before training and after each epoch.
    """

    generator: Generator | Any
    losses: list[dict[str, float]]
    epochs: list[dict[str, int]]
    previews: Float[Tensor, "states n h w"]

    def epoch_losses(self) -> list[dict[str, float]]:
        """Compute the mean losses of each epoch.

        Returns
        -------
        list[dict[str, float]]
            One dictionary per epoch, from the first on, with the names of ``LOSSES``.
        """
        steps = (list(group) for _, group in itertools.groupby(self.losses, key=itemgetter("epoch")))
        return [{name: float(np.mean([step[name] for step in epoch])) for name in LOSSES} for epoch in steps]


def train_gan(
    train: Examples,
    watched: Examples,
    recipe: GANRecipe,
    seed: int = 0,
    checkpoint: Path | None = None,
    accelerator: str = "cpu",
) -> TrainedGAN:
    """Train a generator against a discriminator (section 4.1).

    By default every step updates both. The global random state is left as it was.

    Parameters
    ----------
    train
        Examples to learn from.
    watched
        Examples of held-out classes that show the progress; they do not influence the training.
    recipe
        Settings of the training.
    seed
        Seed of the initial weights and of the order of the examples.
    checkpoint
        File that receives the state after every epoch. A killed run resumes from it and ends with the same
        weights, bit for bit on a CPU. None writes no file.
    accelerator
        Lightning Fabric's accelerator, ``"cpu"`` or ``"cuda"``; bfloat16 is used on CUDA devices that support
        it.

    Returns
    -------
    TrainedGAN
        The generator, its losses and its maps of the watched examples.

    Raises
    ------
    InputError
        If a loss or a map is not finite, the recipe does not fit the examples, or the checkpoint cannot be
        written.

    Examples
    --------
    >>> import torch
    >>> few = Examples(torch.rand(2, 3, 16, 16), torch.rand(2, 2, 16, 16), torch.rand(2, 16, 16))
    >>> trained = train_gan(few, few, GANRecipe(eta=2, width=2, epochs=1))
    >>> trained.previews.shape
    torch.Size([2, 2, 16, 16])
    """
    fabric = Fabric(accelerator=accelerator, devices=1, precision=_precision(accelerator))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        nets = _nets(recipe, train.images.shape[-1])
    (generator, g_optimiser), (discriminator, d_optimiser) = (
        fabric.setup(net, torch.optim.Adam(net.parameters(), recipe.lr, betas=(0.5, 0.999))) for net in nets
    )
    state = {"generator": generator, "discriminator": discriminator, "g": g_optimiser, "d": d_optimiser}
    saved = load_checkpoint(checkpoint)
    if saved:
        for name, part in state.items():
            part.load_state_dict(saved[name])
        losses, previews = saved["losses"], saved["previews"]
    else:
        losses, previews = [], [_preview(generator, watched, recipe)]
    done = len(previews) - 1
    for epoch in tqdm(range(done, recipe.epochs), desc=recipe.kind.upper(), unit="epoch", disable=None):
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed * 1000 + epoch))
        for index in order.split(recipe.batch):
            step = {"step": len(losses) + 1, "epoch": epoch + 1}
            batch = train.subset(index)
            losses.append(
                step
                | _step(
                    fabric, generator, discriminator, g_optimiser, d_optimiser, batch, step["step"], recipe
                )
            )
        previews.append(_preview(generator, watched, recipe))
        weights = {name: part.state_dict() for name, part in state.items()}
        save_checkpoint(checkpoint, weights | {"losses": losses, "previews": previews})
    steps = math.ceil(len(train) / recipe.batch)
    epochs = [{"epoch": epoch, "step": steps * epoch} for epoch in range(len(previews))]
    return TrainedGAN(generator.module.cpu().eval(), losses, epochs, torch.stack(previews))


@torch.no_grad()
def generate(generator: nn.Module, examples: Examples, batch: int = 128) -> Float[Tensor, "n h w"]:
    """Generate interpretation maps, batch by batch; the generator is put into evaluation mode.

    Parameters
    ----------
    generator
        A trained ``Generator`` or ``ConcatGenerator``, on any device.
    examples
        Images and conditions; the targets are not used.
    batch
        Number of examples at a time.

    Returns
    -------
    Tensor
        Maps (n, h, w) in [0, 1] as float32, on the CPU; JET pictures are converted to maps.

    Examples
    --------
    >>> import torch
    >>> from sftgan.gan.networks import Generator
    >>> pair = Examples(torch.rand(2, 3, 8, 8), torch.rand(2, 4, 8, 8), torch.rand(2, 8, 8))
    >>> generate(Generator("lsft", eta=4, width=4), pair).shape
    torch.Size([2, 8, 8])
    """
    device = next(generator.parameters()).device
    generator.eval()
    return torch.cat([
        scalar(generator(images.to(device), conditions.to(device))).float().cpu()
        for images, conditions in zip(examples.images.split(batch), examples.conditions.split(batch), strict=True)
    ])  # fmt: skip


def _nets(recipe: GANRecipe, size: int) -> list[nn.Module]:
    channels = 3 if recipe.output == "jet" else 1
    if recipe.modulation == "concatenation":
        generator: nn.Module = ConcatGenerator(recipe.eta, concat_width(recipe.width), channels)
    else:
        generator = Generator(recipe.kind, recipe.eta, recipe.width, recipe.layers, channels)
    return [generator, Discriminator(recipe.width, recipe.layers, size, channels)]


def _step(
    fabric: Fabric,
    generator: nn.Module,
    discriminator: nn.Module,
    g_optimiser: torch.optim.Optimizer,
    d_optimiser: torch.optim.Optimizer,
    batch: Examples,
    step: int,
    recipe: GANRecipe,
) -> dict[str, float]:
    """Update the discriminator if it is due, then the generator; return their losses."""
    images, conditions, targets = fabric.to_device((batch.images, batch.conditions, batch.targets))
    real = to_jet(targets) if recipe.output == "jet" else targets
    generator.train()
    fake = generator(images, conditions)

    def judged(
        beside: Float[Tensor, "b 3 h w"],
        maps: Float[Tensor, "b h w"] | Float[Tensor, "b 3 h w"],
        is_real: bool,
    ) -> Float[Tensor, ""]:
        maps = _as_picture(maps) if recipe.layers == "released" else maps
        return _bce(discriminator(beside, maps), is_real, recipe.adversarial)

    d_loss = adversarial = fake.new_zeros(())
    if recipe.adversarial != "off":
        d_loss = (judged(images, real, True) + judged(images, fake.detach(), False)) / 2
        if (step - 1) % recipe.discriminator_period == 0:
            d_optimiser.zero_grad()
            fabric.backward(d_loss)
            d_optimiser.step()
        beside = images if recipe.discriminator_input == "pair" else _as_picture(real)
        adversarial = judged(beside, fake, True)
    reconstruction = (F.mse_loss if recipe.reconstruction == "mse" else F.l1_loss)(fake, real)
    g_optimiser.zero_grad()
    fabric.backward(adversarial + recipe.weight * reconstruction)
    g_optimiser.step()

    values = {
        "discriminator": d_loss.item(),
        "adversarial": adversarial.item(),
        "reconstruction": reconstruction.item(),
    }
    for name, value in values.items():
        if not math.isfinite(value):
            raise _diverged(f"the {name} loss became {value}", recipe)
    return values


def _as_picture(maps: Float[Tensor, "b h w"] | Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    return maps if maps.ndim == 4 else maps[:, None].expand(-1, 3, -1, -1)


def _diverged(what: str, recipe: GANRecipe) -> InputError:
    return InputError(
        f"{what}: lower the learning rate (now {recipe.lr:g}) or the weight of the reconstruction loss "
        f"(now {recipe.weight:g})."
    )


def _bce(logits: Float[Tensor, " b"], real: bool, head: str) -> Float[Tensor, ""]:
    if head == "softmax":  # over one unit: always 1
        probability = logits[:, None].softmax(1)[:, 0]
        return F.binary_cross_entropy(probability, torch.full_like(probability, float(real)))
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def _preview(generator: nn.Module, watched: Examples, recipe: GANRecipe) -> Float[Tensor, "n h w"]:
    maps = generate(generator, watched)
    if not maps.isfinite().all():
        raise _diverged("the generator's maps are not finite", recipe)
    return maps


def _precision(accelerator: str) -> Literal["bf16-mixed", "32-true"]:
    has_bf16 = accelerator == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if has_bf16 else "32-true"
