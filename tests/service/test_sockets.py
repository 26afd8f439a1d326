"""Listening sockets for several processes."""

import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from perceptd.service.sockets import bound, bound_to_file, drop_new_connections, waiting

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


def test_what_waits_at_several_sockets_is_accepted() -> None:
    with (
        bound(HOST, 0, 1) as (first,),
        bound(HOST, 0, 1) as (second,),
        bound(HOST, 0, 1) as (deaf,),
    ):
        for listener in (*first, *second, *deaf):
            listener.setblocking(False)
        for listener in (*first, *second):
            listener.listen()
        with ExitStack() as opened:
            clients = {
                opened.enter_context(socket.create_connection((HOST, port_of(listener))))
                for listener in (*first, *first, *second)
            }
            accepted = [*map(opened.enter_context, waiting([*first, *second, *deaf]))]
            names = {client.getsockname() for client in clients}
            assert {connection.getpeername() for connection in accepted} == names
        assert list(waiting([*first, *second, *deaf])) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file", "Address already in use"),
        ("folder/socket", "No such file or directory"),
        ("x" * 200, "AF_UNIX path too long"),
    ],
)
def test_a_path_that_cannot_be_listened_on_is_an_error(
    tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "file").write_text("kept")
    with (
        pytest.raises(OSError, match=rf"cannot listen on .*: {reason} \(--uds"),
        bound_to_file(tmp_path / name, 1),
    ):
        pass
    assert (tmp_path / "file").read_text() == "kept"


def test_once_new_connections_are_dropped_a_unix_socket_has_no_file(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with bound_to_file(path, 2) as groups, socket.socket(socket.AF_UNIX) as early:
        early.connect(str(path))
        for listeners in groups:
            drop_new_connections(listeners)
        assert not path.exists()
        groups[0][0].setblocking(False)
        (accepted,) = waiting(groups[0])
        accepted.close()
