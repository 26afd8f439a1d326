"""Where `perceptd serve` listens, as in docs/operate.md: a UNIX socket, IPv6, `PORT`."""

import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.command_line import perceptd
from tests.raw_http import XOR
from tests.service.served import Served

HOST = "127.0.0.1"


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Served]:
    served = Served(folder, *options, PERCEPTD_WORKERS="0")
    try:
        yield served
    finally:
        served.end()


def label(client: httpx.Client) -> str:
    answer = client.post("/predict", json=XOR).raise_for_status().json()
    label: str = answer["predictions"][0]["label"]
    return label


def client_of(path: Path) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(path))
    return httpx.Client(transport=transport, base_url="http://here", timeout=30)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_predictions_are_answered_over_a_unix_socket(tmp_path: Path, processes: str) -> None:
    path = tmp_path / "socket"
    with serving(tmp_path, "--uds", str(path), "--processes", processes) as served:
        assert served.url == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with client_of(path) as client:
            assert label(client) == "1"
            assert client.get("/health/ready").json()["status"] == "ready"
            again = perceptd("serve", "--uds", path, data_dir=tmp_path / "other")
            assert (again.exit_code, again.stdout) == (1, "")
            assert again.stderr == (
                f"Error: cannot listen on {path}: Address already in use (--uds (PERCEPTD_UDS))\n"
            )
            assert label(client) == "1"
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0
    assert not path.exists()
    assert "Traceback" not in served.log.read_text()


def test_the_socket_of_a_killed_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving(tmp_path, "--uds", str(path), "--processes", "1") as served:
        assert served.url
    assert path.is_socket()
    with serving(tmp_path, "--uds", str(path), "--processes", "1") as served:
        assert served.url
        with client_of(path) as client:
            assert label(client) == "1"


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["::1", "::"])
def test_predictions_are_answered_over_ipv6(tmp_path: Path, host: str) -> None:
    with serving(tmp_path, "--host", host, "--processes", "1") as served:
        if host == "::":
            assert served.process.wait(60) == 2  # it would open predictions to the network
            return
        assert served.url.startswith("http://[::1]:")
        with httpx.Client(base_url=served.url, timeout=30) as client:
            assert label(client) == "1"


def test_the_port_of_a_platform_is_taken_unless_another_is_given(tmp_path: Path) -> None:
    with socket.socket() as first, socket.socket() as second:
        for listener in (first, second):
            listener.bind((HOST, 0))
            listener.listen()
        port, other = (str(listener.getsockname()[1]) for listener in (first, second))
        for options, environment, taken in (
            ((), {"PORT": port}, port),
            ((), {"PORT": port, "PERCEPTD_PORT": other}, other),
            (("--port", other), {"PORT": port}, other),
        ):
            refused = perceptd("serve", *options, data_dir=tmp_path, **environment)
            assert refused.stderr.startswith(f"Error: cannot listen on {HOST}:{taken}: ")


@pytest.mark.parametrize("port", ["http", "-1", "65536", "80.5"])
def test_a_wrong_port_of_a_platform_is_named(tmp_path: Path, port: str) -> None:
    refused = perceptd("serve", data_dir=tmp_path, PORT=port)
    assert refused.exit_code == 2
    assert f"PORT: expected a whole number up to 65535, got {port!r}" in refused.stderr
