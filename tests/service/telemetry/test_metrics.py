"""The metrics of real servers, as Prometheus reads them."""

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
from perceptd.service.inference.pending import Caller
from perceptd.service.settings import Settings
from perceptd.service.store.repository import PRETRAINED
from perceptd.service.telemetry import families
from perceptd.service.telemetry.metrics import Metrics
from tests.command_line import perceptd
from tests.service.admin import TOKENS, as_admin
from tests.service.served import Served
from tests.waiting import eventually

Samples = dict[tuple[str, ...], float]
REQUESTS = "perceptd_http_requests_total"
DURATION = "perceptd_request_duration_seconds"


def samples(text: str) -> Samples:
    """Each sample by its name and the values of its labels, sorted by their names."""
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(client: httpx.Client) -> Samples:
    response = client.get("/metrics").raise_for_status()
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples(response.text)


def series(name: str, counted: Samples) -> Samples:
    """The samples of one name, by the values of their labels."""
    return {key[1:]: value for key, value in counted.items() if key[0] == name}


def test_every_answer_is_counted_by_its_route_and_version(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    admin = TOKENS["admin_token"]
    client = as_admin(serve(Settings(data_dir=tmp_path, max_body_bytes=1024, admin_token=admin)))
    client.post("/predict", json={"model": "dnn", "inputs": [[0, 0]] * 3})
    client.post("/predict", json={"model": "dnn", "inputs": [[0]]})
    client.post("/predict", json={"model": "dnn", "inputs": [[0, 0]] * 1000})  # not read
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
    counted = scrape(client)
    assert series(REQUESTS, counted) == {
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
    durations = series(f"{DURATION}_count", counted)
    assert durations["POST", "dnn", "/predict"] == 2
    assert durations["POST", "", "/predict"] == 2
    assert sum(durations.values()) == sum(series(REQUESTS, counted).values())
    assert series("perceptd_rows_total", counted)["dnn", "1"] == 5
    assert series("perceptd_batch_size_rows_count", counted)[("dnn",)] == 3
    assert series("perceptd_batch_size_rows_sum", counted)[("dnn",)] == 5
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
    assert series("perceptd_feedback_rows_total", counted) == {("xor",): 2}


def test_what_callers_make_up_adds_no_labels(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    client = as_admin(serve(Settings(data_dir=tmp_path, admin_token=TOKENS["admin_token"])))
    before = scrape(client)
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
    counted = scrape(client)
    requests = series(REQUESTS, counted)
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
    counted = scrape(client)
    assert counted["perceptd_batch_size_rows_count", "dnn"] == 3
    assert counted["perceptd_compute_seconds_count", "dnn"] == 3
    assert counted["perceptd_queue_wait_seconds_count", "dnn"] == 1
    assert counted["perceptd_rows_total", "dnn", "1"] == 10


def test_a_request_that_ends_during_its_second_batch_waited_once() -> None:
    metrics = Metrics()
    waiting: list[asyncio.Future[Answer]] = []

    def run(rows: Rows) -> Answer:
        if len(ran) == 1:
            waiting[0].cancel()  # its deadline passes
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
        waiting.append(batcher.submit(rows, Caller()))
        await batcher.submit(rows[:1], Caller())

    ran: list[BatchResult] = []
    asyncio.run(ask())
    assert len(ran) == 2
    counted = samples(metrics.render().decode())
    assert counted["perceptd_batch_size_rows_count", "dnn"] == 2
    assert counted["perceptd_queue_wait_seconds_count", "dnn"] == 2  # one per request


def test_a_swap_is_counted_and_the_previous_version_no_longer_shown(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    client = as_admin(serve(Settings(data_dir=tmp_path, admin_token=TOKENS["admin_token"])))
    perceptd("models", "add", PRETRAINED / "xor", data_dir=tmp_path)
    client.put("/models/xor/aliases/production", json={"version": 2}).raise_for_status()
    assert series("perceptd_swaps_total", scrape(client)) == {("xor",): 1}

    def serving() -> set[tuple[str, ...]]:
        found = series("perceptd_version_in_production", scrape(client))
        return {key for key in found if "xor" in key}

    eventually(lambda: serving() == {("xor", "2")}, "version 2 is in production")
    assert scrape(client)["perceptd_version_loaded", "xor", "2"] == 1


def test_two_applications_in_one_process_count_separately() -> None:
    one, other = Metrics(), Metrics()
    one.request("GET", "/models", 200, 0.1)
    assert (REQUESTS, "200", "GET", "", "/models", "") in samples(one.render().decode())
    assert samples(other.render().decode()) == {}


def test_a_duration_is_in_the_bucket_of_its_limit() -> None:
    metrics = Metrics()
    for seconds in (0.00001, 0.001, 0.0011, 3600):
        metrics.request("GET", "/models", 200, seconds)
    counted = samples(metrics.render().decode())
    limits = [str(limit) for limit in families.SECONDS] + ["+Inf"]
    below = [counted[f"{DURATION}_bucket", limit, "GET", "", "/models"] for limit in limits]
    assert below == [1, 1, 1, 1, 2, *[3] * 12, 4]
    assert counted[f"{DURATION}_count", "GET", "", "/models"] == 4
    assert counted[f"{DURATION}_sum", "GET", "", "/models"] == pytest.approx(3600.00211)


class Answer42(Collector):
    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("perceptd_answers", "A test.", 42)


class Broken(Collector):
    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("perceptd_broken", "A test.", 1)
        raise ValueError("cannot go on")


def test_a_collector_that_fails_leaves_the_other_metrics(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    metrics.register(Broken())
    metrics.register(Answer42())
    metrics.connection_closed("slow")
    metrics.connection_closed("slow")
    assert samples(metrics.render().decode()) == {
        ("perceptd_answers",): 42,
        ("perceptd_connections_closed_total", "slow"): 2,
    }
    assert "cannot go on" in caplog.text


def test_a_process_reports_its_state_and_resources(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    client = serve(Settings(data_dir=tmp_path))
    lag = "perceptd_event_loop_lag_seconds_count"
    eventually(lambda: scrape(client)[lag,] >= 2, "two samples are taken")
    counted = scrape(client)
    pid = str(os.getpid())
    assert series("perceptd_ready", counted) == {(pid,): 1}
    assert series("perceptd_draining", counted) == {(pid,): 0}
    assert series("perceptd_version_in_production", counted).keys() == {
        (folder.parent.name, "1") for folder in PRETRAINED.glob("*/meta.json")
    }
    assert series("perceptd_queue_rows", counted)[("dnn",)] == 0
    assert series("perceptd_queue_limit_rows", counted)[("dnn",)] == 8192
    assert series("process_resident_memory_bytes", counted)[(pid,)] > 20e6
    assert series("process_cpu_seconds_total", counted)[(pid,)] > 0
    assert series("process_open_fds", counted)[(pid,)] > 3
    assert abs(series("process_start_time_seconds", counted)[(pid,)] - time.time()) < 86_400
    ((device, python, runtime, version),) = series("perceptd_build_info", counted)
    assert (device, runtime) == ("cpu", "onnx")
    assert python.count(".") == version.count(".") == 2


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path, PERCEPTD_PROCESSES="2", PERCEPTD_WORKERS="0")
    yield served
    served.end()


def test_a_process_that_shuts_down_is_not_ready(tmp_path: Path) -> None:
    served = Served(tmp_path, PERCEPTD_PROCESSES="1", PERCEPTD_WORKERS="0", PERCEPTD_DRAIN_S="600")
    try:
        with httpx.Client(base_url=served.url) as client:
            served.process.send_signal(signal.SIGTERM)
            pid = str(served.process.pid)
            eventually(
                lambda: series("perceptd_draining", scrape(client)) == {(pid,): 1},
                "the process shuts down",
                log=served.log,
            )
            assert series("perceptd_ready", scrape(client)) == {(pid,): 0}
    finally:
        served.end()


@pytest.mark.faults
def test_the_counters_of_several_processes_are_summed_and_survive_a_kill(served: Served) -> None:
    url = served.url
    expected = Counter[tuple[str, ...]]()

    def ask(count: int) -> None:
        """A connection per request, so that every process gets some. The nth one has n rows."""
        for number in range(1, count + 1):
            rows = [[1, -1]] * number
            body = {"model": "xor", "inputs": rows}
            answer = httpx.post(
                f"{url}/predict", json=body, timeout=60
            )  # until a process is replaced
            expected[REQUESTS, str(answer.status_code), "POST", "xor", "/predict", "1"] += 1
            expected[f"{DURATION}_count", "POST", "xor", "/predict"] += 1
            expected["perceptd_rows_total", "xor", "1"] += number
            expected["perceptd_batch_size_rows_sum", "xor"] += number
            expected["perceptd_batch_size_rows_count", "xor"] += 1
            expected["perceptd_queue_wait_seconds_count", "xor"] += 1
            expected["perceptd_compute_seconds_count", "xor"] += 1

    def scraped() -> Samples:
        with httpx.Client(base_url=url) as client:
            return scrape(client)

    def counted() -> Samples:
        return {key: count for key, count in scraped().items() if key in expected}

    def processes() -> set[int]:
        """The pids that the metrics name; none while one of them is still starting."""
        found = scraped()
        ready = {int(pid) for (pid,) in series("perceptd_ready", found)}
        measured = {int(pid) for (pid,) in series("process_resident_memory_bytes", found)}
        is_loaded = series("perceptd_version_loaded", found)[("xor", "1")] in (0, len(ready))
        return ready if is_loaded and measured == ready else set()

    def wait_for_counts() -> None:
        """A batch is counted after its answers are sent."""
        eventually(lambda: counted() == expected, "all answers are counted", log=served.log)

    ask(30)
    wait_for_counts()
    first, second = served.server(1), served.server(2)
    assert processes() == {first, second}
    os.kill(first, signal.SIGKILL)
    ask(10)
    wait_for_counts()
    third = served.server(3)
    eventually(lambda: processes() == {second, third}, "the new process counts", log=served.log)
    asking = threading.Thread(target=ask, args=(60,))
    asking.start()
    before = counted()
    while asking.is_alive():  # no counter ever decreases, whichever process answers
        now = counted()
        assert all(now[key] >= value for key, value in before.items())
        before = now
    asking.join()
    wait_for_counts()
    assert expected[REQUESTS, "200", "POST", "xor", "/predict", "1"] == 100
    assert sum(series(REQUESTS, scraped()).values()) > 100
    (folder,) = served.folder.glob("perceptd-metrics-*")
    assert not list(folder.glob(f"{first}-*"))
