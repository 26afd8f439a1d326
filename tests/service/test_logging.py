"""What the processes of a server write to standard output and standard error."""

import io
import json
import logging
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from perceptd.service import logging as logs
from tests.service.admin import ADMIN, AS_ADMIN
from tests.waiting import eventually

ORDINARY = {"X-Request-Timeout-Ms": "60000"}  # a header that the fast path leaves to the router
DNN = {"model": "dnn", "inputs": [[0.1, -0.2]]}
SERVE = (sys.executable, "-P", "-m", "perceptd", "serve", "--port", "0")
HOSTILE = '\n\r\x1b[31m\x9b31m\u2028\u202e{"level":"info"}\ud800'
Lines = list[dict[str, Any]]


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def logger(stream: io.StringIO) -> Iterator[Callable[[logging.Formatter], logging.Logger]]:
    """A logger of one's own that writes to the stream."""
    mine = logging.getLogger("tests.logging")
    mine.propagate = False
    handler = logging.StreamHandler(stream)

    def with_formatter(formatter: logging.Formatter) -> logging.Logger:
        handler.setFormatter(formatter)
        return mine

    mine.handlers = [handler]
    mine.setLevel(logging.DEBUG)
    yield with_formatter
    mine.handlers = []


Logger = Callable[[logging.Formatter], logging.Logger]


def test_a_line_of_json_says_when_what_and_about_what(logger: Logger, stream: io.StringIO) -> None:
    with logs.about(request_id="abc"), logs.about(job=3):
        logs.note(model="dnn")
        logger(logs.JsonFormatter("worker")).warning("%d left", 7)
    logger(logs.JsonFormatter("worker")).info("later")
    first, second = map(json.loads, stream.getvalue().splitlines())
    told = datetime.fromisoformat(first.pop("timestamp"))
    assert abs(datetime.now(UTC) - told) < timedelta(minutes=1)
    assert first == {
        "level": "warning",
        "logger": "tests.logging",
        "message": "7 left",
        "request_id": "abc",
        "job": 3,
        "model": "dnn",
        "process": os.getpid(),
        "role": "worker",
    }
    assert "job" not in second


@pytest.mark.parametrize("text", [False, True], ids=["json", "text"])
def test_nothing_that_a_caller_sends_ends_a_line(text: bool) -> None:
    formatter = logs.TextFormatter(colours=False) if text else logs.JsonFormatter("server")
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        caught = sys.exc_info()
    # Formatted here: a logger's lines are kept by pytest, which cannot send half a character on.
    one = logging.LogRecord("tests", logging.INFO, "", 0, "a path: %s", (HOSTILE,), None)
    vars(one)["facts"] = {"path": HOSTILE, "id": HOSTILE}
    other = logging.LogRecord("tests", logging.ERROR, "", 0, HOSTILE, (), caught)
    told = "\n".join(map(formatter.format, (one, other)))
    assert not re.search(r"[^\n\x20-\x7e]", told)
    if text:
        shown = [line for line in told.split("\n") if not line.startswith("    ")]
        assert len(shown) == 2
        head = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (INFO|ERROR) +")
        assert all(map(head.match, shown))
    else:
        first, second = map(json.loads, told.split("\n"))
        assert first["path"] == HOSTILE
        assert second["exception"]["type"] == "ValueError"
        assert second["exception"]["message"] == HOSTILE
        assert "test_nothing_that_a_caller_sends" in second["exception"]["stack"]


class Process:
    """`perceptd serve`, whose standard output and error are files, or one terminal."""

    def __init__(self, folder: Path, *, terminal: bool = False, **variables: str) -> None:
        self._told = bytearray()
        self.out, self.err = folder / "out", folder / "err"
        environment = {
            **os.environ,
            "PERCEPTD_DATA_DIR": str(folder / "data"),
            "PERCEPTD_ADMIN_TOKEN": ADMIN,
            "PERCEPTD_PROCESSES": "1",
            "PERCEPTD_WORKERS": "0",
            **variables,
        }
        if terminal:
            ours, theirs = pty.openpty()
            self.process = subprocess.Popen(SERVE, env=environment, stdout=theirs, stderr=theirs)
            os.close(theirs)
            self._reader = threading.Thread(target=self._read, args=(ours,))
            self._reader.start()
        else:
            with self.out.open("w") as out, self.err.open("w") as err:
                self.process = subprocess.Popen(SERVE, env=environment, stdout=out, stderr=err)

    def _read(self, terminal: int) -> None:
        try:
            while read := os.read(terminal, 65536):
                self._told += read
        except OSError:  # nobody writes to it any more
            os.close(terminal)

    def told(self) -> str:
        """All that it has said so far."""
        if self._told or not self.err.exists():
            return self._told.decode()
        return self.err.read_text() + self.out.read_text()

    def lines(self) -> Lines:
        """The same, where it is JSON."""
        return [json.loads(line) for line in self.told().splitlines()]

    @property
    def url(self) -> str:
        pattern = re.compile(r"perceptd serves on (http://\S+)")
        eventually(
            lambda: self.process.poll() is not None or pattern.search(self.told()),
            "the server names its address",
        )
        found = pattern.search(self.told())
        assert found, self.told()
        return found[1]

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def one(**options: Any) -> Process:
        started.append(Process(tmp_path, **options))
        return started[-1]

    yield one
    for each in started:
        each.process.kill()
        each.process.wait()


