"""The fast path answers as the router does, byte for byte."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from perceptd.service.settings import Settings
from tests.raw_http import Connection
from tests.server import running

TO_ROUTER = "X-Request-Timeout-Ms: 60000"
TOKEN = "a-predict-token-of-some-length"
PAGE = "https://app.example.com"
JSON_TYPE = "Content-Type: application/json"
RAW_TYPE = "Content-Type: application/octet-stream"
DIFFERS = ("date", "x-request-id")

GOOD = b'{"model": "dnn", "inputs": [[0.1, -0.2], [1.0, 0.3]]}'
NUMBERS = {
    "good": GOOD,
    "another version": b'{"model": "dnn", "version": 9, "inputs": [[0.1, -0.2]]}',
    "the first version": b'{"inputs": [[0.1, -0.2]], "version": 1, "model": "dnn"}',
    "no such model": b'{"model": "nobody", "inputs": [[1, 2]]}',
    "a wrong shape": b'{"model": "dnn", "inputs": [[1]]}',
    "no rows": b'{"model": "dnn", "inputs": []}',
    "too many rows": b'{"model": "dnn", "inputs": [%b]}' % b",".join([b"[1,2]"] * 2000),
    "another field": b'{"model": "dnn", "inputs": [[1, 2]], "more": 1}',
    "a number too large": b'{"model": "dnn", "inputs": [[1e999, 2]]}',
    "an overflow": b'{"model": "perceptron", "inputs": [[3e38, 3e38], [0.1, 0.1]]}',
    "no JSON": b"{",
    "nothing": b"",
    "no text": b"\xff\xfe",
}
PIXELS = {
    "good": bytes(range(256)) * 3 + bytes(16),
    "too few": bytes(783),
    "too many": bytes(785),
    "no picture": b"nothing that a decoder knows",
    "nothing": b"",
}
HEADS: dict[str, list[str]] = {
    "plain": [],
    "the last": ["Connection: close"],
    "an id of the caller's": ["X-Request-ID: mine"],
    "by a proxy": ["X-Forwarded-For: 192.0.2.1, 10.0.0.1", "X-Forwarded-Proto: https"],
    "two equal headers": ["Accept: a", "Accept: b"],
    "one name in two cases": ["X-Note: a", "x-note: a"],
    "another origin": [f"Origin: {PAGE}"],
    "a token": [f"Authorization: Bearer {TOKEN}"],
    "a wrong token": ["Authorization: Bearer wrong"],
    "another scheme": ["Authorization: Basic YTpi"],
    "an empty token": ["Authorization: Bearer "],
    "two tokens": ["Authorization: Bearer wrong", f"Authorization: Bearer {TOKEN}"],
    "an offer": ["Connection: upgrade", "Upgrade: h2c"],
}
ROUTES = {
    "/predict": (JSON_TYPE, NUMBERS),
    "/predict_proba": (JSON_TYPE, NUMBERS),
    "/predict/image": (RAW_TYPE, PIXELS),
}
BODIES = [(path, kind, body) for path, (kind, bodies) in ROUTES.items() for body in bodies.values()]
GOOD_BODIES = [(path, kind, bodies["good"]) for path, (kind, bodies) in ROUTES.items()]


class Answer(NamedTuple):
    status: str
    headers: list[str]  # but those that differ between any two answers
    body: bytes


def asked(target: str, kind: str, body: bytes, *lines: str, version: str = "1.1") -> bytes:
    head = [f"POST {target} HTTP/{version}", "Host: here", kind, f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, *lines, "", ""]).encode() + body


def chunked(target: str, kind: str, body: bytes, *lines: str) -> bytes:
    head = [f"POST {target} HTTP/1.1", "Host: here", kind, "Transfer-Encoding: chunked", *lines]
    pieces = [body[:7], body[7:]]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    return "\r\n".join([*head, "", ""]).encode() + chunks + b"0\r\n\r\n"


def answer(connection: Connection) -> Answer:
    status, headers, length = connection.line(), [], 0
    while line := connection.line():
        name, _, value = line.partition(": ")
        if name == "content-length":
            length = int(value)
        if name not in DIFFERS:
            headers.append(line)
    return Answer(status, sorted(headers), connection.read(length))


def both(url: object, fast: bytes, slow: bytes) -> tuple[Answer, Answer, bool]:
    """The answers, and whether the connection stays open after them."""
    answers, lasts = [], set()
    for sent in (fast, slow):
        with Connection(url) as connection:
            answers.append(answer(connection.send(sent)))
            closes = "connection: close" in answers[-1].headers or b"HTTP/1.0" in sent
            if closes:
                assert connection.rest() == b""
            else:
                assert answer(connection.send(asked("/predict", JSON_TYPE, GOOD)))
            lasts.add(not closes)
    first, second = answers
    assert len(lasts) == 1
    return first, second, lasts.pop()


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """Servers whose predictions are open, need a token, and are for another origin too."""
    kinds: dict[str, dict[str, str]] = {
        "open": {},
        "guarded": {"predict_token": TOKEN},
        "shared": {"cors_origins": PAGE},
    }
    with ExitStack() as stack:
        yield {
            kind: stack.enter_context(
                running(
                    Settings.model_validate(
                        {"data_dir": tmp_path_factory.mktemp("data"), "max_rows": 1000, **more}
                    )
                )
            ).base_url
            for kind, more in kinds.items()
        }


@pytest.mark.parametrize(("path", "kind", "body"), BODIES)
def test_bodies(urls: dict[str, object], path: str, kind: str, body: bytes) -> None:
    fast, slow, _ = both(urls["open"], asked(path, kind, body), asked(path, kind, body, TO_ROUTER))
    assert fast == slow


@pytest.mark.parametrize("server", ["open", "guarded", "shared"])
@pytest.mark.parametrize("lines", HEADS.values(), ids=HEADS)
def test_heads(urls: dict[str, object], server: str, lines: list[str]) -> None:
    for path, kind, body in GOOD_BODIES:
        fast, slow, _ = both(
            urls[server],
            asked(path, kind, body, *lines),
            asked(path, kind, body, *lines, TO_ROUTER),
        )
        assert fast == slow, path


@pytest.mark.parametrize(
    "query",
    ["?", "?a=1", "?model=mnist-mlp", "?model=dnn", "?model=nobody", "?model=", "?pixels=1"],
)
def test_queries(urls: dict[str, object], query: str) -> None:
    for path, kind, body in GOOD_BODIES:
        fast, slow, _ = both(
            urls["open"],
            asked(path + query, kind, body),
            asked(path + query, kind, body, TO_ROUTER),
        )
        assert fast == slow, path


def test_the_version_of_http(urls: dict[str, object]) -> None:
    for path, kind, body in GOOD_BODIES:
        for version, stays in (("1.1", True), ("1.0", False)):
            fast, slow, lasts = both(
                urls["open"],
                asked(path, kind, body, version=version),
                asked(path, kind, body, TO_ROUTER, version=version),
            )
            assert fast == slow, path
            assert lasts is stays


def test_a_chunked_body(urls: dict[str, object]) -> None:
    for path, kind, body in BODIES:
        whole, in_chunks, _ = both(urls["open"], asked(path, kind, body), chunked(path, kind, body))
        assert whole == in_chunks, (path, body[:60])


def test_pipelined_requests(urls: dict[str, object]) -> None:
    with Connection(urls["open"]) as connection:
        connection.send(
            b"".join(
                asked(path, kind, body, *extra)
                for path, kind, body in BODIES
                for extra in ((), (TO_ROUTER,))
            )
        )
        for path, _, body in BODIES:
            assert answer(connection) == answer(connection), (path, body[:60])


def test_only_good_bodies_are_answered_200(urls: dict[str, object]) -> None:
    good = set()
    with Connection(urls["open"]) as connection:
        for name, body in NUMBERS.items():
            if " 200 " in answer(connection.send(asked("/predict", JSON_TYPE, body))).status:
                good.add(name)
    assert good == {"good", "the first version", "an overflow"}
