import gzip
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import Metrics
from service.repository import PRETRAINED
from service.settings import Settings
from tests.service.admin import AS_PREDICTOR, TOKENS, as_admin, problem
from tests.service.served import Served
from tests.service.site import eventually
from tests.service.test_cli import perceptd

REQUESTS = "perceptd_http_requests_total"


def figures(text: str) -> dict[tuple[str, ...], float]:
    """Each sample by its name and the values of its labels, sorted by their names."""
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def asked(client: httpx.Client) -> dict[tuple[str, ...], float]:
    response = client.get("/metrics").raise_for_status()
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return figures(response.text)


def test_every_answer_is_counted_by_its_route(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    client = serve(Settings(data_dir=tmp_path, max_body_bytes=1024))
    client.post("/predict", json={"model": "dnn", "inputs": [[0, 0]] * 3})
    client.post("/predict", json={"model": "dnn", "inputs": [[0]]})
    client.post("/predict", json={"model": "dnn", "inputs": [[0, 0]] * 1000})  # refused unread
    packed = gzip.compress(b'{"model": "dnn", "inputs": [[0, 0]]}')
    client.post("/predict", content=packed, headers={"Content-Encoding": "gzip"})
    client.get("/models/dnn/versions/1")
    client.get("/models/xor/versions/1")
    client.put("/models/dnn", json={})
    counted = asked(client)
    assert {key: count for key, count in counted.items() if key[0] == REQUESTS} == {
        (REQUESTS, "200", "POST", "/predict"): 2,
        (REQUESTS, "422", "POST", "/predict"): 1,
        (REQUESTS, "413", "POST", "/predict"): 1,
        (REQUESTS, "200", "GET", "/models/{model}/versions/{version}"): 2,
        (REQUESTS, "405", "PUT", "/models/{model}"): 1,
    }
    assert counted["perceptd_rows_total", "dnn", "1"] == 4
    assert counted["perceptd_batch_size_rows_count", "dnn"] == 2
    assert counted["perceptd_batch_size_rows_sum", "dnn"] == 4
    assert counted["perceptd_batch_size_rows_bucket", "2.0", "dnn"] == 1
    assert counted["perceptd_batch_size_rows_bucket", "4.0", "dnn"] == 2


def test_labels_stay_few_whatever_is_asked(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    client = serve(Settings(data_dir=tmp_path))
    for _ in range(20):
        client.get(f"/{uuid4()}/{uuid4()}")
        client.get(f"/models/{uuid4()}")
        client.request("PROPFIND", f"/{uuid4()}")
        client.post("/predict", json={"model": str(uuid4()), "inputs": [[0, 0]]})
    counted = asked(client)
    assert counted == {
        (REQUESTS, "404", "GET", "other"): 20,
        (REQUESTS, "404", "GET", "/models/{model}"): 20,
        (REQUESTS, "404", "other", "other"): 20,
        (REQUESTS, "404", "POST", "/predict"): 20,
    }


def test_a_swap_is_counted(serve: Callable[[Settings], httpx.Client], tmp_path: Path) -> None:
    client = as_admin(serve(Settings(data_dir=tmp_path, admin_token=TOKENS["admin_token"])))
    perceptd("models", "add", PRETRAINED / "xor", data_dir=tmp_path)
    client.put("/models/xor/aliases/production", json={"version": 2}).raise_for_status()
    counted = asked(client)
    assert {key[1:]: count for key, count in counted.items() if "swaps" in key[0]} == {("xor",): 1}


def test_two_applications_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.request("GET", "/models", 200)
    assert (REQUESTS, "200", "GET", "/models") in figures(one.render().decode())
    assert figures(other.render().decode()) == {}


def test_whoever_reads_them_needs_the_token_for_reads(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    client = serve(Settings(data_dir=tmp_path, **TOKENS))
    assert problem(client.get("/metrics")) == (401, "unauthorized")
    assert client.get("/metrics", headers=AS_PREDICTOR).status_code == 200


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path, PERCEPTD_PROCESSES="2", PERCEPTD_WORKERS="0")
    yield served
    served.end()


def test_what_several_processes_answer_is_counted_once_and_survives_them(served: Served) -> None:
    url = served.url
    said = Counter[tuple[str, ...]]()

    def ask(count: int) -> None:
        """On a connection each, so that every process has its share; rows as many as the turn."""
        for turn in range(1, count + 1):
            rows = [[1, -1]] * turn
            body = {"model": "xor", "inputs": rows}
            answer = httpx.post(f"{url}/predict", json=body, timeout=60)  # until one is replaced
            said[REQUESTS, str(answer.status_code), "POST", "/predict"] += 1
            said["perceptd_rows_total", "xor", "1"] += turn
            said["perceptd_batch_size_rows_sum", "xor"] += turn
            said["perceptd_batch_size_rows_count", "xor"] += 1

    def counted() -> dict[tuple[str, ...], float]:
        with httpx.Client(base_url=url) as client:
            return {key: count for key, count in asked(client).items() if key in said}

    ask(30)
    assert counted() == said
    victim = served.server(1)
    os.kill(victim, signal.SIGKILL)
    ask(10)
    assert counted() == said
    eventually(lambda: served.log.read_text().count("Application startup complete") == 3)
    ask(30)
    assert counted() == said
    assert said[REQUESTS, "200", "POST", "/predict"] == 70
