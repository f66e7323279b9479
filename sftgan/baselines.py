"""Maps that the generators are compared with: trivial controls, and the paper's other methods (section 4.2)."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stderr
from importlib import import_module
from types import ModuleType

import torch
from jaxtyping import Float, Int
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
"""Names of the control maps; see ``controls``."""
METHODS = ("Saliency", "SmoothGrad", "Grad-CAM", "Grad-CAM++", "Score-CAM")
"""Names of the other explanation methods; see ``maps``."""
_SAMPLES, _NOISE = 25, 0.15  # of SmoothGrad; standard deviation of the noise, for images in [0, 1]


def controls(
    test: Explained, train: Explained, pooled: Float[Tensor, " regressors"] | None = None
) -> dict[str, Float[Tensor, "n h w"]]:
    """Compute the control maps of the test examples.

    ======================= ================================================================================
    "all ones"              1 everywhere.
    "luminance"             The image in grey; see ``luminance``.
    "mean map"              Mean Grad-CAM of the training examples.
    "class mean map"        Mean Grad-CAM of the other test images of the same predicted class, or the mean map
                            if there are none. This is an oracle: no method has seen a Grad-CAM of these classes.
    "mean activation"       Mean over the channels of the last layer's output, which does not depend on the class.
    "last CGMA"             Last CGMA of the conditions; see ``averages``.
    "mean of CGMAs"         Mean of all CGMAs of the conditions; see ``averages``.
    "linear"                ``linear_map`` of ``pooled``.
    "linear (this CNN)"     ``linear_map`` of the ``linear_fit`` to ``train``.
    ======================= ================================================================================

    Parameters
    ----------
    test
        Images to draw the maps of, n in number.
    train
        Training images of the same CNN.
    pooled
        Coefficients of the ``linear_fit`` to the training examples of all pairs of a CNN and a data set; None
        leaves "linear" out.

    Returns
    -------
    dict[str, Tensor]
        Maps (n, H, W) in [0, 1] by name, in the order of ``CONTROLS``.

    Examples
    --------
    >>> import torch
    >>> shown = Examples(torch.rand(2, 3, 4, 4), torch.rand(2, 5, 4, 4), torch.rand(2, 4, 4))
    >>> classes = torch.tensor([0, 1])
    >>> pair = Explained(shown, classes, classes, None, None, torch.zeros(6), torch.rand(2, 4, 4))
    >>> tuple(controls(pair, pair, linear_fit([shown]))) == CONTROLS
    True
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


def averages(conditions: Float[Tensor, "n eta h w"]) -> dict[str, Float[Tensor, "n h w"]]:
    """Compute the last and the mean of the conditions, both min-max scaled.

    Parameters
    ----------
    conditions
        CGMAs (n, eta, H, W) in [0, 1].

    Returns
    -------
    dict[str, Tensor]
        Maps (n, H, W) in [0, 1] of the controls "last CGMA" and "mean of CGMAs"; a flat map is all zeros.

    Examples
    --------
    >>> import torch
    >>> conditions = torch.tensor([[[[0.0, 1.0]], [[0.25, 0.75]]]])
    >>> averages(conditions)["last CGMA"]
    tensor([[[0., 1.]]])
    """
    return {"last CGMA": minmax(conditions[:, -1])[0], "mean of CGMAs": minmax(conditions.mean(1))[0]}


