"""What every test needs: one thread, as bits depend on their number, and a cache and environment of its own."""

import pytest
import torch


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """For the tests in this folder only: the notebooks keep the repository's own cache."""
    torch.set_num_threads(1)
    monkeypatch.setenv("SFTGAN_CACHE", str(tmp_path / "cache"))
    for name in ("SFTGAN_DATA", "SFTGAN_FIGURES", "SFTGAN_COMMAND", "SFTGAN_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    yield
    torch.use_deterministic_algorithms(False)  # a Study switches it on for the whole process
