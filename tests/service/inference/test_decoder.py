"""A body that the decoder takes has the same rows by pydantic and fits the published schema."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from numpy.testing import assert_array_equal

from perceptd.models import registry
from perceptd.models.preprocessing import from_numbers
from perceptd.models.spec import Example, InputSpec, ModelSpec
from perceptd.service.errors import PerceptdError
from perceptd.service.inference import decoder
from perceptd.service.inference.decoder import Decoder
from perceptd.service.schemas.requests import PredictRequest, RequestSchemas, example_of

GRID = ModelSpec(
    description="Rows of two by three.",
    input=InputSpec(shape=(2, 3), minimum=-1, maximum=1),
    labels=("no", "yes"),
    head="sigmoid",
    example=Example(inputs=[[[0, 0.5, 1], [-1, 0, 0]]]),
)
SPECS = {name: registry.load(name).spec for name in registry.BUILT_IN} | {"grid": GRID}
MAX_ROWS = 3
SCHEMAS = RequestSchemas(SPECS, {}, MAX_ROWS)
DECODER = Decoder(SPECS, MAX_ROWS)
CLASSES = SCHEMAS.classes(PredictRequest)
PUBLISHED = Draft202012Validator(
    {
        "oneOf": [made.model_json_schema(ref_template="#/$defs/{model}") for made in CLASSES],
    }
)

TOKENS = (
    *("0", "-0", "1", "0.5", "0.25e0", "1E-3", "5.0", "255", "255.0", "256", "-1", "1e5", "0.1"),
    *("3.4028234663852886e38", "3.5e38", "1e39", "1e400", "5e-324", "18446744073709551616"),
    *("9" * 40, "9" * 400, "NaN", "Infinity", "-Infinity", "01", "1.", ".5", "-", "+1", "0x1"),
    *("true", "null", '"1"', "[]", "[1]", "[0.5]", "{}", '{"a": 1}', "[[", "]", ""),
)
DTYPES = ('"float32"', '"uint8"', "null", '"int8"', '"\\u0075int8"', "1", '["uint8"]')
VERSIONS = ("1", "7", "1.0", "0", "-1", "1.5", "true", "null", '"1"', "[1]", "9" * 30)
NAMES = (*(json.dumps(name) for name in SPECS), '"\\u0064nn"', '"d[n"', "null", "3", '["dnn"]')
FIELDS = ("model", "inputs", "dtype", "version", "input", "inputs[", "\\u0069nputs")


def rarely(draw: st.DrawFn) -> bool:
    return not draw(st.integers(0, 15))


def number(draw: st.DrawFn) -> str:
    if rarely(draw):
        return draw(st.sampled_from(TOKENS) | st.floats().map(json.dumps))
    return draw(st.sampled_from(("0", "1", "-0", "0.5", "1E-3", "0.25e0")))


def nested(draw: st.DrawFn, shape: tuple[int, ...]) -> str:
    """JSON of an array of that shape, sometimes with a mistake or two."""
    length = shape[0] + (draw(st.sampled_from([-1, 1])) if rarely(draw) else 0)
    if len(shape) > 1:
        parts = [nested(draw, shape[1:]) for _ in range(length)]
    elif length > 100:  # a picture: one number for all, another for one at most
        parts = [draw(st.sampled_from(["0.5", "0", "1", "0.1234"]))] * length
        if rarely(draw):
            parts[draw(st.integers(0, length - 1))] = number(draw)
    else:
        parts = [number(draw) for _ in range(length)]
    return f"[{f'{space(draw)},{space(draw)}'.join(parts)}]"


def space(draw: st.DrawFn) -> str:
    if rarely(draw):
        return draw(st.sampled_from(["\x0b", "/**/", ","]))
    return draw(st.sampled_from(["", " ", "\n", "\t", "\r\n"]))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A body that is valid, nearly valid or invalid."""
    name = draw(st.sampled_from(sorted(SPECS)))
    spec = SPECS[name].input
    shapes = [(spec.size,), spec.picture] if spec.picture else [spec.shape]
    usual = draw(st.sampled_from(shapes))
    count = draw(st.integers(1, MAX_ROWS)) if not rarely(draw) else draw(st.sampled_from([0, 4]))
    rows = [
        nested(draw, draw(st.sampled_from([*shapes, (2,)])) if rarely(draw) else usual)
        for _ in range(count)
    ]
    model = draw(st.sampled_from(NAMES)) if rarely(draw) else json.dumps(name)
    fields = [("model", model), ("inputs", f"[{space(draw)}{','.join(rows)}]")]
    if draw(st.booleans()):
        fields.append(("dtype", draw(st.sampled_from(DTYPES if rarely(draw) else DTYPES[:1]))))
    if draw(st.booleans()):
        fields.append(
            ("version", draw(st.sampled_from(VERSIONS if rarely(draw) else VERSIONS[:2])))
        )
    if rarely(draw):
        fields.append((draw(st.sampled_from(FIELDS)), draw(st.sampled_from(TOKENS))))
    fields = draw(st.permutations(fields))
    text = ",".join(f'{space(draw)}"{key}"{space(draw)}:{value}' for key, value in fields)
    end = draw(st.sampled_from([" ", "x", "{}", "\x00", "\xff"])) if rarely(draw) else ""
    start = draw(st.sampled_from(["\ufeff", " ", "["])) if rarely(draw) else ""
    return f"{start}{{{text}}}{end}".encode()


