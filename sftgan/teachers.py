"""Expensive maps for students to learn: Score-CAM, and SmoothGrad and RISE, which are noisy with few samples."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sftgan import baselines
from sftgan.errors import InputError, check_name
from sftgan.gradcam import minmax
from sftgan.taps import evaluation_mode

TEACHERS = ("SmoothGrad", "RISE", "Score-CAM")
"""Names of the teachers; see ``teach``."""
SAMPLED = TEACHERS[:2]
"""Teachers that draw samples: more samples give a better map."""
CELLS, KEPT = 7, 0.5
"""RISE's masks: cells per side, and the probability that a cell is kept (Petsiuk 2018)."""
CAP = 0.99
"""Quantile at which SmoothGrad's maps are capped: otherwise a few pixels fill the scale (Smilkov 2017, section 3)."""
_BATCH = 64


def teach(
    model: nn.Module, layer: nn.Module, images: Tensor, name: str, samples: int | None = None, seed: int = 0
) -> Tensor:
    """Compute a teacher's maps of the predicted classes.

    SmoothGrad's maps are capped at their 99 % quantile, as its authors do. RISE is the mean softmax probability of
    the class at each pixel, weighted by random masks (Petsiuk 2018). Score-CAM and "input gradient", which is
    Saliency, are those of ``baselines.maps``.

    Parameters
    ----------
    model
        CNN that returns logits (n, C).
    layer
        Layer that Score-CAM explains; the other teachers ignore it.
    images
        Images (n, 3, H, W) in [0, 1].
    name
        Name from ``TEACHERS``, or "input gradient".
    samples
        Number of SmoothGrad's noisy copies or of RISE's masks for each image; the others ignore it.
    seed
        Seed of the samples. The global random state is restored.

    Returns
    -------
    Tensor
        Maps (n, H, W), min-max scaled to [0, 1], float32 on the CPU.

    Raises
    ------
    InputError
        If the name is unknown, a sampled teacher has no valid number of samples, or a library is not installed.

    Examples
    --------
    >>> import torch
    >>> layer = nn.Conv2d(3, 4, 3)
    >>> model = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    >>> teach(model, layer, torch.rand(2, 3, 8, 8), "RISE", samples=4).shape
    torch.Size([2, 8, 8])
    """
    check_name(name, [*TEACHERS, "input gradient"], "teacher")
    if name not in SAMPLED:
        method = "Saliency" if name == "input gradient" else name
        parts = images.split(_BATCH)
        return torch.cat([
            maps for part in parts for _, maps in baselines.maps(model, layer, part, [method], seed)
        ])  # fmt: skip
    if not isinstance(samples, int) or samples < 1:
        raise InputError(f"samples is {samples!r}: {name} needs a whole number of at least 1.")
    draw = {"SmoothGrad": _capped_smoothgrad, "RISE": _rise}[name]
    device, found = next(model.parameters()).device, []
    with torch.random.fork_rng(), evaluation_mode(model):
        torch.manual_seed(seed)
        for part in images.to(device).split(_BATCH):
            with torch.no_grad():
                classes = model(part).argmax(1)
            found.append(draw(model, part, classes, samples).detach().float().cpu())
    return minmax(torch.cat(found))[0]


def _capped_smoothgrad(model: nn.Module, images: Tensor, classes: Tensor, samples: int) -> Tensor:
    maps = baselines.smoothgrad(model, images, classes, samples)
    return maps.minimum(maps.flatten(1).quantile(CAP, dim=1)[:, None, None])


def rise_masks(n: int, height: int, width: int) -> Tensor:
    """Draw random masks for RISE (Petsiuk 2018, section 3.2).

    Each mask is a grid of ``CELLS`` x ``CELLS`` random bits, enlarged bilinearly and shifted. All masks of one call
    share the shift.

    Parameters
    ----------
    n
        Number of masks.
    height
        Height in pixels.
    width
        Width in pixels.

    Returns
    -------
    Tensor
        Masks (n, height, width) in [0, 1]. They are drawn from PyTorch's global random state.

    Examples
    --------
    >>> rise_masks(4, 32, 20).shape
    torch.Size([4, 32, 20])
    """
    cell = [-(-side // CELLS) for side in (height, width)]
    bits = (torch.rand(n, 1, CELLS, CELLS) < KEPT).float()
    large = F.interpolate(bits, [(CELLS + 1) * side for side in cell], mode="bilinear", align_corners=False)
    top, left = (int(torch.randint(side + 1, ())) for side in cell)
    return large[:, 0, top : top + height, left : left + width]


@torch.no_grad()
def _rise(model: nn.Module, images: Tensor, classes: Tensor, samples: int) -> Tensor:
    """Compute the mean probability of the class at each pixel, weighted by the random masks."""
    # Each image has its own masks. The paper divides by the expected sum of the masks. Dividing by their actual sum has
    # the same limit and is less noisy.
    total = covered = torch.zeros_like(images[:, 0])
    for _ in range(samples):
        masks = rise_masks(len(images), *images.shape[-2:]).to(images)
        probability = model(images * masks[:, None]).softmax(1).gather(1, classes[:, None])
        total = total + probability[:, :, None] * masks
        covered = covered + masks
    return total / covered.clamp_min(torch.finfo(covered.dtype).eps)
