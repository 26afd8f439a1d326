"""The servers of the serving benchmark: how to start each, send it requests and read its answers.

perceptd serves all its models. A peer serves the one model of a work, as its own documentation
shows; the peers' files are in `benchmarks/peers/`, their environments in `.peers/`.
"""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from benchmarks.load import Call
from benchmarks.servers import SERVE, alone
from benchmarks.works import PRETRAINED, Answer, Work

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = ROOT / ".peers"
FLOOR_PORT = 8841
PORT = 8842  # peers open further ports, up to 8846
RAW = "application/octet-stream"


def predictions(answer: Any) -> list[Answer]:
    return [
        Answer(row["label"], list(row["probabilities"].values())) for row in answer["predictions"]
    ]


@dataclass(frozen=True)
class Server:
    """A server. Works with the same `environment` share one process.

    `title` has placeholders for versions of packages. `answers` reads a response; None means that
    the server returns a constant. `peer` is its folder in `benchmarks/peers/` and the name of its
    virtual environment in `.peers/`.
    """

    name: str
    title: str
    command: tuple[str, ...]
    environment: Callable[[Work], dict[str, str]]
    call: Callable[[Work], Call]
    answers: Callable[[Any], list[Answer]] | None = predictions
    peer: str | None = None
    needs: str | None = None
    port: int = PORT

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def missing(self) -> str | None:
        """What must be installed before it can start; None if nothing is missing."""
        if self.needs and not shutil.which(self.needs):
            return f"{self.needs} is not installed"
        if self.peer and not (environment_of(self.peer) / ".ready").exists():
            return f"{environment_of(self.peer)} is missing: run make bench-peers"
        return None

    @property
    def titled(self) -> str:
        """`title` with the versions of the installed packages."""
        path = [str(site) for site in environment_of(self.peer).glob("lib/*/site-packages")]
        found = {one.name.lower(): one.version for one in distributions(path=path)}
        return self.title.format_map(found)


def environment_of(peer: str | None) -> Path:
    return ENVIRONMENTS / peer if peer else Path(sys.prefix)


def in_environment(peer: str, program: str = "python") -> str:
    return str(environment_of(peer) / "bin" / program)


def posted(json_path: str, raw_path: str) -> Callable[[Work], Call]:
    """The same JSON body that perceptd takes, or raw bytes."""

    def call(work: Work) -> Call:
        return Call(raw_path, work.raw, RAW) if work.raw else Call(json_path, work.json)

    return call


def as_v2(work: Work) -> Call:
    """A request of the Open Inference Protocol: tensors are flat lists of JSON numbers."""
    if work.raw:
        return Call("/image", work.raw, RAW)
    shape = [len(work.rows), len(work.rows[0])]
    data = [number for row in work.rows for number in row]
    tensor = {"name": "x", "shape": shape, "datatype": "FP32", "data": data}
    return Call("/v2/models/classifier/infer", json.dumps({"inputs": [tensor]}).encode())


def v2_outputs(answer: Any) -> list[Answer]:
    if "predictions" in answer:  # from a custom route outside the protocol
        return predictions(answer)
    outputs = {output["name"]: output for output in answer["outputs"]}
    width = outputs["probabilities"]["shape"][1]
    flat = outputs["probabilities"]["data"]
    rows = [flat[first : first + width] for first in range(0, len(flat), width)]
    return [Answer(label, row) for label, row in zip(outputs["label"]["data"], rows, strict=True)]


def of_perceptd(_: Work) -> dict[str, str]:
    return alone(Path("store"), PORT)


def of_peer(runtime: str = "torch", **more: str) -> Callable[[Work], dict[str, str]]:
    """The environment of a peer that serves the work's model, with its own variables `more`."""

    def environment(work: Work) -> dict[str, str]:
        folder = str(PRETRAINED / work.model)
        return {"CHECKPOINT": folder, "PORT": str(PORT), "RUNTIME": runtime, **more}

    return environment


def of_litserve(runtime: str = "torch", **more: str) -> Callable[[Work], dict[str, str]]:
    """One process per route: LitServe starts a copy of the model for each."""

    def environment(work: Work) -> dict[str, str]:
        return {**of_peer(runtime, **more)(work), "INPUT": "raw" if work.raw else "json"}

    return environment


AS_PERCEPTD = posted("/predict_proba", "/predict/image?model=mnist-cnn")
AS_PLAIN = posted("/predict", "/image")

