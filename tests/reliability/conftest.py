"""A server of a test's own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.service.served import Served


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start `perceptd serve` with some variables; it ends with the test."""
    with ExitStack() as stack:

        def started(**variables: str) -> Served:
            usual = {"PERCEPTD_WORKERS": "0", "PERCEPTD_PROCESSES": "1"}
            served = Served(tmp_path, **{**usual, **variables})
            stack.callback(served.end)
            return served

        yield started
