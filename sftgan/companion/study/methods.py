"""Maps that the generators are compared with: trivial controls, and the paper's other methods (section 4.2)."""

import os
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sftgan.cams.gradcam import minmax
from sftgan.cams.model_state import evaluation_mode
from sftgan.errors import InputError, check_name

OTHER_METHODS = ("Saliency", "SmoothGrad", "Grad-CAM", "Grad-CAM++", "Score-CAM")
"""Names of the other explanation methods; see ``maps``."""
_SMOOTHGRAD_SAMPLES, _SMOOTHGRAD_NOISE = (
    25,
    0.15,
)  # of SmoothGrad; standard deviation of the noise, for images in [0, 1]


def method_maps(
    model: nn.Module, layer: nn.Module, images: Tensor, methods: Sequence[str] = OTHER_METHODS, seed: int = 0
) -> Iterator[tuple[str, Tensor]]:
    """Explain the predicted classes by other methods, one method after the other.

    Saliency (Simonyan 2013) and SmoothGrad (Smilkov 2017) come from captum. Saliency is the absolute derivative of
    the logit; SmoothGrad averages the derivative over noisy copies of the image before it takes the absolute value.
    Both keep the largest value over the colours.

    Grad-CAM, Grad-CAM++ and Score-CAM come from pytorch-grad-cam. Grad-CAM explains the output of ``layer``. The
    other two assume positive activations, so they explain the output of the ReLU that follows ``layer``, if
    ``activation`` finds one.

    Parameters
    ----------
    model
        CNN that returns logits (B, C).
    layer
        Convolution or block that the CAMs explain.
    images
        Images (B, 3, H, W) in [0, 1].
    methods
        Names from ``OTHER_METHODS``.
    seed
        Seed of SmoothGrad's noise. The global random state is restored after each method.

    Yields
    ------
    tuple[str, Tensor]
        Name of the method, and its maps (B, H, W) in [0, 1], float32 on the CPU. They are min-max scaled; a flat
        map is all zeros.

    Raises
    ------
    InputError
        If a name is unknown, or if the library of a method is not installed.

    Examples
    --------
    >>> import torch
    >>> layer = nn.Conv2d(3, 4, 3)
    >>> model = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    >>> for name, found in method_maps(model, layer, torch.rand(2, 3, 8, 8), ["Saliency", "Grad-CAM"]):
    ...     print(name, tuple(found.shape))
    Saliency (2, 8, 8)
    Grad-CAM (2, 8, 8)
    """
    for name in methods:
        check_name(name, OTHER_METHODS, "method")
    images = images.to(next(model.parameters()).device)
    with torch.no_grad(), evaluation_mode(model):
        classes = model(images).argmax(1)
    for name in methods:
        with evaluation_mode(model), torch.random.fork_rng():
            torch.manual_seed(seed)
            raw = (_gradients if name in ("Saliency", "SmoothGrad") else _cams)(
                name, model, layer, images, classes
            )
        yield name, minmax(raw.detach().float().cpu())[0]


def activation(model: nn.Module, layer: nn.Module) -> nn.Module:
    """Find the ReLU that follows a convolution in an ``nn.Sequential``, directly or after its batch norm.

    Parameters
    ----------
    model
        CNN that contains the layer.
    layer
        Convolution.

    Returns
    -------
    nn.Module
        The ReLU or ReLU6, or ``layer`` itself if none follows it.

    Examples
    --------
    >>> conv = nn.Conv2d(3, 4, 3)
    >>> activation(nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU()), conv)
    ReLU()
    """
    for parent in model.modules():
        children = list(parent) if isinstance(parent, nn.Sequential) else []
        if layer in children:
            behind = children[children.index(layer) + 1 :]
            if behind and isinstance(behind[0], nn.BatchNorm2d):
                behind = behind[1:]
            if behind and isinstance(behind[0], nn.ReLU | nn.ReLU6):
                return behind[0]
    return layer


