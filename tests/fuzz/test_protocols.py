"""Mutated bodies of both protocols: all readers agree, and each caller gets its own answer."""

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perceptd.models.preprocessing import from_numbers
from perceptd.service.inference.decoder import Decoder
from perceptd.service.schemas.requests import PredictRequest, RequestSchemas
from tests.fuzz.amounts import counted, tries
from tests.fuzz.known import undisturbed
from tests.fuzz.requests import JSON, NATIVE, SPECS, bent, mutated, request
from tests.fuzz.target import Response, Target, responses

pytestmark = pytest.mark.fuzz

AT_ONCE = 10
SMALL = ("dnn", "xor")  # models with short bodies, so that mutations hit something


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


@st.composite
def small_bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A valid body for a 2-D model, with or without the optional fields."""
    row = st.lists(st.floats(-3, 3, width=32) | st.integers(-3, 3), min_size=2, max_size=2)
    body: dict[str, Any] = {
        "model": draw(st.sampled_from(SMALL)),
        "inputs": draw(st.lists(row, min_size=1, max_size=4)),
    }
    if draw(st.booleans()):
        body["dtype"] = draw(st.sampled_from(("float32", "uint8")))
    if draw(st.booleans()):
        body["version"] = draw(st.sampled_from((1, 1.0, None, 2, 10**30)))
    return body


@st.composite
def pictures(draw: st.DrawFn) -> dict[str, Any]:
    """A body for a picture model, flat or nested, with a few unusual pixels."""
    flat: list[Any] = [0] * 784
    for _ in range(draw(st.integers(0, 4))):
        flat[draw(st.integers(0, 783))] = draw(
            st.sampled_from([0, 1, 255, 256, -1, 0.5, 1.0, 1.5, 255.0, 1e-9, "1", True, None])
        )
    rows = [flat[at : at + 28] for at in range(0, 784, 28)]
    form = draw(st.sampled_from([flat, rows, [rows], flat[1:], [*flat, 0], rows[1:]]))
    return {
        "model": draw(st.sampled_from(("mnist-cnn", "mnist-mlp"))),
        "inputs": [form] * draw(st.integers(1, 2)),
        "dtype": draw(st.sampled_from(("uint8", "float32"))),
    }


native = st.one_of(
    bent(small_bodies()).map(as_json),
    bent(pictures()).map(as_json),
    mutated(st.sampled_from([NATIVE["dnn"], NATIVE["xor"]])),
    mutated(small_bodies().map(as_json)),
)


def test_simdjson_takes_nothing_that_pydantic_refuses_and_reads_the_same() -> None:
    decoder = Decoder(SPECS, 1024)
    schemas = RequestSchemas(SPECS, {}, 1024)
    with counted() as count:

        @tries(1500)
        @given(native)
        def attack(body: bytes) -> None:
            count.inputs += 1
            decoded = decoder.decode(body)
            if decoded is None:
                return
            asked = schemas.parse(body, PredictRequest)  # raises where it refuses
            assert (asked.model, asked.version) == (decoded.model, decoded.version)
            spec = SPECS[decoded.model].input
            rows = from_numbers(spec, asked.inputs, asked.dtype)
            assert rows.tobytes() == decoded.rows.tobytes()

        attack()


def test_the_fast_path_answers_as_the_router_does(target: Target) -> None:
    raw = ("Content-Type", "application/octet-stream")
    asked = st.one_of(
        st.tuples(st.sampled_from(("/predict", "/predict_proba")), st.just(JSON), native),
        st.tuples(
            st.sampled_from(
                ["/predict/image", "/predict/image?model=mnist-mlp", "/predict/image?model=dnn",
                 "/predict/image?model=", "/predict/image?model", "/predict/image?mod%65l=xor",
                 "/predict/image?model=mnist%2Dmlp", "/predict/image?model=a&model=mnist-mlp",
                 "/predict?model=xor", "/predict/image?pixels=true", "/predict/image?x=1"]
            ),
            st.just(raw),
            st.binary(max_size=4) | st.just(bytes(784)) | st.binary(min_size=784, max_size=784),
        ),
    )  # fmt: skip
    with counted() as count, undisturbed(target):

        @tries(200)
        @given(st.lists(asked, min_size=4, max_size=AT_ONCE))
        def attack(requests: list[tuple[str, tuple[str, str], bytes]]) -> None:
            count.inputs += len(requests)
            close = ("Connection", "close")
            ways = []
            with target.connect() as fast, target.connect() as router:
                for connection, extra in (
                    (fast, []),
                    (router, [("X-Request-Timeout-Ms", "600000")]),
                ):
                    for number, (path, kind, body) in enumerate(requests):
                        connection.sendall(
                            request(path, body, [kind, *extra, ("X-Request-ID", f"r{number}")])
                        )
                    connection.sendall(request("/health/live", headers=[close]))
                for connection in (fast, router):
                    answer = b""
                    while data := connection.recv(2**16):
                        answer += data
                    ways.append(responses(answer))
            for sent, one, other in zip(requests, *ways, strict=False):
                assert one.status < 500, sent
                assert same(one) == same(other), sent
            assert len(ways[0]) == len(ways[1]) == len(requests) + 1

        attack()


def same(response: Response) -> Any:
    """What two answers to one request have in common: all but last digits and the date."""
    headers = {name: value for name, value in response.headers.items() if name not in SHIFTING}
    try:
        return response.status, headers, rounded(json.loads(response.body))
    except ValueError:
        return response.status, headers, response.body


SHIFTING = (b"date", b"content-length")


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return {k: rounded(v) for k, v in value.items()} if isinstance(value, dict) else value


@st.composite
def inferences(draw: st.DrawFn) -> tuple[str, dict[str, Any], bytes]:
    """A valid request of the Open Inference Protocol: model, JSON and the bytes after it."""
    model = draw(st.sampled_from(SMALL))
    count = draw(st.integers(1, 3))
    numbers = draw(st.lists(st.floats(-3, 3, width=32), min_size=2 * count, max_size=2 * count))
    tensor: dict[str, Any] = {"name": "x", "shape": [count, 2], "datatype": "FP32"}
    behind = b""
    if draw(st.booleans()):
        behind = struct.pack(f"<{2 * count}f", *numbers)
        tensor["parameters"] = {"binary_data_size": len(behind)}
    else:
        tensor["data"] = numbers
    asked: dict[str, Any] = {"inputs": [tensor]}
    if draw(st.booleans()):
        asked["id"] = draw(st.text(max_size=5))
    if draw(st.booleans()):
        parameters = draw(st.sampled_from([{}, {"classification": 1}, {"binary_data": True}]))
        asked["outputs"] = [{"name": "probabilities", "parameters": parameters}]
    if draw(st.booleans()):
        asked["parameters"] = {"binary_data_output": draw(st.booleans())}
    return model, asked, behind


@st.composite
def bent_inferences(draw: st.DrawFn) -> tuple[str, bytes, str | None]:
    """Path, body and length header of a request; some of them are wrong."""
    model, asked, behind = draw(inferences())
    text = as_json(draw(bent(st.just(asked))))
    if draw(st.integers(0, 4)) == 0:
        text = draw(mutated(st.just(text)))
    if draw(st.integers(0, 4)) == 0:
        behind = draw(mutated(st.just(behind)))
    length: Any = len(text) if behind or draw(st.booleans()) else None
    if length is not None and draw(st.integers(0, 5)) == 0:
        length = draw(st.sampled_from([length + 1, -1, 0, 10**30, "x", "", "\u00b2", "1_0", "+1"]))
    version = draw(
        st.sampled_from(["", "", "/versions/1", "/versions/0", "/versions/99", "/versions/x"])
    )
    name = draw(st.sampled_from([model, model, model, "mnist-cnn", "nobody", "%00", ".."]))
    return (
        f"/v2/models/{name}{version}/infer",
        text + behind,
        None if length is None else str(length),
    )


def test_bent_requests_of_the_open_inference_protocol_are_answered_or_refused(
    target: Target,
) -> None:
    with counted() as count, undisturbed(target):

        @tries(200)
        @given(st.lists(bent_inferences(), min_size=3, max_size=AT_ONCE))
        def attack(asked: list[tuple[str, bytes, str | None]]) -> None:
            count.inputs += len(asked)
            with target.connect() as connection:
                for path, body, length in asked:
                    headers = [JSON] if length is None else [
                        ("Content-Type", "application/octet-stream"),
                        ("Inference-Header-Content-Length", length),
                    ]  # fmt: skip
                    connection.sendall(request(path, body, headers))
                connection.sendall(request("/health/live", headers=[("Connection", "close")]))
                answer = b""
                while data := connection.recv(2**16):
                    answer += data
            answered = responses(answer)
            assert len(answered) == len(asked) + 1
            for sent, response in zip(asked, answered, strict=False):
                assert response.status in (200, 400, 404), (sent, response)
                if response.status == 200:
                    whole(response)
                else:
                    assert json.loads(response.body).keys() == {"error"}, response

        attack()


def whole(response: Response) -> None:
    """Assert that an answer has the bytes that its JSON declares."""
    length = int(response.headers.get(b"inference-header-content-length", len(response.body)))
    told = json.loads(response.body[:length])
    sizes = [one.get("parameters", {}).get("binary_data_size", 0) for one in told["outputs"]]
    assert length + sum(sizes) == len(response.body), response
