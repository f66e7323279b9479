"""Interfaces of ``Explainer`` for pytorch-grad-cam, captum and Quantus.

Users of these libraries have normalised images and a model that takes them. An ``Explainer`` takes images in [0, 1].
So each interface here takes the ``mean`` and ``std`` of the normalisation, which default to ImageNet's, and undoes it.
A single mean and std serve all channels. For a model that takes images in [0, 1], use ``mean=(0,)`` and ``std=(1,)``.
"""

from collections.abc import Callable, Sequence
from functools import cache
from operator import itemgetter
from types import TracebackType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sftgan.cams.model_state import evaluation_mode, unwrapped
from sftgan.cams.targets import Targets
from sftgan.cnns.normalised import IMAGENET_MEAN, IMAGENET_STD, Normalised
from sftgan.errors import InputError
from sftgan.explainer import Explainer

__all__ = ["SFTGANCAM", "SFTGANAttribution", "quantus_explain"]
SFTGANAttribution: type[Any]  # see __getattr__
_DEFAULT = "lsft-dissimilar"
# how far images may exceed [0, 1]: through rounding, and through the noise that metrics add
_ROUNDING, _NOISE = 1e-3, 10.0


class _Adapter:
    """Common part of the interfaces; images that exceed [0, 1] by up to ``beyond`` are clipped, others refused."""

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

    def explain(self, images: Float[Tensor, "b c h w"], targets: Targets) -> Float[Tensor, "b h w"]:
        """Explain images in [0, 1], on whichever device the model is by now."""
        self.model.mean, self.model.std = self.model.mean.to(self.like), self.model.std.to(self.like)
        return self.explainer(self.model, images, targets)

    def images(self, inputs: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Take normalised images back to [0, 1], in the model's type and on its device."""
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
                f"images denormalised with mean {self.mean} and std {self.std} range from {low:.3g} to {high:.3g}, not "
                "from 0 to 1: give the mean and std that they were normalised with."
            )
        return images.clamp(0, 1).to(self.like.dtype)


class SFTGANCAM:
    """Interface of pytorch-grad-cam for an ``Explainer``; it replaces ``GradCAM`` in existing code.

    The model's mode is left as it is, and no hooks remain between calls.

    Parameters
    ----------
    model
        Classifier that takes normalised images.
    target_layers
        Ignored, because all convolutions are explained. It exists for compatibility.
    reshape_transform
        Must be None. It exists for compatibility.
    explainer
        An ``Explainer``, or a name for ``Explainer.from_pretrained``.
    mean
        Mean of each channel with which the images were normalised, or a single one for all channels.
    std
        Standard deviation of each channel with which the images were normalised, or a single one.

    Raises
    ------
    InputError
        If ``reshape_transform`` is given; if the model is no ``nn.Module``, or is an ``sftgan.Normalised`` while mean
        and std are not 0 and 1; if the explainer is unknown; if mean and std differ in length, or std is not
        positive.

    Examples
    --------
    >>> import torch
    >>> from sftgan.gan.networks import Generator
    >>> convs = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
    >>> model = nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> explainer = Explainer(Generator("lsft", eta=2, width=4))
    >>> normalised = (torch.rand(1, 3, 16, 16) - 0.5) / 0.25
    >>> with SFTGANCAM(model, explainer=explainer, mean=[0.5], std=[0.25]) as cam:
    ...     cam(normalised, targets=[1]).shape
    (1, 16, 16)
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
                "reshape_transform is for layers other than convolutions, but only convolutions are used: leave it out."
            )
        self.model = model
        self.target_layers = target_layers
        self._face = _Adapter(model, explainer, mean, std, _ROUNDING)
        self._images: Tensor

    def __call__(
        self,
        input_tensor: Float[Tensor, "b c h w"],
        targets: Targets = None,
        aug_smooth: bool = False,
        eigen_smooth: bool = False,
    ) -> Float[np.ndarray, "b h w"]:
        """Explain the model's outputs for normalised images.

        Parameters
        ----------
        input_tensor
            Normalised images (b, c, h, w).
        targets
            Targets of pytorch-grad-cam, which are one callable per image, or anything else that ``layer_cams`` takes.
            None stands for the predicted classes.
        aug_smooth
            Average the maps of six copies of each image, as pytorch-grad-cam does: the image and its mirror image,
            with the normalised values times 0.9, 1 and 1.1. Here the copies are clipped to the range of images.
        eigen_smooth
            Must be False. It exists for compatibility.

        Returns
        -------
        np.ndarray
            Maps (b, h, w) in [0, 1], float32.

        Raises
        ------
        InputError
            If the denormalised images exceed [0, 1] by more than 0.001, if ``eigen_smooth`` is True, or for input
            that ``layer_cams`` refuses.
        """
        if eigen_smooth:
            raise InputError(
                "eigen_smooth needs the activations of a single layer, but all layers are used: leave it out."
            )
        self._images = self._face.images(input_tensor)
        maps = self._smoothed(targets) if aug_smooth else self._face.explain(self._images, targets)
        return maps.float().cpu().numpy()

    @property
    def outputs(self) -> Any:
        """Logits (b, classes) of the model for the images of the last call, computed on access."""
        with torch.no_grad(), evaluation_mode(self.model):
            return self._face.model(self._images)

    def __enter__(self) -> "SFTGANCAM":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release nothing, and let errors propagate."""

    def _smoothed(self, targets: Targets) -> Float[Tensor, "b h w"]:
        explain, mean, maps = self._face.explain, self._face.model.mean, []
        for factor in (0.9, 1.0, 1.1):
            copies = (mean + factor * (self._images - mean)).clamp(0, 1)
            maps += [explain(copies, targets), explain(copies.flip(-1), targets).flip(-1)]
        return torch.stack(maps).mean(0)


