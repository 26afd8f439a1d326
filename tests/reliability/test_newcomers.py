"""Clients that all connect at the same moment, beside one that is busy."""

import os
import re
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack

import httpx
import pytest

from tests.raw_http import XOR, Connection, request
from tests.service.served import Served

pytestmark = pytest.mark.reliability

Start = Callable[..., Served]

NEW = 64
MIN_ROWS = 4  # of an average batch: one accept per batch would make it 1
BATCHES = re.compile(r'^perceptd_batch_size_rows_count\{model="xor"\} (\d+)', re.MULTILINE)


def batches(client: httpx.Client) -> int:
    """How many batches of the model were computed."""
    found = BATCHES.search(client.get("/metrics").text)
    return int(found[1]) if found else 0


def test_newcomers_share_batches_and_are_all_answered(start: Start) -> None:
    served = start(PERCEPTD_ACCESS_LOG="0")
    process = served.server(1)
    stop, wrong = threading.Event(), list[int]()

    def ask() -> None:
        with httpx.Client(base_url=served.url, timeout=60) as busy:
            while not stop.is_set():
                answer = busy.post("/predict", json={"model": "dnn", "inputs": [[0, 1]]})
                if answer.status_code != 200:
                    wrong.append(answer.status_code)

    with ExitStack() as opened:
        client = opened.enter_context(httpx.Client(base_url=served.url, timeout=60))
        assert client.post("/predict", json=XOR).status_code == 200
        before = batches(client)
        asking = threading.Thread(target=ask)
        asking.start()
        opened.callback(asking.join)
        opened.callback(stop.set)
        os.kill(process, signal.SIGSTOP)  # so that all arrive at once
        try:
            new = [opened.enter_context(Connection(served.url)) for _ in range(NEW)]
            for connection in new:
                connection.send(request())
        finally:
            os.kill(process, signal.SIGCONT)
        assert [connection.answer().status for connection in new] == [200] * NEW
        assert 0 < batches(client) - before <= NEW / MIN_ROWS
    assert wrong == []
