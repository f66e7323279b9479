"""Weights as safetensors files, of generators and of CNNs. Nothing is unpickled: a pickle can run code when read."""

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
"""The generators in the package: kind, and strategy of their training."""
CHECKSUMS = "SHA256SUMS"
FORMAT = 1
_KEY = "sftgan"  # one entry only: safetensors writes several in an order that differs from run to run
_BUILT_WITH = ("kind", "eta", "width", "variant", "channels")
_AGAIN = "save it again, or get it anew"
_CONVERT = (
    "{path} is a pickle or a zip file, as torch.save writes, and is never opened here, because a pickle can run code; "
    "convert a CNN's once with `state = torch.load({path!r}, weights_only=True)` and `safetensors.torch.save_file("
    "{{k: v.contiguous() for k, v in state.items()}}, {new!r})`, and a generator's with Explainer.save."
)
_FOLDER = Path(str(resources.files("sftgan"))) / "pretrained"
_WRAPPERS = re.compile(r"^((module|net|_orig_mod)\.)+")  # of DataParallel, Normalised, torch.compile


def save(
    path: str | Path, generator: Generator, reading: Reading, size: int | None = None,
    about: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Write a generator with all that is needed to use it; the same arguments give the same bytes.

    reading: how its conditions are made. size: the side in pixels at which it draws, None for the images'. about:
    notes. Raises InputError for another net than `Generator`, for a reading that it does not take, a size or notes that
    cannot be kept, for a name that does not end in .safetensors, and where the file cannot be written.
    """
    if not isinstance(generator, Generator):
        raise InputError(f"only a Generator can be saved, this is a {type(generator).__name__}.")
    if reading.channels != generator.eta:
        raise InputError(f"a reading of {reading.channels} conditions does not fit eta {generator.eta}.")
    if Path(path).suffix != ".safetensors":
        raise InputError(f"{path} is to be a safetensors file: let its name end in .safetensors.")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise InputError(f"size is {size!r}: give a whole number of pixels, or None.")
    about = dict(about or {})
    if not all(isinstance(word, str) for item in about.items() for word in item):
        raise InputError(f"about is {about!r}: give strings only.")
    said = {"version": FORMAT} | {name: getattr(generator, name) for name in _BUILT_WITH}
    said |= {"reading": asdict(reading), "size": size, "about": about}
    tensors = {name: value.cpu().contiguous() for name, value in generator.state_dict().items()}
    write(path, as_bytes(tensors, {_KEY: json.dumps(said)}))


def load(path: str | Path) -> tuple[Generator, Reading, int | None]:
    """The generator, on the CPU and in evaluation mode, the reading and the size. Draws no random numbers.

    Raises InputError where the file is missing, is no safetensors file, was not written by `save` or by that of a newer
    version, or holds other tensors than it says.
    """
    said, tensors = _read_generator(path)
    try:
        with torch.device("meta"):
            generator = Generator(**{name: said[name] for name in _BUILT_WITH})
        reading, size = Reading(**said["reading"]), said["size"]
    except (InputError, TypeError, KeyError) as error:
        raise InputError(
            f"{path} describes no generator that is known here ({error}): get it anew."
        ) from None
    differ = _differences(generator.state_dict(), tensors, "that generator")
    if reading.channels != generator.eta:
        differ = f"its reading gives {reading.channels} conditions"
    if differ:
        what = ", ".join(f"{name} {said[name]}" for name in _BUILT_WITH)
        raise InputError(f"{path} says that it holds {what}, but {differ}: {_AGAIN}.")
    generator.to_empty(device="cpu").to(tensors["tail.weight"].dtype).load_state_dict(tensors)
    return generator.eval(), reading, size


def describe(path: str | Path) -> dict[str, Any]:
    """What the file of a generator says: version, kind, eta, width, variant, channels, reading, size and about.

    Raises InputError as `load` does, but for the tensors.
    """
    return _read_generator(path)[0]


def load_model(model: nn.Module, path: str | Path) -> None:
    """Load a CNN's weights from a safetensors file, all of them or none.

    The prefixes of `Normalised`, DataParallel and torch.compile do not count. The file of a bare net fits a
    `Normalised` one, whose normalisation stays; counters of batch norm may be missing. Raises InputError where the
    file cannot be read, see `load`, or does not fit, with what differs.
    """
    metadata, tensors = _read(path)
    if _KEY in metadata:
        raise InputError(f"{path} holds an SFT generator and no CNN: read it with Explainer.load.")
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
    """The packaged file of one of `PRETRAINED`, its checksum verified. Its model card, NAME.md, lies beside it."""
    path = _FOLDER / f"{check_name(name, PRETRAINED, 'pretrained generator')}.safetensors"
    try:
        published = (_FOLDER / CHECKSUMS).read_text().splitlines()
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"the weights of {name} cannot be read ({error}): install sftgan again.") from None
    if f"{found}  {path.name}" not in published:
        raise InputError(f"{path} is damaged, its checksum is not the published one: install sftgan again.")
    return path


def write(path: str | Path, data: bytes) -> None:
    """Write a file in one step: whoever reads sees the old one or the new one. Raises InputError if that fails."""
    try:
        with replacing(Path(path)) as file:
            file.write(data)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error}): choose another place.") from None


def _read_generator(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    metadata, tensors = _read(path)
    if _KEY not in metadata:
        raise InputError(
            f"{path} does not say which generator it holds, perhaps it is a CNN's (it has {_some(tensors)}): "
            "give a file that Explainer.save wrote."
        )
    try:
        said = json.loads(metadata[_KEY])
        newer = said["version"] > FORMAT
    except (ValueError, TypeError, KeyError):
        raise InputError(f"the description in {path} cannot be read: {_AGAIN}.") from None
    if newer:
        raise InputError(f"{path} has format {said['version']}, known here is {FORMAT}: update sftgan.")
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
            raise InputError(f"{path} is no safetensors file or is damaged ({error}): {_AGAIN}.") from None
        raise InputError(
            _CONVERT.format(path=str(path), new=str(Path(path).with_suffix(".safetensors")))
        ) from None


def _bare(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without the prefixes of wrappers, as long as that leaves all names different."""
    bare = {_WRAPPERS.sub("", name): value for name, value in state.items()}
    return bare if len(bare) == len(state) else dict(state)


def _differences(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], what: str) -> str:
    """In words how tensors differ from those that are wanted, in names and shapes; "" where they fit."""
    missing, others = ([n for n in a if n not in b] for a, b in ((wanted, given), (given, wanted)))
    words = (
        [f"it lacks {len(missing)} of the {len(wanted)} tensors of {what} ({_some(missing)})"]
        if missing
        else []
    )
    words += [f"it has {len(others)} that {what} does not have ({_some(others)})"] if others else []
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
