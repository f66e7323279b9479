"""Grad-CAMs of all layers: time, beside the bare backward and two libraries, and peak memory."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import memory
import pytest
import rivals
from cases import BATCHES, FLOOR, GRADCAM, NETS, OURS, SIDES, TORCHCAM
from rivals import Rival
from stopwatch import LIMIT, interleave, n_rounds, seconds

SLOWEST, ALL = 2.0, 5.0  # what one call of the slowest rival, and one round, take at most, in floors
ALWAYS = (224, 8)  # pixels and batch that the targets were set for: run however long it takes


@pytest.fixture(scope="module", params=NETS)
def contest(request: pytest.FixtureRequest) -> tuple[str, dict[str, Rival]]:
    return request.param, rivals.all_layer_rivals(request.param)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("side", SIDES)
def test_all_layers(
    benchmark: Any,
    contest: tuple[str, dict[str, Rival]],
    memory_process: ProcessPoolExecutor,
    side: int,
    batch: int,
) -> None:
    arch, calls = contest
    floor = _expected(calls[FLOOR], side, batch)
    if SLOWEST * floor > LIMIT and (side, batch) != ALWAYS:
        pytest.skip(f"the slowest rival would take {SLOWEST * floor:.0f} s for one call")
    peaks = memory_process.submit(memory.all_layers, arch, side, batch).result()
    if None in peaks.values():
        pytest.skip(f"the memory does not suffice: {peaks}")
    images = rivals.random_images(batch, side)
    benchmark.group = f"all layers, {NETS[arch]}"
    benchmark.extra_info.update(suite="all layers", net=NETS[arch], side=side, batch=batch, peaks=peaks)
    interleave(
        benchmark, OURS, {n: partial(call, images) for n, call in calls.items()}, n_rounds(ALL * floor)
    )


def test_the_rivals_compute_the_same(contest: tuple[str, dict[str, Rival]]) -> None:
    """Up to their orders of scaling and enlarging, which differ by up to 0.03 in the mean."""
    arch, calls = contest
    images = rivals.random_images(1, 64)
    expected = calls[OURS](images)
    for name in (TORCHCAM, GRADCAM):
        if (arch, name) != ("vgg16", GRADCAM):  # in-place ReLUs make it mix two tensors
            maps = calls[name](images)
            assert maps.shape == expected.shape
            assert (maps - expected).abs().mean() < 0.03, name


def _expected(floor: Rival, side: int, batch: int) -> float:
    """Seconds of the floor for a batch, from those for a few images."""
    images = rivals.random_images(min(batch, 4), side)
    floor(images[:1])
    return batch / len(images) * seconds(partial(floor, images))[0]
