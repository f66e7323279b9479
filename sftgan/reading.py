"""What a generator is given and asked for: from Grad-CAMs of all layers to conditions and target (section 3.1).

The defaults are the paper's; the other values are the released code's, or our controls.
"""

import io
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sftgan.cgma import cgma, positions
from sftgan.errors import InputError, check_name
from sftgan.gradcam import CoarseCams, minmax

_JPEG_QUALITY = 95  # OpenCV's default, which the released code leaves as it is
CHOICES = {
    "target": ("last", "first"),
    "accumulate": ("first_to_last", "last_to_first"),
    "explained_class": ("predicted", "first"),
    "gradients": ("plain", "guided"),
    "conditions": ("scalar", "jet_grey"),
}
"""The values that names may take, the paper's first."""


@dataclass(frozen=True)
class Reading:
    """How conditions and target are read from a CNN.

    target: the layer whose Grad-CAM is the target. accumulate: the order in which layers are averaged.
    explained_class: the predicted one, or class 0. gradients: see `layer_cams`. conditions: "scalar" maps, or
    "jet_grey", the grey values of a JPEG of their JET picture. exclude_target: leave the target's layer out of the
    conditions. cumulative: averages up to each position (Eq. 3-4), or only the map at it. leave_out: of the conditions
    the last so many. minmax_conditions: scale each to [0, 1]; as a sum and its average differ in scale only, this is
    also what comes of never dividing by Positions.
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
        """How many conditions there are."""
        return self.eta - self.leave_out

    def explained(self, targets: Any) -> Any:
        """What is explained where `targets` are asked for: of none, what `explained_class` says."""
        return 0 if targets is None and self.explained_class == "first" else targets

    def weights(self, n_layers: int) -> Tensor:
        """float64 (channels + 1, N): how much of each layer's map is in each condition and, last, in the target."""
        # each map has its layer's pixel alone
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

    def read(self, cams: Tensor | CoarseCams) -> tuple[Tensor, Tensor]:
        """Conditions (B, channels, H, W) and target (B, H, W), both in [0, 1], of the Grad-CAMs of all layers.

        Those are maps (B, N, H, W) in [0, 1], or still coarse ones, of which only what is asked for is enlarged.
        """
        if isinstance(cams, CoarseCams):
            sums = cams.sums(self.weights(len(cams.names)))
        else:
            sums = torch.einsum("kn,bnhw->bkhw", self.weights(cams.shape[1]).to(cams), cams)
        sums = sums.clamp(0, 1)  # rounding
        conditions, target = sums[:, :-1], sums[:, -1]
        if self.minmax_conditions:
            conditions = minmax(conditions)[0]
        return (_grey_of_jpeg(conditions) if self.conditions == "jet_grey" else conditions), target


def pictures(images: Tensor, shape: tuple[int, int]) -> Tensor:
    """Images (n, C, H, W) in [0, 1] at another `shape`, as a generator is given them."""
    return F.interpolate(images, shape, mode="bilinear", antialias=True).clamp(0, 1)


def to_jet(maps: Tensor) -> Tensor:
    """JET pictures (..., 3, h, w) of maps (..., h, w), both in [0, 1]."""
    index = (maps.clamp(0, 1) * 255).round().long()
    return _jet().to(maps.device)[index].movedim(-1, -3)


def from_jet(pictures: Tensor) -> Tensor:
    """Maps (n, h, w) in [0, 1] of JET pictures (n, 3, h, w): at each pixel the value whose colour is nearest."""
    colours, exact = _jet().to(pictures.device), "donot_use_mm_for_euclid_dist"
    nearest = [
        torch.cdist(part.movedim(1, -1).flatten(0, 2).float(), colours, compute_mode=exact).argmin(1)
        for part in pictures.split(16)
    ]
    return torch.cat(nearest).view(len(pictures), *pictures.shape[2:]).float() / 255


def scalar(drawn: Tensor) -> Tensor:
    """Maps (n, H, W) of what a generator draws: of JET pictures (n, 3, H, W) the values that they show."""
    return from_jet(drawn) if drawn.ndim == 4 else drawn


@cache
def _jet() -> Tensor:
    return torch.from_numpy(matplotlib.colormaps["jet"](np.linspace(0, 1, 256))[:, :3].astype(np.float32))


def _grey_of_jpeg(maps: Tensor) -> Tensor:
    """Maps (B, K, h, w) in [0, 1] -> what is left of them in grey (ITU-R BT.601) of a JPEG of their JET pictures."""
    pictures = (to_jet(maps.flatten(0, 1)) * 255).round().to(torch.uint8).movedim(1, -1).cpu().numpy()
    grey = np.stack([np.asarray(_jpeg(Image.fromarray(picture)).convert("L")) for picture in pictures])
    return (torch.from_numpy(grey) / 255).unflatten(0, maps.shape[:2]).to(maps)


def _jpeg(picture: Image.Image) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_JPEG_QUALITY)
    return Image.open(file)
