"""Stages compute once, notice what changed, and lose nothing."""

import importlib
import linecache
import os
import pickle
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from joblib.externals.loky import get_reusable_executor

from sftgan.cams import model_state
from sftgan.companion.study import cache
from sftgan.companion.study.cache import Runtime, Stage, cache_folder
from sftgan.errors import InputError

ROOT = Path(__file__).parents[3]


def square(config, runtime, checkpoint):
    """Writes down that it ran, where, and what it found at `checkpoint`."""
    found = checkpoint.read_text() if checkpoint.exists() else "nothing"
    with Path(config["trace"]).open("a") as file:
        file.write(f"{config['x']} {os.getpid()} {found}\n")
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_text("half-way")
    time.sleep(config.get("seconds", 0))
    if config.get("fails"):
        Path(config["fails"]).unlink()  # fails once
        raise RuntimeError("power cut")
    return {"square": config["x"] ** 2, "tensor": torch.full((1000,), config["x"])}


STAGE = Stage(square)


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.txt"
    path.touch()
    return path


def config(trace, x=3, **others):
    return {"x": x, "trace": str(trace), **others}


def runs(trace) -> list[str]:
    return trace.read_text().splitlines()


def checkpoints() -> list[Path]:
    return sorted((cache_folder() / "checkpoints").glob("*"))


def entries() -> list[Path]:
    return sorted((cache_folder() / "results").glob("*.pkl"))


def test_a_stage_computes_once(trace):
    first = STAGE(config(trace), Runtime())
    again = STAGE(config(trace), Runtime())
    assert len(runs(trace)) == 1
    assert first["square"] == again["square"] == 9
    assert torch.equal(first["tensor"], again["tensor"])
    assert len(entries()) == 1


def test_what_decides_how_it_runs_does_not_count(trace):
    STAGE(config(trace), Runtime("cpu", threads=1, workers=1))
    STAGE(config(trace), Runtime("cpu", threads=1, workers=2))
    assert len(runs(trace)) == 1


def test_another_config_computes_again(trace):
    results = [STAGE(config(trace, x), Runtime())["square"] for x in (2, 3, 2)]
    assert results == [4, 9, 4]
    assert [line.split()[0] for line in runs(trace)] == ["2", "3"]


@pytest.mark.parametrize("keep", [0, 10, 2000])
def test_a_truncated_entry_is_noticed_and_computed_again(trace, keep):
    first = STAGE(config(trace), Runtime())
    (entry,) = entries()
    assert entry.stat().st_size > 2000
    entry.write_bytes(entry.read_bytes()[:keep])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = STAGE(config(trace), Runtime())
    assert len(runs(trace)) == 2
    assert again["square"] == 9 and torch.equal(first["tensor"], again["tensor"])
    assert torch.equal(STAGE(config(trace), Runtime())["tensor"], first["tensor"])
    assert len(runs(trace)) == 2


def test_a_truncated_entry_leaves_no_checkpoint_behind(trace):
    STAGE(config(trace), Runtime())
    (entry,) = entries()
    entry.write_bytes(b"")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        STAGE(config(trace), Runtime())
    assert checkpoints() == []


def test_what_two_processes_want_at_once_is_computed_once(trace):
    wanted = config(trace, seconds=2)
    try:
        Stage(square).all([config(trace, x=1), config(trace, x=2)], Runtime(workers=2))  # both have started
        found = Stage(square).all([wanted, wanted, wanted], Runtime(workers=2))
    finally:
        get_reusable_executor().shutdown(wait=True)
    assert [f["square"] for f in found] == [9, 9, 9]
    assert sorted(line.split()[0] for line in trace.read_text().splitlines()) == ["1", "2", "3"]


def test_the_checkpoint_stays_after_a_failure_and_goes_after_success(trace, tmp_path):
    fuse = tmp_path / "fuse"
    fuse.touch()
    stage = Stage(square)
    with pytest.raises(RuntimeError, match="power cut"):
        stage(config(trace, fails=str(fuse)), Runtime())
    assert [c.read_text() for c in checkpoints()] == ["half-way"]
    fuse.touch()
    with pytest.raises(RuntimeError, match="power cut"):
        stage(config(trace, fails=str(fuse)), Runtime())
    assert [line.split()[-1] for line in runs(trace)] == ["nothing", "half-way"]
    assert stage(config(trace), Runtime())["square"] == 9  # another key: another checkpoint
    assert runs(trace)[-1].endswith("nothing")
    assert len(checkpoints()) == 1


def test_runs_are_logged_with_their_title(trace):
    STAGE(config(trace, title="three squared"), Runtime())
    STAGE(config(trace, title="three squared"), Runtime())
    (line,) = (cache_folder() / "log.txt").read_text().splitlines()
    assert "square three squared: " in line and line.endswith(" s")


