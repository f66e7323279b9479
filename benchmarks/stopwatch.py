"""Rivals timed in turn: A B C D, A B C D, ..., so that a slower minute of the machine slows all of them."""

import gc
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

LIMIT = float(os.environ.get("SFTGAN_BENCH_SECONDS", "3.5"))
"""A case is left out where one call of its slowest rival would take longer, in seconds."""
FEWEST, MOST, ENOUGH = 5, 25, 2.0
"""Rounds: at least and at most so many, and between these as many as take so many seconds."""


def seconds(call: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU time of one call, without the time to free what it returns."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    passed = time.perf_counter() - wall, time.process_time() - cpu
    del result
    return passed


def n_rounds(expected: float) -> int:
    """How many rounds are run when one is expected to take so many seconds."""
    return max(FEWEST, min(MOST, int(ENOUGH / expected)))


def interleave(benchmark: Any, ours: str, calls: Mapping[str, Callable[[], Any]], rounds: int) -> None:
    """Call everybody once in each round: the others in the order of `calls`, then `ours`.

    pytest-benchmark times `ours`; the others are called, and timed, in the set-up of its rounds. The wall and the CPU
    times of all, in seconds by name and round, become `extra_info["wall"]` and `extra_info["cpu"]`.
    """
    wall: dict[str, list[float]] = {name: [] for name in calls}
    cpu: dict[str, list[float]] = {name: [] for name in calls}

    def timed(name: str) -> None:
        passed = seconds(calls[name])
        wall[name].append(passed[0])
        cpu[name].append(passed[1])

    def others() -> None:
        gc.collect()
        for name in calls:
            if name != ours:
                timed(name)

    benchmark.pedantic(timed, args=(ours,), setup=others, rounds=rounds)
    benchmark.extra_info.update(wall=wall, cpu=cpu)
