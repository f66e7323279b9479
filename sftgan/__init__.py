"""The SFT-GAN companion: layer-wise Grad-CAMs, CGMA, SFT generators and their evaluation."""

from sftgan.architectures import Normalised, build
from sftgan.cgma import cgma, positions
from sftgan.errors import InputError
from sftgan.explain import Explainer, conditions
from sftgan.gradcam import LayerCams, layer_cams
from sftgan.networks import Discriminator, Generator

__all__ = [
    "Discriminator",
    "Explainer",
    "Generator",
    "InputError",
    "LayerCams",
    "Normalised",
    "build",
    "cgma",
    "conditions",
    "layer_cams",
    "positions",
]
__version__ = "0.1.0"
