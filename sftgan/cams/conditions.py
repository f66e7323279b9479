"""Conditions and target of a generator, from the Grad-CAMs of all layers (section 3.1).

The defaults follow the paper; the other values follow the released code or are our controls.
"""

import io
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from sftgan.cams.cgma import cgma, positions
from sftgan.cams.gradcam import CoarseCams, Size, coarse_cams, minmax
from sftgan.cams.targets import Targets
from sftgan.errors import InputError, check_name

_JPEG_QUALITY = 95  # OpenCV's default, which the released code uses
CHOICES = {
    "target": ("last", "first"),
    "accumulate": ("first_to_last", "last_to_first"),
    "explained_class": ("predicted", "first"),
    "gradients": ("plain", "guided"),
    "conditions": ("scalar", "jet_grey"),
}
"""Values allowed for the named options; the first one follows the paper."""


@dataclass(frozen=True)
class ConditionSpec:
    """Settings that say how conditions and target are computed from the Grad-CAMs of a CNN.

    Attributes
    ----------
    eta
        Number of positions, and so of conditions before any are left out.
    tap
        Where Grad-CAM taps a layer, "post" or "pre"; see ``layer_cams``.
    rounding
        How positions are rounded, "double" or "single"; see ``positions``.
    target
        Layer whose Grad-CAM is the target, "last" or "first".
    accumulate
        Order in which layers are averaged, "first_to_last" or "last_to_first".
    explained_class
        Class that is explained unless targets are given: "predicted", or "first" for class 0.
    gradients
        How Grad-CAM uses the gradients, "plain" or "guided"; see ``layer_cams``.
    conditions
        "scalar" for the maps themselves; "jet_grey" for the grey values of a JPEG of their JET pictures.
    exclude_target
        Whether the target's layer is left out of the conditions.
    cumulative
        Whether a condition is the average up to its position (Eq. 3-4); otherwise it is the single map there.
    leave_out
        Number of conditions to leave out at the end.
    minmax_conditions
        Whether each condition is scaled to [0, 1]. A sum and its average differ only in scale, so this is also
        the result of never dividing by Positions.

    Raises
    ------
    InputError
        If a named option has an unknown value, or ``leave_out`` leaves no condition.

    Examples
    --------
    >>> import torch
    >>> conditions, target = ConditionSpec(eta=3).conditions_and_target(torch.rand(2, 13, 8, 8))
    >>> conditions.shape, target.shape
    (torch.Size([2, 3, 8, 8]), torch.Size([2, 8, 8]))
    """

    eta: int = 8
    tap: str = "post"
    rounding: str = "double"
    target: str = "last"
    accumulate: str = "first_to_last"
    explained_class: str = "predicted"
    gradients: str = "plain"
    conditions: str = "scalar"
    exclude_target: bool = False
    cumulative: bool = True
    leave_out: int = 0
    minmax_conditions: bool = False

    def __post_init__(self) -> None:
        for name, values in CHOICES.items():
            check_name(getattr(self, name), values, name)
        if not 0 <= self.leave_out < self.eta:
            raise InputError(
                f"leave_out is {self.leave_out}: leave out 0 to {self.eta - 1} of {self.eta} CGMAs."
            )

    @property
    def channels(self) -> int:
        """Number of conditions."""
        return self.eta - self.leave_out

    def explained_class_for(self, targets: Any) -> Any:
        """Choose the targets to explain.

        Parameters
        ----------
        targets
            Targets that the user gives; None to leave the choice to ``explained_class``.

        Returns
        -------
        Any
            The targets if they are given; otherwise 0 for the class "first", None for "predicted".

        Examples
        --------
        >>> spec = ConditionSpec(explained_class="first")
        >>> spec.explained_class_for(None), ConditionSpec().explained_class_for([3, 1])
        (0, [3, 1])
        """
        return 0 if targets is None and self.explained_class == "first" else targets

    def weights(self, n_layers: int) -> Float[Tensor, "k n"]:
        """Compute the weight of each layer's map in each condition and in the target.

        Parameters
        ----------
        n_layers
            Number N of layers.

        Returns
        -------
        Tensor
            float64 (channels + 1, N): a row for each condition, and the last row for the target.

        Raises
        ------
        InputError
            If there are fewer layers than positions.

        Examples
        --------
        >>> ConditionSpec(eta=2).weights(4)
        tensor([[1.0000, 0.0000, 0.0000, 0.0000],
                [0.2500, 0.2500, 0.2500, 0.2500],
                [0.0000, 0.0000, 0.0000, 1.0000]], dtype=torch.float64)
        """
        # N maps of N pixels: in the map of layer i only pixel i is 1
        layers = torch.eye(n_layers, dtype=torch.float64)[None, :, :, None]
        last = self.target == "last"
        target = layers[:, -1:] if last else layers[:, :1]
        if self.exclude_target:
            layers = layers[:, :-1] if last else layers[:, 1:]
        if self.accumulate == "last_to_first":
            layers = layers.flip(1)
        if self.cumulative:
            conditions = cgma(layers, self.eta, self.rounding)
        else:
            conditions = layers[:, [p - 1 for p in positions(layers.shape[1], self.eta, self.rounding)]]
        return torch.cat([conditions[:, : self.channels], target], dim=1)[0, :, :, 0]

    def conditions_and_target(
        self, cams: Float[Tensor, "b n h w"] | CoarseCams
    ) -> tuple[Float[Tensor, "b channels h w"], Float[Tensor, "b h w"]]:
        """Compute conditions and target from the Grad-CAMs of all layers.

        Parameters
        ----------
        cams
            Maps (B, N, H, W) in [0, 1], or coarse maps, from which only the weighted sums are enlarged.

        Returns
        -------
        tuple[Tensor, Tensor]
            Conditions (B, channels, H, W) and target (B, H, W), both in [0, 1].

        Raises
        ------
        InputError
            If there are fewer layers than positions.

        Examples
        --------
        >>> import torch
        >>> maps = torch.tensor([1.0, 0.0, 0.5]).view(1, 3, 1, 1)
        >>> conditions, target = ConditionSpec(eta=3).conditions_and_target(maps)
        >>> conditions.flatten(), target.flatten()
        (tensor([1.0000, 0.5000, 0.5000]), tensor([0.5000]))
        """
        if isinstance(cams, CoarseCams):
            sums = cams.sums(self.weights(len(cams.names)))
        else:
            sums = torch.einsum("kn,bnhw->bkhw", self.weights(cams.shape[1]).to(cams), cams)
        sums = sums.clamp(0, 1)  # rounding errors
        conditions, target = sums[:, :-1], sums[:, -1]
        if self.minmax_conditions:
            conditions = minmax(conditions)[0]
        return (_grey_of_jpeg(conditions) if self.conditions == "jet_grey" else conditions), target


