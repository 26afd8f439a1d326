"""The alert rules, the configuration and the dashboard of `deploy/`, on a real Prometheus."""

import json
import math
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from perceptd.service.telemetry.families import COLLECTED, COUNTED
from tests.server import free_port
from tests.service.admin import ADMIN, AS_ADMIN
from tests.service.served import Served
from tests.waiting import eventually

DEPLOY = Path(__file__).parent.parent / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "perceptd.json"
# Metrics and rules without values in this test, and why.
WITHOUT_SERIES = {
    "perceptd_connections_closed_total": "every connection of the test is closed by its client",
}
WITHOUT_VALUES = {"PerceptdRefusals": "no answer of the test has the status 429"}
NAME = re.compile(r"\b(?:perceptd|process)_\w+")
LIMIT = re.compile(r" (==|<|>) (?=[\d.])")
needs_prometheus = pytest.mark.prometheus


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def shown() -> dict[str, str]:
    """Each expression of the dashboard, with its variables replaced, and its title."""
    found = {}
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$instance", ".*").replace("$model", ".*")
            found[expression.replace("$__rate_interval", "30s")] = panel["title"]
    for annotation in dashboard()["annotations"]["list"]:
        expression = LIMIT.sub(r" \1 bool ", annotation["expr"].replace("$instance", ".*"))
        found[expression] = annotation["name"]
    return found


def alerts() -> dict[str, str]:
    """The expression of each rule."""
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def metric_of(name: str) -> str:
    """The metric that a series belongs to."""
    for suffix in ("_bucket", "_sum", "_count"):
        if (family := name.removesuffix(suffix)) in (known := {**COUNTED, **COLLECTED}):
            assert family == name or known[family].kind == "histogram", name
            return family
    return name


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    expressions = [*shown(), *alerts().values()]
    named = {metric_of(name) for one in expressions for name in NAME.findall(one)}
    elsewhere = {name for name in named if name.startswith("process_") or name in WITHOUT_SERIES}
    assert named - elsewhere == {*COUNTED, *COLLECTED} - WITHOUT_SERIES.keys()


