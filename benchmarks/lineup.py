"""The servers that the serving benchmark measures: how each is started, asked and understood.

perceptd serves all its models. A peer serves the one model that it is asked about, as its own
documentation shows; the peers' files are in `benchmarks/peers/`, their environments in `.peers/`.
"""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from benchmarks.load import Call
from benchmarks.servers import SERVE
from benchmarks.works import PRETRAINED, Answer, Work

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = ROOT / ".peers"
FLOOR_PORT = 8801
PORT = 8802  # 8803 to 8806 are for what a peer opens besides
RAW = "application/octet-stream"


@dataclass(frozen=True)
class Server:
    """`environment` is what it is started with for a work: where it differs, so does the process.

    `answers` is None for a server whose answer is a constant. `title` has places for the versions
    of `packages`. `peer` names its folder in
    `benchmarks/peers/` and in `.peers/`, where it has an environment of its own.
    """

    name: str
    title: str
    command: tuple[str, ...]
    environment: Callable[[Work], dict[str, str]]
    call: Callable[[Work], Call]
    answers: Callable[[Any], list[Answer]] | None
    packages: tuple[str, ...]
    peer: str | None = None
    needs: str | None = None
    port: int = PORT

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def missing(self) -> str | None:
        """What has to be installed before it can be started; None where all is there."""
        if self.needs and not shutil.which(self.needs):
            return f"{self.needs} is not installed"
        if self.peer and not environment_of(self.peer).exists():
            return f"{environment_of(self.peer)} is not there: make bench-peers"
        return None

    @property
    def titled(self) -> str:
        """`title` with the versions of the packages that make it what it is."""
        path = [str(site) for site in environment_of(self.peer).glob("lib/*/site-packages")]
        found = {one.name.lower(): one.version for one in distributions(path=path or sys.path)}
        return self.title.format(*(found[package] for package in self.packages))


def environment_of(peer: str | None) -> Path:
    return ENVIRONMENTS / peer if peer else Path(sys.prefix)


def in_environment(peer: str, *command: str) -> tuple[str, ...]:
    return (str(environment_of(peer) / "bin" / command[0]), *command[1:])


def posted(json_path: str, raw_path: str) -> Callable[[Work], Call]:
    """The same JSON body that perceptd takes, or raw bytes."""

    def call(work: Work) -> Call:
        return Call(raw_path, work.raw, RAW) if work.raw else Call(json_path, work.json)

    return call


def as_v2(work: Work) -> Call:
    """The Open Inference Protocol, whose tensors are flat lists of JSON numbers."""
    if work.raw:
        return Call("/image", work.raw, RAW)
    shape = [len(work.rows), len(work.rows[0])]
    data = [number for row in work.rows for number in row]
    tensor = {"name": "x", "shape": shape, "datatype": "FP32", "data": data}
    return Call("/v2/models/classifier/infer", json.dumps({"inputs": [tensor]}).encode())


def predictions(answer: Any) -> list[Answer]:
    return [
        Answer(row["label"], list(row["probabilities"].values())) for row in answer["predictions"]
    ]


def v2_outputs(answer: Any) -> list[Answer]:
    if "predictions" in answer:  # a route of its own, outside the protocol
        return predictions(answer)
    outputs = {output["name"]: output for output in answer["outputs"]}
    width = outputs["probabilities"]["shape"][1]
    flat = outputs["probabilities"]["data"]
    rows = [flat[first : first + width] for first in range(0, len(flat), width)]
    return [Answer(label, row) for label, row in zip(outputs["label"]["data"], rows, strict=True)]


def of_perceptd(work: Work) -> dict[str, str]:
    return {
        "PERCEPTD_DATA_DIR": "store",
        "PERCEPTD_PORT": str(PORT),
        "PERCEPTD_PROCESSES": "1",
        "PERCEPTD_WORKERS": "0",
        "PERCEPTD_ACCESS_LOG": "0",
        "PERCEPTD_LOG_LEVEL": "warning",
    }


def of_peer(work: Work, **more: str) -> dict[str, str]:
    return {
        "CHECKPOINT": str(PRETRAINED / work.model),
        "PORT": str(PORT),
        "RUNTIME": "torch",
        **more,
    }


AS_PERCEPTD = posted("/predict_proba", "/predict/image?model=mnist-cnn")
FLOOR = Server(
    name="floor",
    title="floor: FastAPI {}, no model",
    command=(sys.executable, "-m", "benchmarks.floor", "--port", str(FLOOR_PORT)),
    environment=lambda _: {},
    call=AS_PERCEPTD,
    answers=None,
    packages=("fastapi",),
    port=FLOOR_PORT,
)
SERVERS = (
    Server(
        name="perceptd",
        title="**perceptd {}**",
        command=tuple(SERVE),
        environment=of_perceptd,
        call=AS_PERCEPTD,
        answers=predictions,
        packages=("perceptd",),
    ),
    Server(
        name="fastapi",
        title="FastAPI {} as in tutorials, torch",
        command=(sys.executable, str(SOURCES / "fastapi" / "server.py")),
        environment=of_peer,
        call=posted("/predict", "/image"),
        answers=predictions,
        packages=("fastapi",),
    ),
)