def pictures(
    images: Float[Tensor, "n channels h w"], shape: tuple[int, int]
) -> Float[Tensor, "n channels h2 w2"]:
    """Resize images to the size at which a generator takes them.

    Parameters
    ----------
    images
        Images (n, C, h, w) in [0, 1].
    shape
        New height H and width W in pixels.

    Returns
    -------
    Tensor
        Images (n, C, H, W) in [0, 1], resized bilinearly with antialiasing.

    Examples
    --------
    >>> import torch
    >>> pictures(torch.rand(2, 3, 8, 8), (4, 6)).shape
    torch.Size([2, 3, 4, 6])
    """
    return F.interpolate(images, shape, mode="bilinear", antialias=True).clamp(0, 1)


def to_jet(maps: Float[Tensor, "*batch h w"]) -> Float[Tensor, "*batch 3 h w"]:
    """Render maps as JET pictures.

    Parameters
    ----------
    maps
        Maps (..., h, w) in [0, 1]; they are rounded to 256 levels.

    Returns
    -------
    Tensor
        float32 pictures (..., 3, h, w) in [0, 1].

    Examples
    --------
    >>> import torch
    >>> to_jet(torch.tensor([[0.0, 1.0]])).shape
    torch.Size([3, 1, 2])
    """
    index = (maps.clamp(0, 1) * 255).round().long()
    return _jet().to(maps.device)[index].movedim(-1, -3)


