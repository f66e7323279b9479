"""Origin of a result: commit, package versions, machine, time and command."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import psutil
import torch

ROOT = Path(__file__).resolve().parents[1]
"""The checkout, if the package is installed from one (``pip install -e .``)."""
PACKAGES = (
    "sftgan", "torch", "torchvision", "lightning-fabric", "numpy", "scipy", "pandas", "matplotlib",
    "seaborn", "grad-cam", "papermill", "jupyter-book",
)  # fmt: skip
"""Packages whose versions are recorded."""


def provenance() -> dict:
    """Describe the running program in values that JSON can hold.

    Returns
    -------
    dict
        These items:

        - ``commit``: short hash, followed by "-dirty" if tracked files differ from it (recorded results aside), or
          "unknown".
        - ``versions``: version of each installed package of ``PACKAGES``, with "python" first.
        - ``hardware``: ``cpu``, ``cores``, ``memory_gib`` and ``gpu`` (``None`` without one).
        - ``platform``: operating system and processor type.
        - ``date``: time in UTC, ISO 8601.
        - ``command``: environment variable ``SFTGAN_COMMAND``, else the arguments of the program.

    Examples
    --------
    >>> list(provenance())
    ['commit', 'versions', 'hardware', 'platform', 'date', 'command']
    """
    return {
        "commit": _commit(),
        "versions": _versions(),
        "hardware": _hardware(),
        "platform": platform.platform(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": os.environ.get("SFTGAN_COMMAND") or _command(),
    }


def _commit() -> str:
    """Return the commit of the checkout, with "-dirty" if more than the recorded results differs from it."""
    if not (ROOT / ".git").exists():  # installed, perhaps inside another checkout
        return "unknown"
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        made = (":!figures", ":!sftgan/pretrained")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *made)
        return f"{commit}-dirty" if changed else commit
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(ROOT), *arguments]  # a commit may be in progress
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _command() -> str:
    """Return the program's arguments; in a notebook kernel, those of its parent, such as papermill."""
    if "ipykernel_launcher" in sys.argv[0]:
        try:
            words = Path(f"/proc/{os.getppid()}/cmdline").read_bytes().decode().split("\0")[:-1]
            return shlex.join([Path(word).name if word.startswith("/") else word for word in words])
        except OSError:
            return "a notebook kernel"
    return shlex.join(sys.argv)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _hardware() -> dict:
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
