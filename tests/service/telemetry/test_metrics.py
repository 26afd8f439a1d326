import asyncio
import gzip
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pytest
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from perceptd.service.inference.answers import Answer, Rows
from perceptd.service.inference.batcher import Batcher, BatchResult
from perceptd.service.inference.pending import Caller, PendingRequest
from perceptd.service.settings import Settings
from perceptd.service.store.repository import PRETRAINED
from perceptd.service.telemetry import families
from perceptd.service.telemetry.metrics import Metrics
from tests.service.admin import AS_PREDICTOR, TOKENS, as_admin, problem
from tests.service.commands.test_cli import perceptd
from tests.service.served import Served
from tests.waiting import eventually

Counted = dict[tuple[str, ...], float]
REQUESTS = "perceptd_http_requests_total"
DURATION = "perceptd_request_duration_seconds"


def figures(text: str) -> Counted:
    """Each sample by its name and the values of its labels, sorted by their names."""
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def asked(client: httpx.Client) -> Counted:
    response = client.get("/metrics").raise_for_status()
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return figures(response.text)


def of(name: str, counted: Counted) -> Counted:
    return {key[1:]: value for key, value in counted.items() if key[0] == name}


def test_every_answer_is_counted_by_its_route_and_version(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    admin = TOKENS["admin_token"]
    client = as_admin(serve(Settings(data_dir=tmp_path, max_body_bytes=1024, admin_token=admin)))
    client.post("/predict", json={"model": "dnn", "inputs": [[0, 0]] * 3})
    client.post("/predict", json={"model": "dnn", "inputs": [[0]]})
    client.post("/predict", json={"model": "dnn", "inputs": [[0, 0]] * 1000})  # refused unread
    packed = gzip.compress(b'{"model": "dnn", "inputs": [[0, 0]]}')
    client.post("/predict", content=packed, headers={"Content-Encoding": "gzip"})
    client.post("/predict_proba", json={"model": "dnn", "version": 1, "inputs": [[0, 0]]})
    raw = {"Content-Type": "application/octet-stream"}
    client.post("/predict/image", content=bytes(784), headers=raw)
    infer = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0, 0]}]}
    client.post("/v2/models/xor/infer", json=infer)
    client.get("/models/dnn/versions/1")
    client.get("/models/xor/versions/1")
    client.put("/models/dnn", json={})
    client.post("/feedback", json={"model": "xor", "inputs": [[1, 1]] * 2, "labels": ["0"] * 2})
    counted = asked(client)
    assert of(REQUESTS, counted) == {
        ("200", "POST", "dnn", "/predict", "1"): 2,
        ("422", "POST", "", "/predict", ""): 1,
        ("413", "POST", "", "/predict", ""): 1,
        ("200", "POST", "dnn", "/predict_proba", "1"): 1,
        ("200", "POST", "mnist-cnn", "/predict/image", "1"): 1,
        ("200", "POST", "xor", "/v2/models/{model}/infer", "1"): 1,
        ("200", "GET", "", "/models/{model}/versions/{version}", ""): 2,
        ("405", "PUT", "", "/models/{model}", ""): 1,
        ("201", "POST", "", "/feedback", ""): 1,
    }
    durations = of(f"{DURATION}_count", counted)
    assert durations["POST", "dnn", "/predict"] == 2
    assert durations["POST", "", "/predict"] == 2
    assert sum(durations.values()) == sum(of(REQUESTS, counted).values())
    assert of("perceptd_rows_total", counted)["dnn", "1"] == 5
    assert of("perceptd_batch_size_rows_count", counted)[("dnn",)] == 3
    assert of("perceptd_batch_size_rows_sum", counted)[("dnn",)] == 5
    assert counted["perceptd_batch_size_rows_bucket", "1.0", "dnn"] == 2
    assert counted["perceptd_batch_size_rows_bucket", "2.0", "dnn"] == 2
    assert counted["perceptd_batch_size_rows_bucket", "4.0", "dnn"] == 3
    assert counted["perceptd_queue_wait_seconds_count", "dnn"] == 3
    assert counted["perceptd_compute_seconds_count", "dnn"] == 3
    waited, computed, took = (
        counted[name, *labels]
        for name, *labels in (
            ("perceptd_queue_wait_seconds_sum", "dnn"),
            ("perceptd_compute_seconds_sum", "dnn"),
            (f"{DURATION}_sum", "POST", "dnn", "/predict"),
        )
    )
    assert 0 < waited < 60
    assert 0 < computed < 60
    assert 0 < took < 60
    assert of("perceptd_feedback_rows_total", counted) == {("xor",): 2}


