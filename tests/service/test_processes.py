"""`perceptd serve` with several processes on one port, and real signals."""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from perceptd.models.networks.mnist import drawn_seven
from perceptd.service.inference.runtimes import Device
from perceptd.service.store.repository import PRETRAINED
from tests.command_line import perceptd
from tests.service.admin import ADMIN, AS_ADMIN
from tests.service.served import Served
from tests.service.site import is_gone

CONNECTIONS = 32  # enough that each of two processes has some
QUESTION = {"model": "xor", "inputs": [[1, -1]]}
HELD = json.dumps({"model": "mnist-cnn", "dtype": "uint8", "inputs": [drawn_seven()] * 8}).encode()
HEAD = (
    "POST /predict HTTP/1.1\r\nHost: perceptd\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(HELD)}\r\nExpect: 100-continue\r\n\r\n"
).encode()

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")


@contextmanager
def serving(folder: Path, processes: int = 2) -> Iterator[Served]:
    options = ["--processes", str(processes), "--data-dir", str(folder / "data")]
    served = Served(folder, *options, PERCEPTD_WORKERS="0", PERCEPTD_ADMIN_TOKEN=ADMIN)
    try:
        yield served
    finally:
        served.end()


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two processes, for tests that end none of them."""
    with serving(tmp_path_factory.mktemp("together")) as served:
        yield served


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as served:
        yield served


@contextmanager
def clients(url: str, count: int = CONNECTIONS) -> Iterator[list[httpx.Client]]:
    """Clients with one connection each, so that one process answers all requests of a client."""
    with ExitStack() as opened:
        yield [
            opened.enter_context(httpx.Client(base_url=url, timeout=30, trust_env=False))
            for _ in range(count)
        ]


def sockets(pid: int) -> int:
    files = Path(f"/proc/{pid}/fd").iterdir()
    return sum(str(file.readlink()).startswith("socket:") for file in files)


def predicted(client: httpx.Client) -> int:
    """The version that answers."""
    answer = client.post("/predict", json=QUESTION).raise_for_status().json()
    assert [row["label"] for row in answer["predictions"]] == ["1"]
    version: int = answer["version"]
    return version


@pytest.mark.reliability
def test_the_kernel_spreads_the_connections_to_one_port(together: Served) -> None:
    with clients(together.url, 64) as asking:
        before = [sockets(together.server(number)) for number in (1, 2)]
        assert {predicted(client) for client in asking} == {1}
        after = [sockets(together.server(number)) for number in (1, 2)]
    taken = [now - then for now, then in zip(after, before, strict=True)]
    assert sum(taken) == 64
    assert min(taken) >= 12  # of 32; the chance of fewer is one in ten million


def test_the_address_is_logged_once(together: Served) -> None:
    assert together.url.startswith("http://127.0.0.1:")
    assert "(2 processes; CTRL+C ends it)" in together.log.read_text()
    assert "Uvicorn running" not in together.log.read_text()


def test_no_token_is_on_a_command_line(together: Served) -> None:
    for number in (1, 2):
        command = Path(f"/proc/{together.server(number)}/cmdline").read_text()
        assert "serve\0--listen-fd=" in command
        assert ADMIN not in command


def test_a_promotion_is_served_by_every_process_within_a_second(together: Served) -> None:
    added = perceptd("models", "add", PRETRAINED / "xor", data_dir=together.data_dir)
    assert added.exit_code == 0, added.stderr
    alias = {
        "url": f"{together.url}/models/xor/aliases/production",
        "headers": AS_ADMIN,
        "timeout": 30,
    }
    with clients(together.url) as asking:
        for version in (2, 1):
            httpx.put(**alias, json={"version": version}).raise_for_status()  # type: ignore[arg-type]
            took = together.eventually(
                lambda: {predicted(client) for client in asking} == {version},  # noqa: B023
                f"all processes serve version {version}",
            )
            assert took < 2  # a second, and one for a busy machine


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_port_in_use_is_an_error_of_one_sentence(
    together: Served, tmp_path: Path, processes: str
) -> None:
    port = str(urlsplit(together.url).port)
    refused = perceptd("serve", "--port", port, "--processes", processes, data_dir=tmp_path)
    assert refused.exit_code == 1
    said = f"Error: cannot listen on 127.0.0.1:{port}: Address already in use ("
    assert refused.stderr.startswith(said)
    assert refused.stderr.endswith("(--host, --port; PERCEPTD_HOST, PERCEPTD_PORT)\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.faults
def test_a_killed_process_is_replaced_while_the_other_answers(served: Served) -> None:
    with clients(served.url) as asking:
        before = [sockets(served.server(number)) for number in (1, 2)]
        for client in asking:
            predicted(client)
        after = [sockets(served.server(number)) for number in (1, 2)]
        victim, survivor = served.server(1), served.server(2)
        os.kill(victim, signal.SIGKILL)
        served.eventually(lambda: is_gone(victim), "the killed process is gone")

        answered = 0
        for client in asking:
            try:
                predicted(client)
                answered += 1
            except httpx.TransportError:  # a connection of the killed process
                pass
        assert answered >= after[1] - before[1] > 0
        replacement = served.server(3)
        assert {predicted(client) for client in asking} == {1}
    assert len({victim, survivor, replacement}) == 3
    assert not is_gone(survivor)
    assert "a server process ended (-9)" in served.log.read_text()


@pytest.mark.reliability
def test_at_the_end_accepted_requests_are_answered_and_streams_end(served: Served) -> None:
    job = {"model": "xor"}
    httpx.post(f"{served.url}/jobs", json=job, headers=AS_ADMIN).raise_for_status()
    address = urlsplit(served.url)
    with ExitStack() as opened:
        streams = []
        for client in opened.enter_context(clients(served.url, 8)):
            response = opened.enter_context(client.stream("GET", "/jobs/1/events"))
            streams.append(response.iter_lines())
            assert next(streams[-1])  # its first event; the job stays queued
        held = []
        for _ in range(CONNECTIONS):
            connection = opened.enter_context(
                socket.create_connection((address.hostname, address.port), 30)
            )
            connection.sendall(HEAD)
            assert connection.recv(1024).startswith(b"HTTP/1.1 100")  # it waits for the body
            held.append(connection)

        served.process.send_signal(signal.SIGTERM)
        served.eventually(
            lambda: served.log.read_text().count("Shutting down") == 2, "both processes shut down"
        )
        for stream in streams:
            assert not any(line.startswith("event:") for line in stream)  # it ends
        for connection in held:
            connection.sendall(HELD)
        for connection in held:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert served.process.wait(20) == 0
    assert served.all_gone()
    assert {path.name for path in served.folder.iterdir()} == {"data", "log"}
    assert "Traceback" not in served.log.read_text()


@pytest.mark.faults
def test_an_interrupt_during_the_start_ends_all_processes(served: Served) -> None:
    assert served.server(1)
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(20) == 0
    assert served.all_gone()
    assert "Traceback" not in served.log.read_text()


@pytest.mark.faults
def test_a_killed_server_leaves_no_process_behind(served: Served) -> None:
    assert served.url
    served.process.kill()
    assert served.eventually(served.all_gone, "all processes end") < 15


@pytest.mark.reliability
def test_a_server_that_cannot_start_ends_with_a_sentence_and_its_status(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "admin-token").write_text("none")
    served = Served(tmp_path, PERCEPTD_PROCESSES="2", PERCEPTD_WORKERS="0")
    try:
        assert served.process.wait(30) == 3
    finally:
        served.end()
    log = served.log.read_text()
    assert "admin-token holds no token: remove it, and a new one is made" in log
    assert "a server process could not start (3)" in log


@pytest.mark.parametrize(
    ("device", "cores", "processes"), [("cpu", 1, 1), ("cpu", 3, 3), ("cpu", 64, 4), ("cuda", 8, 1)]
)
def test_there_is_a_process_per_core_up_to_four_and_one_on_an_accelerator(
    device: Device, cores: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = import_module("perceptd.service.commands.serve")
    monkeypatch.setattr(command, "cores", lambda: cores)
    assert command.default_processes(device) == processes


def test_a_missing_device_is_an_error_of_one_sentence(tmp_path: Path) -> None:
    started_at = time.monotonic()
    refused = perceptd("serve", "--device", "mps", "--processes", "2", data_dir=tmp_path)
    assert (refused.exit_code, time.monotonic() - started_at < 60) == (1, True)
    assert refused.stderr.startswith("Error: PERCEPTD_DEVICE=mps: no such device")
