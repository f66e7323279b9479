"""From a CNN and images to interpretation maps."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sftgan.cgma import cgma
from sftgan.gradcam import block_cam, evaluation_mode, layer_cams
from sftgan.networks import Generator
from sftgan.training import Examples


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
        with torch.no_grad(), evaluation_mode(self.generator):
            return self.generator(images, conditions)


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
    """
    parts, dead, logits = [], [], []
    for chunk in images.split(batch):
        cams = layer_cams(model, chunk, tap=tap, size=size)
        pictures = F.interpolate(chunk, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
        targets = cams.maps[:, -1] if block is None else block_cam(model, block, chunk, size=size)
        parts.append(Examples(pictures, cgma(cams.maps, eta, rounding), targets))
        dead.append(cams.dead)
        logits.append(cams.logits)
    return Examples.concatenate(parts), torch.cat(dead), torch.cat(logits)
