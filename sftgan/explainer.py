"""From a CNN and images to interpretation maps."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sftgan.cams.conditions import ConditionSpec, pictures, scalar
from sftgan.cams.gradcam import check_images, coarse_cams
from sftgan.cams.model_state import evaluation_mode
from sftgan.cams.targets import Targets, split
from sftgan.errors import InputError
from sftgan.gan import weights
from sftgan.gan.networks import Generator
from sftgan.gan.weights import PRETRAINED


class Explainer:
    """Explainer of CNNs: Grad-CAMs of all convolutions, their CGMAs and a trained generator (section 3).

    Parameters
    ----------
    generator
        A trained ``Generator``.
    spec
        How its conditions were made in training; None for the paper's way.
    size
        Shorter side in pixels of the images that the generator is given, best that of its training images; None
        for the size of the user's images.
    batch
        Number of images explained at once; more need more memory and save no time.

    Raises
    ------
    InputError
        If the spec does not give as many conditions as the generator takes, or ``size`` or ``batch`` is less
        than 1.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> convs = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
    >>> model = nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> from sftgan.gan.networks import Generator
    >>> explainer = Explainer(Generator("lsft", eta=2, width=4))
    >>> explainer(model, torch.rand(1, 3, 16, 16)).shape
    torch.Size([1, 16, 16])
    """

    def __init__(
        self,
        generator: Generator,
        spec: ConditionSpec | None = None,
        size: int | None = None,
        batch: int = 16,
    ):
        self.generator = generator
        self.spec = spec or ConditionSpec(generator.eta)
        self.size = size
        self.batch = batch
        if self.spec.channels != generator.eta:
            raise InputError(
                f"the spec gives {self.spec.channels} conditions, but the generator takes {generator.eta}: "
                "give the spec it was trained with."
            )
        if batch < 1 or (size is not None and size < 1):
            raise InputError(f"size and batch must be at least 1, got size={size} and batch={batch}.")

    @classmethod
    def from_pretrained(cls, name: str) -> "Explainer":
        """Load one of the generators that come with the package.

        Each has a model card in ``sftgan/pretrained``, with its training data, its results and its limits.

        Parameters
        ----------
        name
            One of ``sftgan.gan.weights.PRETRAINED``.

        Returns
        -------
        Explainer
            The explainer with that generator.

        Raises
        ------
        InputError
            If the name is unknown, or the file is missing or damaged.

        Examples
        --------
        >>> Explainer.from_pretrained("lsft-similar").size
        32
        """
        return cls.load(weights.pretrained(name))

    @classmethod
    def load(cls, path: str | Path) -> "Explainer":
        """Load what ``save`` wrote; nothing is ever unpickled.

        Parameters
        ----------
        path
            File to read.

        Returns
        -------
        Explainer
            The explainer with generator, spec and size of the file.

        Raises
        ------
        InputError
            If the file cannot be read or was not written by ``save``.

        Examples
        --------
        >>> from sftgan.gan.weights import pretrained
        >>> Explainer.load(pretrained("gsft-similar")).generator.kind
        'gsft'
        """
        return cls(*weights.load(Path(path)))

    def save(self, path: str | Path, about: dict[str, str] | None = None) -> None:
        """Write generator, spec and size to one file.

        Parameters
        ----------
        path
            File to write; its name ends in ``.safetensors``.
        about
            Notes to keep in the file.

        Raises
        ------
        InputError
            If the path or the notes are unusable, or the file cannot be written.

        Examples
        --------
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from sftgan.gan.networks import Generator
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "mine.safetensors"
        ...     Explainer(Generator("gsft", eta=4, width=4), size=24).save(path)
        ...     Explainer.load(path).size
        24
        """
        weights.save(Path(path), self.generator, self.spec, self.size, about or {})

    def __call__(
        self, model: nn.Module, images: Float[Tensor, "b c h w"], targets: Targets = None
    ) -> Float[Tensor, "b h w"]:
        """Explain a CNN's outputs for images.

        The generator may be on another device than the CNN.

        Parameters
        ----------
        model
            Classifier, as for ``layer_cams``.
        images
            Images (b, 3, h, w) or (b, 1, h, w) in [0, 1], where the model is.
        targets
            What is explained, see ``sftgan.cams.targets.Targets``; None for what the spec says, by default the
            predicted classes. A single callable is given the outputs of ``batch`` images at a time.

        Returns
        -------
        Tensor
            Maps (b, h, w) in [0, 1], on the device of the images.

        Raises
        ------
        InputError
            As ``layer_cams`` does.
        """
        check_images(model, images)
        maps = images.new_empty(len(images), *images.shape[-2:])
        drawn = zip(
            maps.split(self.batch),
            images.split(self.batch),
            split(targets, len(images), self.batch),
            strict=True,
        )
        for place, part, some in drawn:
            place.copy_(self._draw(model, part, some))
        return maps

    def prepare(
        self, model: nn.Module, images: Float[Tensor, "b c h w"], targets: Targets = None
    ) -> tuple[Float[Tensor, "b c h2 w2"], Float[Tensor, "b eta h2 w2"], Float[Tensor, "b h2 w2"], Any]:
        """Compute the generator's input and its target, for all images at once.

        Parameters
        ----------
        model
            Classifier, as for ``layer_cams``.
        images
            Images (b, 3, h, w) or (b, 1, h, w) in [0, 1], where the model is.
        targets
            What is explained, see ``sftgan.cams.targets.Targets``; None for what the spec says, by default the
            predicted classes.

        Returns
        -------
        tuple[Tensor, Tensor, Tensor, Any]
            Images (b, c, h2, w2), conditions (b, eta, h2, w2) and targets (b, h2, w2) in [0, 1], whose shorter
            side is ``size``; and the logits (b, classes), or whatever else the model returned, detached.

        Raises
        ------
        InputError
            As ``layer_cams`` does.

        Examples
        --------
        >>> import torch
        >>> from torch import nn
        >>> from sftgan.gan.networks import Generator
        >>> convs = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
        >>> model = nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> explainer = Explainer(Generator("lsft", eta=2, width=4), size=12)
        >>> [tuple(part.shape) for part in explainer.prepare(model, torch.rand(1, 3, 16, 16))]
        [(1, 3, 12, 12), (1, 2, 12, 12), (1, 12, 12), (1, 2)]
        """
        height, width = images.shape[-2:]
        scale = 1 if self.size is None else self.size / min(height, width)
        shape = round(height * scale), round(width * scale)
        targets = self.spec.explained_class_for(targets)
        cams = coarse_cams(model, images, targets, self.spec.tap, shape, self.spec.gradients)
        return pictures(images, shape), *self.spec.conditions_and_target(cams), cams.logits

    def _draw(
        self, model: nn.Module, images: Float[Tensor, "b c h w"], targets: Targets
    ) -> Float[Tensor, "b h w"]:
        shown, given, _, _ = self.prepare(model, images, targets)
        like = next(self.generator.parameters())
        shown = shown.expand(-1, 3, -1, -1)
        with torch.no_grad(), evaluation_mode(self.generator):
            maps = scalar(self.generator(shown.to(like), given.to(like)))
        maps = F.interpolate(maps[:, None].to(images), images.shape[-2:], mode="bilinear", antialias=True)[
            :, 0
        ]
        return maps.clamp(0, 1)


def load_explainer(name: str) -> Explainer:
    """Load a pretrained explainer by its name, or an explainer from its file.

    Parameters
    ----------
    name
        One of ``sftgan.gan.weights.PRETRAINED``, or the path of a file that ``Explainer.save`` wrote.

    Returns
    -------
    Explainer
        The explainer.

    Raises
    ------
    InputError
        If the name is unknown, or the file cannot be read or was not written by ``Explainer.save``.

    Examples
    --------
    >>> load_explainer("lsft-similar").size
    32
    """
    is_file = name not in PRETRAINED and (Path(name).suffix or Path(name).exists())
    return Explainer.load(name) if is_file else Explainer.from_pretrained(name)
