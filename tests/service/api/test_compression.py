"""Compressed request bodies, on native routes and on those of the Open Inference Protocol."""

import gzip
import json
import socket
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from perceptd.service.api.compression import CHUNK, Inflater
from perceptd.service.errors import InvalidInputError
from tests.server import running, serving
from tests.service.admin import as_admin, guarded, problem

BODY = json.dumps({"model": "xor", "inputs": [[-1, 1], [1, 1]] * 100}).encode()
LIMIT = 100_000
Pack = Callable[[bytes], bytes]


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def stored(body: bytes) -> bytes:
    """A raw deflate stream of one block that is not compressed."""
    length = len(body).to_bytes(2, "little")
    return b"\x01" + length + bytes(byte ^ 0xFF for byte in length) + body


def in_members(body: bytes) -> bytes:
    """A gzip body of many members, some of them empty."""
    parts = [body[at : at + 100] for at in range(0, len(body), 100)]
    return b"".join(gzip.compress(part) + gzip.compress(b"") for part in parts)


COMPRESSED: dict[str, tuple[str, Pack]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip, upper case": ("GZIP", gzip.compress),
    "gzip by its old name": ("x-gzip", gzip.compress),
    "gzip in members": ("gzip", in_members),
    "gzip, stored": ("gzip", lambda body: gzip.compress(body, compresslevel=0)),
    "deflate as zlib": ("deflate", zlib.compress),
    "deflate, raw": ("deflate", raw_deflate),
    "deflate, raw and stored": ("deflate", stored),
    "identity": ("identity", lambda body: body),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server that takes bodies of up to `LIMIT` bytes."""
    with running(guarded(tmp_path_factory.mktemp("data"), max_body_bytes=LIMIT)) as client:
        yield as_admin(client)


def post(client: httpx.Client, path: str, content: bytes, coding: str) -> httpx.Response:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    return client.post(path, content=content, headers=headers)


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_compressed_body_is_answered_as_a_plain_one(client: httpx.Client, name: str) -> None:
    coding, pack = COMPRESSED[name]
    plain = client.post("/predict_proba", content=BODY)
    compressed = post(client, "/predict_proba", pack(BODY), coding)
    assert (compressed.status_code, compressed.content) == (200, plain.content)


def test_a_compressed_body_is_read_byte_by_byte(client: httpx.Client) -> None:
    for coding, pack in (
        ("gzip", in_members),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
    ):
        compressed = pack(BODY)
        pieces = (compressed[at : at + 1] for at in range(len(compressed)))
        headers = {"Content-Encoding": coding}
        response = client.post("/predict", content=pieces, headers=headers)
        assert response.status_code == 200, response.text


@pytest.mark.parametrize("path", ["/predict", "/feedback", "/jobs", "/v2/models/dnn/infer"])
@pytest.mark.parametrize(
    ("content", "coding", "told"),
    [
        pytest.param(content, coding, told, id=f"{coding}, {name}")
        for name, content, coding, told in (
            ("without its last byte", gzip.compress(BODY)[:-1], "gzip", "one that stops early"),
            ("its header alone", gzip.compress(BODY)[:5], "gzip", "one that stops early"),
            ("without its last byte", zlib.compress(BODY)[:-1], "deflate", "one that stops early"),
            ("raw and cut", raw_deflate(BODY)[:-1], "deflate", "one that stops early"),
            ("another sum", gzip.compress(BODY)[:-8] + bytes(8), "gzip", "damaged data"),
            ("with a rest", gzip.compress(BODY) + b"rest", "gzip", "damaged data"),
            ("with a rest", zlib.compress(BODY) + b"rest", "deflate", "more after its end"),
            ("not compressed", BODY, "gzip", "damaged data"),
            ("not compressed", BODY, "deflate", "damaged data"),
            ("in fact deflate", zlib.compress(BODY), "gzip", "damaged data"),
        )
    ],
)
def test_a_damaged_body_is_refused_with_the_reason(
    small: httpx.Client, path: str, content: bytes, coding: str, told: str
) -> None:
    response = post(small, path, content, coding)
    if path.startswith("/v2"):
        assert response.status_code == 400
        text = response.json()["error"]
    else:
        assert problem(response) == (422, "invalid_input")
        text = response.json()["detail"]
    assert text.endswith(
        f"expected a whole body as its Content-Encoding says: {coding}, got {told}"
    )


@pytest.mark.parametrize(
    "coding", ["br", "zstd", "gzip, gzip", "deflate, gzip", "gzip;q=1", "\xff"]
)
def test_an_unknown_encoding_is_refused_with_the_known_ones(
    client: httpx.Client, coding: str
) -> None:
    headers = [(b"Content-Encoding", coding.encode("latin-1"))]
    response = client.post("/predict", content=BODY, headers=headers)
    assert problem(response) == (415, "unsupported_media_type")
    assert response.headers["Accept-Encoding"] == "gzip, deflate, identity"
    assert response.headers["X-Request-ID"]
    refusal = client.post("/v2/models/dnn/infer", content=BODY, headers=headers)
    assert refusal.status_code == 415
    assert "gzip, deflate, identity" in refusal.json()["error"]


def test_encodings_in_two_headers_are_one_list(client: httpx.Client) -> None:
    headers = [("Content-Encoding", "gzip"), ("Content-Encoding", "gzip")]
    assert client.post("/predict", content=BODY, headers=headers).status_code == 415


def test_an_empty_body_needs_no_valid_encoding(client: httpx.Client) -> None:
    response = post(client, "/predict", b"", "gzip")
    assert response.json()["errors"][0]["got"] == "an empty body"
    assert client.get("/models", headers={"Content-Encoding": "gzip"}).status_code == 200


@pytest.mark.parametrize("path", ["/predict", "/jobs", "/v2/models/dnn/infer"])
@pytest.mark.parametrize(
    ("content", "coding"),
    [
        (gzip.compress(b" " * (LIMIT + 1)), "gzip"),
        (zlib.compress(b" " * 50_000_000), "deflate"),
        (gzip.compress(b"") * (LIMIT // 20 + 1), "gzip"),
        (gzip.compress(b" " * LIMIT) * 2, "gzip"),
    ],
    ids=["one byte too many", "a bomb", "nothing, many times", "members"],
)
def test_the_limit_of_a_body_holds_for_the_decompressed_one(
    small: httpx.Client, path: str, content: bytes, coding: str
) -> None:
    response = post(small, path, content, coding)
    assert response.status_code == 413
    assert "up to 100,000 bytes" in response.text
    assert response.headers["X-Request-ID"]


def test_a_body_of_exactly_the_limit_is_decompressed(small: httpx.Client) -> None:
    padded = BODY + b" " * (LIMIT - len(BODY))
    assert post(small, "/predict", gzip.compress(padded), "gzip").status_code == 200


def test_a_bomb_is_decompressed_a_chunk_at_a_time() -> None:
    inflater = Inflater("gzip")
    inflater.feed(gzip.compress(bytes(10 * CHUNK + 1)))
    pieces = list(iter(inflater.read, b""))
    assert sum(map(len, pieces)) == 10 * CHUNK + 1
    assert max(map(len, pieces)) == CHUNK
    inflater.check_whole()


def test_an_incomplete_stream_is_an_error() -> None:
    inflater = Inflater("deflate")
    inflater.feed(zlib.compress(b"abc")[:-4])
    assert inflater.read() == b"abc"
    with pytest.raises(InvalidInputError, match="stops early"):
        inflater.check_whole()


def test_a_caller_who_goes_away_in_the_body_disturbs_no_other(client: httpx.Client) -> None:
    compressed = gzip.compress(BODY)
    head = (
        f"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Encoding: gzip\r\n"
        f"Content-Length: {len(compressed)}\r\n\r\n"
    )
    with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
        connection.sendall(head.encode() + compressed[:20])
    assert post(client, "/predict", compressed, "gzip").status_code == 200


def test_decompressed_bytes_over_the_limit_are_refused_and_the_server_goes_on(
    tmp_path: Path,
) -> None:
    """Each is small until it is decompressed; all at once are too many bytes."""
    spaces = b" " * (15 * 2**20)
    packed = gzip.compress(b'{"model": "xor", "inputs": [[-1, 1]]' + spaces + b"}")

    def large(url: str) -> int:
        with httpx.Client(base_url=url, timeout=30) as client:
            return post(client, "/predict", packed, "gzip").status_code

    limit = {"PERCEPTD_MAX_BYTES_IN_FLIGHT": str(2**20)}
    with serving(tmp_path, environment=limit) as (process, url):
        try:
            with ThreadPoolExecutor(6) as clients:
                statuses = list(clients.map(large, [url] * 6))
            assert large(url) == 200
        finally:
            process.kill()  # an endless loop would ignore SIGTERM
    assert set(statuses) == {200, 503}, statuses
