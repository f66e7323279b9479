"""Maps that are noisy with few samples and dear with many: SmoothGrad, RISE; and Score-CAM, which is dear."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sftgan import baselines
from sftgan.errors import InputError, check_name
from sftgan.gradcam import minmax
from sftgan.taps import evaluation_mode

TEACHERS = ("SmoothGrad", "RISE", "Score-CAM")
SAMPLED = TEACHERS[:2]
"""The teachers that draw samples, so that more of them make a better map."""
CELLS, KEPT = 7, 0.5  # of RISE's masks: cells a side, and the chance of a cell to be kept (Petsiuk 2018)
CAP = 0.99  # SmoothGrad's maps end at this quantile: else a few pixels take up the scale (Smilkov 2017, section 3)
_BATCH = 64


def teach(
    model: nn.Module, layer: nn.Module, images: Tensor, name: str, samples: int | None = None, seed: int = 0
) -> Tensor:
    """Maps (n, H, W) in [0, 1], min-max scaled, of one of `TEACHERS` or the "input gradient".

    They explain the predicted classes of images (n, 3, H, W) in [0, 1]. `samples` are SmoothGrad's noisy images or
    RISE's masks; the others have none. What is outlying in SmoothGrad's maps is capped, as by its authors. Score-CAM
    explains `layer`. Computed where the model is, returned on the CPU.
    """
    check_name(name, [*TEACHERS, "input gradient"], "teacher")
    if name not in SAMPLED:
        method = "Saliency" if name == "input gradient" else name
        parts = images.split(_BATCH)
        return torch.cat([
            maps for part in parts for _, maps in baselines.maps(model, layer, part, [method], seed)
        ])  # fmt: skip
    if not isinstance(samples, int) or samples < 1:
        raise InputError(f"samples is {samples!r}: give {name} a whole number from 1 on.")
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
    """Masks (n, height, width) in [0, 1]: `CELLS` x `CELLS` random bits, enlarged and shifted (Petsiuk 2018, 3.2)."""
    cell = [-(-side // CELLS) for side in (height, width)]
    bits = (torch.rand(n, 1, CELLS, CELLS) < KEPT).float()
    large = F.interpolate(bits, [(CELLS + 1) * side for side in cell], mode="bilinear", align_corners=False)
    top, left = (int(torch.randint(side + 1, ())) for side in cell)
    return large[:, 0, top : top + height, left : left + width]


@torch.no_grad()
def _rise(model: nn.Module, images: Tensor, classes: Tensor, samples: int) -> Tensor:
    """At each pixel the mean of the class's probability, weighted by the random masks behind which it was measured.

    Each image has masks of its own. Division is by the sum of these masks, not by its expectation as in the paper: the
    same in the limit, and less noise on the way.
    """
    total = covered = torch.zeros_like(images[:, 0])
    for _ in range(samples):
        masks = rise_masks(len(images), *images.shape[-2:]).to(images)
        probability = model(images * masks[:, None]).softmax(1).gather(1, classes[:, None])
        total = total + probability[:, :, None] * masks
        covered = covered + masks
    return total / covered.clamp_min(torch.finfo(covered.dtype).eps)
