"""Clients that wait for their answers, on a real server."""

from benchmarks import closed_loop
from benchmarks.load import Call
from tests.benchmarks.conftest import OPENING_S, Server

CONNECTIONS = 4
SECONDS = 0.5


def test_connections_are_kept_and_the_first_request_of_each_includes_the_opening(
    server: Server,
) -> None:
    seen = closed_loop.run(server.server_port, Call("/", b"200"), CONNECTIONS, SECONDS)

    assert server.connections == CONNECTIONS
    assert len(seen.latencies) == server.requests > 2 * CONNECTIONS
    assert sum(latency >= OPENING_S for latency in seen.latencies) >= CONNECTIONS
    assert seen.errors == 0


def test_with_close_every_latency_includes_an_opening(server: Server) -> None:
    call = Call("/", b"200", close=True)
    seen = closed_loop.run(server.server_port, call, CONNECTIONS, SECONDS)

    assert server.connections == server.requests == len(seen.latencies) > CONNECTIONS
    assert min(seen.latencies) >= OPENING_S
    assert seen.errors == 0


def test_requests_before_the_end_of_the_warm_up_do_not_count(server: Server) -> None:
    call = Call("/", b"200")
    seen = closed_loop.run(server.server_port, call, CONNECTIONS, SECONDS, warm_s=SECONDS)

    assert max(seen.latencies) < SECONDS
    assert 0 < len(seen.latencies) < server.requests


def test_a_body_larger_than_the_buffers_of_a_socket_arrives(server: Server) -> None:
    call = Call("/", b"0" * 2**24)
    assert closed_loop.run(server.server_port, call, 1, SECONDS).in_time > 0


def test_refusals_and_failed_connections_are_errors(server: Server) -> None:
    refused = closed_loop.run(server.server_port, Call("/", b"503"), CONNECTIONS, SECONDS)
    server.socket.close()
    absent = closed_loop.run(server.server_port, Call("/", b"200"), CONNECTIONS, SECONDS)

    assert refused.errors == server.requests > 0
    assert absent.errors > 0
    assert not refused.latencies
    assert not absent.latencies
