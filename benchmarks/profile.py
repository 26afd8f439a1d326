"""The parts of one prediction, in microseconds: the CNN, one image as 784 JSON numbers.

    python -m benchmarks.profile [--rounds 9]

Each part is the product's own code, repeated alone on one core. The parts take turns in each round,
and a figure is the median over the rounds. `a request` goes from the bytes that arrive to the bytes
that leave, without a network. A server under wrk takes longer per request: the difference belongs
to the kernel and the event loop.
"""

import argparse
import asyncio
import inspect
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
import uvloop
from fastapi import FastAPI
from uvicorn.server import ServerState

from benchmarks.load import Call, load, require_wrk
from benchmarks.machine import describe
from benchmarks.servers import PORT, SERVE, alone, is_ready, running, until
from benchmarks.works import all_works
from perceptd.models.preprocessing import from_numbers
from perceptd.service.api.services import services_of
from perceptd.service.app import create_app
from perceptd.service.inference.answers import Answer, Rows
from perceptd.service.inference.batcher import Batcher
from perceptd.service.inference.encoder import with_probabilities
from perceptd.service.inference.loaded_version import LoadedVersion, compute
from perceptd.service.inference.pending import NO_CALLER
from perceptd.service.schemas.requests import PredictRequest
from perceptd.service.schemas.responses import PredictProbaResponse
from perceptd.service.server import config
from perceptd.service.settings import Settings

RESULTS = Path(__file__).parent / "results" / "profile.md"
TOGETHER = 64  # connections, and rows of a batch
ROUND_S = 0.1
LOAD_S = 2
SERVED = f"a request of {TOGETHER} connections to a server on the same core"
CORE = 0
LOAD_CORES = os.sched_getaffinity(0) - {CORE}

Part = Callable[[], object]  # its result is awaited if it is awaitable


class Wire(asyncio.Transport):
    """A transport that counts responses and sets an event once none is missing."""

    def __init__(self) -> None:
        super().__init__()
        self.missing = 0
        self.is_complete = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        """A response comes in one piece, or its head and its body in two."""
        self.missing -= data.startswith(b"HTTP/1.1 200 ")
        if not self.missing:
            self.is_complete.set()

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Protocols:
    """uvicorn's connections to an application, with a `Wire` in place of a network."""

    def __init__(self, settings: uvicorn.Config, request: bytes, connections: int) -> None:
        if not settings.loaded:
            settings.load()
        self._request = request
        self._wire = Wire()
        state = ServerState()
        state.default_headers = [(b"server", b"uvicorn")]
        self._protocols: list[Any] = []
        for _ in range(connections):
            made: Any = settings.http_protocol_class
            protocol = made(config=settings, server_state=state, app_state={})
            protocol.connection_made(self._wire)
            self._protocols.append(protocol)

    async def __call__(self) -> None:
        """One request over each connection, all answered."""
        self._wire.missing = len(self._protocols)
        self._wire.is_complete.clear()
        for protocol in self._protocols:
            protocol.data_received(self._request)
        await self._wire.is_complete.wait()
        await asyncio.sleep(0)  # until the last body is written


async def microseconds(part: Part, per: int) -> float:
    """CPU time of a part, per request."""
    repeats, since = 0, time.process_time()
    while (taken := time.process_time() - since) < ROUND_S:
        if inspect.isawaitable(waiting := part()):
            await waiting
        repeats += 1
    return taken / repeats / per * 1e6


