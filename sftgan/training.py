"""Adversarial training of the SFT generators (paper, section 4.1, "Training SFT-GANs")."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from sftgan.checkpoint import load_checkpoint, save_checkpoint
from sftgan.errors import InputError, check_name
from sftgan.networks import ConcatGenerator, Discriminator, Generator, concat_width
from sftgan.reading import scalar, to_jet


@dataclass(frozen=True)
class Examples:
    """What a generator learns from: images (n, 3, H, W), conditions (n, eta, h, w) and target maps (n, H, W),
    all float32 in [0, 1]."""

    images: Tensor
    conditions: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, index: Tensor) -> "Examples":
        """Those at the places `index` (m,)."""
        return Examples(self.images[index], self.conditions[index], self.targets[index])

    @staticmethod
    def concatenate(parts: list["Examples"]) -> "Examples":
        """All of them, in order."""
        return Examples(
            torch.cat([p.images for p in parts]),
            torch.cat([p.conditions for p in parts]),
            torch.cat([p.targets for p in parts]),
        )


@dataclass(frozen=True)
class GANRecipe:
    """How an SFT-GAN is trained: L = BCE + `weight` * (MSE or MAE), Adam with beta 1 = 0.5.

    The paper names mean squared error and binary cross entropy; the weight, and the learning rate of 2e-4, are
    those of the released code and of pix2pix.

    output: the generator draws "scalar" maps or "jet" pictures of them. adversarial: "bce" on logits; "softmax" is
    the released code's softmax over one unit read literally, which has no gradient; "off" trains no discriminator.
    discriminator_period: it is updated at every such step, from the first on. discriminator_input: in "released" the
    generator's step shows it the target, not the image, beside the generated map. layers: of generator and
    discriminator. modulation: "concatenation" is `ConcatGenerator` in the place of SFT.
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
"""The values that names in a recipe may take, the paper's first."""


@dataclass(frozen=True)
class TrainedGAN:
    """A trained generator in evaluation mode, on the CPU.

    losses: one row per step (step, epoch, discriminator, adversarial, reconstruction).
    epochs: one row per epoch, 0 being the untrained net (epoch, step).
    previews: (epochs + 1, n, H, W), the maps of the watched examples after each epoch.
    """

    generator: Generator
    losses: pd.DataFrame
    epochs: pd.DataFrame
    previews: Tensor


def train_gan(
    train: Examples,
    watched: Examples,
    recipe: GANRecipe,
    seed: int = 0,
    checkpoint: Path | None = None,
    accelerator: str = "cpu",
) -> TrainedGAN:
    """Train generator and discriminator; every step updates both, or as the recipe says.

    The `watched` examples, of held-out classes, show the progress; they choose nothing.

    With `checkpoint` the state is written there after every epoch, and a run that was killed goes on from it to
    the same weights, on a CPU bit for bit. `accelerator` is Lightning Fabric's, "cpu" or "cuda"; bfloat16 is used on
    CUDA devices that have it. Raises InputError when a loss is not finite.
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
    epochs = pd.DataFrame({"epoch": range(len(previews)), "step": [steps * e for e in range(len(previews))]})
    return TrainedGAN(generator.module.cpu().eval(), pd.DataFrame(losses), epochs, torch.stack(previews))


@torch.no_grad()
def generate(generator: nn.Module, examples: Examples, batch: int = 128) -> Tensor:
    """Interpretation maps (n, H, W) in [0, 1], on the CPU. Puts the generator into evaluation mode."""
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
    """One update of the discriminator, where it is due, then one of the generator; returns their losses."""
    images, conditions, targets = fabric.to_device((batch.images, batch.conditions, batch.targets))
    real = to_jet(targets) if recipe.output == "jet" else targets
    generator.train()
    fake = generator(images, conditions)

    def judged(beside: Tensor, maps: Tensor, is_real: bool) -> Tensor:
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


def _as_picture(maps: Tensor) -> Tensor:
    return maps if maps.ndim == 4 else maps[:, None].expand(-1, 3, -1, -1)


def _diverged(what: str, recipe: GANRecipe) -> InputError:
    return InputError(
        f"{what}: lower the learning rate (now {recipe.lr:g}) or the weight of the reconstruction loss "
        f"(now {recipe.weight:g})."
    )


def _bce(logits: Tensor, real: bool, head: str) -> Tensor:
    if head == "softmax":  # over one unit: always 1
        probability = logits[:, None].softmax(1)[:, 0]
        return F.binary_cross_entropy(probability, torch.full_like(probability, float(real)))
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def _preview(generator: nn.Module, watched: Examples, recipe: GANRecipe) -> Tensor:
    maps = generate(generator, watched)
    if not maps.isfinite().all():
        raise _diverged("the generator's maps are not finite", recipe)
    return maps


def _precision(accelerator: str) -> Literal["bf16-mixed", "32-true"]:
    has_bf16 = accelerator == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if has_bf16 else "32-true"
