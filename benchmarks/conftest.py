"""What all suites share: one thread, a process that measures memory, and where the numbers come from."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import memory
import pytest
import report
import rivals


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    rivals.one_thread()


@pytest.fixture(scope="session")
def memory_process() -> Iterator[ProcessPoolExecutor]:
    with memory.process() as pool:
        yield pool


def pytest_benchmark_update_json(output_json: dict) -> None:
    output_json["provenance"] = report.where_from()
