"""Adversarial training of the SFT generators (paper, section 4.1, "Training SFT-GANs")."""

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from sftgan.checkpoint import load_checkpoint, save_checkpoint
from sftgan.errors import InputError, check_name
from sftgan.networks import Discriminator, Generator


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
    """

    kind: str = "lsft"
    eta: int = 8
    width: int = 64
    epochs: int = 20
    batch: int = 16
    lr: float = 2e-4
    reconstruction: str = "mse"
    weight: float = 100.0


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
    """Train generator and discriminator; every step updates both.

    The `watched` examples, of held-out classes, show the progress; they choose nothing.

    With `checkpoint` the state is written there after every epoch, and a run that was killed goes on from it to
    the same weights, on a CPU bit for bit. `accelerator` is Lightning Fabric's, "cpu" or "cuda"; bfloat16 is used on
    CUDA devices that have it. Raises InputError when a loss is not finite.
    """
    check_name(recipe.reconstruction, ["mse", "mae"], "reconstruction loss")
    fabric = Fabric(accelerator=accelerator, devices=1, precision=_precision(accelerator))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        nets = [Generator(recipe.kind, recipe.eta, recipe.width), Discriminator(recipe.width)]
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
                step | _step(fabric, generator, discriminator, g_optimiser, d_optimiser, batch, recipe)
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
        generator(images.to(device), conditions.to(device)).float().cpu()
        for images, conditions in zip(examples.images.split(batch), examples.conditions.split(batch), strict=True)
    ])  # fmt: skip


def _step(
    fabric: Fabric,
    generator: nn.Module,
    discriminator: nn.Module,
    g_optimiser: torch.optim.Optimizer,
    d_optimiser: torch.optim.Optimizer,
    batch: Examples,
    recipe: GANRecipe,
) -> dict[str, float]:
    """One update of the discriminator, then one of the generator; returns their losses."""
    images, conditions, targets = fabric.to_device((batch.images, batch.conditions, batch.targets))
    generator.train()
    fake = generator(images, conditions)

    on_real, on_fake = discriminator(images, targets), discriminator(images, fake.detach())
    d_loss = (_bce(on_real, real=True) + _bce(on_fake, real=False)) / 2
    d_optimiser.zero_grad()
    fabric.backward(d_loss)
    d_optimiser.step()

    adversarial = _bce(discriminator(images, fake), real=True)
    reconstruction = (F.mse_loss if recipe.reconstruction == "mse" else F.l1_loss)(fake, targets)
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


def _diverged(what: str, recipe: GANRecipe) -> InputError:
    return InputError(
        f"{what}: lower the learning rate (now {recipe.lr:g}) or the weight of the reconstruction loss "
        f"(now {recipe.weight:g})."
    )


def _bce(logits: Tensor, real: bool) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def _preview(generator: nn.Module, watched: Examples, recipe: GANRecipe) -> Tensor:
    maps = generate(generator, watched)
    if not maps.isfinite().all():
        raise _diverged("the generator's maps are not finite", recipe)
    return maps


def _precision(accelerator: str) -> str:
    has_bf16 = accelerator == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if has_bf16 else "32-true"
