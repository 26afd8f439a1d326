"""Tests that take minutes: they run where they are asked for."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.service.served import Served

ASKED_FOR = "PERCEPTD_TEST_RELIABILITY"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    skip = pytest.mark.skip(reason=f"takes minutes: {ASKED_FOR}=1 asks for it")
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.reliability)
            if os.environ.get(ASKED_FOR) != "1":
                item.add_marker(skip)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start `perceptd serve` with variables of one's own; it ends with the test."""
    with ExitStack() as stack:

        def started(**variables: str) -> Served:
            usual = {"PERCEPTD_WORKERS": "0", "PERCEPTD_PROCESSES": "1"}
            served = Served(tmp_path, **{**usual, **variables})
            stack.callback(served.end)
            return served

        yield started
