"""Peak memory of a call, counted by the kernel, in a process of its own.

In that process the C library hands every block above 64 KiB back to the kernel as soon as it is freed,
so the resident memory follows what is alive, whoever allocated it: PyTorch, oneDNN, NumPy or OpenCV.
"""

import ctypes
import gc
import os
import re
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import rivals
import torch
from cases import GRADCAM, OURS, PLAIN, TORCHCAM

_HANDED_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
_USABLE = 0.8  # of the memory that is available when the process starts
_net = lru_cache(maxsize=1)(rivals.random_net)


def peak_mib(call: Callable[[], Any]) -> float | None:
    """MiB above what was held before the call, its result included; None where the memory does not suffice."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _mib("VmRSS")
    try:
        result = call()
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            return None
        raise
    peak = _mib("VmHWM") - before
    del result  # it was alive until here
    return peak


def _mib(field: str, file: str = "/proc/self/status") -> float:
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(file).read_text(), re.MULTILINE)
    assert found, f"{file} has no {field}"
    return int(found[1]) / 1024


@contextmanager
def process() -> Iterator[ProcessPoolExecutor]:
    """A process in which `peak_mib` is exact: it has the C library's settings, and keeps to the memory there is."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=_prepare) as pool:
        os.environ |= _HANDED_BACK  # read when the process starts; this one started without them
        pool.submit(os.getpid).result()
        for name in _HANDED_BACK:
            del os.environ[name]
        yield pool


def _prepare() -> None:
    rivals.one_thread()
    limit = int(2**20 * _mib("MemAvailable", "/proc/meminfo") * _USABLE)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def all_layers(arch: str, side: int, batch: int) -> dict[str, float | None]:
    """Peaks in MiB of the rivals on one batch, by name, and of plain autograd; run it in `process`."""
    net, images = _net(arch), rivals.random_images(batch, side)
    names = rivals.layer_names(net)
    plain = rivals.input_gradient(deepcopy(net))
    for layout in (torch.contiguous_format, torch.channels_last):
        plain(images.contiguous(memory_format=layout))  # a first call also makes what oneDNN keeps
    peaks = {PLAIN: peak_mib(partial(plain, images))}
    for name in (TORCHCAM, GRADCAM, OURS):
        rival = rivals.MAKERS[name](deepcopy(net), names)  # a new one: libraries keep what the last call left
        peaks[name] = peak_mib(partial(rival, images))
    return peaks
