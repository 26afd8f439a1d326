"""`SIGTERM` under load: every accepted request is answered, and the exit status is 0."""

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

pytestmark = pytest.mark.reliability

CLIENTS = 12
READY = ("/health/ready", "/v2/health/ready")

Start = Callable[..., Served]


class Leaving:
    """Clients that send requests until the server refuses connections.

    Half of them open a new connection for each request. A request is lost if it was sent over an
    open connection and got no answer. Only a bare socket tells that from a refused connection.
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
        """Wait until the server has refused every client."""
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
                return  # refused
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


def wait_until_draining(served: Served) -> None:
    served.eventually(
        lambda: httpx.get(f"{served.url}/health/ready").status_code == 503, "the server drains"
    )


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("attempt", range(4))
def test_no_accepted_request_is_lost(start: Start, processes: str, attempt: int) -> None:
    served = start(PERCEPTD_PROCESSES=processes, PERCEPTD_ACCESS_LOG="0")
    load = Leaving(served.url)
    served.eventually(lambda: load.answered > 200, "200 requests are answered")
    served.process.send_signal(signal.SIGTERM)
    load.wait()
    assert load.lost == []
    assert served.process.wait(30) == 0
    assert served.all_gone()
    assert "Traceback" not in served.log.read_text()


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_draining_server_is_not_ready_and_answers_everything(
    start: Start, processes: str
) -> None:
    served = start(PERCEPTD_PROCESSES=processes, PERCEPTD_DRAIN_S="600")
    with httpx.Client(base_url=served.url, timeout=30, trust_env=False) as client:
        assert all(client.get(path).status_code == 200 for path in READY)
        served.process.send_signal(signal.SIGTERM)
        served.eventually(
            lambda: client.get("/health/ready").status_code == 503, "the server is not ready"
        )
        told = client.get("/health/ready")
        assert (told.json()["code"], told.headers["Retry-After"]) == ("draining", "1")
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/health/live").status_code == 200
        with connect(served.url) as newcomer:
            newcomer.sendall(request())
            answer = response(newcomer)
            assert answer.status == 200
            assert "connection" not in answer.headers
    served.process.send_signal(signal.SIGTERM)  # else it would drain for ten minutes
    assert served.process.wait(30) == 128 + signal.SIGTERM


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_server_ends_when_it_has_drained(start: Start, processes: str) -> None:
    served = start(PERCEPTD_PROCESSES=processes, PERCEPTD_DRAIN_S="2")
    assert httpx.get(f"{served.url}/health/ready").status_code == 200
    began = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(60) == 0
    assert time.monotonic() - began >= 2


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_server_at_once(
    start: Start, processes: str, again: signal.Signals
) -> None:
    served = start(PERCEPTD_PROCESSES=processes, PERCEPTD_DRAIN_S="600")
    assert served.url
    served.process.send_signal(signal.SIGTERM)
    wait_until_draining(served)
    served.process.send_signal(again)
    assert served.process.wait(30) == 128 + again
    served.eventually(served.all_gone, "all processes end")
    assert {path.name for path in served.folder.iterdir()} == {"data", "log"}


def test_processes_without_their_parent_end_at_once(start: Start) -> None:
    served = start(PERCEPTD_PROCESSES="2", PERCEPTD_DRAIN_S="600")
    assert served.url
    served.process.send_signal(signal.SIGTERM)
    wait_until_draining(served)
    served.process.kill()
    served.eventually(served.all_gone, "all processes end")


@pytest.mark.parametrize("processes", ["1", "2"])
def test_incomplete_requests_delay_the_end_by_the_grace_period_only(
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


def test_a_terminated_process_is_replaced_and_no_request_is_lost(start: Start) -> None:
    served = start(PERCEPTD_PROCESSES="2", PERCEPTD_ACCESS_LOG="0")
    assert served.url
    first = served.server(1)
    load = Leaving(served.url)
    served.eventually(lambda: load.answered > 100, "100 requests are answered")
    os.kill(first, signal.SIGTERM)
    served.server(3)
    before = load.answered
    served.eventually(lambda: load.answered > before + 200, "200 more requests are answered")
    served.process.send_signal(signal.SIGTERM)
    load.wait()
    assert load.lost == []
    assert served.process.wait(30) == 0


def test_a_signal_to_every_process_loses_no_request(start: Start) -> None:
    """systemd sends it to all processes of a service."""
    served = start(PERCEPTD_PROCESSES="2", PERCEPTD_ACCESS_LOG="0")
    load = Leaving(served.url)
    served.eventually(lambda: load.answered > 200, "200 requests are answered")
    for pid in (served.server(1), served.server(2), served.process.pid):
        os.kill(pid, signal.SIGTERM)
    load.wait()
    assert load.lost == []
    assert served.process.wait(30) == 0