def test_grafana_can_draw_the_dashboard() -> None:
    """Panels do not overlap, ids are unique, and the data source is provisioned."""
    found = dashboard()
    provisioned = DEPLOY / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioned / "datasources" / "prometheus.yml").read_text())
    (source,) = sources["datasources"]
    taken: set[tuple[int, int]] = set()
    for panel in found["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + dx, place["y"] + dy)
            for dx in range(place["w"])
            for dy in range(place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
            assert [target["refId"] for target in panel["targets"]] == ["A", "B", "C"][
                : len(panel["targets"])
            ]
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids)
    (provider,) = yaml.safe_load((provisioned / "dashboards" / "perceptd.yml").read_text())[
        "providers"
    ]
    compose = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())
    mounted = compose["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in mounted


def test_every_rule_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    firing: set[str] = set()
    silent: set[str] = set()
    for test in yaml.safe_load(RULES.with_name("alerts_test.yml").read_text())["tests"]:
        for check in test["alert_rule_test"]:
            (firing if check["exp_alerts"] else silent).add(check["alertname"])
    assert firing == silent == alerts().keys()


def required(program: str) -> str:
    if os.environ.get("PERCEPTD_TEST_PROMETHEUS") != "1":
        pytest.skip("takes half a minute: set PERCEPTD_TEST_PROMETHEUS=1")
    if not (found := shutil.which(program)):
        pytest.skip(f"{program} is not installed (Debian's package is prometheus)")
    return found


def promtool(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [required("promtool"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=DEPLOY / "prometheus")


@needs_prometheus
def test_promtool_accepts_the_configuration_and_the_rules_pass_their_tests(tmp_path: Path) -> None:
    checked = promtool("check", "config", "prometheus.yml")
    assert checked.returncode == 0, checked.stderr
    tested = promtool("test", "rules", "alerts_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr

    for path in RULES.parent.glob("alerts*.yml"):  # with other limits the tests fail
        text = LIMIT.sub(r" \1 7", path.read_text()) if path == RULES else path.read_text()
        (tmp_path / path.name).write_text(text)
    assert promtool("test", "rules", tmp_path / "alerts_test.yml").returncode == 1


class Prometheus:
    """A Prometheus that scrapes a server each second."""

    def __init__(self, folder: Path, target: str) -> None:
        program = required("prometheus")
        configuration = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
        assert "api:8000" in configuration
        configuration = configuration.replace("api:8000", target).replace(": 15s", ": 1s")
        (folder / "prometheus.yml").write_text(configuration)
        shutil.copy(RULES, folder)
        self.url = f"http://127.0.0.1:{free_port()}"
        with (folder / "prometheus.log").open("w") as log:
            self.process = subprocess.Popen(
                [
                    program,
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'series'}",
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                ],
                stdout=log,
                stderr=log,
            )

    def get(self, path: str, **parameters: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready").is_success
        except httpx.TransportError:
            return False

    def values(self, expression: str) -> list[float]:
        """The current values of an expression, without NaN."""
        series = self.get("query", query=expression)["result"]
        found = [float(one["value"][1]) for one in series]
        return [value for value in found if not math.isnan(value)]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It scrapes a server of two processes that predicts, swaps, trains and stores feedback."""
    required("prometheus")
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("served")
        served = Served(
            folder,
            PERCEPTD_PROCESSES="2",
            PERCEPTD_WORKERS="1",
            PERCEPTD_ADMIN_TOKEN=ADMIN,
        )
        stack.callback(served.end)
        url = served.url
        prometheus = Prometheus(folder, url.removeprefix("http://"))
        stack.callback(prometheus.process.wait)
        stack.callback(prometheus.process.kill)
        eventually(prometheus.is_ready, "Prometheus starts", log=folder / "prometheus.log")
        done = threading.Event()
        asking = threading.Thread(target=ask, args=(url, done))
        asking.start()
        stack.callback(asking.join)
        stack.callback(done.set)
        train(url)
        yield prometheus


def ask(url: str, done: threading.Event) -> None:
    """Requests of every kind, on new connections, so that both processes get some."""
    while not done.is_set():
        with httpx.Client(base_url=url, headers=AS_ADMIN, timeout=60) as client:
            for model in ("dnn", "xor", "perceptron"):
                inputs = [[1, -1]] * 30
                client.post("/predict", json={"model": model, "inputs": inputs})
            for model, row in (("mnist-cnn", [0] * 784), ("mnist-mlp", [0] * 784)):
                client.post("/predict", json={"model": model, "inputs": [row], "dtype": "uint8"})
            client.post("/feedback", json={"model": "dnn", "inputs": [[0, 0]], "labels": ["0"]})
            client.get("/nowhere")
            hurried = {"model": "mnist-cnn", "inputs": [[0] * 784] * 128, "dtype": "uint8"}
            client.post("/predict", json=hurried, headers={"X-Request-Timeout-Ms": "1"})
        done.wait(0.1)


def train(url: str) -> None:
    """Train a version that becomes production."""
    with httpx.Client(base_url=url, headers=AS_ADMIN, timeout=60) as client:
        body = {"model": "xor", "epochs": 10, "gate": "always"}
        number = client.post("/jobs", json=body).raise_for_status().json()["id"]

        def ended() -> bool:
            job = client.get(f"/jobs/{number}").raise_for_status().json()
            assert job["status"] not in ("failed", "cancelled"), job
            return bool(job["status"] == "succeeded")

        eventually(ended, "the job ends")


@needs_prometheus
def test_every_expression_of_the_dashboard_has_values(prometheus: Prometheus) -> None:
    swaps = "sum(increase(perceptd_swaps_total[30s]))"
    eventually(lambda: prometheus.values(swaps) != [], "a swap is scraped")
    expected = {one: title for one, title in shown().items() if not excused(one)}
    assert len(expected) > 40

    def missing() -> dict[str, str]:
        return {one: title for one, title in expected.items() if not prometheus.values(one)}

    eventually(
        lambda: not missing() or not prometheus.values("up"), "nothing is missing", seconds=60
    )
    assert missing() == {}


@needs_prometheus
def test_every_rule_is_healthy_and_reads_metrics_that_have_values(prometheus: Prometheus) -> None:
    def health() -> dict[str, str]:
        (group,) = prometheus.get("rules")["groups"]
        return {rule["name"]: rule["health"] for rule in group["rules"]}

    eventually(lambda: health() == dict.fromkeys(alerts(), "ok"), "all rules are healthy")
    for name, expression in alerts().items():
        values, limits = LIMIT.subn(r" \1 bool ", expression)
        assert limits, name
        if name not in WITHOUT_VALUES and not excused(expression):
            eventually(partial(has_values, prometheus, values), f"{name} has values")


@needs_prometheus
def test_every_metric_of_the_server_is_scraped(prometheus: Prometheus) -> None:
    assert prometheus.values('up{job="perceptd"}') == [1]
    known = prometheus.get("label/__name__/values")
    scraped = {metric_of(name) for name in known if name.startswith("perceptd_")}
    assert {*COUNTED, *COLLECTED} - WITHOUT_SERIES.keys() <= scraped
    assert prometheus.values("count(perceptd_ready)") == [2]
    assert prometheus.values('perceptd_version_in_production{model="xor", version="2"}') == [2]


def has_values(prometheus: Prometheus, expression: str) -> bool:
    return bool(prometheus.values(expression))


def excused(expression: str) -> bool:
    """Whether an expression is known to have no values in this test."""
    return any(name in WITHOUT_SERIES for name in NAME.findall(expression))
