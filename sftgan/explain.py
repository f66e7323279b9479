"""From a CNN and images to interpretation maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sftgan.errors import InputError
from sftgan.gradcam import block_cam, evaluation_mode, layer_cams
from sftgan.networks import Generator
from sftgan.reading import Reading
from sftgan.training import Examples, scalar


@dataclass(frozen=True)
class Explained:
    """The examples that one CNN gives: images, CGMAs and target maps, at the GANs' size.

    labels, predictions: int64 (n,). masks: bool (n, H, W), the object, or None. shortcuts: the same of the part
    of the ground that may tell the class. dead: float (N,), the share of images for which a layer's Grad-CAM has
    no contrast. activation: (n, H, W) in [0, 1], the mean over the channels of what the explained layer puts out.
    """

    examples: Examples
    labels: Tensor
    predictions: Tensor
    masks: Tensor | None
    shortcuts: Tensor | None
    dead: Tensor
    activation: Tensor

    @property
    def objects(self) -> Tensor:
        """The masks as maps (n, H, W) to be shown; NaN, which is drawn as nothing, where they are not known."""
        return torch.full_like(self.examples.targets, torch.nan) if self.masks is None else self.masks.float()


class Explainer:
    """Draws what a CNN looked at: Grad-CAMs of all convolutions, their CGMAs, and a trained generator.

    `reading` is how the generator's conditions were made when it was trained, the paper's way by default.

    >>> explainer = Explainer(generator)                                              # doctest: +SKIP
    >>> maps = explainer(model, images)   # (B, H, W) in [0, 1], H x W of the images  # doctest: +SKIP
    """

    def __init__(self, generator: Generator, reading: Reading | None = None):
        self.generator = generator
        self.reading = reading or Reading(generator.eta)
        if self.reading.channels != generator.eta:
            raise InputError(
                f"the reading gives {self.reading.channels} conditions, but the generator takes {generator.eta}: "
                "give the reading that it was trained with."
            )

    def __call__(
        self, model: nn.Module, images: Tensor, targets: int | Sequence[int] | Tensor | None = None
    ) -> Tensor:
        """Maps (B, H, W) in [0, 1] for images (B, 3, H, W) in [0, 1]; arguments as those of `layer_cams`."""
        cams = layer_cams(model, images, targets, self.reading.tap, gradients=self.reading.gradients)
        conditions, _ = self.reading.read(cams.maps)
        device = next(self.generator.parameters()).device
        with torch.no_grad(), evaluation_mode(self.generator):
            return scalar(self.generator(images.to(device), conditions.to(device))).to(images.device)


def examples(
    model: nn.Module,
    images: Tensor,
    size: int,
    reading: Reading | None = None,
    block: nn.Module | None = None,
    batch: int = 64,
    targets: Tensor | None = None,
) -> tuple[Examples, Tensor, Tensor]:
    """What a generator gets to see of a CNN: examples at `size`, dead maps bool (n, N), and logits (n, C).

    Images (n, 3, H, W) in [0, 1]. The target is the Grad-CAM of the last convolution, or of the output of `block`; for
    a reading whose target is the first layer, of that. The explained classes are `targets` (n,), or what the reading
    says. Computed where the model is, `batch` images at a time; the results are on the images' device.
    """
    reading = reading or Reading()
    if targets is None and reading.explained_class == "first":
        targets = torch.zeros(len(images), dtype=torch.long)
    parts, dead, logits = [], [], []
    device = next(model.parameters()).device
    for i in range(0, len(images), batch):
        chunk = images[i : i + batch].to(device)
        classes = None if targets is None else targets[i : i + batch].to(device)
        cams = layer_cams(model, chunk, classes, reading.tap, size, reading.gradients)
        pictures = F.interpolate(chunk, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
        conditions, target = reading.read(cams.maps)
        if block is not None and reading.target == "last":
            target = block_cam(model, block, chunk, classes, size)
        parts.append(Examples(*(part.to(images.device) for part in (pictures, conditions, target))))
        dead.append(cams.dead.to(images.device))
        logits.append(cams.logits.to(images.device))
    return Examples.concatenate(parts), torch.cat(dead), torch.cat(logits)
