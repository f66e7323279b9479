"""Where a result comes from."""

import json
import subprocess
from datetime import UTC, datetime

import torch

from sftgan import provenance as module
from sftgan.provenance import provenance


def test_is_json_and_complete():
    here = json.loads(json.dumps(provenance()))
    assert set(here) == {"commit", "versions", "hardware", "platform", "date", "command"}
    assert (
        here["versions"]["torch"] == torch.__version__.partition("+")[0] or "+" in here["versions"]["torch"]
    )
    assert next(iter(here["versions"])) == "python"
    assert here["hardware"]["cores"] >= 1 and here["hardware"]["memory_gib"] > 0.1
    assert here["hardware"]["cpu"]


def test_date_is_now_in_utc():
    age = datetime.now(UTC) - datetime.fromisoformat(provenance()["date"])
    assert -1 < age.total_seconds() < 60


def test_command_is_the_variable_that_the_command_line_sets(monkeypatch):
    monkeypatch.setenv("SFTGAN_COMMAND", "make book PROFILE=cpu")
    assert provenance()["command"] == "make book PROFILE=cpu"
    monkeypatch.delenv("SFTGAN_COMMAND")
    monkeypatch.setattr("sys.argv", ["tool", "two words"])
    assert provenance()["command"] == "tool 'two words'"


def test_commit_of_a_checkout_and_outside_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROOT", tmp_path)
    assert provenance()["commit"] == "unknown"

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "--short", "HEAD")
    assert provenance()["commit"] == commit
    (tmp_path / "file").write_text("two")
    assert provenance()["commit"] == f"{commit}-dirty"


def test_memory_is_known_where_os_has_no_sysconf(monkeypatch):
    monkeypatch.delattr("os.sysconf")
    assert module._hardware()["memory_gib"] > 0.1