def test_every_line_of_a_server_is_json_where_it_has_no_terminal(
    start: Callable[..., Process],
) -> None:
    server = start()
    with httpx.Client(base_url=server.url) as client:
        client.post("/predict", json=DNN, headers={"X-Request-ID": "hot"})
        client.post("/predict", json=DNN, headers={"X-Request-ID": "ordinary", **ORDINARY})
        client.get('/models/%0A%1B%5B31m{"level":"error"}?token=secret', headers=AS_ADMIN)
        client.post("/predict", json={}, headers={b"X-Request-ID": b"a\xff b"})
    server.end()
    assert server.process.returncode == 0
    lines = server.lines()
    of_requests = [line for line in lines if line["logger"] == "perceptd.access"]
    assert of_requests == [json.loads(line) for line in server.out.read_text().splitlines()]
    assert [line["status"] for line in of_requests] == [200, 200, 404, 422]
    assert [line["request_id"] for line in of_requests[:2]] == ["hot", "ordinary"]
    assert all(line["model"] == "dnn" for line in of_requests[:2])
    assert of_requests[2]["path"] == '/models/\n\x1b[31m{"level":"error"}'
    assert {line["process"] for line in lines} == {server.process.pid}
    assert {line["role"] for line in lines} == {"server"}
    assert any(line["message"].startswith("Started server process") for line in lines)
    assert ADMIN not in server.told()
    assert "secret" not in server.told()


@pytest.mark.reliability
def test_log_level_and_access_log_are_minded(start: Callable[..., Process]) -> None:
    server = start(PERCEPTD_ACCESS_LOG="0", PERCEPTD_LOG_FORMAT="text")
    httpx.get(f"{server.url}/models")
    server.end()
    assert "GET" not in server.told()
    assert re.search(r"^\S+ \S+ INFO     perceptd serves on ", server.told(), re.MULTILINE)


WARNED = """
import asyncio, logging, threading, warnings
from perceptd.service import logging as logs
from perceptd.service.settings import Settings
logs.configure(Settings(), "worker")
warnings.warn("is old", DeprecationWarning)
logging.getLogger("sqlalchemy.pool").warning("a pool")
logging.getLogger("alembic").info("too much")
def broken():
    raise RuntimeError("a thread broke")
thread = threading.Thread(target=broken)
thread.start()
thread.join()
raise LookupError("the end")
"""


def test_what_others_say_and_what_nobody_catches_is_json_too(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "always", "-c", WARNED],
        capture_output=True,
        text=True,
        env={**os.environ, "PERCEPTD_DATA_DIR": str(tmp_path)},
    )
    assert ended.returncode == 1
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["logger"] for line in lines] == [
        "py.warnings",
        "sqlalchemy.pool",
        "perceptd",
        "perceptd",
    ]
    assert "DeprecationWarning: is old" in lines[0]["message"]
    assert lines[2]["exception"]["type"] == "RuntimeError"
    assert lines[3]["exception"]["message"] == "the end"
    assert {line["role"] for line in lines} == {"worker"}


@pytest.mark.reliability
@pytest.mark.parametrize("processes", ["1", "2"])
def test_on_a_terminal_lines_are_for_people(start: Callable[..., Process], processes: str) -> None:
    server = start(terminal=True, PERCEPTD_PROCESSES=processes)
    with httpx.Client(base_url=server.url) as client:
        client.post("/predict", json=DNN, headers={"X-Request-ID": "hot"})
        client.get("/models/%0A%1B%5B31m")
    server.end()
    server._reader.join()
    told = server.told()
    assert "\x1b[32mINFO" in told
    plain = re.sub(r"\x1b\[\d*m", "", told)
    assert "{" not in plain
    assert re.search(r"INFO     POST /predict 200  .* request_id=hot model=dnn version=1", plain)
    assert r"GET /models/\n\x1b[31m 404" in plain
