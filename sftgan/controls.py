"""Trivial maps that every method has to beat: averages, luminance and linear fits."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sftgan.cams.gradcam import minmax
from sftgan.gan.examples import Examples, ExplainedImages

CONTROLS = (
    "all ones", "luminance", "mean map", "class mean map", "mean activation", "last CGMA", "mean of CGMAs", "linear",
    "linear (this CNN)",
)  # fmt: skip
"""Names of the control maps; see ``controls``."""


def controls(
    test: ExplainedImages, train: ExplainedImages, pooled: Float[Tensor, " regressors"] | None = None
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
    >>> pair = ExplainedImages(shown, classes, classes, None, None, torch.zeros(6), torch.rand(2, 4, 4))
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
        Images (n, 3, H, W) in [0, 1].

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
    return minmax(torch.einsum("nchw,c->nhw", images, images.new_tensor([0.299, 0.587, 0.114])))[0]


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
