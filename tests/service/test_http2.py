"""HTTP/2 as in docs/operate.md, from a client that speaks nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import httpx
import pytest

from tests.certificates import certificate
from tests.command_line import perceptd
from tests.raw_http import XOR, connect, request, response
from tests.service.served import Served


@contextmanager
def serving(folder: Path, *options: str, **variables: str) -> Iterator[Served]:
    for package in ("zttp", "h2"):
        pytest.importorskip(package)
    variables = {"PERCEPTD_PROCESSES": "1", "PERCEPTD_WORKERS": "0", **variables}
    served = Served(folder, "--http2", *options, **variables)
    try:
        yield served
    finally:
        served.end()
    assert "Traceback" not in served.log.read_text()


def assert_serves(client: httpx.Client) -> None:
    """All requests go over the first connection, as its numbers of streams show."""
    for number in range(3):
        answer = client.post("/predict", json=XOR)
        assert (answer.http_version, answer.status_code) == ("HTTP/2", 200)
        assert answer.json()["predictions"][0]["label"] == "1"
        assert answer.extensions["stream_id"] == 2 * number + 1
    refused = client.post("/predict", json={"model": "xor", "inputs": [[1]]})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input")
    assert client.get("/docs").is_success


def test_predictions_are_answered_over_http2_with_tls(tmp_path: Path) -> None:
    made = certificate(tmp_path)
    with serving(tmp_path, *made.options) as served:
        only_2 = httpx.Client(base_url=served.url, verify=made.trusting, http1=False, http2=True)
        with only_2 as client:
            assert_serves(client)
        with httpx.Client(base_url=served.url, verify=made.trusting) as client:
            assert client.post("/predict", json=XOR).http_version == "HTTP/1.1"


def test_predictions_are_answered_over_http2_with_prior_knowledge(tmp_path: Path) -> None:
    with (
        serving(tmp_path) as served,
        httpx.Client(base_url=served.url, http1=False, http2=True) as client,
    ):
        assert_serves(client)


def test_an_idle_connection_outlasts_the_time_for_a_head(tmp_path: Path) -> None:
    with (
        serving(tmp_path, PERCEPTD_READ_TIMEOUT_S="1") as served,
        httpx.Client(base_url=served.url, http1=False, http2=True) as client,
        connect(served.url) as slow,
    ):
        assert client.post("/predict", json=XOR).extensions["stream_id"] == 1
        slow.sendall(request()[:30])
        assert response(slow).code == "request_timeout"
        assert client.post("/predict", json=XOR).extensions["stream_id"] == 3


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = import_module("perceptd.service.commands.serve")
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    refused = perceptd("serve", "--http2", data_dir=tmp_path)
    assert refused.exit_code == 2
    assert (
        "--http2 (PERCEPTD_HTTP2) needs a package: pip install 'perceptd[http2]'" in refused.stderr
    )
