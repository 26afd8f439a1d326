"""`SIGTERM` under load: whatever was accepted is answered, and the exit code is 0."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from tests.raw_http import connect, request, response
from tests.scorecard import note
from tests.service.served import Served
from tests.service.site import is_gone
from tests.waiting import eventually

pytestmark = pytest.mark.reliability

CLIENTS = 12
READY = ("/health/ready", "/v2/health/ready")

Start = Callable[..., Served]


class Leaving:
    """Clients that ask until the server takes nobody any more, half of them over a new connection
    each time.

    A request is lost that was sent over an open connection and got no answer; a connection that is
    refused is none, which only a bare socket tells apart.
    """

    def __init__(self, url: str) -> None:
        self.answered = 0
        self.lost: list[str] = []
        self._url = url
        self._threads = [
            threading.Thread(target=self._ask, args=(number % 2 == 0,)) for number in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Until the server has sent every client away."""
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        note(requests=self.answered + len(self.lost), lost=len(self.lost))

    def _ask(self, stays: bool) -> None:
        connection: socket.socket | None = None
        while True:
            try:
                connection = connection or connect(self._url)
            except ConnectionError:
                return  # it takes nobody any more
            try:
                connection.sendall(request())
                answer = response(connection)
            except OSError as error:
                self.lost.append(repr(error))
                return
            if answer.status != 200:
                self.lost.append(str(answer.status))
            self.answered += 1
            if not stays or answer.headers.get("connection") == "close":
                connection.close()
                connection = None


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("time_of_many", range(4))
def test_nothing_that_was_accepted_is_lost(start: Start, processes: str, time_of_many: int) -> None:
    served = start(PERCEPTD_PROCESSES=processes, PERCEPTD_ACCESS_LOG="0")
    load = Leaving(served.url)
    eventually(lambda: load.answered > 200)
    served.process.send_signal(signal.SIGTERM)
    load.wait()
    assert load.lost == []
    assert served.process.wait(30) == 0
    assert all(is_gone(pid) for pid in served.started())
    assert "Traceback" not in served.log.read_text()


@pytest.mark.parametrize("processes", ["1", "2"])
def test_it_is_not_ready_first_and_still_answers_everything(start: Start, processes: str) -> None:
    served = start(PERCEPTD_PROCESSES=processes, PERCEPTD_DRAIN_S="600")
    with httpx.Client(base_url=served.url, timeout=30, trust_env=False) as client:
        assert all(client.get(path).status_code == 200 for path in READY)
        served.process.send_signal(signal.SIGTERM)
        eventually(lambda: client.get("/health/ready").status_code == 503)
        told = client.get("/health/ready")
        assert (told.json()["code"], told.headers["Retry-After"]) == ("draining", "1")
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/health/live").status_code == 200
        with connect(served.url) as newcomer:
            newcomer.sendall(request())
            answer = response(newcomer)
            assert answer.status == 200
            assert "connection" not in answer.headers
    served.process.send_signal(signal.SIGTERM)  # or it would go on so for ten minutes
    assert served.process.wait(30) == 128 + signal.SIGTERM


@pytest.mark.parametrize("processes", ["1", "2"])
def test_it_ends_once_it_has_drained(start: Start, processes: str) -> None:
    served = start(PERCEPTD_PROCESSES=processes, PERCEPTD_DRAIN_S="2")
    assert httpx.get(f"{served.url}/health/ready").status_code == 200
    began = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(60) == 0
    assert time.monotonic() - began >= 2


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(
    start: Start, processes: str, again: signal.Signals
) -> None:
    served = start(PERCEPTD_PROCESSES=processes, PERCEPTD_DRAIN_S="600")
    assert served.url
    served.process.send_signal(signal.SIGTERM)
    eventually(lambda: httpx.get(f"{served.url}/health/ready").status_code == 503)
    served.process.send_signal(again)
    assert served.process.wait(30) == 128 + again
    eventually(lambda: all(is_gone(pid) for pid in served.started()))
    assert {path.name for path in served.folder.iterdir()} == {"data", "log"}


def test_no_process_drains_longer_than_its_parent_is_there(start: Start) -> None:
    served = start(PERCEPTD_PROCESSES="2", PERCEPTD_DRAIN_S="600")
    assert served.url
    pids = [served.server(number) for number in (1, 2)]
    served.process.send_signal(signal.SIGTERM)
    eventually(lambda: httpx.get(f"{served.url}/health/ready").status_code == 503)
    served.process.kill()
    eventually(lambda: all(is_gone(pid) for pid in pids))


@pytest.mark.parametrize("processes", ["1", "2"])
def test_those_who_never_finish_hold_it_up_for_the_grace_period_alone(
    start: Start, processes: str
) -> None:
    served = start(PERCEPTD_PROCESSES=processes, PERCEPTD_GRACE_S="2")
    with connect(served.url) as idle, connect(served.url) as head, connect(served.url) as body:
        head.sendall(request()[:30])
        body.sendall(request()[:-5])
        assert httpx.get(f"{served.url}/health/live").status_code == 200
        began = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(60) == 0
        assert time.monotonic() - began < 25  # the time for a body to arrive is 30
        assert idle.recv(1) == b""


def test_a_process_that_is_asked_to_end_alone_is_replaced_and_nothing_is_lost(start: Start) -> None:
    served = start(PERCEPTD_PROCESSES="2", PERCEPTD_ACCESS_LOG="0")
    assert served.url
    first = served.server(1)
    load = Leaving(served.url)
    eventually(lambda: load.answered > 100)
    os.kill(first, signal.SIGTERM)
    served.server(3)
    before = load.answered
    eventually(lambda: load.answered > before + 200)
    served.process.send_signal(signal.SIGTERM)
    load.wait()
    assert load.lost == []
    assert served.process.wait(30) == 0
