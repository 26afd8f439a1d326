"""What counts as a fault in a server's log."""

import logging

import pytest

from perceptd.service.logging import JsonFormatter
from tests.fuzz.target import FAULTS


@pytest.mark.parametrize("level", ["ERROR", "CRITICAL", "WARNING", "INFO"])
def test_only_log_lines_of_errors_are_faults(level: str) -> None:
    name = 'GET /"level":"error"'  # sent by a client: not a fault
    record = logging.LogRecord("uvicorn.error", getattr(logging, level), "", 0, name, (), None)
    line = JsonFormatter("server").format(record)
    assert bool(FAULTS.search(line)) == (level in ("ERROR", "CRITICAL"))
