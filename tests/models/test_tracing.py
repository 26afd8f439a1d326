"""When traces are on, and which settings are refused."""

import pytest

from perceptd.models import tracing

HERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_tracing_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*tracing.ENDPOINTS, *tracing.PROTOCOLS, "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": HERE}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": HERE}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": HERE, "OTEL_SDK_DISABLED": "True"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": HERE, "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_traces_are_wanted_where_a_collector_is_named(
    variables: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tracing.is_wanted() == wanted
    tracing.check()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "here:4318", "expected a URL such as .*, got 'here:4318'"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "expected http/protobuf, got 'grpc'"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "expected otlp or none, got 'zipkin'"),
    ],
)
def test_unsupported_setting_is_refused(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", HERE)
    monkeypatch.setenv(name, value)
    with pytest.raises(tracing.TracingError, match=f"{name}: {said}"):
        tracing.check()


def test_without_a_collector_no_span_is_made() -> None:
    tracing.start("server")
    with tracing.span("job", job=1):
        assert tracing.provider() is None
        assert tracing.traceparent() is None
        assert dict(tracing.environment()) == dict(tracing.ids()) == {}
        tracing.failed("ignored")
    tracing.stop()
