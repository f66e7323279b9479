"""An `Explainer` as other libraries want one: pytorch-grad-cam, captum and Quantus.

Their users hold a model that takes *normalised* images, and such images. Each face therefore takes the `mean` and
`std` of that normalisation, ImageNet's by default, and takes the images back to [0, 1], where an `Explainer` works. A
single mean and std serve all channels; for a model that takes images in [0, 1] they are (0,) and (1,), for a grayscale
one its own. `explainer` is an `Explainer`, or the name of a pretrained one.
"""

from collections.abc import Callable, Sequence
from functools import cache
from operator import itemgetter
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from sftgan.architectures import IMAGENET_MEAN, IMAGENET_STD, Normalised
from sftgan.errors import InputError
from sftgan.explain import Explainer
from sftgan.taps import evaluation_mode, unwrapped
from sftgan.targets import Targets

__all__ = ["SFTGANCAM", "SFTGANAttribution", "quantus_explain"]
SFTGANAttribution: type[Any]  # see __getattr__

_DEFAULT = "lsft-dissimilar"
# how far beyond [0, 1] images may reach: by rounding, and by the noise that metrics lay on them
_ROUNDING, _NOISE = 1e-3, 10.0


class _Face:
    """What all three share. `beyond`: how far beyond [0, 1] an image may reach to be clipped, not refused."""

    def __init__(
        self,
        model: nn.Module,
        explainer: Explainer | str,
        mean: Sequence[float],
        std: Sequence[float],
        beyond: float,
    ):
        _check(model, explainer, mean, std)
        self.like = next(model.parameters())
        self.explainer = _pretrained(explainer, self.like.device) if isinstance(explainer, str) else explainer
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.model = Normalised(unwrapped(model), self.mean, self.std)
        self.beyond = beyond

    def explain(self, images: Tensor, targets: Targets) -> Tensor:
        """Maps (B, H, W) in [0, 1] of images (B, C, H, W) in [0, 1], wherever the model is by now."""
        self.model.mean, self.model.std = self.model.mean.to(self.like), self.model.std.to(self.like)
        return self.explainer(self.model, images, targets)

    def images(self, inputs: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) as images in [0, 1], of the model's type and on its device."""
        shape = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
        channels = len(self.mean)
        if len(shape) != 4 or 0 in shape or channels not in (1, shape[1]):
            raise InputError(
                f"with {channels} values in mean and std, images must be a tensor of shape (B, {channels}, H, W), "
                f"got {shape}: give a mean and std for each channel, or a single one."
            )
        given = inputs.detach().to(self.like.device)
        given = given.to(torch.promote_types(given.dtype, torch.float32))
        mean, std = (given.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        images = given * std + mean
        low, high = images.aminmax()
        beyond = max(self.beyond, torch.finfo(self.like.dtype).eps)  # half precision rounds more than 1e-3
        if low < -beyond or high > 1 + beyond:
            raise InputError(
                f"images taken back with mean {self.mean} and std {self.std} reach from {low:.3g} to {high:.3g}, not "
                "from 0 to 1: give the mean and std that they were normalised by."
            )
        return images.clamp(0, 1).to(self.like.dtype)


class SFTGANCAM:
    """An `Explainer` with the interface of pytorch-grad-cam: put it where `GradCAM` was.

    All convolutions are read, so `target_layers` is not needed: it is taken for compatibility, and ignored. The model's
    mode is left as it is, and no hook stays behind between calls.

    >>> with SFTGANCAM(model, [model.layer4[-1]]) as cam:                              # doctest: +SKIP
    ...     maps = cam(input_tensor, [ClassifierOutputTarget(281)])   # (B, H, W) in [0, 1]

    Parameters
    ----------
    model : takes normalised images, see `mean` and `std` in `sftgan.faces`.
    explainer : an `Explainer`, or a name for `Explainer.from_pretrained`.

    Raises
    ------
    InputError : `reshape_transform`, which the maps of convolutions do not need; a model that is no module, or is
        `sftgan.Normalised` already while mean and std are not 0 and 1; an unknown explainer; a mean and std of
        different lengths, or a std that is not positive.
    """

    def __init__(
        self,
        model: nn.Module,
        target_layers: Sequence[nn.Module] | None = None,
        reshape_transform: Callable[[Tensor], Tensor] | None = None,
        *,
        explainer: Explainer | str = _DEFAULT,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ):
        if reshape_transform is not None:
            raise InputError(
                "reshape_transform is for layers that are no convolutions, and only those are read: leave it out."
            )
        self.model = model
        self.target_layers = target_layers
        self._face = _Face(model, explainer, mean, std, _ROUNDING)
        self._images: Tensor

    def __call__(
        self,
        input_tensor: Tensor,
        targets: Targets = None,
        aug_smooth: bool = False,
        eigen_smooth: bool = False,
    ) -> np.ndarray:
        """Maps (B, H, W), float32 in [0, 1], of normalised images (B, C, H, W).

        `targets` are pytorch-grad-cam's (a callable per image, or None for the predicted classes), or what
        `layer_cams` takes. `aug_smooth` averages the maps of six copies, as that library does: each image and its
        mirror image, at 0.9, 1 and 1.1 of its normalised values; here the copies are clipped to where images lie.

        Raises InputError for images that reach further than 0.001 beyond [0, 1] with this mean and std, for
        `eigen_smooth`, and for what `layer_cams` refuses.
        """
        if eigen_smooth:
            raise InputError(
                "eigen_smooth needs the activations of a single layer, and all are read: leave it out."
            )
        self._images = self._face.images(input_tensor)
        maps = self._smoothed(targets) if aug_smooth else self._face.explain(self._images, targets)
        return maps.float().cpu().numpy()

    @property
    def outputs(self) -> Any:
        """What the model makes of the last call's images: logits (B, C). Computed when asked for."""
        with torch.no_grad(), evaluation_mode(self.model):
            return self._face.model(self._images)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is to be released, and no error is swallowed."""

    def _smoothed(self, targets: Targets) -> Tensor:
        explain, mean, maps = self._face.explain, self._face.model.mean, []
        for factor in (0.9, 1.0, 1.1):
            copies = (mean + factor * (self._images - mean)).clamp(0, 1)
            maps += [explain(copies, targets), explain(copies.flip(-1), targets).flip(-1)]
        return torch.stack(maps).mean(0)


def quantus_explain(
    model: nn.Module,
    inputs: np.ndarray,
    targets: np.ndarray,
    *,
    explainer: Explainer | str = _DEFAULT,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    device: str | torch.device | None = None,
    method: str | None = None,
) -> np.ndarray:
    """Maps (B, 1, H, W), float32 in [0, 1]: an `explain_func` for the metrics of Quantus.

    `inputs` (B, C, H, W) are normalised images; where a metric's noise takes them beyond [0, 1], they are clipped.
    `targets` (B,) are class indices. The arguments behind them go into `explain_func_kwargs`. Two come from Quantus:
    `device`, to which the model is moved, as Quantus' own explanations do, and `method`, the name that the function
    has in `quantus.evaluate`, which changes nothing.

    >>> quantus.MaxSensitivity()(model, x_batch, y_batch, explain_func=quantus_explain,   # doctest: +SKIP
    ...                          explain_func_kwargs={"explainer": "lsft-similar"})

    Raises InputError as `SFTGANCAM` does, but only for images that reach further than 10 beyond [0, 1].
    """
    face = _Face(model if device is None else model.to(device), explainer, mean, std, _NOISE)
    maps = face.explain(face.images(torch.as_tensor(inputs)), torch.as_tensor(targets))
    return maps[:, None].float().cpu().numpy()


def __getattr__(name: str) -> Any:
    """Make `SFTGANAttribution` when it is first asked for: it alone needs captum."""
    if name != "SFTGANAttribution":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = _captum_face()
    return globals()[name]


def _captum_face() -> type:
    try:
        from captum.attr import Attribution
        from captum.log import log_usage
    except ImportError as error:
        raise InputError("SFTGANAttribution needs captum: run `pip install captum`.") from error

    class SFTGANAttribution(Attribution):
        """An `Explainer` as captum's `Attribution`, for its metrics and its `NoiseTunnel`.

        Arguments and errors are those of `SFTGANCAM`, with the images' range as in `attribute`.

        >>> SFTGANAttribution(model).attribute(inputs, target=281)                     # doctest: +SKIP
        """

        __qualname__ = "SFTGANAttribution"

        def __init__(
            self,
            model: nn.Module,
            explainer: Explainer | str = _DEFAULT,
            mean: Sequence[float] = IMAGENET_MEAN,
            std: Sequence[float] = IMAGENET_STD,
        ):
            super().__init__(model)
            self._face = _Face(model, explainer, mean, std, _NOISE)

        @log_usage()  # NoiseTunnel calls the function inside this wrapper
        def attribute(self, inputs: Tensor | tuple[Tensor], target: Any = None) -> Tensor | tuple[Tensor]:
            """Attributions in [0, 1] of the inputs' shape: the map, repeated over the channels.

            `inputs` (B, C, H, W), alone or in a tuple, are normalised images. NoiseTunnel and `sensitivity_max` lay
            noise on them: where it takes them beyond [0, 1] they are clipped. `target` is captum's: a class index,
            one per image, or for outputs of more dimensions a tuple of indices, or a list of such; None: the class
            that the model predicts for what it is given, noise included.

            Raises InputError for several inputs, and for images that reach further than 10 beyond [0, 1].
            """
            tensors = inputs if isinstance(inputs, tuple) else (inputs,)
            if len(tensors) != 1:
                raise InputError(f"a CNN's images are one input, got {len(tensors)}: give a single tensor.")
            (images,) = tensors
            maps = self._face.explain(self._face.images(images), _targets(target, len(images)))
            repeated = maps[:, None].repeat(1, images.shape[1], 1, 1).to(images)
            return (repeated,) if isinstance(inputs, tuple) else repeated

    return SFTGANAttribution


def _targets(target: Any, n_images: int) -> Targets:
    """captum's target as `layer_cams` takes it: a tuple stands for one place in an image's output."""
    if isinstance(target, Tensor) and target.numel() == 1:
        return int(target)
    places = [target] * n_images if isinstance(target, tuple) else target
    if isinstance(places, list) and all(isinstance(place, tuple) for place in places):
        return [itemgetter(place) for place in places]
    return target


@cache
def _pretrained(name: str, device: torch.device) -> Explainer:
    """Kept: metrics call an explanation hundreds of times."""
    explainer = Explainer.from_pretrained(name)
    explainer.generator.to(device)
    return explainer


def _check(model: nn.Module, explainer: Explainer | str, mean: Sequence[float], std: Sequence[float]) -> None:
    if not isinstance(model, nn.Module) or next(model.parameters(), None) is None:
        raise InputError(
            f"the model must be a torch.nn.Module, whose convolutions are read, got {type(model).__name__}."
        )
    if not isinstance(explainer, Explainer | str):
        raise InputError(
            f"explainer must be a sftgan.Explainer or the name of one, got {type(explainer).__name__}."
        )
    if np.ndim(mean) != 1 or np.shape(mean) != np.shape(std) or not len(std) or min(std) <= 0:
        raise InputError(f"mean and std must be as many numbers each, std positive, got {mean} and {std}.")
    if isinstance(unwrapped(model), Normalised) and (any(mean) or any(s != 1 for s in std)):
        raise InputError(
            "this model normalises images itself (sftgan.Normalised): give it images in [0, 1], mean=(0,), std=(1,)."
        )