def luminance(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n h w"]:
    """Convert images to grey (ITU-R BT.601) and min-max scale them.

    Parameters
    ----------
    images
        Images (n, 3, H, W) in [0, 1], float32 on the CPU.

    Returns
    -------
    Tensor
        Maps (n, H, W) in [0, 1]; a flat image is all zeros.

    Examples
    --------
    >>> import torch
    >>> white_and_black = torch.tensor([1.0, 0.0]).expand(1, 3, 1, 2)
    >>> luminance(white_and_black)
    tensor([[[1., 0.]]])
    """
    return minmax(torch.einsum("nchw,c->nhw", images, torch.tensor([0.299, 0.587, 0.114])))[0]


def linear_fit(parts: Iterable[Examples]) -> Float[Tensor, " regressors"]:
    """Fit the target maps by linear least squares over all pixels.

    The regressors of a pixel are its eta conditions, its three colours and 1. The same coefficients serve every
    pixel. If several solutions fit equally well, the one with the smallest norm is returned.

    Parameters
    ----------
    parts
        Training examples on the CPU, with conditions at the size of the targets. The parts are read one after the
        other, so a generator saves memory.

    Returns
    -------
    Tensor
        Coefficients (eta + 4,), float64: of the conditions, of the three colours, and the constant.

    Examples
    --------
    >>> import torch
    >>> images, conditions = torch.rand(2, 3, 4, 4), torch.rand(2, 1, 4, 4)
    >>> train = Examples(images, conditions, 0.5 * conditions[:, 0] + 0.25)
    >>> [round(abs(c), 4) for c in linear_fit([train]).tolist()]
    [0.5, 0.0, 0.0, 0.0, 0.25]
    """
    normal = moment = torch.zeros((), dtype=torch.float64)
    for part in parts:
        planes = _regressors(part)
        normal = normal + planes.T @ planes
        moment = moment + planes.T @ part.targets.double().flatten()
    return torch.linalg.lstsq(normal, moment[:, None], driver="gelsd").solution[:, 0]


def linear_map(coefficients: Float[Tensor, " regressors"], examples: Examples) -> Float[Tensor, "n h w"]:
    """Apply the coefficients of a ``linear_fit`` to examples.

    Parameters
    ----------
    coefficients
        Coefficients (eta + 4,), float64.
    examples
        Examples on the CPU, with conditions at the size of the targets. The values of the targets are not used.

    Returns
    -------
    Tensor
        Maps (n, H, W), clipped to [0, 1], with the dtype of the targets.

    Examples
    --------
    >>> import torch
    >>> shown = Examples(torch.rand(1, 3, 1, 2), torch.tensor([[[[0.5, 0.8]]]]), torch.zeros(1, 1, 2))
    >>> linear_map(torch.tensor([2.0, 0, 0, 0, -0.5], dtype=torch.float64), shown)
    tensor([[[0.5000, 1.0000]]])
    """
    maps = (_regressors(examples) @ coefficients).view(examples.targets.shape)
    return maps.clamp(0, 1).to(examples.targets)


def _regressors(examples: Examples) -> Float[Tensor, "pixels regressors"]:
    """Stack conditions, colours and ones as columns, float64 (n * H * W, eta + 4)."""
    planes = torch.cat(
        [examples.conditions, examples.images, torch.ones_like(examples.targets)[:, None]], dim=1
    )
    return planes.double().movedim(1, -1).flatten(0, 2)


def _class_mean(
    targets: Float[Tensor, "n h w"], classes: Int[Tensor, " n"], otherwise: Float[Tensor, "h w"]
) -> Float[Tensor, "n h w"]:
    """Compute the mean target of the other images of each image's class; without others, ``otherwise``."""
    same = (classes[:, None] == classes).to(targets).fill_diagonal_(0)
    n = same.sum(1)[:, None, None]
    means = torch.einsum("ij,jhw->ihw", same, targets) / n.clamp_min(1)
    return torch.where(n > 0, means, otherwise)


def maps(
    model: nn.Module, layer: nn.Module, images: Tensor, methods: Sequence[str] = METHODS, seed: int = 0
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
        Names from ``METHODS``.
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
    >>> for name, found in maps(model, layer, torch.rand(2, 3, 8, 8), ["Saliency", "Grad-CAM"]):
    ...     print(name, tuple(found.shape))
    Saliency (2, 8, 8)
    Grad-CAM (2, 8, 8)
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
        return smoothgrad(model, images, classes, _SAMPLES)
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