def quantus_explain(
    model: nn.Module,
    inputs: Float[np.ndarray, "b c h w"],
    targets: Int[np.ndarray, " b"],
    *,
    explainer: Explainer | str = _DEFAULT,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    device: str | torch.device | None = None,
    method: str | None = None,
) -> Float[np.ndarray, "b 1 h w"]:
    """Explain a model's outputs, as an ``explain_func`` for the metrics of Quantus.

    Pass this function as ``explain_func`` and its keyword arguments in ``explain_func_kwargs``. Quantus itself adds
    ``device`` and ``method``.

    Parameters
    ----------
    model
        Classifier that takes normalised images.
    inputs
        Normalised images (b, c, h, w). They are clipped where a metric's noise takes them out of [0, 1].
    targets
        Class index of each image.
    explainer
        An ``Explainer``, or a name for ``Explainer.from_pretrained``.
    mean
        Mean of each channel with which the images were normalised, or a single one for all channels.
    std
        Standard deviation of each channel with which the images were normalised, or a single one.
    device
        Device to which the model is moved, as Quantus' own explanations do; None leaves it where it is.
    method
        Name of this function in ``quantus.evaluate``. It has no effect.

    Returns
    -------
    np.ndarray
        Maps (b, 1, h, w) in [0, 1], float32.

    Raises
    ------
    InputError
        As for ``SFTGANCAM``, except that the denormalised images may exceed [0, 1] by up to 10.

    Examples
    --------
    >>> import numpy as np
    >>> from sftgan.gan.networks import Generator
    >>> convs = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
    >>> model = nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> explainer = Explainer(Generator("lsft", eta=2, width=4))
    >>> quantus_explain(model, np.zeros((1, 3, 16, 16)), np.array([1]), explainer=explainer).shape
    (1, 1, 16, 16)
    """
    face = _Adapter(model if device is None else model.to(device), explainer, mean, std, _NOISE)
    maps = face.explain(face.images(torch.as_tensor(inputs)), torch.as_tensor(targets))
    return maps[:, None].float().cpu().numpy()


