"""Interpretation maps of CNNs by SFT-GANs: layer-wise Grad-CAMs, CGMAs, generators and their evaluation."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sftgan.errors import InputError

if TYPE_CHECKING:
    from sftgan.adapters import SFTGANCAM, SFTGANAttribution, quantus_explain
    from sftgan.cams.cgma import cgma, positions
    from sftgan.cams.conditions import conditions
    from sftgan.cams.gradcam import LayerCams, layer_cams
    from sftgan.cnns.architectures import build
    from sftgan.cnns.normalised import Normalised
    from sftgan.explainer import Explainer
    from sftgan.gan.networks import Discriminator, Generator

__all__ = [
    "Discriminator",
    "Explainer",
    "Generator",
    "InputError",
    "LayerCams",
    "Normalised",
    "SFTGANAttribution",
    "SFTGANCAM",
    "build",
    "cgma",
    "conditions",
    "layer_cams",
    "positions",
    "quantus_explain",
]
__version__ = "0.1.0"
_HOMES = {
    "Discriminator": "gan.networks", "Explainer": "explainer", "Generator": "gan.networks",
    "LayerCams": "cams.gradcam", "Normalised": "cnns.normalised", "SFTGANAttribution": "adapters",
    "SFTGANCAM": "adapters", "build": "cnns.architectures", "cgma": "cams.cgma",
    "conditions": "cams.conditions", "layer_cams": "cams.gradcam", "positions": "cams.cgma",
    "quantus_explain": "adapters",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that ``sftgan --help`` does not wait for PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
