"""Malformed HTTP: each connection is answered or closed, and others are not affected."""

import json
from contextlib import suppress
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.amounts import counted, tries
from tests.fuzz.known import Known, undisturbed
from tests.fuzz.requests import (
    DESTRUCTIVE,
    JSON,
    NATIVE,
    PROTOCOL,
    Headers,
    mutated,
    request,
    samples,
)
from tests.fuzz.target import Target, responses
from tests.service.admin import AS_ADMIN

pytestmark = pytest.mark.fuzz

AT_ONCE = 20  # connections
SMUGGLED = request("/models", headers=[("X-Request-ID", "smuggled")])
BODY = NATIVE["dnn"]
ROWS = b'{"model": "dnn", "inputs": [%b]}'
CUTS = range(0, 17_000_000, 65_000)

# Heads that two servers in a row might read differently; a request follows as their body or after.
AMBIGUOUS = {
    "both lengths": b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n",
    "both, the other way": b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n",
    "two lengths": b"Content-Length: %d\r\nContent-Length: 0\r\n",
    "a list of lengths": b"Content-Length: %d, 0\r\n",
    "a signed length": b"Content-Length: +%d\r\n",
    "a negative length": b"Content-Length: -%d\r\n",
    "a length in hexadecimal": b"Content-Length: 0x%x\r\n",
    "a length with an underscore": b"Content-Length: %d_0\r\n",
    "a length too long": b"Content-Length: 18446744073709551616%d\r\n",
    "an unknown coding": b"Content-Length: %d\r\nTransfer-Encoding: xchunked\r\n",
    "a coding after chunked": b"Content-Length: %d\r\nTransfer-Encoding: chunked, identity\r\n",
    "two codings": b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
    "a tab before the colon": b"Content-Length: %d\r\nTransfer-Encoding\t: chunked\r\n",
    "a blank before the colon": b"Content-Length: %d\r\nTransfer-Encoding : chunked\r\n",
    "a folded coding": b"Content-Length: %d\r\nTransfer-Encoding:\r\n chunked\r\n",
    "a vertical tab": b"Content-Length: %d\r\nTransfer-Encoding: \x0bchunked\r\n",
    "a coding after a bare LF": b"Content-Length: %d\r\nX: y\nTransfer-Encoding: chunked\r\n",
    "a coding after a bare CR": b"Content-Length: %d\r\nX: y\rTransfer-Encoding: chunked\r\n",
    "an offer": b"Content-Length: %d\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n",
}


@pytest.fixture(scope="module")
def known() -> Known:
    return Known(1)


def is_well(target: Target, known: Known) -> None:
    """Assert that a new connection is answered correctly and the log has no fault."""
    with httpx.Client(base_url=target.url, headers=AS_ADMIN, timeout=60) as client:
        known.ask(client)
    target.check()


def test_mutated_requests_are_answered_or_closed_and_break_nothing(
    target: Target, known: Known
) -> None:
    hostile = mutated(st.sampled_from(samples())).filter(
        lambda data: DESTRUCTIVE.encode() not in data
    )
    answered = 0
    with counted() as count, undisturbed(target):

        @tries(100)
        @given(st.lists(hostile, min_size=4, max_size=AT_ONCE))
        def attack(requests: list[bytes]) -> None:
            nonlocal answered
            count.inputs += len(requests)
            for sent, answer in zip(requests, target.exchange(requests), strict=True):
                answered += bool(answer)
                if b"HEAD" not in sent:  # whose answers have no body: what comes next is unknown
                    for response in responses(answer):
                        assert response.status < 500, (sent, response)
            is_well(target, known)

        attack()
    assert answered > count.inputs / 2  # the others are none, or half of one


def pipelined(number: int, kind: str) -> tuple[bytes, int, bytes]:
    """A request of one kind, the status of its answer, and words in it."""
    name: Headers = [("X-Request-ID", f"r{number}")]
    numbers = [*name, JSON]
    match kind:
        case "hot":
            return request("/predict", BODY, numbers), 200, b'{"model":"dnn"'
        case "other hot":
            return request("/predict_proba", NATIVE["xor"], numbers), 200, b'{"model":"xor"'
        case "chunked":
            return request("/predict", BODY, numbers, chunked=[9]), 200, b'{"model":"dnn"'
        case "protocol":
            return request("/v2/models/xor/infer", PROTOCOL["xor"], numbers), 200, b'"xor"'
        case "bytes":
            raw = [*name, ("Content-Type", "application/octet-stream")]
            return request("/predict/image", bytes(784), raw), 200, b'{"model":"mnist-cnn"'
        case "wrong":
            return request("/predict", b'{"model": 3}', numbers), 422, b'"model: expected'
        case "refused":
            return request("/predict", BODY, numbers, token=""), 401, b"unauthorized"
        case "offer":
            offer = [*numbers, ("Connection", "Upgrade"), ("Upgrade", "h2c")]
            return request("/predict", BODY, offer), 200, b'{"model":"dnn"'
        case "nowhere":
            return request(f"/nowhere/{number}", headers=name), 404, b"/nowhere/%d" % number
    return request("/health/live", headers=name), 200, b"live"


KINDS = ("hot", "other hot", "chunked", "protocol", "bytes", "wrong", "refused", "offer",
         "nowhere", "get")  # fmt: skip


