"""Checkpoints that a kill or a full disk cannot damage."""

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
    """A file to be written, which takes the place of `path` when all is on the disk, or not at all."""
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
    """Write `state` to `path` in one step: whoever reads sees the old state or the new one. None: do nothing."""
    if path is None:
        return
    try:
        with replacing(path) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the checkpoint {path} could not be written ({error}): make room and run the same command again, "
            "it goes on from the last checkpoint."
        ) from error


def load_checkpoint(path: Path | None) -> dict[str, Any] | None:
    """The state saved at `path`; None if there is none or if it cannot be read (which is warned about)."""
    if path is None or not path.exists():
        return None
    try:
        return torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        warnings.warn(
            f"the checkpoint {path} is damaged ({type(error).__name__}) and is ignored", stacklevel=2
        )
        return None