def test_several_processes_return_in_order(trace):
    configs = [config(trace, x) for x in (5, 1, 4, 2)]
    STAGE(configs[2], Runtime())
    try:
        results = STAGE.all(configs, Runtime(workers=2))
    finally:
        get_reusable_executor().shutdown(wait=True)
    assert [r["square"] for r in results] == [25, 1, 16, 4]
    ran = {line.split()[0]: int(line.split()[1]) for line in runs(trace)}
    assert sorted(ran) == ["1", "2", "4", "5"] and len(runs(trace)) == 4
    assert ran.pop("4") == os.getpid() and os.getpid() not in ran.values()


def test_one_process_is_enough(trace):
    configs = [config(trace, x) for x in (5, 1, 5)]
    assert [r["square"] for r in STAGE.all(configs, Runtime(workers=1))] == [25, 1, 25]
    assert [line.split()[0] for line in runs(trace)] == ["5", "1"]


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("SFTGAN_CACHE", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere"
    monkeypatch.delenv("SFTGAN_CACHE")
    monkeypatch.setattr(cache, "ROOT", tmp_path)
    assert cache_folder() == Path.home() / ".cache" / "sftgan"
    (tmp_path / "pyproject.toml").touch()
    assert cache_folder() == tmp_path / ".cache"


def test_pin_fixes_threads_and_algorithms():
    Runtime(threads=2).pin()
    assert torch.get_num_threads() == 2 and torch.are_deterministic_algorithms_enabled()
    Runtime(threads=0).pin()
    assert torch.get_num_threads() == cache._OWN_THREADS, "0 is torch's own choice, whatever a study left"


def test_accelerators_are_resolved_before_they_become_a_key(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert model_state.resolve("auto") == model_state.resolve("cpu") == "cpu"
    with pytest.raises(InputError, match="PyTorch finds no CUDA device: choose 'cpu' or 'auto'"):
        model_state.resolve("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert model_state.resolve("auto") == model_state.resolve("cuda") == "cuda"


def edited(folder: Path, body: str) -> Stage:
    """A stage whose compute function stands in a file that is edited between two runs."""
    (folder / "edited_stage.py").write_text(f"def compute(config, runtime, checkpoint):\n{body}")
    importlib.invalidate_caches()
    sys.modules.pop("edited_stage", None)
    linecache.clearcache()
    return Stage(importlib.import_module("edited_stage").compute)


def test_the_compute_function_itself_counts_but_not_its_comments(tmp_path, monkeypatch, trace):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    run = "    open(config['trace'], 'a').write('ran\\n')\n"
    assert edited(tmp_path, run + "    return 1\n")(config(trace), Runtime()) == 1
    assert edited(tmp_path, run + "    # a remark\n    return 1\n")(config(trace), Runtime()) == 1
    assert runs(trace) == ["ran"]
    assert edited(tmp_path, run + "    return 2\n")(config(trace), Runtime()) == 2
    assert runs(trace) == ["ran", "ran"]
    assert edited(tmp_path, run + "    return 1\n")(config(trace), Runtime()) == 1
    assert runs(trace) == ["ran", "ran"], "old results stay"


def test_code_counts_as_it_was_imported(tmp_path, monkeypatch, trace):
    """An edit while a process runs must not file the old code's results under the new code's key."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    run = "    open(config['trace'], 'a').write('ran\\n')\n"
    stage = edited(tmp_path, run + "    return 1\n")
    newer = edited(tmp_path, run + "    return 2\n")
    assert stage(config(trace), Runtime()) == 1
    assert newer(config(trace), Runtime()) == 2
    assert len(runs(trace)) == 2


def test_other_versions_of_libraries_compute_again(trace, monkeypatch):
    STAGE(config(trace), Runtime())
    monkeypatch.setattr(cache, "_versions", lambda: {"torch": "0.4"})
    STAGE(config(trace), Runtime())
    assert len(runs(trace)) == 2


# A full disk


def large(config, runtime, checkpoint):
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_text("finished")
    return bytes(200_000)


def main_full_disk(folder: str):
    """A limit on the size of files stands for the full disk: the checkpoint fits, the result does not."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        said = f"returned {len(Stage(large)({}, Runtime()))} bytes"
    except Exception as error:  # any answer is good that keeps the work
        said = f"{type(error).__name__}: {error}"
    Path(folder, "said.pkl").write_bytes(pickle.dumps((said, [c.name for c in checkpoints()])))


def test_a_result_that_cannot_be_stored_keeps_its_checkpoint(tmp_path):
    code = "import sys; from tests.companion.study import test_cache; test_cache.main_full_disk(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)], cwd=ROOT, check=True, timeout=120
    )
    said, left = pickle.loads((tmp_path / "said.pkl").read_bytes())
    assert len(left) == 1, f"the work is lost; said: {said}"
