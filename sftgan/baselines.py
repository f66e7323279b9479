"""What the generators are compared with: the paper's other methods, by kept libraries, and trivial controls."""

import os
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn

from sftgan.errors import InputError, check_name
from sftgan.gradcam import evaluation_mode, minmax
from sftgan.training import Examples

CONTROLS = ("all ones", "luminance", "mean map", "last CGMA")
METHODS = ("Saliency", "SmoothGrad", "Grad-CAM", "Grad-CAM++", "Score-CAM")
_SAMPLES, _NOISE = 25, 0.15  # of SmoothGrad; the noise's deviation, for images in [0, 1]


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
    attr = _library("captum.attr", "captum")
    saliency, images = attr.Saliency(model), images.clone().requires_grad_()
    if name == "Saliency":
        return saliency.attribute(images, target=classes).amax(1)
    smoothed = attr.NoiseTunnel(saliency).attribute(
        images,
        nt_type="smoothgrad",
        nt_samples=_SAMPLES,
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
