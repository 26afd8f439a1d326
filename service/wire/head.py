"""The head of an HTTP/1 request: how long its body is, and what it asks for."""

import re

END_OF_HEAD = b"\r\n\r\n"
MAX_PATH = 200  # characters of the path that an error repeats
MAX_DIGITS = 15  # of a length; the parser refuses longer ones
LENGTH = b"\ncontent-length:"
ENCODING = b"\ntransfer-encoding:"
# An offer to change the protocol, which a server may ignore (RFC 9110, 7.8). uvicorn's parser
# instead ends the request after its head: its body would be taken for the next request.
OFFER = re.compile(rb"\r?\nupgrade:[^\r\n]*", re.IGNORECASE)


def is_chunked(head: bytes) -> bool:
    """Whether chunks follow a head in lower case: the parser refuses all other encodings."""
    return ENCODING in head


def body_length(head: bytes) -> int | None:
    """Bytes that follow a head in lower case; None if it does not say, or says something wrong."""
    if is_chunked(head):
        return None
    at = head.find(LENGTH)
    if at < 0:
        return 0
    at += len(LENGTH)
    digits = head[at : head.find(b"\r", at)].strip()
    return int(digits) if digits.isdigit() and len(digits) <= MAX_DIGITS else None


def asks_to_change_protocol(head: bytes) -> bool:
    """Whether a head in lower case offers another protocol, or asks for a tunnel."""
    return b"\nupgrade:" in head or head.startswith(b"connect ")


def unchanging(head: bytes) -> bytes:
    """The head without an offer; of a tunnel, one that the parser refuses."""
    if head.startswith(b"CONNECT "):
        return b"TUNNEL" + head[len(b"CONNECT") :]
    return OFFER.sub(b"", head)


def path_in(head: bytes) -> str:
    """The path that the beginning of a head asks for."""
    _, _, target = head.partition(b" ")
    path = target.partition(b" ")[0].partition(b"?")[0][:MAX_PATH]
    return path.decode("ascii", "replace") or "/"
