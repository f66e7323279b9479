"""Stages: pure functions of a config that are computed once and remembered on disk."""

import ast
import contextlib
import hashlib
import inspect
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import joblib
import torch
from filelock import FileLock

from sftgan.errors import InputError
from sftgan.provenance import ROOT

Config = dict[str, Any]


@dataclass(frozen=True)
class Runtime:
    """How a stage runs. Another accelerator or number of threads gives other bits; more workers do not."""

    accelerator: str = "cpu"
    threads: int = 1
    workers: int = 1

    def pin(self) -> None:
        """Fix what makes floating-point sums differ from run to run."""
        torch.set_num_threads(self.threads or torch.get_num_threads())
        torch.use_deterministic_algorithms(True, warn_only=True)


def cache_folder() -> Path:
    """SFTGAN_CACHE, else `.cache` in the checkout, else `~/.cache/sftgan`."""
    own = ROOT / ".cache" if (ROOT / "pyproject.toml").exists() else Path.home() / ".cache" / "sftgan"
    return Path(os.environ.get("SFTGAN_CACHE") or own)


class Stage:
    """`stage(config, runtime)` returns `compute(config, runtime, checkpoint)`, computed once.

    The key is the config, the source of `compute`, that of the package's modules named with all that these import
    from the package, and the same of the stages that `compute` calls (`after`): an edit to the training trains
    again, an edit to the plots does not. A damaged entry is computed again. `checkpoint` is a path for whatever
    the stage wants to find again after a kill; it is removed when the result is safely stored.
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

    def __call__(self, config: Config, runtime: Runtime) -> Any:
        function, arguments = self._prepared(config, runtime)
        known = function.check_call_in_cache(*arguments)
        runtime.pin()
        began = time.monotonic()
        result = function(*arguments) if known else self._computed(function, arguments)
        if not function.check_call_in_cache(*arguments):
            raise InputError(
                f"a result could not be stored below {cache_folder()}: make room there and run the same command "
                "again, it goes on from the last checkpoint."
            )
        checkpoint = arguments[-1]
        for file in checkpoint.parent.glob(f"{checkpoint.name}*"):  # it and what a kill may have left of it
            file.unlink(missing_ok=True)
        if not known:
            _log(f"{self.compute.__name__} {config.get('title', '')}: {time.monotonic() - began:.1f} s")
        return result

    def all(self, configs: Iterable[Config], runtime: Runtime) -> list[Any]:
        """The results for several configs; what is missing is computed by `runtime.workers` processes."""
        configs = list(configs)
        missing = [c for c in configs if not self._is_cached(c, runtime)]
        if len(missing) > 1 and runtime.workers > 1:
            with warnings.catch_warnings():  # a worker that has grown is replaced: nothing is lost
                warnings.filterwarnings("ignore", "A worker stopped", UserWarning)
                joblib.Parallel(runtime.workers)(joblib.delayed(_fill)(self, c, runtime) for c in missing)
        return [self(c, runtime) for c in configs]

    def _computed(self, function, arguments: tuple) -> Any:
        """The result, computed by one process; others that want it at the same time wait and read it."""
        locks = cache_folder() / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / arguments[-1].name):
            return function(*arguments)

    @cached_property
    def digest(self) -> str:
        own = _without_layout(inspect.getsource(self.compute))
        parts = [own, code_digest(*self.modules), *(stage.digest for stage in self.after)]
        return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]

    def _is_cached(self, config: Config, runtime: Runtime) -> bool:
        function, arguments = self._prepared(config, runtime)
        return function.check_call_in_cache(*arguments)

    def _prepared(self, config: Config, runtime: Runtime):
        own = {"stage": self.compute.__name__, "code": self.digest}
        keyed = config | own | {"accelerator": runtime.accelerator, "threads": runtime.threads}
        folder = cache_folder()
        function = joblib.Memory(folder, verbose=0).cache(_run, ignore=["compute", "runtime", "checkpoint"])
        name = f"{self.compute.__name__}-{joblib.hash(keyed)}.pt"
        return function, (keyed, self.compute, runtime, folder / "checkpoints" / name)


def _run(config: Config, compute: Callable, runtime: Runtime, checkpoint: Path) -> Any:
    """What joblib remembers: one function for all stages, so that it does not judge by their source text."""
    return compute(config, runtime, checkpoint)


def _fill(stage: Stage, config: Config, runtime: Runtime) -> None:
    """Compute in a worker; the result travels through the cache, not through a pipe."""
    stage(config, runtime)


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
        if name in sources:
            continue
        source = (resources.files("sftgan") / f"{name}.py").read_text()
        sources[name] = _without_layout(source)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module == "sftgan":
                todo += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sftgan."):
                todo.append(node.module.removeprefix("sftgan."))
    return hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()[:16]


def _without_layout(source: str) -> str:
    return ast.dump(ast.parse(source))
