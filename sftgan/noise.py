"""Degraded images (paper, section 4.4)."""

from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

from sftgan.errors import InputError


def salt_and_pepper(images: Tensor, density: float, seed: int = 0) -> Tensor:
    """Set exactly round(density * H * W) pixels of each image (B, C, H, W) in [0, 1] to 1 or 0, half each way.

    A pixel is set in all its channels; one that has the value already stays as it is. Of an odd number the odd one
    becomes 1. The pixels of a lower density are among those of a higher one with the same seed. Raises InputError
    unless `density` lies in [0, 1].
    """
    check_densities([density])
    if images.ndim != 4:
        raise InputError(f"images have shape {tuple(images.shape)}: give (batch, channels, height, width).")
    n_images, _, height, width = images.shape
    n = round(density * height * width)
    order = torch.rand(n_images, height * width, generator=torch.Generator().manual_seed(seed)).argsort(1)
    values = torch.arange(n).add(1).remainder(2).to(images)  # 1, 0, 1, ...
    noisy = images.flatten(2).clone()
    index = order[:, None, :n].expand(-1, images.shape[1], -1).to(images.device)
    noisy.scatter_(2, index, values.expand(index.shape))
    return noisy.view_as(images)


def check_densities(densities: Sequence[float]) -> None:
    """Raise InputError unless `densities` are shares of pixels, at least one and none twice."""
    if not isinstance(densities, Sequence) or isinstance(densities, str) or not densities:
        raise InputError(f"the noise densities are {densities!r}: give a list such as [0.0, 0.05, 0.5].")
    for density in densities:
        if isinstance(density, bool) or not isinstance(density, Real) or not 0 <= density <= 1:
            raise InputError(f"the noise density is {density!r}: give the share of pixels, from 0 to 1.")
    if len(set(densities)) < len(densities):
        raise InputError(f"the noise densities {list(densities)} hold one twice: give each once.")
