"""Whole-file writes, checkpoints, and safetensors files."""

import contextlib
import os
import pickle
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sftgan.errors import InputError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces the one at a path once it is completely on the disk.

    The bytes go to a temporary file in the same folder. If the write fails, the temporary file is deleted and the
    old file stays.

    Parameters
    ----------
    path
        File to write or replace; missing folders are created.

    Yields
    ------
    BinaryIO
        The temporary file, open for writing.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "a.txt") as file:
    ...         _ = file.write(b"text")
    ...     (Path(folder) / "a.txt").read_bytes()
    b'text'
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, RuntimeError):
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def save_checkpoint(path: Path | None, state: dict[str, Any]) -> None:
    """Write a state in one step, so that readers see either the old state or the new one.

    Parameters
    ----------
    path
        File to write or replace; with ``None`` nothing is written.
    state
        Tensors, numbers, strings, and lists and dictionaries of these.

    Raises
    ------
    InputError
        If the file cannot be written, for example because the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(Path(folder) / "state.pt", {"epoch": 3})
    ...     load_checkpoint(Path(folder) / "state.pt")
    {'epoch': 3}
    """
    if path is None:
        return
    try:
        with replacing(path) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the checkpoint {path} could not be written ({error}): make room and run the same command again; "
            "it resumes from the last checkpoint."
        ) from error


def load_checkpoint(path: Path | None) -> dict[str, Any] | None:
    """Load a saved state.

    The file is loaded with ``weights_only=True``, so it cannot run code. A damaged file gives a warning and is
    ignored.

    Parameters
    ----------
    path
        File that ``save_checkpoint`` wrote, or ``None``.

    Returns
    -------
    dict[str, Any] | None
        The state; ``None`` if there is no path, no file, or a damaged file.

    Examples
    --------
    >>> load_checkpoint(None) is None
    True
    """
    if path is None or not path.exists():
        return None
    try:
        return torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        warnings.warn(
            f"the checkpoint {path} is damaged ({type(error).__name__}) and is ignored", stacklevel=2
        )
        return None


GENERATOR_KEY = (
    "sftgan"  # one entry only: safetensors writes several entries in an order that differs from run to run
)
READ_AGAIN = "save or download it again"
_CONVERT = (
    "{path} is a pickle or a zip file, as torch.save writes, and is never opened here, because a pickle can run code: "
    "convert a CNN's once with `state = torch.load({path!r}, weights_only=True)` and `safetensors.torch.save_file("
    "{{k: v.contiguous() for k, v in state.items()}}, {new!r})`, and save a generator with Explainer.save."
)


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


def read_safetensors(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
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
            raise InputError(
                f"{path} is not a safetensors file or is damaged ({error}): {READ_AGAIN}."
            ) from None
        raise InputError(
            _CONVERT.format(path=str(path), new=str(Path(path).with_suffix(".safetensors")))
        ) from None


def tensor_differences(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], what: str) -> str:
    """Say in words how names and shapes of tensors differ from the wanted ones; "" if they fit."""
    missing, others = ([n for n in a if n not in b] for a, b in ((wanted, given), (given, wanted)))
    words = (
        [f"it lacks {len(missing)} of the {len(wanted)} tensors of {what} ({name_some(missing)})"]
        if missing
        else []
    )
    words += [f"{what} lacks {len(others)} of its tensors ({name_some(others)})"] if others else []
    both = [(n, tuple(given[n].shape), tuple(wanted[n].shape)) for n in wanted if n in given]
    changed = [(n, theirs, ours) for n, theirs, ours in both if theirs != ours]
    if changed:
        name, theirs, ours = changed[0]
        more = f" (the first of {len(changed)} that differ)" if len(changed) > 1 else ""
        words.append(f"{name} is {theirs} in the file and {ours} in {what}{more}")
    first, rest = {(a[:1], b[:1]) for _, a, b in changed}, all(a[1:] == b[1:] for _, a, b in changed)
    classes = not missing and not others and len(first) == 1 and rest
    return "; ".join(words) + (": the numbers of classes differ" if classes else "")


def name_some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
