"""From a CNN and images to interpretation maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sftgan.cgma import cgma
from sftgan.gradcam import block_cam, evaluation_mode, layer_cams
from sftgan.networks import Generator
from sftgan.training import Examples


@dataclass(frozen=True)
class Explained:
    """The examples that one CNN gives: images, CGMAs and target maps, at the GANs' size.

    labels, predictions: int64 (n,). masks: bool (n, H, W), the object, or None. shortcuts: the same of the part
    of the ground that may tell the class. dead: float (N,), the share of images for which a layer's Grad-CAM has
    no contrast.
    """

    examples: Examples
    labels: Tensor
    predictions: Tensor
    masks: Tensor | None
    shortcuts: Tensor | None
    dead: Tensor

    @property
    def objects(self) -> Tensor:
        """The masks as maps (n, H, W) to be shown; NaN, which is drawn as nothing, where they are not known."""
        return torch.full_like(self.examples.targets, torch.nan) if self.masks is None else self.masks.float()


class Explainer:
    """Draws what a CNN looked at: Grad-CAMs of all convolutions, their CGMAs, and a trained generator.

    >>> explainer = Explainer(generator)                                              # doctest: +SKIP
    >>> maps = explainer(model, images)   # (B, H, W) in [0, 1], H x W of the images  # doctest: +SKIP
    """

    def __init__(self, generator: Generator, rounding: str = "double", tap: str = "post"):
        self.generator = generator
        self.rounding = rounding
        self.tap = tap

    def __call__(
        self, model: nn.Module, images: Tensor, targets: int | Sequence[int] | Tensor | None = None
    ) -> Tensor:
        """Maps (B, H, W) in [0, 1] for images (B, 3, H, W) in [0, 1]; arguments as those of `layer_cams`."""
        cams = layer_cams(model, images, targets, self.tap)
        conditions = cgma(cams.maps, self.generator.eta, self.rounding)
        device = next(self.generator.parameters()).device
        with torch.no_grad(), evaluation_mode(self.generator):
            return self.generator(images.to(device), conditions.to(device)).to(images.device)


def examples(
    model: nn.Module,
    images: Tensor,
    size: int,
    eta: int = 8,
    tap: str = "post",
    rounding: str = "double",
    block: nn.Module | None = None,
    batch: int = 64,
) -> tuple[Examples, Tensor, Tensor]:
    """What a generator gets to see of a CNN: examples at `size`, dead maps bool (n, N), and logits (n, C).

    Images (n, 3, H, W) in [0, 1]. The target is the Grad-CAM of the last convolution, or of the output of `block`.
    Computed where the model is, `batch` images at a time; the results are on the images' device.
    """
    parts, dead, logits = [], [], []
    device = next(model.parameters()).device
    for chunk in images.to(device).split(batch):
        cams = layer_cams(model, chunk, tap=tap, size=size)
        pictures = F.interpolate(chunk, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
        targets = cams.maps[:, -1] if block is None else block_cam(model, block, chunk, size=size)
        seen = pictures, cgma(cams.maps, eta, rounding), targets
        parts.append(Examples(*(part.to(images.device) for part in seen)))
        dead.append(cams.dead.to(images.device))
        logits.append(cams.logits.to(images.device))
    return Examples.concatenate(parts), torch.cat(dead), torch.cat(logits)