def _gradients(name: str, model: nn.Module, layer: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    if name == "SmoothGrad":
        return smoothgrad(model, images, classes, _SMOOTHGRAD_SAMPLES)
    saliency = _library("captum.attr", "captum").Saliency(model)
    return saliency.attribute(images.clone().requires_grad_(), target=classes).amax(1)


def smoothgrad(model: nn.Module, images: Tensor, classes: Tensor, samples: int) -> Tensor:
    """Compute SmoothGrad by captum (Smilkov 2017), unscaled.

    Parameters
    ----------
    model
        CNN that returns logits (B, C).
    images
        Images (B, 3, H, W) in [0, 1], on the model's device.
    classes
        Classes (B,) to explain, int64 on the same device.
    samples
        Number of noisy copies of each image. The noise comes from PyTorch's global random state.

    Returns
    -------
    Tensor
        Maps (B, H, W), at least 0: the absolute mean derivative, and its largest value over the colours.

    Raises
    ------
    InputError
        If captum is not installed.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    >>> smoothgrad(model, torch.rand(2, 3, 8, 8), torch.tensor([0, 1]), samples=2).shape
    torch.Size([2, 8, 8])
    """
    attr = _library("captum.attr", "captum")
    smoothed = attr.NoiseTunnel(attr.Saliency(model)).attribute(
        images.clone().requires_grad_(),
        nt_type="smoothgrad",
        nt_samples=samples,
        nt_samples_batch_size=1,
        stdevs=_SMOOTHGRAD_NOISE,
        target=classes,
        abs=False,
    )
    return smoothed.abs().amax(1)


def _cams(name: str, model: nn.Module, layer: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    cam = _library("pytorch_grad_cam", "grad-cam")
    method = {"Grad-CAM": cam.GradCAM, "Grad-CAM++": cam.GradCAMPlusPlus, "Score-CAM": cam.ScoreCAM}[name]
    layer = layer if name == "Grad-CAM" else activation(model, layer)
    target = _library("pytorch_grad_cam.utils.model_targets", "grad-cam").ClassifierOutputTarget
    # Score-CAM draws a progress bar
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere), method(model, [layer]) as explain:
        return torch.from_numpy(explain(images.clone(), [target(c) for c in classes.tolist()]))


def _library(module: str, package: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"comparing with other methods needs {package}: run `pip install {package}`."
        ) from error


TEACHERS = ("SmoothGrad", "RISE", "Score-CAM")
"""Names of the teachers; see ``teach``."""
SAMPLED = TEACHERS[:2]
"""Teachers that draw samples; more samples give a better map."""
CELLS, KEPT = 7, 0.5
"""Cells per side of RISE's masks, and the probability that a cell is kept (Petsiuk 2018)."""
CAP = 0.99
"""Quantile at which SmoothGrad's maps are capped; otherwise a few pixels fill the scale (Smilkov 2017, section 3)."""
_BATCH = 64


def teacher_maps(
    model: nn.Module, layer: nn.Module, images: Tensor, name: str, samples: int | None = None, seed: int = 0
) -> Tensor:
    """Compute a teacher's maps of the predicted classes.

    SmoothGrad's maps are capped at their 99 % quantile, as its authors do. RISE is the mean softmax probability of
    the class at each pixel, weighted by random masks (Petsiuk 2018). Score-CAM and "input gradient", which is
    Saliency, are those of ``methods.method_maps``.

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
    >>> teacher_maps(model, layer, torch.rand(2, 3, 8, 8), "RISE", samples=4).shape
    torch.Size([2, 8, 8])
    """
    check_name(name, [*TEACHERS, "input gradient"], "teacher")
    if name not in SAMPLED:
        method = "Saliency" if name == "input gradient" else name
        parts = images.split(_BATCH)
        return torch.cat([
            maps for part in parts for _, maps in method_maps(model, layer, part, [method], seed)
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
    maps = smoothgrad(model, images, classes, samples)
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
