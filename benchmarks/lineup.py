"""The servers of the serving benchmark: how to start each, send it requests and read its answers.

perceptd serves all its models. A peer serves the one model of a work, as its own documentation
shows; the peers' files are in `benchmarks/peers/`, their environments in `.peers/`. All run the
checkpoint in ONNX Runtime, as perceptd does, but FastAPI as in tutorials.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
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
    """A server.

    `title` has placeholders for versions of packages. `answers` reads a response; None means that
    the server returns a constant. `peer` is its folder in `benchmarks/peers/` and the name of its
    virtual environment in `.peers/`; a peer serves one model, and perhaps by one route alone.
    """

    name: str
    title: str
    command: tuple[str, ...]
    call: Callable[[Work], Call]
    answers: Callable[[Any], list[Answer]] | None = predictions
    variables: Mapping[str, str] = field(default_factory=dict)
    peer: str | None = None
    has_one_model: bool = True
    has_one_route: bool = False
    port: int = PORT

    def environment(self, work: Work) -> dict[str, str]:
        """The variables it starts with. Works with the same ones share one process."""
        found = dict(self.variables)
        if self.has_one_model:
            found |= {"CHECKPOINT": str(PRETRAINED / work.model), "PORT": str(self.port)}
        if self.has_one_route:
            found["INPUT"] = "raw" if work.raw else "json"
        return found

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def missing(self) -> str | None:
        """What must be installed before it can start; None if nothing is missing."""
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
        if work.raw:
            return Call(raw_path, work.raw, RAW)
        return Call(json_path, work.json, close=work.close)

    return call


def as_v2(work: Work) -> Call:
    """A request of the Open Inference Protocol: tensors are flat lists of JSON numbers."""
    if work.raw:
        return Call("/image", work.raw, RAW)
    shape = [len(work.rows), len(work.rows[0])]
    data = [number for row in work.rows for number in row]
    tensor = {"name": "x", "shape": shape, "datatype": "FP32", "data": data}
    body = json.dumps({"inputs": [tensor]}).encode()
    return Call("/v2/models/classifier/infer", body, close=work.close)


def v2_outputs(answer: Any) -> list[Answer]:
    if "predictions" in answer:  # from a custom route outside the protocol
        return predictions(answer)
    outputs = {output["name"]: output for output in answer["outputs"]}
    width = outputs["probabilities"]["shape"][1]
    flat = outputs["probabilities"]["data"]
    rows = [flat[first : first + width] for first in range(0, len(flat), width)]
    return [Answer(label, row) for label, row in zip(outputs["label"]["data"], rows, strict=True)]


AS_PERCEPTD = posted("/predict_proba", "/predict/image?model=mnist-cnn")
AS_PLAIN = posted("/predict", "/image")

FLOOR = Server(
    name="floor",
    title="floor: FastAPI {fastapi}, no model",
    command=(sys.executable, "-m", "benchmarks.floor", "--port", str(FLOOR_PORT)),
    has_one_model=False,
    call=AS_PERCEPTD,
    answers=None,
    port=FLOOR_PORT,
)
PERCEPTD = Server(
    name="perceptd",
    title="**perceptd {perceptd}**",
    command=tuple(SERVE),
    variables=alone(Path("store"), PORT),
    has_one_model=False,
    call=AS_PERCEPTD,
)
FASTAPI = Server(
    name="fastapi",
    title="FastAPI {fastapi} as in tutorials, torch",
    command=(sys.executable, str(SOURCES / "fastapi" / "server.py")),
    call=AS_PLAIN,
)
LITSERVE = Server(
    name="litserve",
    title="LitServe {litserve}",
    peer="litserve",
    command=(in_environment("litserve"), str(SOURCES / "litserve" / "server.py")),
    has_one_route=True,
    call=posted("/predict", "/predict"),
)
BENTOML = Server(
    name="bentoml",
    title="BentoML {bentoml}",
    peer="bentoml",
    command=(
        *(in_environment("bentoml", "bentoml"), "serve", "server:Classifier"),
        *("--working-dir", str(SOURCES / "bentoml")),
        *("--host", "127.0.0.1", "--port", str(PORT)),
    ),
    variables={"BENTOML_DO_NOT_TRACK": "true"},
    call=AS_PLAIN,
)
MLSERVER = Server(
    name="mlserver",
    title="MLServer {mlserver}",
    peer="mlserver",
    command=(in_environment("mlserver", "mlserver"), "start", str(SOURCES / "mlserver")),
    variables={
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": str(PORT),
        "MLSERVER_GRPC_PORT": str(PORT + 1),
        "MLSERVER_METRICS_PORT": str(PORT + 2),
        "MLSERVER_PARALLEL_WORKERS": "0",
        "MLSERVER_DEBUG": "false",
    },
    call=as_v2,
    answers=v2_outputs,
)
MOSEC = Server(
    name="mosec",
    title="mosec {mosec}, waits 10 ms for a batch",
    peer="mosec",
    command=(
        *(in_environment("mosec"), str(SOURCES / "mosec" / "server.py")),
        *("--address", "127.0.0.1", "--port", str(PORT), "--log-level", "error"),
    ),
    has_one_route=True,
    call=posted("/inference", "/inference"),
)
RAY_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
RAY = Server(
    name="ray",
    title="Ray Serve {ray}",
    peer="ray",
    command=(in_environment("ray"), str(SOURCES / "ray" / "server.py")),
    variables=RAY_SETTINGS,
    call=AS_PLAIN,
)
SERVERS = (
    PERCEPTD,
    FASTAPI,
    LITSERVE,
    replace(
        LITSERVE,
        name="litserve-batching",
        title="LitServe {litserve}, batching",
        variables={"BATCHING": "1"},
    ),
    BENTOML,
    MLSERVER,
    MOSEC,
    replace(
        MOSEC,
        name="mosec-no-wait",
        title="mosec {mosec}, does not wait",
        command=(*MOSEC.command, "--wait", "0"),
    ),
    RAY,
    replace(
        RAY,
        name="ray-haproxy",
        title="Ray Serve {ray} behind HAProxy",
        variables={**RAY_SETTINGS, "RAY_SERVE_ENABLE_HA_PROXY": "1"},
    ),
)
