"""Trivial controls: maps that know nothing of the CNN, or next to nothing."""

import torch
from torch import Tensor

from sftgan.gradcam import minmax
from sftgan.training import Examples

CONTROLS = ("all ones", "luminance", "mean map", "last CGMA")


def controls(test: Examples, train: Examples) -> dict[str, Tensor]:
    """Control maps (n, H, W) in [0, 1] for the test examples, by name.

    "all ones" is the whole image, "luminance" the image itself in grey, min-max scaled, "mean map" the average
    Grad-CAM of the training examples (the same for every image), "last CGMA" the generator's last condition,
    min-max scaled: the average over all layers.
    """
    grey = torch.einsum("nchw,c->nhw", test.images, torch.tensor([0.299, 0.587, 0.114]))
    return {
        "all ones": torch.ones_like(test.targets),
        "luminance": minmax(grey)[0],
        "mean map": train.targets.mean(0).expand_as(test.targets),
        "last CGMA": minmax(test.conditions[:, -1])[0],
    }
