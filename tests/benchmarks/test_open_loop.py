"""Clients that do not wait for one another, on a real server."""

import pytest

from benchmarks.load import Call
from benchmarks.open_loop import Clients, Seen
from tests.benchmarks.conftest import OPENING_S, Server

RATE, SECONDS = 100, 0.5


def seen_by(server: Server, body: bytes = b"200", timeout_s: float = 5.0) -> Seen:
    clients = Clients(server.server_port, Call("/", body), timeout_s)
    return clients.run(RATE, warm_s=0.1, seconds=SECONDS, seed=1)


def test_requests_are_sent_at_the_rate_and_each_answer_counts(server: Server) -> None:
    seen = seen_by(server)

    assert seen.offered == pytest.approx(RATE * SECONDS, rel=0.5)
    assert len(seen.latencies) == seen.offered < server.requests
    assert (seen.refused, seen.lost) == (0, 0)


def test_refusals_are_not_lost(server: Server) -> None:
    seen = seen_by(server, b"429")

    assert seen.refused == seen.offered > 0
    assert (seen.goodput, seen.lost) == (0, 0)


def test_a_request_without_an_answer_in_time_is_lost(server: Server) -> None:
    seen = seen_by(server, timeout_s=OPENING_S / 2)

    assert seen.lost == seen.offered > 0