def from_jet(pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n h w"]:
    """Read maps back from JET pictures.

    Parameters
    ----------
    pictures
        Pictures (n, 3, h, w) in [0, 1].

    Returns
    -------
    Tensor
        float32 maps (n, h, w) in [0, 1]: at each pixel the value, one of 256 levels, whose colour is nearest.

    Examples
    --------
    >>> import torch
    >>> from_jet(to_jet(torch.tensor([[[0.0, 0.4, 1.0]]])))
    tensor([[[0.0000, 0.4000, 1.0000]]])
    """
    colours, exact = _jet().to(pictures.device), "donot_use_mm_for_euclid_dist"
    nearest = [
        torch.cdist(part.movedim(1, -1).flatten(0, 2).float(), colours, compute_mode=exact).argmin(1)
        for part in pictures.split(16)
    ]
    return torch.cat(nearest).view(len(pictures), *pictures.shape[2:]).float() / 255


def scalar(drawn: Float[Tensor, "n h w"] | Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n h w"]:
    """Convert the output of a generator into maps.

    Parameters
    ----------
    drawn
        Maps (n, H, W), or JET pictures (n, 3, H, W) of maps.

    Returns
    -------
    Tensor
        Maps (n, H, W): the given ones, or those that the JET pictures show.

    Examples
    --------
    >>> import torch
    >>> scalar(torch.rand(2, 3, 4, 4)).shape, scalar(torch.rand(2, 4, 4)).shape
    (torch.Size([2, 4, 4]), torch.Size([2, 4, 4]))
    """
    return from_jet(drawn) if drawn.ndim == 4 else drawn


@cache
def _jet() -> Float[Tensor, "256 3"]:
    return torch.from_numpy(matplotlib.colormaps["jet"](np.linspace(0, 1, 256))[:, :3].astype(np.float32))


def _grey_of_jpeg(maps: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """Convert maps to JET pictures, these to JPEG, and the result to grey (ITU-R BT.601)."""
    pictures = (to_jet(maps.flatten(0, 1)) * 255).round().to(torch.uint8).movedim(1, -1).cpu().numpy()
    grey = np.stack([np.asarray(_jpeg(Image.fromarray(picture)).convert("L")) for picture in pictures])
    return (torch.from_numpy(grey) / 255).unflatten(0, maps.shape[:2]).to(maps)


def _jpeg(picture: Image.Image) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_JPEG_QUALITY)
    return Image.open(file)


def conditions(
    model: nn.Module,
    images: Float[Tensor, "b c h w"],
    eta: int = 8,
    targets: Targets = None,
    tap: str = "post",
    size: Size = None,
    rounding: str = "double",
) -> Float[Tensor, "b eta h2 w2"]:
    """Compute the CGMAs of a CNN (Eq. 1-4).

    The result equals ``cgma(layer_cams(model, images, targets, tap, size).maps, eta, rounding)``, but the maps
    are averaged at the resolution of their layers, so they are never all held at full size.

    Parameters
    ----------
    model
        Classifier, as for ``layer_cams``.
    images
        Images (b, 3, h, w) or (b, 1, h, w) in [0, 1], where the model is.
    eta
        Number of CGMAs.
    targets
        What is explained, see ``sftgan.cams.targets.Targets``; None for the predicted classes.
    tap
        ``"post"`` takes each layer's output behind its activation function, ``"pre"`` in front of it.
    size
        Side, or (height, width), of the CGMAs in pixels; None for the size of the images.
    rounding
        How positions are rounded, as for ``cgma``.

    Returns
    -------
    Tensor
        CGMAs (b, eta, h2, w2) in [0, 1].

    Raises
    ------
    InputError
        As ``layer_cams`` and ``cgma`` do.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> convs = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
    >>> model = nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> conditions(model, torch.rand(1, 3, 16, 16), eta=2).shape
    torch.Size([1, 2, 16, 16])
    """
    return ConditionSpec(eta, tap, rounding).conditions_and_target(
        coarse_cams(model, images, targets, tap, size)
    )[0]
