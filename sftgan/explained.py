"""What generators learn from: the examples that a CNN gives (paper, section 3.1)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sftgan.gradcam import block_cam, coarse_cams
from sftgan.reading import Reading, pictures
from sftgan.training import Examples


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
    parts, dead, logits = [], [], []
    device = next(model.parameters()).device
    for i in range(0, len(images), batch):
        chunk = images[i : i + batch].to(device)
        classes = reading.explained(None if targets is None else targets[i : i + batch].to(device))
        cams = coarse_cams(model, chunk, classes, reading.tap, size, reading.gradients)
        shown = pictures(chunk, (size, size))
        conditions, target = reading.read(cams)
        if block is not None and reading.target == "last":
            target = block_cam(model, block, chunk, classes, size)
        parts.append(Examples(*(part.to(images.device) for part in (shown, conditions, target))))
        dead.append(cams.dead.to(images.device))
        logits.append(cams.logits.to(images.device))
    return Examples.concatenate(parts), torch.cat(dead), torch.cat(logits)
