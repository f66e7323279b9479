"""Weights of generators and CNNs as safetensors files.

Nothing is unpickled, because a pickle can run code when it is read.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as as_bytes
from torch import Tensor

from sftgan.cams.conditions import ConditionSpec
from sftgan.errors import InputError, check_name
from sftgan.files import GENERATOR_KEY, READ_AGAIN, name_some, read_safetensors, tensor_differences, write
from sftgan.gan.networks import Generator

PRETRAINED = ("lsft-similar", "gsft-similar", "lsft-dissimilar", "gsft-dissimilar")
"""Names of the generators in the package, made of their kind and the strategy of their training."""
CHECKSUMS = "SHA256SUMS"
FORMAT = 1
_BUILT_WITH = ("kind", "eta", "width", "variant", "channels")
_FOLDER = Path(str(resources.files("sftgan"))) / "pretrained"


def save(
    path: str | Path, generator: Generator, spec: ConditionSpec, size: int | None = None,
    about: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Write a generator with everything that is needed to use it.

    The same arguments give the same bytes.

    Parameters
    ----------
    path
        File to write; its name ends in ``.safetensors``.
    generator
        The generator.
    spec
        How its conditions are made.
    size
        Shorter side in pixels of the images that it is given; None for the size of the user's images.
    about
        Notes to keep in the file.

    Raises
    ------
    InputError
        If the net is not a ``Generator``, the spec gives another number of conditions, the path, size or
        notes are unusable, or the file cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sftgan.gan.networks import Generator
    >>> from sftgan.cams.conditions import ConditionSpec
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "mine.safetensors"
    ...     save(path, Generator("gsft", eta=4, width=4), ConditionSpec(4), size=32, about={"data": "digits"})
    ...     generator, spec, size = load(path)
    >>> generator.kind, spec.eta, size
    ('gsft', 4, 32)
    """
    if not isinstance(generator, Generator):
        raise InputError(f"only a Generator can be saved, but this is a {type(generator).__name__}.")
    if spec.channels != generator.eta:
        raise InputError(
            f"the spec gives {spec.channels} conditions, but the generator takes {generator.eta}: "
            "give the spec it was trained with."
        )
    if Path(path).suffix != ".safetensors":
        raise InputError(f"{path} must be a safetensors file: let its name end in .safetensors.")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise InputError(f"size is {size!r}: give a whole number of pixels of at least 1, or None.")
    about = dict(about or {})
    if not all(isinstance(word, str) for item in about.items() for word in item):
        raise InputError(f"about is {about!r}: give strings only.")
    said = {"version": FORMAT} | {name: getattr(generator, name) for name in _BUILT_WITH}
    said |= {"reading": asdict(spec), "size": size, "about": about}
    tensors = {name: value.cpu().contiguous() for name, value in generator.state_dict().items()}
    write(path, as_bytes(tensors, {GENERATOR_KEY: json.dumps(said)}))


def load(path: str | Path) -> tuple[Generator, ConditionSpec, int | None]:
    """Load what ``save`` wrote, without drawing random numbers.

    Parameters
    ----------
    path
        File to read.

    Returns
    -------
    tuple[Generator, ConditionSpec, int | None]
        The generator, on the CPU and in evaluation mode; how its conditions are made; and the shorter side in
        pixels of the images that it is given, None for the size of the user's images.

    Raises
    ------
    InputError
        If the file is missing, is not a safetensors file, was not written by ``save``, was written by a newer
        version, or its tensors do not match its description.

    Examples
    --------
    >>> generator, spec, size = load(pretrained("lsft-similar"))
    >>> generator.kind, spec.eta, size
    ('lsft', 8, 32)
    """
    said, tensors = _read_generator(path)
    try:
        with torch.device("meta"):
            generator = Generator(**{name: said[name] for name in _BUILT_WITH})
        spec, size = ConditionSpec(**said["reading"]), said["size"]
    except (InputError, TypeError, KeyError) as error:
        raise InputError(f"{path} does not describe a known generator ({error}): {READ_AGAIN}.") from None
    differ = tensor_differences(generator.state_dict(), tensors, "that generator")
    if spec.channels != generator.eta:
        differ = f"its spec gives {spec.channels} conditions"
    if differ:
        what = ", ".join(f"{name} {said[name]}" for name in _BUILT_WITH)
        raise InputError(f"{path} says that it holds {what}, but {differ}: {READ_AGAIN}.")
    generator.to_empty(device="cpu").to(tensors["tail.weight"].dtype).load_state_dict(tensors)
    return generator.eval(), spec, size


def describe(path: str | Path) -> dict[str, Any]:
    """Read the description in the file of a generator, without building the generator.

    Parameters
    ----------
    path
        File to read.

    Returns
    -------
    dict[str, Any]
        The entries version, kind, eta, width, variant, channels, spec, size and about.

    Raises
    ------
    InputError
        As ``load`` does, but whether the tensors match the description is not checked.

    Examples
    --------
    >>> said = describe(pretrained("lsft-similar"))
    >>> said["kind"], said["eta"], said["size"]
    ('lsft', 8, 32)
    """
    return _read_generator(path)[0]


def pretrained(name: str) -> Path:
    """Find the file of a generator that comes with the package, and verify its checksum.

    Its model card, ``NAME.md``, lies beside it.

    Parameters
    ----------
    name
        One of ``PRETRAINED``.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the name is unknown, or the file is missing or damaged.

    Examples
    --------
    >>> pretrained("lsft-similar").name
    'lsft-similar.safetensors'
    """
    path = _FOLDER / f"{check_name(name, PRETRAINED, 'pretrained generator')}.safetensors"
    try:
        published = (_FOLDER / CHECKSUMS).read_text().splitlines()
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"the weights of {name} cannot be read ({error}): install sftgan again.") from None
    if f"{found}  {path.name}" not in published:
        raise InputError(f"{path} is damaged (its checksum is not the published one): install sftgan again.")
    return path


def _read_generator(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    metadata, tensors = read_safetensors(path)
    if GENERATOR_KEY not in metadata:
        raise InputError(
            f"{path} does not say which generator it holds and may hold a CNN (it has {name_some(tensors)}): "
            "give a file that Explainer.save wrote."
        )
    try:
        said = json.loads(metadata[GENERATOR_KEY])
        newer = said["version"] > FORMAT
    except (ValueError, TypeError, KeyError):
        raise InputError(f"the description in {path} cannot be read: {READ_AGAIN}.") from None
    if newer:
        raise InputError(
            f"{path} has format {said['version']}, but this sftgan reads format {FORMAT}: update sftgan."
        )
    return said, tensors