def __getattr__(name: str) -> Any:
    """Define ``SFTGANAttribution`` on first access, because it alone needs captum."""
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
        """Interface of captum's ``Attribution`` for an ``Explainer``, which works with ``NoiseTunnel`` and metrics.

        Parameters
        ----------
        model
            Classifier that takes normalised images.
        explainer
            An ``Explainer``, or a name for ``Explainer.from_pretrained``.
        mean
            Mean of each channel with which the images were normalised, or a single one for all channels.
        std
            Standard deviation of each channel with which the images were normalised, or a single one.

        Raises
        ------
        InputError
            If the model is no ``nn.Module``, or is an ``sftgan.Normalised`` while mean and std are not 0 and 1; if the
            explainer is unknown; if mean and std differ in length, or std is not positive.

        Examples
        --------
        >>> import torch
        >>> from sftgan.adapters import SFTGANAttribution
        >>> from sftgan.gan.networks import Generator
        >>> convs = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
        >>> model = nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> explainer = Explainer(Generator("lsft", eta=2, width=4))
        >>> SFTGANAttribution(model, explainer).attribute(torch.zeros(1, 3, 16, 16), target=1).shape
        torch.Size([1, 3, 16, 16])
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
            self._face = _Adapter(model, explainer, mean, std, _NOISE)

        @log_usage()  # NoiseTunnel calls the function inside this wrapper
        def attribute(self, inputs: Tensor | tuple[Tensor], target: Any = None) -> Tensor | tuple[Tensor]:
            """Compute attributions, which are the maps repeated over the channels.

            Parameters
            ----------
            inputs
                Normalised images (b, c, h, w), alone or in a tuple. They are clipped where the noise of
                ``NoiseTunnel`` or ``sensitivity_max`` takes them out of [0, 1].
            target
                A class index, or one per image. For outputs of more dimensions, a tuple of indices, or a list of one
                tuple per image. None stands for the classes that the model predicts for the inputs, with their noise.

            Returns
            -------
            Tensor | tuple[Tensor]
                Attributions (b, c, h, w) in [0, 1], in a tuple if the inputs are.

            Raises
            ------
            InputError
                If there are several inputs, or the denormalised images exceed [0, 1] by more than 10.
            """
            tensors = inputs if isinstance(inputs, tuple) else (inputs,)
            if len(tensors) != 1:
                raise InputError(
                    f"attribute takes one input, got {len(tensors)}: give a single tensor of images."
                )
            (images,) = tensors
            maps = self._face.explain(self._face.images(images), _targets(target, len(images)))
            repeated = maps[:, None].repeat(1, images.shape[1], 1, 1).to(images)
            return (repeated,) if isinstance(inputs, tuple) else repeated

    return SFTGANAttribution


def _targets(target: Any, n_images: int) -> Targets:
    """Convert captum's target for ``layer_cams``; a tuple indexes one value of an image's output."""
    if isinstance(target, Tensor) and target.numel() == 1:
        return int(target)
    places = [target] * n_images if isinstance(target, tuple) else target
    if isinstance(places, list) and all(isinstance(place, tuple) for place in places):
        return [itemgetter(place) for place in places]
    return target


@cache
def _pretrained(name: str, device: torch.device) -> Explainer:
    """Load a pretrained explainer and keep it, because metrics explain hundreds of times."""
    explainer = Explainer.from_pretrained(name)
    explainer.generator.to(device)
    return explainer


def _check(model: nn.Module, explainer: Explainer | str, mean: Sequence[float], std: Sequence[float]) -> None:
    if not isinstance(model, nn.Module) or next(model.parameters(), None) is None:
        raise InputError(f"the model must be a torch.nn.Module with parameters, got {type(model).__name__}.")
    if not isinstance(explainer, Explainer | str):
        raise InputError(
            f"explainer must be an sftgan.Explainer or the name of one, got {type(explainer).__name__}."
        )
    if np.ndim(mean) != 1 or np.shape(mean) != np.shape(std) or not len(std) or min(std) <= 0:
        raise InputError(
            f"mean and std must be sequences of equal length with positive std, got {mean} and {std}."
        )
    if isinstance(unwrapped(model), Normalised) and (any(mean) or any(s != 1 for s in std)):
        raise InputError(
            "this model normalises images itself (sftgan.Normalised): give it images in [0, 1], with mean=(0,) and "
            "std=(1,)."
        )
