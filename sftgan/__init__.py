"""Interpretation maps of CNNs by SFT-GANs: layer-wise Grad-CAMs, CGMAs, generators and their evaluation."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sftgan.errors import InputError

if TYPE_CHECKING:
    from sftgan.architectures import Normalised, build
    from sftgan.cgma import cgma, positions
    from sftgan.explain import Explainer, conditions
    from sftgan.faces import SFTGANCAM, quantus_explain
    from sftgan.gradcam import LayerCams, layer_cams
    from sftgan.networks import Discriminator, Generator

__all__ = [
    "Discriminator",
    "Explainer",
    "Generator",
    "InputError",
    "LayerCams",
    "Normalised",
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
    "Discriminator": "networks", "Explainer": "explain", "Generator": "networks", "LayerCams": "gradcam",
    "Normalised": "architectures", "SFTGANCAM": "faces", "build": "architectures", "cgma": "cgma",
    "conditions": "explain", "layer_cams": "gradcam", "positions": "cgma", "quantus_explain": "faces",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that ``sftgan --help`` does not wait for PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Module type that keeps ``sftgan.cgma`` the function when the module of that name is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value.cgma if name == "cgma" and isinstance(value, ModuleType) else value)


sys.modules[__name__].__class__ = _Package
