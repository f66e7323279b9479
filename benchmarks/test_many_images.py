"""What an image costs among a hundred and among ten thousand."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import memory
import rivals
import torch
from stopwatch import FEWEST, interleave

from sftgan import Explainer, Generator, build

NUMBERS = (100, 1000, 10_000)
SIDE, DRAWN = 32, 16  # pixels of the images and of the generator


def test_many_images(benchmark: Any, memory_process: ProcessPoolExecutor) -> None:
    net, explain = _net(), _explainer()
    images = {str(n): rivals.random_images(n, SIDE) for n in NUMBERS}
    peaks = {n: memory_process.submit(peak, int(n)).result() for n in images}
    benchmark.group = "many images"
    benchmark.extra_info.update(suite="many images", side=SIDE, peaks=peaks)
    calls = {n: partial(explain, net, part) for n, part in images.items()}
    interleave(benchmark, str(NUMBERS[-1]), calls, FEWEST)


def peak(number: int) -> float | None:
    """Peak memory in MiB, the maps themselves not counted."""
    net, explain, images = _net(), _explainer(), rivals.random_images(number, SIDE)
    explain(net, images[: NUMBERS[0]])
    taken = memory.peak_mib(partial(explain, net, images))
    return taken and taken - number * SIDE**2 * 4 / 2**20


def _net() -> torch.nn.Module:
    torch.manual_seed(0)
    return build("vgg16", n_classes=10, width=1 / 16, size=SIDE, last_map=4).eval()


def _explainer() -> Explainer:
    torch.manual_seed(0)
    return Explainer(Generator("lsft", eta=8, width=4), size=DRAWN)
