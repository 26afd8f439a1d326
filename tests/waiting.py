"""Waiting for what other threads and processes do."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

PATIENCE_S = 240
LOG_LINES = 20


def eventually(
    check: Callable[[], object],
    what: str,
    *,
    seconds: float = PATIENCE_S,
    log: Path | None = None,
) -> float:
    """Wait until `check` returns something true, and return the seconds that took.

    Otherwise the test fails with `what` it waited for and the tail of the log.
    """
    began = time.monotonic()
    while not check():
        if time.monotonic() - began > seconds:
            pytest.fail(f"not within {seconds:.0f} s: {what}{_tail(log)}")
        time.sleep(0.02)
    return time.monotonic() - began


def _tail(log: Path | None) -> str:
    if log is None or not log.exists():
        return ""
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    return "\n".join(["", f"the end of {log}:", *lines])
