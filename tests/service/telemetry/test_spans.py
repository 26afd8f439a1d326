"""The spans of real servers and workers, as a collector receives them."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.collector import ERROR, Collector, Span, collecting, hanging
from tests.server import free_port, serving
from tests.service.admin import ADMIN, AS_ADMIN
from tests.service.served import Served
from tests.waiting import eventually

TRACE, PARENT = "0af7" * 8, "b7ad" * 4
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
SLOW_PATH = {"X-Request-Timeout-Ms": "60000"}  # a header that the fast path does not take
DNN = {"model": "dnn", "inputs": [[0.1, -0.2], [0.3, 0.4]]}
JOB = {"model": "xor", "epochs": 3, "seed": 1, "gate": "always"}
FAILING = {"model": "mnist-mlp", "dataset": "mnist", "epochs": 1}
NO_MNIST = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
NO_MNIST["no_proxy"] = "127.0.0.1"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def end(process: "subprocess.Popen[str]") -> float:
    """End a server, and return the seconds that takes."""
    since = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    return time.monotonic() - since


def shape(collector: Collector, span: Span) -> tuple[object, ...]:
    """The names of a span and of its descendants."""
    return (span.name, *sorted(shape(collector, child) for child in collector.children(span)))


NAMES = ("POST /predict", "queue")
ANSWERED = ("POST /predict", ("batch", ("runtime",)), ("queue",))


def test_a_prediction_is_traced_from_its_caller_to_the_runtime(
    collector: Collector, tmp_path: Path
) -> None:
    with serving(tmp_path, environment=collector.environment()) as (process, url):
        with httpx.Client(base_url=url) as client:
            client.post("/predict", json=DNN, headers=SAMPLED)
            client.post("/predict", json=DNN, headers={**SAMPLED, **SLOW_PATH})
            client.post("/predict", json=DNN, headers=NOT_SAMPLED)
            client.post("/predict", json=DNN, headers={**NOT_SAMPLED, **SLOW_PATH})
            client.post("/predict", json=DNN)
            client.post("/predict", json={"model": "none", "inputs": [[1]]})
            client.get("/health/ready")
            client.get("/metrics")
        expected = Counter({"POST /predict": 4, "queue": 3, "batch": 3, "runtime": 3})
        eventually(
            lambda: Counter(span.name for span in collector.spans) >= expected, "all spans arrive"
        )
        end(process)
    fast, slow, own, wrong = sorted(
        (span for span in collector.spans if span.name.startswith(("POST", "GET"))),
        key=lambda span: span.began_ns,
    )
    assert shape(collector, fast) == shape(collector, slow) == shape(collector, own) == ANSWERED
    assert dict(fast.attributes) == dict(slow.attributes)
    assert fast.attributes["http.route"] == "/predict"
    assert fast.attributes["http.response.status_code"] == 200
    assert wrong.attributes["http.response.status_code"] == 404
    assert [(one.trace_id, one.parent_id) for one in (fast, slow)] == 2 * [(TRACE, PARENT)]
    assert (own.parent_id, own.trace_id != TRACE) == ("", True)
    for request in (fast, slow, own):
        first, second = collector.children(request)
        queue, batch = (first, second) if first.name == "queue" else (second, first)
        assert batch.links == ((request.trace_id, request.span_id),)
        assert queue.links == ((batch.trace_id, batch.span_id),)
        assert (batch["model"], batch["version"], batch["rows"]) == ("dnn", 1, 2)
        (runtime,) = collector.children(batch)
        assert (runtime["runtime"], runtime["device"]) == ("onnx", "cpu")
        assert request.began_ns <= queue.began_ns <= queue.ended_ns == batch.began_ns
        assert runtime.began_ns <= runtime.ended_ns <= batch.ended_ns
    assert fast.resource["service.name"] == "perceptd"
    assert fast.resource["perceptd.role"] == "server"


@pytest.mark.reliability
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_batch_is_linked_with_each_of_its_requests(
    collector: Collector, tmp_path: Path, processes: str
) -> None:
    variables = {
        "PERCEPTD_PROCESSES": processes,
        "PERCEPTD_MAX_BATCH_TIME_MS": "300",
        "OTEL_SERVICE_NAME": "digits",
    }
    with serving(tmp_path, environment=collector.environment(**variables)) as (process, url):

        def ask(number: int) -> None:
            trace = f"{number + 1:032x}"
            headers = {"traceparent": f"00-{trace}-{PARENT}-01"}
            httpx.post(f"{url}/predict", json=DNN, headers=headers).raise_for_status()

        with ThreadPoolExecutor(32) as pool:
            list(pool.map(ask, range(32)))

        def are_complete() -> bool:
            linked = sum(len(batch.links) for batch in collector.named("batch"))
            return linked == 32 and {len(collector.named(name)) for name in NAMES} == {32}

        eventually(are_complete, "all spans arrive")
        end(process)
    requests = collector.named("POST /predict")
    batches = collector.named("batch")
    assert len({span.trace_id for span in requests}) == 32
    assert {span.resource["process.pid"] for span in requests} == {
        span.resource["process.pid"] for span in batches
    }
    assert len({span.resource["process.pid"] for span in requests}) == int(processes)
    assert {span.resource["service.name"] for span in requests} == {"digits"}
    linked = sorted(link for batch in batches for link in batch.links)
    assert linked == sorted((span.trace_id, span.span_id) for span in requests)
    assert max(len(batch.links) for batch in batches) > 1
    assert [len(batch.links) for batch in batches] == [batch["requests"] for batch in batches]
    queued = {span.parent_id: span.links for span in collector.named("queue")}
    for batch in batches:
        assert batch.parent_id in [span_id for _, span_id in batch.links]
        for _, span_id in batch.links:
            assert queued[span_id] == ((batch.trace_id, batch.span_id),)


@pytest.mark.reliability
def test_a_job_belongs_to_the_trace_of_its_request(collector: Collector, tmp_path: Path) -> None:
    served = Served(
        tmp_path,
        "--processes=1",
        **collector.environment(PERCEPTD_ADMIN_TOKEN=ADMIN, PERCEPTD_WORKERS="1", **NO_MNIST),
    )
    try:
        served.worker(1)
        headers = {**AS_ADMIN, **SAMPLED}
        asked = httpx.post(f"{served.url}/jobs", json=JOB, headers=headers).raise_for_status()
        httpx.post(f"{served.url}/jobs", json=FAILING, headers=headers).raise_for_status()
        for number in (asked.json()["id"], asked.json()["id"] + 1):
            address = f"{served.url}/jobs/{number}"
            eventually(
                lambda: httpx.get(address).json()["status"] in ("succeeded", "failed"),  # noqa: B023
                "the job ends",
                log=served.log,
            )
        log = served.log.read_text()
        eventually(
            lambda: len(collector.named("POST /jobs")) == len(collector.named("job")) == 2,
            "the spans of both jobs arrive",
        )
        end(served.process)  # type: ignore[arg-type]
    finally:
        served.end()
    first, second = sorted(collector.named("job"), key=lambda span: span["job"])
    request, _ = sorted(collector.named("POST /jobs"), key=lambda span: span.began_ns)
    assert {span.trace_id for span in (request, first, second)} == {TRACE}
    assert (first.parent_id, first["model"], first["attempt"]) == (request.span_id, "xor", 1)
    assert first.status != ERROR
    assert second.status == ERROR
    training = next(span for span in collector.children(first) if span.name == "training")
    assert len({span.resource["process.pid"] for span in (request, first, training)}) == 3
    assert training.resource["perceptd.role"] == "training"
    below = [span.name for span in collector.children(training)]
    assert below == ["epoch", "epoch", "epoch", "export", "plots"]
    assert [span["epoch"] for span in collector.children(training)[:3]] == [1, 2, 3]
    assert any(span.status == ERROR for span in collector.children(second))
    assert f'"job":{first["job"]},"model":"xor","attempt":1,"trace_id":"{TRACE}"' in log


@pytest.mark.reliability
def test_a_collector_that_is_away_or_hangs_delays_nothing(tmp_path: Path) -> None:
    with hanging() as hangs:
        for number, address in enumerate((hangs, f"http://127.0.0.1:{free_port()}")):
            folder = tmp_path / str(number)
            folder.mkdir()
            served = Served(
                folder,
                "--processes=1",
                PERCEPTD_ADMIN_TOKEN=ADMIN,
                PERCEPTD_WORKERS="1",
                OTEL_EXPORTER_OTLP_ENDPOINT=address,
                OTEL_BSP_SCHEDULE_DELAY="10",
                OTEL_BSP_MAX_QUEUE_SIZE="512",
                **NO_MNIST,
            )
            try:
                served.worker(1)
                with httpx.Client(base_url=served.url, timeout=30) as client:
                    answers = [client.post("/predict", json=DNN) for _ in range(1000)]
                    assert {answer.status_code for answer in answers} == {200}
                    asked = client.post("/jobs", json=JOB, headers=AS_ADMIN).raise_for_status()
                    client.post("/jobs", json=FAILING, headers=AS_ADMIN).raise_for_status()
                    job, failed = (f"/jobs/{asked.json()['id'] + more}" for more in (0, 1))
                    eventually(
                        lambda: client.get(failed).json()["status"] == "failed",  # noqa: B023
                        "the second job fails",
                        log=served.log,
                    )
                    assert client.get(job).json()["status"] == "succeeded"
                    assert "cannot be downloaded" in client.get(failed).json()["reason"]
                    assert "opentelemetry" not in str(client.get(failed).json()["log"])
                assert end(served.process) < 15  # type: ignore[arg-type] # the exporter has 10 s
            finally:
                served.end()


@pytest.mark.reliability
@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "here:4318"}, "expected a URL"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            "OTEL_EXPORTER_OTLP_PROTOCOL: expected http/protobuf, got 'grpc'",
        ),
    ],
)
def test_a_wrong_variable_ends_the_start_with_a_sentence(
    variables: dict[str, str], error: str, tmp_path: Path
) -> None:
    refused = run("-m", "perceptd", "serve", folder=tmp_path, **variables)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: ")
    assert error in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


WITHOUT = """
import sys
from importlib.abc import MetaPathFinder
class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from perceptd.__main__ import main
sys.argv = ["perceptd", "serve"]
main()
"""


@pytest.mark.reliability
def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path) -> None:
    address = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    refused = run("-c", WITHOUT, folder=tmp_path, **address)
    assert refused.returncode == 1
    assert refused.stderr == (
        "Error: OTEL_EXPORTER_OTLP_ENDPOINT is set, and traces need perceptd[telemetry] "
        "to be installed\n"
    )


IMPORTED = """
import sys, perceptd.service.app, perceptd.service.server
import perceptd.service.commands.worker, perceptd.training.run
from perceptd.models import tracing
tracing.start("server")
print(*sorted(name for name in sys.modules if name.startswith("opentelemetry.sdk")), sep="\\n")
"""


@pytest.mark.reliability
def test_without_traces_the_sdk_is_not_imported(tmp_path: Path) -> None:
    assert run("-c", IMPORTED, folder=tmp_path).stdout.strip() == ""
    disabled = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_SDK_DISABLED": "true",
    }
    assert run("-c", IMPORTED, folder=tmp_path, **disabled).stdout.strip() == ""


def run(*arguments: str, folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PERCEPTD_DATA_DIR": str(folder), **variables},
        timeout=60,
    )
