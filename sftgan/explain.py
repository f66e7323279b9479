"""From a CNN and images to interpretation maps."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sftgan import weights
from sftgan.errors import InputError
from sftgan.gradcam import Size, check_images, coarse_cams
from sftgan.networks import Generator
from sftgan.reading import Reading, pictures, scalar
from sftgan.taps import evaluation_mode
from sftgan.targets import Targets, split


def conditions(
    model: nn.Module,
    images: Tensor,
    eta: int = 8,
    targets: Targets = None,
    tap: str = "post",
    size: Size = None,
    rounding: str = "double",
) -> Tensor:
    """CGMAs (Eq. 1-4) of a CNN: (B, eta, H, W) in [0, 1] for images (B, 3, H, W) in [0, 1].

    Equal to `cgma(layer_cams(model, images, targets, tap, size).maps, eta, rounding)`, but averaged while the maps are
    as small as their layers, so that all N of them are never held at full size. Arguments and errors as those of
    `layer_cams` and `cgma`.
    """
    return Reading(eta, tap, rounding).read(coarse_cams(model, images, targets, tap, size))[0]


class Explainer:
    """Draws what a CNN looked at: Grad-CAMs of all convolutions, their CGMAs, and a trained generator (section 3).

    generator: a trained `Generator`. reading: how its conditions were made when it was trained, the paper's way by
    default. size: the shorter side, in pixels, at which it draws: that of the images it was trained with; None: the
    images' own. batch: images explained at once; more need more memory, not less time.

    >>> explainer = Explainer.from_pretrained("lsft-similar")                         # doctest: +SKIP
    >>> maps = explainer(model, images)   # (B, H, W) in [0, 1], H x W of the images  # doctest: +SKIP
    """

    def __init__(
        self, generator: Generator, reading: Reading | None = None, size: int | None = None, batch: int = 16
    ):
        self.generator = generator
        self.reading = reading or Reading(generator.eta)
        self.size = size
        self.batch = batch
        if self.reading.channels != generator.eta:
            raise InputError(
                f"the reading gives {self.reading.channels} conditions, but the generator takes {generator.eta}: "
                "give the reading that it was trained with."
            )
        if batch < 1 or (size is not None and size < 1):
            raise InputError(f"size and batch must be at least 1, got size={size} and batch={batch}.")

    @classmethod
    def from_pretrained(cls, name: str) -> "Explainer":
        """One of the generators that come with the package, by a name of `sftgan.weights.PRETRAINED`.

        Beside each file of `sftgan/pretrained` lies its model card: what it was trained on, its results, its limits.
        """
        return cls.load(weights.pretrained(name))

    @classmethod
    def load(cls, path: str | Path) -> "Explainer":
        """What `save` wrote. Raises InputError for a file that is none; nothing is ever unpickled."""
        return cls(*weights.load(Path(path)))

    def save(self, path: str | Path, about: dict[str, str] | None = None) -> None:
        """Write generator, reading and size as one .safetensors file, with notes `about` them."""
        weights.save(Path(path), self.generator, self.reading, self.size, about or {})

    def __call__(self, model: nn.Module, images: Tensor, targets: Targets = None) -> Tensor:
        """Maps (B, H, W) in [0, 1] for images (B, 3, H, W) or (B, 1, H, W) in [0, 1], where the images are.

        `targets` and errors as those of `layer_cams`; one callable is given the outputs of `batch` images at a time.
        The generator may be on another device than the CNN.
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

    def see(
        self, model: nn.Module, images: Tensor, targets: Targets = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the generator is given and asked for: images (B, C, h, w), conditions, target (B, h, w), and logits.

        At the size at which it draws, all images at once; arguments and errors as those of `layer_cams`.
        """
        height, width = images.shape[-2:]
        scale = 1 if self.size is None else self.size / min(height, width)
        shape = round(height * scale), round(width * scale)
        targets = self.reading.explained(targets)
        cams = coarse_cams(model, images, targets, self.reading.tap, shape, self.reading.gradients)
        return pictures(images, shape), *self.reading.read(cams), cams.logits

    def _draw(self, model: nn.Module, images: Tensor, targets: Targets) -> Tensor:
        shown, given, _, _ = self.see(model, images, targets)
        like = next(self.generator.parameters())
        shown = shown.expand(-1, 3, -1, -1)
        with torch.no_grad(), evaluation_mode(self.generator):
            maps = scalar(self.generator(shown.to(like), given.to(like)))
        maps = F.interpolate(maps[:, None].to(images), images.shape[-2:], mode="bilinear", antialias=True)[
            :, 0
        ]
        return maps.clamp(0, 1)
