"""Two servers for `benchmarks.profile`: perceptd that watches nothing, and its server alone.

    python -m benchmarks.bare unwatched
    python -m benchmarks.bare transport --bytes 400

`unwatched` has no access log, no metrics of requests and batches, no drift and no tracing.
`transport` answers every request with so many bytes, through uvicorn with perceptd's options. Both
take PERCEPTD_PORT and the other settings from the environment.
"""

import argparse
from unittest.mock import patch

import uvicorn
from starlette.types import Receive, Scope, Send

from perceptd.service import server, sockets
from perceptd.service.api.exchange import HEADER, request_id
from perceptd.service.api.middleware import SECURITY_HEADERS
from perceptd.service.inference.batcher import Observer
from perceptd.service.settings import Settings
from perceptd.service.telemetry.metrics import Metrics


class NoMetrics(Metrics):
    def request(self, *_: object, **__: object) -> None: ...

    def observer(self, model: str, version: int) -> Observer:
        return lambda batch: None


def serve_unwatched(settings: Settings) -> None:
    settings = settings.model_copy(update={"access_log": False, "drift": False})
    with (
        patch("perceptd.service.app.Metrics", NoMetrics),  # no setting turns them off
        sockets.bound(settings.host, settings.port, 1) as (listeners,),
    ):
        server.run(settings, listeners, lambda: None)


class Constant:
    """An application with the same answer to every request."""

    def __init__(self, size: int) -> None:
        self._body = b"x" * size
        self._headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % size),
            (HEADER.lower().encode(), request_id("").encode()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body})


def serve_transport(settings: Settings, size: int) -> None:
    uvicorn.run(
        Constant(size),
        port=settings.port,
        lifespan="off",
        log_config=None,
        timeout_keep_alive=server.KEEP_ALIVE_S,
        interface="asgi3",
        proxy_headers=False,
        access_log=False,
        server_header=False,
        headers=list(SECURITY_HEADERS.items()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("server", choices=["unwatched", "transport"])
    parser.add_argument("--bytes", type=int, default=0, help="of the body of an answer")
    options = parser.parse_args()
    if options.server == "unwatched":
        serve_unwatched(Settings())
    else:
        serve_transport(Settings(), options.bytes)


if __name__ == "__main__":
    main()
