"""Requests as bytes: valid ones and mutations of them."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from perceptd.models import checkpoint
from perceptd.service.api.oip import codec
from perceptd.service.schemas.requests import example_of
from perceptd.service.store.repository import PRETRAINED
from tests.service.admin import ADMIN

MODELS = ("dnn", "xor", "mnist-cnn", "mnist-mlp")
SPECS = {model: checkpoint.read(PRETRAINED / model).spec for model in MODELS}
NATIVE = {model: json.dumps(example_of(model, spec)).encode() for model, spec in SPECS.items()}
PROTOCOL = {model: json.dumps(codec.example_of(spec)).encode() for model, spec in SPECS.items()}
JSON = ("Content-Type", "application/json")
Headers = Sequence[tuple[str, str]]
DESTRUCTIVE = "/v2/repository/models"  # an unloaded model would fail the well-behaved clients

# Pieces that parsers often mishandle.
MORSELS: tuple[bytes, ...] = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"\r\n\r\n", b"\n\n", b":", b"\xff", b"\xc3\x28",
    b"%00", b"%2e%2e/", b"//", b"?", b"#", b"0\r\n\r\n", b"1;a=b\r\n", b"ffffffffffffffff\r\n",
    b"-1", b"+5", b"1e9", b"NaN", b"Infinity", b"1e400", b"-0.0", b"[", b"]", b"{", b"}", b"[" * 99,
    b"null", b"true", b'"', b"\\", b"\\ud800", b"Content-Length: 0\r\n", b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Connection: close\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    b"Expect: 100-continue\r\n", b"Content-Encoding: gzip\r\n", b"X: " + b"x" * 300 + b"\r\n",
    b" folded\r\n", b"GET / HTTP/0.9\r\n\r\n", b"HTTP/1.0", b"HTTP/9.9", b"*", b"http://a/predict",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\u00e9\u4e00".encode(), b"18446744073709551616",
)  # fmt: skip


def request(
    path: str,
    body: bytes | None = None,
    headers: Headers = (),
    *,
    method: str | None = None,
    token: str = ADMIN,
    chunked: Sequence[int] | None = None,
) -> bytes:
    """A request; `chunked` has the offsets at which its body is cut into chunks."""
    lines = [f"{method or ('GET' if body is None else 'POST')} {path} HTTP/1.1", "Host: here"]
    lines += [f"Authorization: Bearer {token}"] if token else []
    lines += [f"{name}: {value}" for name, value in headers]
    content = body or b""
    if chunked is not None:
        lines.append("Transfer-Encoding: chunked")
        content = in_chunks(content, chunked)
    elif body is not None:
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def in_chunks(body: bytes, cuts: Sequence[int]) -> bytes:
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(body)}), len(body)]
    pieces = [body[start:end] for start, end in pairwise(places)]
    return (
        b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"
    )


def samples() -> list[bytes]:
    """A valid request of each kind."""
    raw = ("Content-Type", "application/octet-stream")
    upload = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.pt"\r\n\r\nPK\r\n--b--'
    )
    binary = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32",
                         "parameters": {"binary_data_size": 8}}]}).encode()  # fmt: skip
    lengths = ("Inference-Header-Content-Length", str(len(binary)))
    return [
        request("/predict", NATIVE["dnn"], [JSON]),
        request("/predict_proba", NATIVE["xor"], [JSON], chunked=[3, 20]),
        request("/predict", NATIVE["dnn"], [JSON, ("Expect", "100-continue")]),
        request("/predict/image", bytes(784), [raw]),
        request("/predict/image?model=mnist-mlp&pixels=true", bytes(784), [raw]),
        request("/v2/models/dnn/infer", PROTOCOL["dnn"], [JSON]),
        request("/v2/models/dnn/infer", binary + bytes(8), [raw, lengths]),
        request("/feedback", b'{"model": "xor", "inputs": [[0, 1]], "labels": ["1"]}', [JSON]),
        request("/jobs", b'{"model": "dnn", "epochs": 1}', [JSON, ("Idempotency-Key", "a")]),
        request("/jobs?limit=2&status=queued"),
        request("/jobs/1/cancel", b""),
        request("/jobs/1/events", headers=[("Last-Event-ID", "1")]),
        request(
            "/models/dnn/versions", upload, [("Content-Type", "multipart/form-data; boundary=b")]
        ),
        request("/models/dnn/aliases/mine", b'{"version": 1}', [JSON], method="PUT"),
        request("/models/dnn/versions/1/plots/loss.svg"),
        request("/v2/repository/index", b"{}", [JSON]),
        request("/models/mnist-cnn"),
        request("/"),
        request("/openapi.json", method="HEAD"),
        request("/health/ready", token=""),
        request("/predict", NATIVE["dnn"], [JSON], token="a-token-of-somebody-else"),
    ]


@st.composite
def mutated(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes with some flipped, removed, doubled, inserted or taken from another sample."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("flip", "cut", "end", "double", "put", "splice", "byte"))):
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "byte" if at < len(data):
                data[at] = draw(st.integers(0, 255))
            case "cut":
                del data[at : at + draw(st.integers(1, 40))]
            case "end":
                del data[at:]
            case "double":
                length = draw(st.integers(1, 200))
                data[at:at] = data[at : at + length]
            case "put":
                data[at:at] = draw(st.sampled_from(MORSELS))
            case "splice":
                other = draw(whole)
                data[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(data)


def numbers() -> st.SearchStrategy[Any]:
    """Mostly numbers, and any other JSON value."""
    return st.one_of(
        st.floats(-2, 2),
        st.integers(-1, 256),
        st.sampled_from([0, 1, -0.0, 5e-324, 1e38, 3.5e38, -1e308, 2**53, 2**64, 10**400, 0.1]),
        st.floats(),  # NaN and the infinities among them, as Python writes them
        st.none() | st.booleans() | st.text(max_size=3),
    )


def trees() -> st.SearchStrategy[Any]:
    """Any small JSON value."""
    leaves = numbers()
    names = st.text(max_size=5) | st.sampled_from(["model", "inputs", "name", "shape", "data"])
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
        max_leaves=12,
    )


@st.composite
def bent(draw: st.DrawFn, whole: st.SearchStrategy[Any]) -> Any:
    """A JSON value with parts removed, doubled, nested deeper or replaced."""
    root: Any = {"": json.loads(json.dumps(draw(whole)))}
    for _ in range(draw(st.integers(0, 3))):
        holder: Any = root
        key: Any = ""
        while isinstance(holder[key], dict | list) and holder[key] and draw(st.integers(0, 3)):
            holder = holder[key]  # walks down to the place that changes
            place = draw(st.integers(0, len(holder) - 1))
            key = list(holder)[place] if isinstance(holder, dict) else place
        inside = holder[key]
        match draw(st.sampled_from(("other", "number", "gone", "deeper", "double", "field"))):
            case "other":
                holder[key] = draw(trees())
            case "number":
                holder[key] = draw(numbers())
            case "gone" if holder is not root:
                del holder[key]
            case "deeper":
                holder[key] = [inside]
            case "double" if isinstance(inside, list):
                holder[key] = inside * draw(st.integers(0, 3))
            case "field" if isinstance(inside, dict):
                inside[draw(st.text(max_size=6))] = draw(trees())
    return root[""]
