"""Which requests are plain predictions, how their bodies are read and their answers written."""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from perceptd.models.preprocessing import from_bytes
from perceptd.service.api.callers import TIMEOUT_HEADER
from perceptd.service.api.media import JSON_TYPE, PICTURE_MODEL, RAW_TYPE
from perceptd.service.auth.access import Access
from perceptd.service.auth.credentials import digest_of
from perceptd.service.inference.answers import Answer, Rows
from perceptd.service.inference.encoder import with_labels, with_probabilities
from perceptd.service.inference.engine import Engine
from perceptd.service.inference.loaded_version import LoadedVersion

Headers = Mapping[bytes, bytes]  # of a request, each name once
Found = tuple[LoadedVersion, Rows]

# A request with one of these headers is for the router.
UNUSUAL = frozenset(
    name.encode() for name in ("content-encoding", "transfer-encoding", TIMEOUT_HEADER.lower())
)
JSON = (JSON_TYPE.encode(), f"{JSON_TYPE};charset=utf-8".encode())
RAW = (RAW_TYPE.encode(),)
MAX_DIGITS = 18  # of a length; `int` refuses texts of more than 4,300 digits


class Route(NamedTuple):
    path: str
    media_types: Collection[bytes]
    read: Callable[[Engine, bytes, bytes], Found | None]  # the query and the body
    write: Callable[[LoadedVersion, Answer], bytes]

    def takes(self, headers: Headers, max_bytes: int) -> bool:
        """Whether a request with these headers may ask for nothing but a prediction."""
        if not UNUSUAL.isdisjoint(headers):
            return False
        length = headers.get(b"content-length", b"")
        if not length.isdigit() or len(length) > MAX_DIGITS or int(length) > max_bytes:
            return False
        kind = headers.get(b"content-type", b"")
        return kind in self.media_types or kind.lower().replace(b" ", b"") in self.media_types


def may_predict(access: Access, headers: Headers) -> bool:
    """Whether the caller may predict; False also if only the router can tell."""
    given = headers.get(b"authorization")
    if given is None:
        return access.is_open
    scheme, _, token = given.partition(b" ")
    if scheme != b"Bearer":
        return False
    return access.is_open or access.may_predict(digest_of(token.decode("latin-1")))


def read_numbers(engine: Engine, query: bytes, body: bytes) -> Found | None:
    decoded = engine.decoder.decode(body)
    version = decoded and engine.serving(decoded.model, decoded.version)
    return (version, decoded.rows) if decoded and version else None


def read_pixels(engine: Engine, query: bytes, body: bytes) -> Found | None:
    name, is_named, model = query.partition(b"=")
    if name != (b"model" if is_named else b""):
        return None
    version = engine.serving(model.decode("latin-1") if is_named else PICTURE_MODEL)
    if version is None or not version.spec.input.picture or len(body) != version.spec.input.size:
        return None
    return version, from_bytes(version.spec.input, body)


ROUTES = {
    route.path: route
    for route in (
        Route("/predict", JSON, read_numbers, with_labels),
        Route("/predict_proba", JSON, read_numbers, with_probabilities),
        Route("/predict/image", RAW, read_pixels, with_probabilities),
    )
}
