"""Load during a fault: clients that send one prediction after the other and count answers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.scorecard import note

CLIENTS = 2
PAUSE_S = 0.01  # leaves the machine time to recover
PATIENCE_S = 60.0
SHED = (429, 503)  # refusals with `Retry-After`; without any other answer a request is lost
BODY = {"model": "dnn", "inputs": [[0.1, -0.2], [0.9, 0.4]]}


class Load:
    """Counts the answers to some clients, each with one connection, in a closed loop."""

    def __init__(self) -> None:
        self.answered = self.refused = self.lost = 0
        self.wrong: set[str] = set()  # answers to lost requests
        self._lock = threading.Lock()

    @property
    def requests(self) -> int:
        return self.answered + self.refused + self.lost

    def ask(self, url: str, stop: threading.Event) -> None:
        """Send requests until `stop` is set."""
        with httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False) as client:
            while not stop.wait(PAUSE_S):
                try:
                    self._count(client.post("/predict", json=BODY))
                except httpx.HTTPError as error:
                    self._lose(repr(error))

    def _count(self, answer: httpx.Response) -> None:
        if answer.status_code == 200 and len(answer.json()["predictions"]) == len(BODY["inputs"]):
            with self._lock:
                self.answered += 1
        elif answer.status_code in SHED and "Retry-After" in answer.headers:
            with self._lock:
                self.refused += 1
        else:
            self._lose(f"{answer.status_code} {answer.text[:200]}")

    def _lose(self, answer: str) -> None:
        with self._lock:
            self.lost += 1
            self.wrong.add(answer)


@contextmanager
def loaded(url: str) -> Iterator[Load]:
    """Clients that load the server while the block runs."""
    load, stop = Load(), threading.Event()
    threads = [threading.Thread(target=load.ask, args=(url, stop)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def fault(url: str = "") -> Iterator[Load]:
    """Runs a block with a fault and the recovery from it; under load if there is a server.

    Fails if a request was lost; a busy machine may refuse some.
    """
    load = Load()
    try:
        if url:
            with loaded(url) as load:
                yield load
            assert load.answered > 0
            assert load.lost == 0, load.wrong
        else:
            yield load
    finally:
        note(requests=load.requests, lost=load.lost)
