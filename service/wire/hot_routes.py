"""The requests that the fast path answers: their heads, how bodies are read and written."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from perceptd.models.preprocessing import from_bytes
from perceptd.service.api.callers import TIMEOUT_HEADER
from perceptd.service.api.exchange import HEADER
from perceptd.service.api.media import JSON_TYPE, PICTURE_MODEL, RAW_TYPE
from perceptd.service.auth.credentials import digest_of
from perceptd.service.inference.answers import Answer, Rows
from perceptd.service.inference.encoder import with_labels, with_probabilities
from perceptd.service.inference.engine import Engine
from perceptd.service.inference.loaded_version import LoadedVersion

Found = tuple[LoadedVersion, Rows]
Headers = Sequence[tuple[bytes, bytes]]

ID = HEADER.lower().encode()
# A request with one of these headers is for the router.
UNUSUAL = frozenset(
    name.encode()
    for name in (
        "content-encoding",
        "transfer-encoding",
        "expect",
        "upgrade",
        TIMEOUT_HEADER.lower(),
    )
)

JSON = (JSON_TYPE.encode(), f"{JSON_TYPE};charset=utf-8".encode())
RAW = (RAW_TYPE.encode(),)


class Route(NamedTuple):
    path: str
    media_types: Collection[bytes]
    read: Callable[[Engine, bytes, bytes], Found | None]  # the query and the body
    write: Callable[[LoadedVersion, Answer], bytes]


class Head(NamedTuple):
    """The head of a plain prediction."""

    route: Route
    url: bytes
    query: bytes
    length: int  # of the body
    request_id: str  # the caller's own, or empty
    token: bytes  # SHA-256 of the caller's token, or empty
    forwarded: bool  # by a proxy
    foreign: bool  # sent by a web page, perhaps of another origin
    headers: Mapping[bytes, bytes]  # without the token


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
    route.path.encode(): route
    for route in (
        Route("/predict", JSON, read_numbers, with_labels),
        Route("/predict_proba", JSON, read_numbers, with_probabilities),
        Route("/predict/image", RAW, read_pixels, with_probabilities),
    )
}


def plain_head(url: bytes, headers: Headers) -> Head | None:
    """The head of a POST; None if it asks for more than a prediction."""
    path, _, query = url.partition(b"?")
    route = ROUTES.get(path)
    if route is None:
        return None
    given = dict(headers)
    if len(given) < len(headers):  # the router decides which of two counts
        return None
    length = given.get(b"content-length")
    if length is None or not UNUSUAL.isdisjoint(given):
        return None
    if given.get(b"content-type", b"").lower().replace(b" ", b"") not in route.media_types:
        return None
    scheme, _, token = given.get(b"authorization", b"").partition(b" ")
    if scheme not in (b"", b"Bearer"):
        return None
    return Head(
        route,
        url,
        query,
        int(length),
        given.get(ID, b"").decode("latin-1"),
        digest_of(token.decode("latin-1")) if token else b"",
        b"x-forwarded-for" in given,
        b"origin" in given,
        {name: value for name, value in headers if name != b"authorization"},
    )