def test_labels_stay_few_whatever_is_asked(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    client = as_admin(serve(Settings(data_dir=tmp_path, admin_token=TOKENS["admin_token"])))
    before = asked(client)
    for _ in range(20):
        made_up = str(uuid4())
        client.get(f"/{uuid4()}/{uuid4()}")
        client.get(f"/models/{uuid4()}")
        client.request("PROPFIND", f"/{uuid4()}")
        client.request("DELETE", "/predict")
        client.post("/predict", json={"model": made_up, "inputs": [[0, 0]]})
        client.post("/predict", json={"model": "dnn", "version": 77, "inputs": [[0, 0]]})
        client.post(f"/v2/models/{made_up}/versions/5/infer", json={})
        client.post("/feedback", json={"model": made_up, "inputs": [[0, 0]], "labels": ["0"]})
    counted = asked(client)
    requests = of(REQUESTS, counted)
    requests.pop(("200", "GET", "", "/metrics", ""))
    assert requests == {
        ("404", "GET", "", "other", ""): 20,
        ("404", "GET", "", "/models/{model}", ""): 20,
        ("404", "other", "", "other", ""): 20,
        ("405", "DELETE", "", "/predict", ""): 20,
        ("404", "POST", "", "/predict", ""): 40,
        ("404", "POST", "", "/v2/models/{model}/versions/{version}/infer", ""): 20,
        ("404", "POST", "", "/feedback", ""): 20,
    }
    new = {key[0] for key in counted.keys() - before.keys()}
    assert new <= {REQUESTS, *(f"{DURATION}_{part}" for part in ("bucket", "count", "sum"))}


def test_a_request_over_several_batches_waits_once(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    client = serve(Settings(data_dir=tmp_path, max_batch_size=4))
    client.post("/predict", json={"model": "dnn", "inputs": [[0, 0]] * 10}).raise_for_status()
    counted = asked(client)
    assert counted["perceptd_batch_size_rows_count", "dnn"] == 3
    assert counted["perceptd_compute_seconds_count", "dnn"] == 3
    assert counted["perceptd_queue_wait_seconds_count", "dnn"] == 1
    assert counted["perceptd_rows_total", "dnn", "1"] == 10


def test_a_request_that_ends_during_its_second_batch_waited_once() -> None:
    metrics = Metrics()
    waiting: list[PendingRequest] = []

    def run(rows: Rows) -> Answer:
        if len(ran) == 1:
            waiting[0].ended = True  # its deadline passes meanwhile
        return Answer(
            np.zeros(len(rows), dtype=np.int64), np.ones((len(rows), 2), dtype=np.float32)
        )

    async def ask() -> None:
        batcher = Batcher(
            run,
            None,
            max_batch_size=2,
            max_batch_time_s=0,
            max_queue_size=100,
            observers=[metrics.observer("dnn", 1), ran.append],
        )
        rows = np.zeros((6, 2), dtype=np.float32)
        waiting.append(batcher.enqueue(rows, lambda outcome: None, Caller()))
        await batcher.submit(rows[:1], Caller())

    ran: list[BatchResult] = []
    asyncio.run(ask())
    assert len(ran) == 2
    counted = figures(metrics.render().decode())
    assert counted["perceptd_batch_size_rows_count", "dnn"] == 2
    assert counted["perceptd_queue_wait_seconds_count", "dnn"] == 2  # that one's, and the other's


def test_a_swap_is_counted_and_the_version_of_before_is_let_go(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    client = as_admin(serve(Settings(data_dir=tmp_path, admin_token=TOKENS["admin_token"])))
    perceptd("models", "add", PRETRAINED / "xor", data_dir=tmp_path)
    client.put("/models/xor/aliases/production", json={"version": 2}).raise_for_status()
    assert of("perceptd_swaps_total", asked(client)) == {("xor",): 1}

    def serving() -> set[tuple[str, ...]]:
        return {key for key in of("perceptd_version_in_production", asked(client)) if "xor" in key}

    eventually(lambda: serving() == {("xor", "2")})
    assert asked(client)["perceptd_version_loaded", "xor", "2"] == 1


def test_two_applications_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.request("GET", "/models", 200, 0.1)
    assert (REQUESTS, "200", "GET", "", "/models", "") in figures(one.render().decode())
    assert figures(other.render().decode()) == {}


def test_a_duration_is_in_the_bucket_of_its_limit() -> None:
    metrics = Metrics()
    for seconds in (0.00001, 0.001, 0.0011, 3600):
        metrics.request("GET", "/models", 200, seconds)
    counted = figures(metrics.render().decode())
    limits = [str(limit) for limit in families.SECONDS] + ["+Inf"]
    below = [counted[f"{DURATION}_bucket", limit, "GET", "", "/models"] for limit in limits]
    assert below == [1, 1, 1, 1, 2, *[3] * 12, 4]
    assert counted[f"{DURATION}_count", "GET", "", "/models"] == 4
    assert counted[f"{DURATION}_sum", "GET", "", "/models"] == pytest.approx(3600.00211)


class Answers(Collector):
    """A collector that knows one figure."""

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("perceptd_answers", "To everything.", 42)


class Broken(Collector):
    def collect(self) -> Iterator[Metric]:
        yield from Answers().collect()
        raise ValueError("no more")


def test_a_collector_tells_its_figures_beside_those_that_are_counted() -> None:
    metrics = Metrics()
    metrics.register(Answers())
    metrics.connection_closed("slow")
    metrics.connection_closed("slow")
    assert figures(metrics.render().decode()) == {
        ("perceptd_answers",): 42,
        ("perceptd_connections_closed_total", "slow"): 2,
    }


def test_a_collector_that_fails_holds_back_no_other(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    metrics.register(Broken())
    metrics.connection_closed("slow")
    assert figures(metrics.render().decode()) == {
        ("perceptd_connections_closed_total", "slow"): 1,
    }
    assert "no more" in caplog.text


def test_whoever_reads_them_needs_the_token_for_reads(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    client = serve(Settings(data_dir=tmp_path, **TOKENS))
    assert problem(client.get("/metrics")) == (401, "unauthorized")
    assert client.get("/metrics", headers=AS_PREDICTOR).status_code == 200


def test_what_a_process_is_and_whether_it_is_ready(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    client = serve(Settings(data_dir=tmp_path))
    eventually(lambda: asked(client)["perceptd_event_loop_lag_seconds_count",] >= 2)
    counted = asked(client)
    pid = str(os.getpid())
    assert of("perceptd_ready", counted) == {(pid,): 1}
    assert of("perceptd_draining", counted) == {(pid,): 0}
    assert of("perceptd_version_in_production", counted).keys() == {
        (folder.parent.name, "1") for folder in PRETRAINED.glob("*/meta.json")
    }
    assert of("perceptd_queue_rows", counted)[("dnn",)] == 0
    assert of("perceptd_queue_limit_rows", counted)[("dnn",)] == 8192
    assert of("process_resident_memory_bytes", counted)[(pid,)] > 20e6
    assert of("process_cpu_seconds_total", counted)[(pid,)] > 0
    assert of("process_open_fds", counted)[(pid,)] > 3
    assert abs(of("process_start_time_seconds", counted)[(pid,)] - time.time()) < 86_400
    ((device, python, runtime, version),) = of("perceptd_build_info", counted)
    assert (device, runtime) == ("cpu", "onnx")
    assert python.count(".") == version.count(".") == 2


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path, PERCEPTD_PROCESSES="2", PERCEPTD_WORKERS="0")
    yield served
    served.end()


def test_a_process_that_drains_is_not_ready(tmp_path: Path) -> None:
    served = Served(tmp_path, PERCEPTD_PROCESSES="1", PERCEPTD_WORKERS="0", PERCEPTD_DRAIN_S="600")
    try:
        with httpx.Client(base_url=served.url) as client:
            served.process.send_signal(signal.SIGTERM)
            pid = str(served.process.pid)
            eventually(lambda: of("perceptd_draining", asked(client)) == {(pid,): 1})
            assert of("perceptd_ready", asked(client)) == {(pid,): 0}
    finally:
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
            said[REQUESTS, str(answer.status_code), "POST", "xor", "/predict", "1"] += 1
            said[f"{DURATION}_count", "POST", "xor", "/predict"] += 1
            said["perceptd_rows_total", "xor", "1"] += turn
            said["perceptd_batch_size_rows_sum", "xor"] += turn
            said["perceptd_batch_size_rows_count", "xor"] += 1
            said["perceptd_queue_wait_seconds_count", "xor"] += 1
            said["perceptd_compute_seconds_count", "xor"] += 1

    def all_told() -> Counted:
        with httpx.Client(base_url=url) as client:
            return asked(client)

    def counted() -> Counted:
        return {key: count for key, count in all_told().items() if key in said}

    def living() -> set[int]:
        """The processes that are told of, each with all that is to be told of it."""
        told = all_told()
        ready = {int(pid) for (pid,) in of("perceptd_ready", told)}
        assert of("perceptd_version_loaded", told)[("xor", "1")] in (0, len(ready))
        assert {int(pid) for (pid,) in of("process_resident_memory_bytes", told)} == ready
        return ready

    ask(30)
    eventually(lambda: counted() == said)  # a batch is counted after its answers are sent
    first, second = served.server(1), served.server(2)
    assert living() == {first, second}
    os.kill(first, signal.SIGKILL)
    ask(10)
    eventually(lambda: counted() == said)
    eventually(lambda: living() == {second, served.server(3)})
    asking = threading.Thread(target=ask, args=(60,))
    asking.start()
    before = counted()
    while asking.is_alive():  # whichever is asked, no figure ever goes down
        now = counted()
        assert all(now[key] >= value for key, value in before.items())
        before = now
    asking.join()
    eventually(lambda: counted() == said)
    assert said[REQUESTS, "200", "POST", "xor", "/predict", "1"] == 100
    assert sum(of(REQUESTS, all_told()).values()) > 100
    (folder,) = served.folder.glob("perceptd-metrics-*")
    assert not list(folder.glob(f"{first}-*"))
