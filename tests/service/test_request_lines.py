"""The lines of requests in JSON, which are written together."""

import asyncio
import io
import json
import logging
import os
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from perceptd.service import logging as logs
from perceptd.service.request_lines import PIPE_BYTES, RequestLine, RequestLines
from tests.service.test_logging import HOSTILE

NAME = "perceptd.access"


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def line(path: str) -> RequestLine:
    request = ("", "info", NAME, f"POST {path} 200", "POST", path, 200, 1.5, None)
    return RequestLine(*request, request_id="visit-42", model="xor", version=1)


def test_the_lines_of_requests_are_written_together_and_whole(stream: io.StringIO) -> None:
    written: list[str] = []
    stream.flush = lambda: written.append(stream.getvalue())  # type: ignore[method-assign]
    lines = RequestLines(stream, "server")

    async def three() -> None:
        for path in ("/predict", "/" + "x" * 1700, f"/{HOSTILE}"):
            lines.add(line(path))
        assert not stream.getvalue()
        await asyncio.sleep(0)

    asyncio.run(three())
    first, _, last = map(json.loads, stream.getvalue().splitlines())
    told = datetime.fromisoformat(first.pop("timestamp"))
    assert abs(datetime.now(UTC) - told) < timedelta(minutes=1)
    assert first == {
        "level": "info",
        "logger": NAME,
        "message": "POST /predict 200",
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "duration_ms": 1.5,
        "client": None,
        "request_id": "visit-42",
        "model": "xor",
        "version": 1,
        "process": os.getpid(),
        "role": "server",
    }
    assert last["path"] == f"/{HOSTILE}"
    sizes = [len(text) - len(before) for before, text in pairwise(["", *written])]
    assert len(sizes) > 1
    assert max(sizes) <= PIPE_BYTES
    assert all(text.endswith("\n") for text in written)


@pytest.mark.parametrize("path", ["/predict", f"/{HOSTILE}", "/\u00e9" * 600])
@pytest.mark.parametrize("client", ["127.0.0.1", None])
@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"request_id": "visit-42"},
        {"request_id": "visit-42", "model": "xor", "version": 1},
        {"request_id": "visit-42", "trace_id": "a" * 32, "span_id": "b" * 16},
        {"request_id": "visit-42", "model": "xor", "version": 1, "token": HOSTILE},
    ],
    ids=lambda facts: " ".join(facts) or "none",
)
@pytest.mark.parametrize("noted", [False, True], ids=["as arguments", "noted"])
def test_the_line_of_a_request_is_what_the_formatter_would_write(
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    client: str | None,
    facts: dict[str, Any],
    noted: bool,
) -> None:
    """Only the order may differ: the formatter puts what was noted first."""
    fast, slow = io.StringIO(), io.StringIO()
    formatted = logging.StreamHandler(slow)
    formatted.setFormatter(logs.JsonFormatter("server"))
    monkeypatch.setattr(logs.access, "propagate", False)
    for handler in (RequestLines(fast, "server"), formatted):
        monkeypatch.setattr(logs.access, "handlers", [handler])
        with logs.about(**facts if noted else {}):
            logs.request("POST", path, 200, 1.0, client, {} if noted else facts)
    lines: list[dict[str, Any]] = []
    for stream in (fast, slow):
        assert re.fullmatch(r"[\x20-\x7e]+\n", stream.getvalue())
        lines.append(json.loads(stream.getvalue()))
        del lines[-1]["timestamp"], lines[-1]["duration_ms"]
    assert lines[0] == lines[1]
    assert noted or list(lines[0]) == list(lines[1])


def test_lines_that_cannot_be_written_are_reported_once_and_stop_nothing(
    stream: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    lines = RequestLines(stream, "server")
    stream.close()
    for _ in range(3):
        lines.add(line("/predict"))
    assert [record.getMessage()[:40] for record in caplog.records] == [
        "cannot write the lines of requests: I/O "
    ]