def test_pipelined_requests_are_answered_in_order_however_they_arrive(
    target: Target, known: Known
) -> None:
    last = request("/health/live", headers=[("X-Request-ID", "last"), ("Connection", "close")])
    with counted() as count, undisturbed(target):

        @tries(250)
        @given(
            st.lists(st.sampled_from(KINDS), max_size=12),
            st.lists(st.integers(0, 6000), max_size=6),
        )
        def attack(kinds: list[str], cuts: list[int]) -> None:
            asked = [pipelined(number, kind) for number, kind in enumerate(kinds)]
            count.inputs += len(asked)
            whole = b"".join(sent for sent, _, _ in asked) + last
            places = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
            with target.connect() as connection:
                for start, end in pairwise(places):
                    connection.sendall(whole[start:end])
                answer = b""
                while data := connection.recv(2**16):
                    answer += data
            answered = responses(answer)
            assert [one.id for one in answered] == [*(f"r{n}" for n in range(len(kinds))), "last"]
            for (_, status, holds), response in zip(asked, answered, strict=False):
                assert response.status == status, response
                assert holds in response.body, response

        attack()
        is_well(target, known)


def test_no_request_hides_in_another(target: Target, known: Known) -> None:
    bodies = [SMUGGLED, b"0\r\n\r\n" + SMUGGLED, BODY]
    with counted() as count, undisturbed(target):
        for told in AMBIGUOUS.values():
            for body in bodies:
                for method, path in (("POST", "/predict"), ("GET", "/health/live")):
                    token = b"Authorization: Bearer %b\r\n" % AS_ADMIN["Authorization"][7:].encode()
                    head = f"{method} {path} HTTP/1.1\r\nHost: here\r\n".encode() + token
                    head += b"Content-Type: application/json\r\n"
                    for at_once in (True, False):
                        count.inputs += 1
                        sent = [head + told % len(body) + b"\r\n", body]
                        answer = said(target, [b"".join(sent)] if at_once else sent)
                        assert all(one.id != "smuggled" for one in responses(answer)), sent
                        assert all(one.status < 500 for one in responses(answer)), sent
        is_well(target, known)


def said(target: Target, pieces: list[bytes]) -> bytes:
    """The answers to pieces that are sent one by one, followed by a last request."""
    last = request("/health/live", headers=[("Connection", "close")])
    answer = b""
    with target.connect() as connection, suppress(ConnectionError):  # closed with bytes unread
        for piece in pieces:
            connection.sendall(piece)
            target.exchange([last], is_due=True)  # once this is answered, what came before was read
        connection.sendall(last)
        while data := connection.recv(2**16):
            answer += data
    return answer


def test_what_is_too_large_is_refused_and_not_kept(target: Target, known: Known) -> None:
    lines = b"GET /health/live HTTP/1.1\r\nHost: here\r\n"
    fields = json.dumps({f"f{number}": number for number in range(200_000)}).encode()
    tensor = b'{"name": "x", "shape": [1], "datatype": "FP32"},'
    tensors = b'{"inputs": [%b{}]}' % (tensor * 100_000)
    whole = request("/predict", BODY, [JSON], chunked=[])
    extension = b";" + b"e" * 4_000_000 + b"\r\n"  # which says nothing, and is passed over
    large = {
        "a header": (431, lines + b"X: " + b"x" * 4_000_000 + b"\r\n\r\n"),
        "headers": (431, lines + b"X: y\r\n" * 200_000 + b"\r\n"),
        "a header's name": (431, lines + b"x" * 4_000_000 + b": y\r\n\r\n"),
        "a target": (431, b"GET /" + b"a" * 4_000_000 + b" HTTP/1.1\r\nHost: here\r\n\r\n"),
        "a query": (431, b"GET /models?" + b"a=b&" * 500_000 + b" HTTP/1.1\r\nHost: here\r\n\r\n"),
        "a method": (431, b"G" * 4_000_000 + b" / HTTP/1.1\r\n\r\n"),
        "a chunk's extension": (200, whole.replace(b"\r\n" + BODY, extension + BODY)),
        "trailers": (431, whole[:-2] + b"X: y\r\n" * 200_000),
        "a body": (413, request("/predict", b" " * 17_000_000, [JSON])),
        "a body in chunks": (413, request("/predict", b" " * 17_000_000, [JSON], chunked=CUTS)),
        "small chunks": (422, request("/predict", b" " * 200_000, [JSON], chunked=range(200_000))),
        "nested JSON": (422, request("/predict", b"[" * 2_000_000, [JSON])),
        "a number": (422, request("/predict", ROWS % (b"[0, " + b"9" * 2_000_000 + b"]"), [JSON])),
        "rows": (422, request("/predict", ROWS % (b"[0,1]," * 500_000 + b"[0,1]"), [JSON])),
        "fields": (422, request("/predict", fields, [JSON])),
        "tensors": (400, request("/v2/models/dnn/infer", tensors, [JSON])),
    }  # fmt: skip
    with counted() as count, undisturbed(target):
        for what, (status, sent) in large.items():
            count.inputs += 1
            (answer,) = target.exchange([sent], is_due=True)
            assert [response.status for response in responses(answer)] == [status], what
            is_well(target, known)
