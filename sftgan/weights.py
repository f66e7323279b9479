"""Weights of generators and CNNs as safetensors files.

Nothing is unpickled, because a pickle can run code when it is read.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as as_bytes
from torch import Tensor, nn

from sftgan.architectures import Normalised
from sftgan.checkpoint import replacing
from sftgan.errors import InputError, check_name
from sftgan.networks import Generator
from sftgan.reading import Reading

PRETRAINED = ("lsft-similar", "gsft-similar", "lsft-dissimilar", "gsft-dissimilar")
"""Names of the generators in the package: their kind and the strategy of their training."""
CHECKSUMS = "SHA256SUMS"
FORMAT = 1
_KEY = "sftgan"  # one entry only: safetensors writes several entries in an order that differs from run to run
_BUILT_WITH = ("kind", "eta", "width", "variant", "channels")
_AGAIN = "save or download it again"
_CONVERT = (
    "{path} is a pickle or a zip file, as torch.save writes, and is never opened here, because a pickle can run code: "
    "convert a CNN's once with `state = torch.load({path!r}, weights_only=True)` and `safetensors.torch.save_file("
    "{{k: v.contiguous() for k, v in state.items()}}, {new!r})`, and save a generator with Explainer.save."
)
_FOLDER = Path(str(resources.files("sftgan"))) / "pretrained"
_WRAPPERS = re.compile(r"^((module|net|_orig_mod)\.)+")  # of DataParallel, Normalised, torch.compile


def save(
    path: str | Path, generator: Generator, reading: Reading, size: int | None = None,
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
    reading
        How its conditions are made.
    size
        Shorter side in pixels of the images that it is given; None for the size of the user's images.
    about
        Notes to keep in the file.

    Raises
    ------
    InputError
        If the net is not a ``Generator``, the reading gives another number of conditions, the path, size or
        notes are unusable, or the file cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sftgan.networks import Generator
    >>> from sftgan.reading import Reading
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "mine.safetensors"
    ...     save(path, Generator("gsft", eta=4, width=4), Reading(4), size=32, about={"data": "digits"})
    ...     generator, reading, size = load(path)
    >>> generator.kind, reading.eta, size
    ('gsft', 4, 32)
    """
    if not isinstance(generator, Generator):
        raise InputError(f"only a Generator can be saved, but this is a {type(generator).__name__}.")
    if reading.channels != generator.eta:
        raise InputError(
            f"the reading gives {reading.channels} conditions, but the generator takes {generator.eta}: "
            "give the reading it was trained with."
        )
    if Path(path).suffix != ".safetensors":
        raise InputError(f"{path} must be a safetensors file: let its name end in .safetensors.")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise InputError(f"size is {size!r}: give a whole number of pixels of at least 1, or None.")
    about = dict(about or {})
    if not all(isinstance(word, str) for item in about.items() for word in item):
        raise InputError(f"about is {about!r}: give strings only.")
    said = {"version": FORMAT} | {name: getattr(generator, name) for name in _BUILT_WITH}
    said |= {"reading": asdict(reading), "size": size, "about": about}
    tensors = {name: value.cpu().contiguous() for name, value in generator.state_dict().items()}
    write(path, as_bytes(tensors, {_KEY: json.dumps(said)}))


def load(path: str | Path) -> tuple[Generator, Reading, int | None]:
    """Load what ``save`` wrote, without drawing random numbers.

    Parameters
    ----------
    path
        File to read.

    Returns
    -------
    tuple[Generator, Reading, int | None]
        The generator, on the CPU and in evaluation mode; how its conditions are made; and the shorter side in
        pixels of the images that it is given, None for the size of the user's images.

    Raises
    ------
    InputError
        If the file is missing, is not a safetensors file, was not written by ``save``, was written by a newer
        version, or its tensors do not match its description.

    Examples
    --------
    >>> generator, reading, size = load(pretrained("lsft-similar"))
    >>> generator.kind, reading.eta, size
    ('lsft', 8, 32)
    """
    said, tensors = _read_generator(path)
    try:
        with torch.device("meta"):
            generator = Generator(**{name: said[name] for name in _BUILT_WITH})
        reading, size = Reading(**said["reading"]), said["size"]
    except (InputError, TypeError, KeyError) as error:
        raise InputError(f"{path} does not describe a known generator ({error}): {_AGAIN}.") from None
    differ = _differences(generator.state_dict(), tensors, "that generator")
    if reading.channels != generator.eta:
        differ = f"its reading gives {reading.channels} conditions"
    if differ:
        what = ", ".join(f"{name} {said[name]}" for name in _BUILT_WITH)
        raise InputError(f"{path} says that it holds {what}, but {differ}: {_AGAIN}.")
    generator.to_empty(device="cpu").to(tensors["tail.weight"].dtype).load_state_dict(tensors)
    return generator.eval(), reading, size


