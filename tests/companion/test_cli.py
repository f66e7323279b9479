"""`sftgan run` and `sftgan record` on small made-up notebooks."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from sftgan import cli, provenance
from sftgan.companion import cli as companion_cli
from sftgan.companion.recording import runner


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """An environment that tests cannot leak into."""
    for name in ("SFTGAN_COMMAND", "SFTGAN_FIGURES", "PYDEVD_DISABLE_FILE_VALIDATION"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def write(path, *cells: str):
    """A notebook whose first cell holds its parameters."""
    first, *others = [new_code_cell(cell) for cell in cells]
    first.metadata["tags"] = ["parameters"]
    path.parent.mkdir(parents=True, exist_ok=True)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=[first, *others], metadata={"kernelspec": kernel}), path)
    return path


def sftgan(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(a) for a in arguments])
    return stop.value.code


def outputs(path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(o.get("text", "") for c in cells if c.cell_type == "code" for o in c.outputs)


def test_run_executes_once_and_again_when_something_changes(tmp_path, capsys, monkeypatch):
    notebook = write(
        tmp_path / "a.ipynb", 'profile = "smoke"\nthreshold = 127', "print(profile, threshold + 1)"
    )
    out = tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    assert sftgan("run", "a.ipynb", "--out", "out", "-p", "threshold", "100") == 0
    assert "[1/1] a: " in capsys.readouterr().out
    assert outputs(out / "notebooks" / "a.ipynb") == "smoke 101\n"
    page = (out / "book" / "status.md").read_text()
    assert (
        "| a | 0 min " in page and "`threshold = 100`" in page and "| mnist | embedded | MNIST 5000" in page
    )
    assert "sftgan run a.ipynb" in page

    assert sftgan("run", notebook, "--out", out, "-p", "threshold", "100") == 0
    assert "up to date" in capsys.readouterr().out
    assert sftgan("run", notebook, "--out", out, "--profile", "cpu") == 0
    assert "up to date" not in capsys.readouterr().out
    assert outputs(out / "notebooks" / "a.ipynb") == "cpu 128\n"


def test_run_reports_a_failing_notebook_and_goes_on(tmp_path, capfd):
    bad = write(tmp_path / "bad.ipynb", "x = 1", "print('before')", "raise ValueError('no such thing')", "x")
    recorded = nbformat.read(bad, as_version=4)
    recorded.metadata["sftgan"] = {"code": "as `record` leaves it"}
    nbformat.write(recorded, bad)
    good = write(tmp_path / "good.ipynb", "x = 1", "print('good')")
    assert sftgan("run", bad, good, "--out", tmp_path / "out", "-p", "eta", "4") == 1
    out, err = capfd.readouterr()
    assert "sftgan: ValueError: no such thing" in err and "Traceback" not in err
    assert "[1/2] bad: failed" in out and "[2/2] good: " in out
    copies = tmp_path / "out" / "notebooks"
    assert "before" in outputs(copies / "bad.ipynb")
    assert "good" in outputs(copies / "good.ipynb")
    assert "eta = 4" in str(nbformat.read(copies / "good.ipynb", as_version=4))  # a field of the profile
    assert runner._written(copies / "bad.ipynb") == {}  # it is tried again


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-p", "thresold", "1"], "unknown parameter 'thresold': did you mean 'threshold'?"),
        (["-p", "threshold"], "-p needs a name and a value"),
        (["-p", "profile", "cpu"], "--profile"),
        (["--profile", "smok"], "unknown profile 'smok': did you mean 'smoke'?"),
        (["01_cgmma"], "unknown notebook '01_cgmma'"),
    ],
)
def test_wrong_input_is_one_sentence(tmp_path, capsys, arguments, sentence):
    notebook = write(tmp_path / "a.ipynb", "threshold = 127")
    assert sftgan("run", notebook, "--out", tmp_path / "out", *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("sftgan: ") and sentence in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_notebook_is_one_sentence(tmp_path, capsys):
    (tmp_path / "a.ipynb").write_text("hello")
    assert sftgan("run", tmp_path / "a.ipynb", "--out", tmp_path / "out") == 2
    assert "a.ipynb cannot be executed as a notebook" in capsys.readouterr().err


def test_run_refuses_to_overwrite_the_notebook(tmp_path, capsys):
    notebook = write(tmp_path / "notebooks" / "a.ipynb", "x = 1")
    assert sftgan("run", notebook, "--out", tmp_path) == 2
    assert "would overwrite a.ipynb" in capsys.readouterr().err


def test_record_keeps_outputs_and_says_where_figures_go(tmp_path, monkeypatch):
    for module in (provenance, runner):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    notebook = write(
        tmp_path / "notebooks" / "a.ipynb",
        'profile = "smoke"',
        "import os",
        "print(os.environ['SFTGAN_FIGURES'])",
    )
    assert sftgan("record") == 0
    assert outputs(notebook) == f"{tmp_path / 'figures' / 'smoke'}\n"
    text = notebook.read_text()
    assert "papermill" not in text and "iopub" not in text and '"key"' not in text
    kept = nbformat.read(notebook, as_version=4)
    assert kept.metadata["sftgan"] == {"code": runner.code_digest(kept.cells)}
    kept.cells[-1].source += "  # edited"
    assert kept.metadata["sftgan"] != {"code": runner.code_digest(kept.cells)}
    before = notebook.read_bytes()
    assert sftgan("record", "--profile", "cpu") == 0  # other parameters than its own: only figures are kept
    assert notebook.read_bytes() == before
    assert "figures/cpu" in outputs(tmp_path / "_build" / "record" / "cpu" / "notebooks" / "a.ipynb")


def test_a_planned_run_keeps_the_times_of_its_stages(tmp_path, monkeypatch):
    for module in (provenance, runner):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setenv("SFTGAN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "log.txt").write_text("2026-11-28 05:00:00 _gan lsft on mnist: 120.0 s\n")
    write(tmp_path / "notebooks" / "a.ipynb", 'profile = "smoke"', "import time; time.sleep(4)")
    folder = tmp_path / "figures" / "cpu"
    folder.mkdir(parents=True)
    assert sftgan("record", "--profile", "smoke") == 0 and not (tmp_path / "figures" / "smoke").exists()
    (folder / "plan.csv").write_text(
        "stage,what,count,predicted CPU minutes\n_gan,GANs,1,3\nother,rest,1,9\n"
    )
    assert sftgan("record", "a", "--profile", "cpu") == 0 and not (folder / "stages.csv").exists(), "a part"
    assert sftgan("record", "--profile", "cpu") == 0
    kept = pd.read_csv(folder / "stages.csv").set_index("stage")
    assert kept.loc["_gan", ["computed", "minutes"]].tolist() == [1, 2.0]
    assert kept.loc["other", "computed"] == 1 and 0 < kept.loc["other", "minutes"] < 2


def test_notebooks_that_train_come_first_and_long_ones_begin_those_side_by_side(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(runner, "execute", lambda job, *_: order.append(job.notebook.stem) or "executed")

    class Pool:
        def __init__(self, *_, **__): ...
        def __enter__(self):
            return self

        def __exit__(self, *_): ...
        def map(self, function, *columns):
            return [function(*call) for call in zip(*columns, strict=True)]

    monkeypatch.setattr(runner, "ProcessPoolExecutor", Pool)
    names = ["04_dice", "05_faithfulness", "11_beyond_the_paper", "12_leak", "13_switches", "01_cgma"]
    paths = [str(write(tmp_path / f"{name}.ipynb", 'profile = "smoke"')) for name in names]
    jobs = runner.plan(paths, "smoke", {}, tmp_path / "out")
    assert runner.execute_all(jobs, 2) == ["executed"] * 6
    assert order[:2] == ["01_cgma", "04_dice"] and set(order[2:4]) == set(runner.LONG)


def test_values_are_read_as_papermill_reads_them():
    given = ["a=1", "b=-0.5", "c=1e-3", "d=true", "e=None", "f=mnist", "g=['x', 2]", "h=a=b"]
    assert companion_cli.parse(given) == {
        "a": 1, "b": -0.5, "c": 1e-3, "d": True, "e": None, "f": "mnist", "g": ["x", 2], "h": "a=b",
    }  # fmt: skip


def test_the_key_depends_on_the_code_but_not_on_the_outputs(tmp_path):
    notebook = write(tmp_path / "a.ipynb", "x = 1")
    key = runner.plan([str(notebook)], "smoke", {}, tmp_path / "out")[0].key
    executed = nbformat.read(notebook, as_version=4)
    executed.cells[0].outputs = [new_output("stream", text="hello")]
    nbformat.write(executed, notebook)
    assert runner.plan([str(notebook)], "smoke", {}, tmp_path / "out")[0].key == key
    assert runner.plan([str(notebook)], "smoke", {"x": 1}, tmp_path / "out")[0].key == key  # its own default
    assert runner.plan([str(notebook)], "smoke", {"x": 2}, tmp_path / "out")[0].key != key
    write(notebook, "x = 3")
    assert runner.plan([str(notebook)], "smoke", {}, tmp_path / "out")[0].key != key


def test_killing_a_run_ends_its_notebooks(tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    code = f"import os, time, pathlib; pathlib.Path({str(notes)!r}, str(os.getpid())).touch(); time.sleep(60)"
    files = [write(tmp_path / f"{name}.ipynb", "x = 1", code) for name in "ab"]
    command = [sys.executable, "-c", "from sftgan.cli import main; main()", "run", *map(str, files)]
    run = subprocess.Popen([*command, "--out", str(tmp_path / "out")], stdout=subprocess.DEVNULL)
    assert until(lambda: len(list(notes.iterdir())) == 2), "both run side by side"
    kernels = [int(file.name) for file in notes.iterdir()]
    run.kill()
    run.wait()
    assert until(lambda: not any(Path(f"/proc/{kernel}").exists() for kernel in kernels))


def until(condition, seconds=40) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.2)
    return condition()


@pytest.mark.parametrize("system, calls", [("darwin", 0), ("linux", 1)])
def test_only_linux_is_asked_to_end_workers_with_their_parent(monkeypatch, system, calls):
    asked = []
    library = SimpleNamespace(prctl=lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(runner.sys, "platform", system)
    monkeypatch.setattr(runner.ctypes, "CDLL", lambda _: library)
    monkeypatch.setenv("SFTGAN_WORKERS", "2")
    runner._begin_side_by_side()
    assert len(asked) == calls and os.environ["SFTGAN_WORKERS"] == "1"
