"""From a CNN and images to interpretation maps."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sftgan.cgma import cgma
from sftgan.gradcam import evaluation_mode, layer_cams
from sftgan.networks import Generator


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
