"""A process that is stopped or killed takes no connection with it that it has not accepted."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.certificates import certificate
from tests.raw_http import XOR, connect, request, response
from tests.reliability.load import CLIENTS
from tests.scorecard import note
from tests.service.served import Served

pytestmark = pytest.mark.reliability

CONNECTIONS = 60
SOON_S = 2.0  # a sibling looks ten times a second, and a busy machine is slower

Start = Callable[..., Served]


def seconds_of_a_prediction(url: str) -> float:
    """From a new connection to its answer."""
    began = time.monotonic()
    with connect(url) as connection:
        connection.sendall(request())
        assert response(connection).status == 200
    return time.monotonic() - began


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_new_connections_of_a_stopped_process_are_answered(start: Start) -> None:
    served = start(PERCEPTD_PROCESSES="2")
    assert served.url
    with stopped(served.server(1)), ThreadPoolExecutor(CONNECTIONS) as clients:
        took = list(clients.map(seconds_of_a_prediction, [served.url] * CONNECTIONS))
    note(requests=CONNECTIONS, lost=0)
    assert max(took) < SOON_S


def test_new_tls_connections_of_a_stopped_process_are_answered(
    start: Start, tmp_path: Path
) -> None:
    made = certificate(tmp_path)
    files = {"PERCEPTD_TLS_CERT": str(made.cert), "PERCEPTD_TLS_KEY": str(made.key)}
    served = start(PERCEPTD_PROCESSES="2", **files)
    assert served.url
    with stopped(served.server(1)):
        for _ in range(8):  # the chance that none was of the stopped process is 1 in 256
            with httpx.Client(verify=made.trusting, timeout=SOON_S) as client:
                assert client.post(f"{served.url}/predict", json=XOR).is_success


class Newcomers:
    """Clients with a new connection for each request; note how long each waits for its answer."""

    def __init__(self, url: str) -> None:
        self.took: list[float] = []
        self.reset = 0  # connections of the killed process
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(4 * CLIENTS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                self.took.append(seconds_of_a_prediction(self._url))
            except ConnectionError:
                self.reset += 1


def test_no_new_connection_waits_for_the_replacement_of_a_killed_process(start: Start) -> None:
    served = start(PERCEPTD_PROCESSES="2", PERCEPTD_ACCESS_LOG="0")
    load = Newcomers(served.url)
    try:
        served.eventually(lambda: len(load.took) > 100, "100 requests are answered")
        os.kill(served.server(1), signal.SIGKILL)
        served.server(3)
        before = len(load.took)
        served.eventually(lambda: len(load.took) > before + 500, "500 more are answered")
    finally:
        load.end()
    assert max(load.took) < SOON_S
    assert load.reset <= 4 * CLIENTS  # one each at most: what the killed process had accepted