def parsed(body: bytes) -> tuple[str, int | None, np.ndarray[Any, Any]] | None:
    """Model, version and rows by pydantic; None if it refuses the body."""
    try:
        request = SCHEMAS.parse(body, PredictRequest)
    except PerceptdError:
        return None
    spec = SPECS[request.model].input
    return request.model, request.version, from_numbers(spec, request.inputs, request.dtype)


def agree(body: bytes) -> bool:
    """Whether the decoder takes a body; if so, asserts that pydantic reads the same."""
    decoded = DECODER.decode(body)
    if decoded is None:
        return False
    reference = parsed(body)
    assert reference is not None, body
    assert (decoded.model, decoded.version) == reference[:2]
    assert decoded.rows.dtype == np.float32
    assert_array_equal(decoded.rows, reference[2], strict=True)
    return True


def refuse(constant: str) -> None:
    raise ValueError(constant)


@settings(deadline=None)
@given(bodies())
def test_pydantic_reads_the_same_from_what_it_takes(body: bytes) -> None:
    agree(body)
    assert agree(json.dumps(example_of("dnn", SPECS["dnn"])).encode())  # still works


@settings(deadline=None)
@given(bodies())
def test_pydantic_and_the_published_schema_take_the_same_bodies(body: bytes) -> None:
    try:
        content = json.loads(body.decode(), parse_constant=refuse)
    except ValueError:
        return
    assert (parsed(body) is not None) == PUBLISHED.is_valid(content), body


@settings(deadline=None)
@given(st.data())
def test_it_takes_every_usual_valid_body(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SPECS)))
    spec = SPECS[name].input
    low, high = (spec.minimum, spec.maximum) if spec.maximum is not None else (-1e30, 1e30)
    pixels = bool(spec.picture) and data.draw(st.booleans())
    values = st.integers(0, 255) if pixels else st.floats(low, high) | st.just(0)
    pool = data.draw(st.lists(values, min_size=4, max_size=12))
    shape = data.draw(st.sampled_from([spec.shape] if not spec.picture else [(784,), (28, 28)]))
    rows = data.draw(st.integers(1, MAX_ROWS))
    inputs = np.resize(np.array(pool, dtype=object), (rows, *shape)).tolist()
    body = {"model": name, "inputs": inputs, **({"dtype": "uint8"} if pixels else {})}
    if data.draw(st.booleans()):
        body["version"] = data.draw(st.integers(1, 1000))
    separators = data.draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    assert agree(json.dumps(body, separators=separators).encode())


@pytest.mark.parametrize("name", SPECS)
def test_it_takes_the_worked_example_of_every_model(name: str) -> None:
    assert agree(json.dumps(example_of(name, SPECS[name])).encode())


def test_rows_that_only_flatten_to_the_right_size_are_refused() -> None:
    """A count of numbers alone would miss these brackets."""
    for inputs in ("[[[1, 2], []]]", "[[1, 2], [[3, 4]]]", "[5, [[1, 2], 3]]", "[[[], [1, 2]]]"):
        assert DECODER.decode(f'{{"model": "dnn", "inputs": {inputs}}}'.encode()) is None
    picture = json.dumps([[0.5] * 783 + [[0.5]]])
    assert DECODER.decode(f'{{"model": "mnist-cnn", "inputs": {picture}}}'.encode()) is None


def test_large_bodies_are_read_by_parsers_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one for all others would keep the memory for the largest body."""
    body = b'{"model": "dnn", "inputs": [[1, 2]]' + b" " * decoder.LARGE_BYTES + b"}"
    assert agree(body)
    mine = Decoder(SPECS, MAX_ROWS)
    monkeypatch.setattr(mine, "_parser", object())
    assert mine.decode(body) is not None


def test_without_simdjson_pydantic_reads_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "simdjson", None)
    assert Decoder(SPECS, MAX_ROWS).decode(b'{"model": "dnn", "inputs": [[1, 2]]}') is None


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model":"mnist-cnn","inputs":[]}', "mnist-cnn"),
        (b'{ "model" : "a.b_c" }', "a.b_c"),
        (b'{"model": "dnn", "version": 3, "inputs": []}', None),
        (b'{"model": "dnn", "inputs": [' + b" " * 1000 + b'], "version": 3}', None),
        (b'{"model": "dnn", "inputs": [], "version": 3' + b" " * 1000 + b"}", None),
        (b'{"inputs":[],"model":"dnn"}', None),
        (b'{"model": 7}', None),
        (b"", None),
    ],
)
def test_the_model_is_known_from_the_ends_of_a_usual_body(body: bytes, model: str | None) -> None:
    assert decoder.production_model(body) == decoder.production_model(body, body) == model
