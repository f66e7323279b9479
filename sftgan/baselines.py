"""What the generators are compared with: the paper's other methods, by kept libraries, and trivial controls."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stderr
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn

from sftgan.errors import InputError, check_name
from sftgan.explained import Explained
from sftgan.gradcam import minmax
from sftgan.taps import evaluation_mode
from sftgan.training import Examples

CONTROLS = (
    "all ones", "luminance", "mean map", "class mean map", "mean activation", "last CGMA", "mean of CGMAs", "linear",
    "linear (this CNN)",
)  # fmt: skip
METHODS = ("Saliency", "SmoothGrad", "Grad-CAM", "Grad-CAM++", "Score-CAM")
_SAMPLES, _NOISE = 25, 0.15  # of SmoothGrad; the noise's deviation, for images in [0, 1]


def controls(test: Explained, train: Explained, pooled: Tensor | None = None) -> dict[str, Tensor]:
    """Control maps (n, H, W) in [0, 1] for the test examples, by name: those of `CONTROLS`, in that order.

    "all ones" is the whole image, "luminance" the image itself in grey, min-max scaled. "mean map" is the average
    Grad-CAM of the training examples. "class mean map" is that of the other test images of the same predicted class
    (where there is none, the mean map): an oracle, as no method has seen a Grad-CAM of these classes. "mean activation"
    is that of the last layer, and knows no class. "last CGMA" and "mean of CGMAs" are what the generator is given,
    min-max scaled. "linear" and "linear (this CNN)" are `linear_map`s: by the `linear_fit` to the training examples of
    all pairs, `pooled`, and to this one's; without `pooled` the first is left out.
    """
    shown, mean = test.examples, train.examples.targets.mean(0)
    drawn = {
        "all ones": torch.ones_like(shown.targets),
        "luminance": luminance(shown.images),
        "mean map": mean.expand_as(shown.targets),
        "class mean map": _class_mean(shown.targets, test.predictions, mean),
        "mean activation": test.activation,
        **averages(shown.conditions),
    }
    if pooled is not None:
        drawn["linear"] = linear_map(pooled, shown)
    return drawn | {"linear (this CNN)": linear_map(linear_fit([train.examples]), shown)}


def averages(conditions: Tensor) -> dict[str, Tensor]:
    """Of conditions (n, channels, H, W) the last and the mean, min-max scaled: maps (n, H, W) by control."""
    return {"last CGMA": minmax(conditions[:, -1])[0], "mean of CGMAs": minmax(conditions.mean(1))[0]}


def luminance(images: Tensor) -> Tensor:
    """Images (n, 3, H, W) in grey (ITU-R BT.601), min-max scaled: (n, H, W) in [0, 1]."""
    return minmax(torch.einsum("nchw,c->nhw", images, torch.tensor([0.299, 0.587, 0.114])))[0]


def linear_fit(parts: Iterable[Examples]) -> Tensor:
    """Least squares of the target on the conditions, the three colours and 1, over all pixels: float64 (channels + 4,).

    The same weights serve every pixel. Of all that fit equally well these are the smallest.
    """
    normal = moment = torch.zeros((), dtype=torch.float64)
    for part in parts:
        planes = _regressors(part)
        normal = normal + planes.T @ planes
        moment = moment + planes.T @ part.targets.double().flatten()
    return torch.linalg.lstsq(normal, moment[:, None], driver="gelsd").solution[:, 0]


def linear_map(coefficients: Tensor, examples: Examples) -> Tensor:
    """What `linear_fit`'s coefficients make of examples: maps (n, H, W), clipped to [0, 1]."""
    maps = (_regressors(examples) @ coefficients).view(examples.targets.shape)
    return maps.clamp(0, 1).to(examples.targets)


def _regressors(examples: Examples) -> Tensor:
    """float64 (n * H * W, channels + 4)"""
    planes = torch.cat(
        [examples.conditions, examples.images, torch.ones_like(examples.targets)[:, None]], dim=1
    )
    return planes.double().movedim(1, -1).flatten(0, 2)


def _class_mean(targets: Tensor, classes: Tensor, otherwise: Tensor) -> Tensor:
    """For each image the mean target of the others of its class; without others `otherwise`."""
    same = (classes[:, None] == classes).to(targets).fill_diagonal_(0)
    n = same.sum(1)[:, None, None]
    means = torch.einsum("ij,jhw->ihw", same, targets) / n.clamp_min(1)
    return torch.where(n > 0, means, otherwise)


def maps(
    model: nn.Module, layer: nn.Module, images: Tensor, methods: Sequence[str] = METHODS, seed: int = 0
) -> Iterator[tuple[str, Tensor]]:
    """Some of `METHODS`, one after the other: name and maps (B, H, W) in [0, 1], for the predicted classes.

    Saliency (Simonyan 2013) and SmoothGrad (Smilkov 2017) are captum's: the derivative of the logit, for SmoothGrad
    its mean over noisy copies of the image, and of that the largest absolute value over the colours. The CAMs are
    pytorch-grad-cam's, of the output of `layer`; Grad-CAM++ and Score-CAM, which take activations to be positive, of
    that of the ReLU behind it where they find one, see `activation`. All are min-max scaled; a map without a positive
    value is zeros.
    Images (B, 3, H, W) in [0, 1]. Computed where the model is, returned on the CPU. Raises InputError where one of the
    two libraries is missing.
    """
    for name in methods:
        check_name(name, METHODS, "method")
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
    """The ReLU right behind a convolution, or behind its batch norm, in an nn.Sequential; without one the `layer`."""
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
        return smoothgrad(model, images, classes, _SAMPLES)
    saliency = _library("captum.attr", "captum").Saliency(model)
    return saliency.attribute(images.clone().requires_grad_(), target=classes).amax(1)


def smoothgrad(model: nn.Module, images: Tensor, classes: Tensor, samples: int) -> Tensor:
    """SmoothGrad (B, H, W) of as many noisy copies as `samples`, not scaled; see `maps`."""
    attr = _library("captum.attr", "captum")
    smoothed = attr.NoiseTunnel(attr.Saliency(model)).attribute(
        images.clone().requires_grad_(),
        nt_type="smoothgrad",
        nt_samples=samples,
        nt_samples_batch_size=1,
        stdevs=_NOISE,
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