def parts(app: FastAPI, body: bytes) -> list[tuple[str, Part, int]]:
    """The parts to measure: a title, the code, and how many requests one run of it serves."""
    engine = services_of(app).engine
    version: LoadedVersion = engine.production["mnist-cnn"]
    head = f"POST /predict_proba HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    request = f"{head}Content-Type: application/json\r\n\r\n".encode() + body
    decoded = engine.decoder.decode(body)
    assert decoded
    rows = np.concatenate([decoded.rows] * TOGETHER)
    answer = compute(version.runtime, version.spec.head, decoded.rows)
    batcher = idle_batcher(answer)
    quiet: dict[str, Any] = {"log_level": "error", "access_log": False}

    def by_pydantic() -> None:
        asked = engine.schemas.parse(body, PredictRequest)
        from_numbers(version.spec.input, asked.inputs, asked.dtype)

    def by_fastapi() -> None:
        labels, numbers = version.spec.labels, answer.probabilities[0].tolist()
        said = {"label": "7", "index": 7, "probabilities": dict(zip(labels, numbers, strict=True))}
        made = {"model": version.model, "version": 1, "predictions": [said]}
        PredictProbaResponse.model_validate(made).model_dump_json()

    async def batched() -> None:
        await asyncio.gather(*(batcher.submit(decoded.rows, NO_CALLER) for _ in range(TOGETHER)))

    hot = partial(Protocols, config(app, **quiet), request)
    ordinary = partial(Protocols, uvicorn.Config(app, http="httptools", **quiet), request)
    return [
        ("forward pass, one image", partial(version.runtime.run, decoded.rows), 1),
        (f"forward pass, an image of {TOGETHER}", partial(version.runtime.run, rows), TOGETHER),
        ("JSON to array", partial(engine.decoder.decode, body), 1),
        ("the same by pydantic and struct", by_pydantic, 1),
        (f"batching, a request of {TOGETHER}, network that does nothing", batched, TOGETHER),
        ("answer to JSON", partial(with_probabilities, version, answer), 1),
        ("the same by pydantic", by_fastapi, 1),
        ("a request, alone", hot(1), 1),
        (f"a request, of {TOGETHER} at once", hot(TOGETHER), TOGETHER),
        ("a request through the router, alone", ordinary(1), 1),
        (f"a request through the router, of {TOGETHER} at once", ordinary(TOGETHER), TOGETHER),
    ]


def idle_batcher(answer: Answer) -> Batcher:
    """A batcher whose batches cost nothing."""

    def run(rows: Rows) -> Answer:
        return Answer(
            np.resize(answer.indices, len(rows)), np.resize(answer.probabilities, (len(rows), 10))
        )

    return Batcher(run, None, max_batch_size=TOGETHER, max_batch_time_s=0, max_queue_size=8192)


async def measure(rounds: int, body: bytes, store: Path) -> dict[str, float]:
    """The median of each part, and of a request to a server on the same core, round by round."""
    call, url = Call("/predict_proba", body), f"http://127.0.0.1:{PORT}"
    found: dict[str, list[float]] = {}
    app = create_app(Settings(data_dir=store, device="cpu", busy_poll_us=0))
    async with app.router.lifespan_context(app):
        measured = parts(app, body)
        for _ in range(rounds + 1):
            os.sched_setaffinity(0, LOAD_CORES)  # wrk inherits it
            rate = load(url, call, TOGETHER, LOAD_S).per_second
            os.sched_setaffinity(0, {CORE})
            found.setdefault(SERVED, []).append(1e6 / rate)
            for title, part, per in measured:
                found.setdefault(title, []).append(await microseconds(part, per))
    return {title: statistics.median(taken[1:]) for title, taken in found.items()}


def table(found: dict[str, float]) -> str:
    whole = found.pop(SERVED)
    forward = found[f"forward pass, an image of {TOGETHER}"]
    rest = whole - found[f"a request, of {TOGETHER} at once"]
    rows = {**found, SERVED: whole, "of it the kernel and the event loop": rest}
    lines = ["| part | us | of the whole |", "| --- | ---: | ---: |"]
    lines += [f"| {title} | {taken:.1f} | {taken / whole:.0%} |" for title, taken in rows.items()]
    lines += ["", f"The forward pass is {forward / whole:.0%} of a request."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds: int = parser.parse_args().rounds
    require_wrk()
    body = next(work.json for work in all_works() if work.name == "W2")
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        with running(SERVE, alone(store / "served"), core=CORE) as process:
            until(process, partial(is_ready, f"http://127.0.0.1:{PORT}"))
            found = uvloop.run(measure(rounds, body, store / "inside"))
    text = f"{describe()}; medians of {rounds} rounds.\n\n{table(found)}\n"
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