def describe(path: str | Path) -> dict[str, Any]:
    """Read the description in the file of a generator, without building the generator.

    Parameters
    ----------
    path
        File to read.

    Returns
    -------
    dict[str, Any]
        The entries version, kind, eta, width, variant, channels, reading, size and about.

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
    metadata, tensors = _read(path)
    if _KEY in metadata:
        raise InputError(f"{path} holds an SFT generator, not a CNN: read it with Explainer.load.")
    own, given = model.state_dict(), _bare(tensors)
    wanted = _bare(own)
    normalised = any(isinstance(module, Normalised) for module in model.modules())
    if not normalised and {"mean", "std"} <= set(given) - set(wanted):
        raise InputError(f"{path} was saved from a net with its normalisation: load it into Normalised(net).")
    optional = {"mean", "std"} if normalised else set()
    kept = {n: v for n, v in wanted.items() if n in optional or n.endswith("num_batches_tracked")}
    if differ := _differences(wanted, kept | given, "the model"):
        raise InputError(f"{path} does not fit the model, nothing was loaded: {differ}.")
    model.load_state_dict({n: (kept | given)[bare] for n, bare in zip(own, wanted, strict=True)})


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


def write(path: str | Path, data: bytes) -> None:
    """Write a file in one step, so that a reader sees either the old file or the new one.

    Parameters
    ----------
    path
        File to write; missing folders are created.
    data
        Its content.

    Raises
    ------
    InputError
        If the file cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write(Path(folder) / "notes.txt", b"hello")
    ...     (Path(folder) / "notes.txt").read_bytes()
    b'hello'
    """
    try:
        with replacing(Path(path)) as file:
            file.write(data)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error}): choose another place.") from None


def _read_generator(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    metadata, tensors = _read(path)
    if _KEY not in metadata:
        raise InputError(
            f"{path} does not say which generator it holds and may hold a CNN (it has {_some(tensors)}): "
            "give a file that Explainer.save wrote."
        )
    try:
        said = json.loads(metadata[_KEY])
        newer = said["version"] > FORMAT
    except (ValueError, TypeError, KeyError):
        raise InputError(f"the description in {path} cannot be read: {_AGAIN}.") from None
    if newer:
        raise InputError(
            f"{path} has format {said['version']}, but this sftgan reads format {FORMAT}: update sftgan."
        )
    return said, tensors


def _read(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"there is no file {path}: correct the path.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}): give a safetensors file.") from None
    except SafetensorError as error:
        with Path(path).open("rb") as raw:
            pickled = raw.read(2).startswith((b"\x80", b"PK"))
        if not pickled:
            raise InputError(f"{path} is not a safetensors file or is damaged ({error}): {_AGAIN}.") from None
        raise InputError(
            _CONVERT.format(path=str(path), new=str(Path(path).with_suffix(".safetensors")))
        ) from None


def _bare(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Strip the prefixes of wrappers from the names, unless that makes two names equal."""
    bare = {_WRAPPERS.sub("", name): value for name, value in state.items()}
    return bare if len(bare) == len(state) else dict(state)


def _differences(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], what: str) -> str:
    """Say in words how names and shapes of tensors differ from the wanted ones; "" if they fit."""
    missing, others = ([n for n in a if n not in b] for a, b in ((wanted, given), (given, wanted)))
    words = (
        [f"it lacks {len(missing)} of the {len(wanted)} tensors of {what} ({_some(missing)})"]
        if missing
        else []
    )
    words += [f"{what} lacks {len(others)} of its tensors ({_some(others)})"] if others else []
    both = [(n, tuple(given[n].shape), tuple(wanted[n].shape)) for n in wanted if n in given]
    changed = [(n, theirs, ours) for n, theirs, ours in both if theirs != ours]
    if changed:
        name, theirs, ours = changed[0]
        more = f" (the first of {len(changed)} that differ)" if len(changed) > 1 else ""
        words.append(f"{name} is {theirs} in the file and {ours} in {what}{more}")
    first, rest = {(a[:1], b[:1]) for _, a, b in changed}, all(a[1:] == b[1:] for _, a, b in changed)
    classes = not missing and not others and len(first) == 1 and rest
    return "; ".join(words) + (": the numbers of classes differ" if classes else "")


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
