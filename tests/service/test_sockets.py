"""Listening sockets for several processes."""

import socket
import sys

import pytest

from perceptd.service.sockets import bound

HOST = "127.0.0.1"


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def test_all_processes_have_sockets_on_one_free_port() -> None:
    with bound(HOST, 0, 3) as groups:
        assert len(groups) == 3
        assert len({port_of(listener) for group in groups for listener in group}) == 1
    assert all(listener.fileno() == -1 for group in groups for listener in group)


def test_on_linux_each_process_has_a_socket_of_its_own() -> None:
    with bound(HOST, 0, 2) as groups:
        own = len({listener.fileno() for (listener,) in groups})
    assert own == (2 if sys.platform == "linux" else 1)


def test_all_addresses_of_a_host_are_bound() -> None:
    families = {info[0] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    with bound("localhost", 0, 2) as groups:
        for group in groups:
            assert {listener.family for listener in group} == families


@pytest.mark.parametrize("others", [1, 2])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_port_in_use_is_an_error(others: int, processes: int) -> None:
    with bound(HOST, 0, others) as groups:
        for (listener,) in groups:
            listener.listen()
        port = port_of(groups[0][0])
        refusal = f"cannot listen on {HOST}:{port}: Address already in use"
        with pytest.raises(OSError, match=refusal), bound(HOST, port, processes):
            pass


def test_an_unknown_host_is_an_error() -> None:
    refusal = "cannot listen on nowhere:80"
    with pytest.raises(OSError, match=refusal), bound("nowhere", 80, 1):
        pass
