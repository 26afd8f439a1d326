"""The end of a chunked body."""

import pytest

from perceptd.service.wire.chunks import Chunks

HEAD = b"POST / HTTP/1.1\r\n\r\n"
BODIES = {
    "empty": b"0\r\n\r\n",
    "one": b"5\r\nab\r\nc\r\n0\r\n\r\n",
    "several": b"1\r\na\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "zeros": b"005\r\n0\r\n\r\n\r\n000\r\n\r\n",
    "extensions": b'5;a=b;c="d"\r\nabcde\r\n0;e\r\n\r\n',
    "trailers": b"1\r\na\r\n0\r\nX-Sum: 1\r\nX-Note: a\r\n\r\n",
    "a long extension": b"1;" + b"a" * 200 + b"\r\na\r\n0\r\nX: " + b"b" * 200 + b"\r\n\r\n",
}
NEXT = b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_the_end_is_found_in_any_two_pieces(body: bytes) -> None:
    whole = HEAD + body
    for cut in range(len(whole)):
        chunks = Chunks(skip=len(HEAD))
        assert chunks.end_in(whole[:cut]) is None
        assert chunks.end_in(whole[cut:] + NEXT) == len(whole) - cut


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_the_end_is_found_byte_by_byte(body: bytes) -> None:
    chunks = Chunks(skip=0)
    ends = [chunks.end_in(body[at : at + 1]) for at in range(len(body))]
    assert ends == [None] * (len(body) - 1) + [1]


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_the_fields_after_the_last_chunk_are_counted(step: int) -> None:
    fields = b"X: y\r\nZ: a\r\n"
    body = b"1\r\na\r\n0\r\n" + fields
    chunks = Chunks(skip=0)
    for at in range(0, len(body), step):
        assert chunks.end_in(body[at : at + step]) is None
    assert chunks.trailer_bytes == len(fields)


@pytest.mark.parametrize(
    "wrong", [b"no size\r\n", b"\r\n", b"-5\r\n", b"+5\r\n", b"5\r\nabcdefg\r\n"]
)
def test_a_wrong_body_does_not_end(wrong: bytes) -> None:
    chunks = Chunks(skip=0)
    assert chunks.end_in(wrong) is None
    assert chunks.end_in(NEXT) is None
