"""Salt-and-pepper noise (section 4.4)."""

from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

from sftgan.errors import InputError


def salt_and_pepper(images: Tensor, density: float, seed: int = 0) -> Tensor:
    """Set exactly round(density * H * W) pixels of each image to 1 or 0, half of them each (section 4.4).

    A pixel is set in all its channels; one that already has the value does not change. If the number of
    pixels is odd, one more becomes 1 than 0. With the same seed, the pixels of a lower density are among
    those of a higher one.

    Parameters
    ----------
    images
        Images (B, C, H, W) in [0, 1].
    density
        Share of the pixels to set, from 0 to 1.
    seed
        Seed of the choice of pixels.

    Returns
    -------
    Tensor
        Noisy images (B, C, H, W).

    Raises
    ------
    InputError
        If ``density`` does not lie in [0, 1], or ``images`` does not have four dimensions.

    Examples
    --------
    >>> import torch
    >>> noisy = salt_and_pepper(torch.full((1, 1, 2, 2), 0.5), density=0.5)
    >>> noisy.flatten().sort().values
    tensor([0.0000, 0.5000, 0.5000, 1.0000])
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
    """Check that noise densities are distinct shares of pixels, at least one.

    Parameters
    ----------
    densities
        Densities to check.

    Raises
    ------
    InputError
        If there is no density, one does not lie in [0, 1], or one occurs twice.

    Examples
    --------
    >>> check_densities([0.0, 0.05, 0.5])
    >>> check_densities([0.5, 0.5])
    Traceback (most recent call last):
    sftgan.errors.InputError: the noise densities [0.5, 0.5] contain duplicates: give each density once.
    """
    if not isinstance(densities, Sequence) or isinstance(densities, str) or not densities:
        raise InputError(f"the noise densities are {densities!r}: give a list such as [0.0, 0.05, 0.5].")
    for density in densities:
        if isinstance(density, bool) or not isinstance(density, Real) or not 0 <= density <= 1:
            raise InputError(f"the noise density is {density!r}: give the share of pixels, from 0 to 1.")
    if len(set(densities)) < len(densities):
        raise InputError(f"the noise densities {list(densities)} contain duplicates: give each density once.")
