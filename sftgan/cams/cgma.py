"""Cumulative Grad-CAM averages, CGMA (paper, section 3.1.1, Eq. 1-4)."""

import torch
from jaxtyping import Float
from torch import Tensor

from sftgan.errors import InputError, check_name


def positions(n_layers: int, eta: int = 8, rounding: str = "double") -> list[int]:
    """Compute the positions of the layers up to which the Grad-CAMs are averaged (Eq. 1-2).

    With skip = 100 / (eta - 1) and K = 0 .. eta - 1, Eq. 2 is::

        Positions[K] = ceil(ceil(skip * K) * N / 100)      rounding="double", as in the released code
        Positions[K] = ceil(skip * K * N / 100)            rounding="single"

    Positions[0] would be 0, and Eq. 4 would divide by it, while the text asks for the first and the last layer to
    be included. So positions are clipped to 1 .. N. The computation is in integers: in floating point, some N
    (28, 29, 55, ...) give N + 1.

    Parameters
    ----------
    n_layers
        Number N of layers.
    eta
        Number of positions, at most N.
    rounding
        "double" or "single", see above.

    Returns
    -------
    list[int]
        The eta positions, counted from 1, in ascending order; for eta = 1 it is [N].

    Raises
    ------
    InputError
        If ``n_layers`` or ``eta`` is less than 1, ``eta`` is greater than ``n_layers``, or ``rounding`` is unknown.

    Examples
    --------
    >>> positions(13)
    [1, 2, 4, 6, 8, 10, 12, 13]
    """
    check_name(rounding, ["double", "single"], "rounding")
    if n_layers < 1 or eta < 1:
        raise InputError(f"n_layers and eta must be at least 1, got n_layers={n_layers} and eta={eta}.")
    if eta > n_layers:
        raise InputError(f"eta is {eta}, but the net has {n_layers} convolutions: choose at most {n_layers}.")
    if eta == 1:
        return [n_layers]
    if rounding == "double":
        raw = [_ceil_div(_ceil_div(100 * k, eta - 1) * n_layers, 100) for k in range(eta)]
    else:
        raw = [_ceil_div(k * n_layers, eta - 1) for k in range(eta)]
    return [min(max(p, 1), n_layers) for p in raw]


def cgma(
    maps: Float[Tensor, "b n h w"], eta: int = 8, rounding: str = "double"
) -> Float[Tensor, "b eta h w"]:
    """Compute the cumulative averages of layer-wise Grad-CAMs (Eq. 3-4).

    CGMA[K] is the mean of the maps of layers 1 .. Positions[K]. Dead maps (all zeros) count as zeros.

    Parameters
    ----------
    maps
        Grad-CAMs (B, N, h, w) in [0, 1] of all N layers, in order of execution.
    eta
        Number of averages, at most N.
    rounding
        How positions are rounded, see ``positions``.

    Returns
    -------
    Tensor
        Averages (B, eta, h, w) in [0, 1].

    Raises
    ------
    InputError
        If ``maps`` is not a floating-point tensor of four dimensions, or there are no such positions.

    Examples
    --------
    >>> import torch
    >>> cgma(torch.tensor([1.0, 0.0, 0.5]).view(1, 3, 1, 1), eta=3).flatten()
    tensor([1.0000, 0.5000, 0.5000])
    """
    if maps.ndim != 4 or not maps.is_floating_point():
        raise InputError(
            f"maps must be a floating-point tensor (B, N, h, w), got {maps.dtype} {tuple(maps.shape)}."
        )
    ends = positions(maps.shape[1], eta, rounding)
    index = torch.tensor(ends, device=maps.device) - 1
    sums = maps.cumsum(1).index_select(1, index)
    return sums / (index + 1).to(maps.dtype)[:, None, None]


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)
