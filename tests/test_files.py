"""Checkpoints survive kills, full disks and damage."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sftgan.errors import InputError
from sftgan.files import load_checkpoint, save_checkpoint

STATE = {"weights": {"a": torch.arange(6.0).view(2, 3)}, "rows": [{"epoch": 1, "loss": 0.25}]}
NEWER = {"weights": {"a": torch.ones(2, 3)}, "rows": []}

KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
import torch
from sftgan.files import save_checkpoint
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
save_checkpoint(Path(sys.argv[1]), {"weights": {"a": torch.ones(2, 3)}, "rows": []})
"""


def assert_is_state(loaded):
    assert loaded["rows"] == STATE["rows"]
    assert torch.equal(loaded["weights"]["a"], STATE["weights"]["a"])


def test_what_is_saved_is_loaded_and_replaces_what_was_there(tmp_path):
    path = tmp_path / "new" / "folder" / "net.pt"
    save_checkpoint(path, NEWER)
    save_checkpoint(path, STATE)
    assert_is_state(load_checkpoint(path))
    assert [f.name for f in path.parent.iterdir()] == ["net.pt"]


def test_no_path_and_no_file(tmp_path):
    save_checkpoint(None, STATE)
    assert load_checkpoint(None) is None
    assert load_checkpoint(tmp_path / "missing.pt") is None


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_damaged_file_is_warned_about_and_ignored(tmp_path, keep):
    path = tmp_path / "net.pt"
    save_checkpoint(path, STATE)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.warns(UserWarning, match=r"(?s)net\.pt is damaged .* ignored"):
        assert load_checkpoint(path) is None


def test_a_file_that_is_no_checkpoint_is_ignored_and_runs_no_code(tmp_path):
    path = tmp_path / "net.pt"
    path.write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    with pytest.warns(UserWarning, match="damaged"):
        assert load_checkpoint(path) is None
    assert not Path("hacked").exists()


def test_a_full_disk_keeps_the_old_checkpoint_and_leaves_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "net.pt"
    save_checkpoint(path, STATE)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"net\.pt could not be written .*No space left.*make room and run"):
        save_checkpoint(path, NEWER)
    assert [f.name for f in tmp_path.iterdir()] == ["net.pt"]
    assert_is_state(load_checkpoint(path))


def test_a_folder_that_cannot_be_made_is_said_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"net\.pt could not be written"):
        save_checkpoint(tmp_path / "file" / "net.pt", STATE)


def test_a_kill_while_writing_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / "net.pt"
    save_checkpoint(path, STATE)
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob("*.part"))) == 1, "the kill came before or after the writing"
    assert_is_state(load_checkpoint(path))
