"""Checkpoints that survive a killed process and a full disk."""

import contextlib
import os
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

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
