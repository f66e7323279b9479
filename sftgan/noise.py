"""Degraded images (paper, section 4.4)."""

from numbers import Real

import torch
from torch import Tensor

from sftgan.errors import InputError


def salt_and_pepper(images: Tensor, density: float, seed: int = 0) -> Tensor:
    """Set exactly round(density * H * W) pixels of each image (B, C, H, W) in [0, 1] to 1 or 0, half each way.

    A pixel changes in all its channels. Of an odd number the odd one becomes 1. The pixels of a lower density
    are among those of a higher one with the same seed. Raises InputError unless `density` lies in [0, 1].
    """
    check_density(density)
    n_images, _, height, width = images.shape
    n = round(density * height * width)
    order = torch.rand(n_images, height * width, generator=torch.Generator().manual_seed(seed)).argsort(1)
    values = torch.arange(n).add(1).remainder(2).to(images)  # 1, 0, 1, ...
    noisy = images.flatten(2).clone()
    index = order[:, None, :n].expand(-1, images.shape[1], -1).to(images.device)
    noisy.scatter_(2, index, values.expand(index.shape))
    return noisy.view_as(images)


def check_density(density: float) -> None:
    """Raise InputError unless `density` is a share of pixels."""
    if isinstance(density, bool) or not isinstance(density, Real) or not 0 <= density <= 1:
        raise InputError(f"the noise density is {density!r}: give the share of pixels, from 0 to 1.")