FLOOR = Server(
    name="floor",
    title="floor: FastAPI {fastapi}, no model",
    command=(sys.executable, "-m", "benchmarks.floor", "--port", str(FLOOR_PORT)),
    environment=lambda _: {},
    call=AS_PERCEPTD,
    answers=None,
    port=FLOOR_PORT,
)
PERCEPTD = Server(
    name="perceptd",
    title="**perceptd {perceptd}**",
    command=tuple(SERVE),
    environment=of_perceptd,
    call=AS_PERCEPTD,
)
FASTAPI = Server(
    name="fastapi",
    title="FastAPI {fastapi} as in tutorials, torch",
    command=(sys.executable, str(SOURCES / "fastapi" / "server.py")),
    environment=of_peer(),
    call=AS_PLAIN,
)
LITSERVE = Server(
    name="litserve",
    title="LitServe {litserve}, torch",
    peer="litserve",
    command=(in_environment("litserve"), str(SOURCES / "litserve" / "server.py")),
    environment=of_litserve(),
    call=posted("/predict", "/predict"),
)
BENTOML_SETTINGS = {"BENTOML_DO_NOT_TRACK": "true"}
BENTOML = Server(
    name="bentoml",
    title="BentoML {bentoml}, torch",
    peer="bentoml",
    command=(
        *(in_environment("bentoml", "bentoml"), "serve", "server:Classifier"),
        *("--working-dir", str(SOURCES / "bentoml")),
        *("--host", "127.0.0.1", "--port", str(PORT)),
    ),
    environment=of_peer(**BENTOML_SETTINGS),
    call=AS_PLAIN,
)
MLSERVER_SETTINGS = {
    "MLSERVER_HOST": "127.0.0.1",
    "MLSERVER_HTTP_PORT": str(PORT),
    "MLSERVER_GRPC_PORT": str(PORT + 1),
    "MLSERVER_METRICS_PORT": str(PORT + 2),
    "MLSERVER_PARALLEL_WORKERS": "0",
    "MLSERVER_DEBUG": "false",
}
MLSERVER = Server(
    name="mlserver",
    title="MLServer {mlserver}, torch",
    peer="mlserver",
    command=(in_environment("mlserver", "mlserver"), "start", str(SOURCES / "mlserver")),
    environment=of_peer(**MLSERVER_SETTINGS),
    call=as_v2,
    answers=v2_outputs,
)
RAY = Server(
    name="ray",
    title="Ray Serve {ray}, torch",
    peer="ray",
    command=(in_environment("ray"), str(SOURCES / "ray" / "server.py")),
    environment=of_peer(RAY_USAGE_STATS_ENABLED="0", RAY_SERVE_THROUGHPUT_OPTIMIZED="1"),
    call=AS_PLAIN,
)
TORCHSERVE = Server(
    name="torchserve",
    title="TorchServe {torchserve}, torch",
    peer="torchserve",
    needs="java",
    command=(
        *(in_environment("torchserve", "torchserve"), "--start", "--foreground"),
        *("--disable-token-auth", "--no-config-snapshots"),
        *("--model-store", str(ENVIRONMENTS / "torchserve"), "--models", "classifier.mar"),
        *("--ts-config", str(SOURCES / "torchserve" / "config.properties")),
        *("--log-config", str(SOURCES / "torchserve" / "log4j2.xml")),
    ),
    environment=of_peer(),
    call=posted("/predictions/classifier", "/predictions/classifier"),
)
SERVERS = (
    PERCEPTD,
    FASTAPI,
    LITSERVE,
    replace(
        LITSERVE,
        name="litserve-batching",
        title="LitServe {litserve}, torch, batching",
        environment=of_litserve(BATCHING="1"),
    ),
    replace(
        LITSERVE,
        name="litserve-onnx",
        title="LitServe {litserve}, ONNX Runtime {onnxruntime}",
        environment=of_litserve("onnx"),
    ),
    BENTOML,
    replace(
        BENTOML,
        name="bentoml-onnx",
        title="BentoML {bentoml}, ONNX Runtime {onnxruntime}",
        environment=of_peer("onnx", **BENTOML_SETTINGS),
    ),
    MLSERVER,
    replace(
        MLSERVER,
        name="mlserver-onnx",
        title="MLServer {mlserver}, ONNX Runtime {onnxruntime}",
        environment=of_peer("onnx", **MLSERVER_SETTINGS),
    ),
    RAY,
    TORCHSERVE,
)
