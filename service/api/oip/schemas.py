"""Answers of the Open Inference Protocol."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from perceptd.service.schemas.responses import example

INPUT = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
LABEL = {"name": "label", "datatype": "BYTES", "shape": [-1]}
PROBABILITIES = {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}
INDEX_ENTRY: dict[str, Any] = {"name": "dnn", "version": "1", "state": "READY", "reason": ""}


class ErrorBody(BaseModel):
    """The body of every error of the Open Inference Protocol."""

    error: str


class ServerLive(BaseModel):
    model_config = example(live=True)

    live: Literal[True] = True


class ServerReady(BaseModel):
    model_config = example(ready=True)

    ready: Literal[True] = True


class ServerMetadata(BaseModel):
    model_config = example(
        name="perceptd", version="0.1.0", extensions=["binary_tensor_data", "classification"]
    )

    name: str
    version: str
    extensions: list[str]


class ModelReady(BaseModel):
    model_config = example(name="dnn", ready=True)

    name: str
    ready: Literal[True] = True


class TensorMetadata(BaseModel):
    name: str
    datatype: str
    shape: list[int] = Field(description="-1 stands for any number of rows.")


class ModelMetadata(BaseModel):
    model_config = example(
        name="dnn",
        versions=["2", "1"],
        platform="onnxruntime_onnx",
        inputs=[INPUT],
        outputs=[LABEL, PROBABILITIES],
    )

    name: str
    versions: list[str] = Field(description="Versions that a request can name.")
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class Reshape(BaseModel):
    shape: list[int]


class TensorConfig(BaseModel):
    """`dims` is the shape of one row; `reshape` replaces it for scalars."""

    name: str
    data_type: str
    dims: list[int]
    reshape: Reshape | None = None


class ModelConfiguration(BaseModel):
    """Triton's model configuration: the fields that apply to this server."""

    model_config = example(
        name="dnn",
        platform="onnxruntime_onnx",
        max_batch_size=1024,
        input=[{"name": "x", "data_type": "TYPE_FP32", "dims": [2]}],
        output=[
            {"name": "label", "data_type": "TYPE_STRING", "dims": [1], "reshape": {"shape": []}},
            {"name": "probabilities", "data_type": "TYPE_FP32", "dims": [2]},
        ],
    )

    name: str
    platform: str
    max_batch_size: int = Field(description="Maximum number of rows in one request.")
    input: list[TensorConfig]
    output: list[TensorConfig]


class OutputTensor(BaseModel):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = Field(
        None, description="`binary_data_size`: bytes that follow the JSON instead of `data`."
    )
    data: list[str] | list[float] | None = Field(None, description="Flat, row by row.")


class InferResponse(BaseModel):
    model_config = ConfigDict(
        protected_namespaces=(),
        json_schema_extra={
            "examples": [
                {
                    "model_name": "dnn",
                    "model_version": "1",
                    "id": "42",
                    "outputs": [
                        {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["1"]},
                        {
                            "name": "probabilities",
                            "datatype": "FP32",
                            "shape": [1, 2],
                            "data": [0.0116, 0.9884],
                        },
                    ],
                }
            ]
        },
    )

    model_name: str
    model_version: str
    id: str | None = Field(None, description="The id of the request, if it had one.")
    outputs: list[OutputTensor]


class IndexEntry(BaseModel):
    model_config = example(**INDEX_ENTRY)

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str = Field(description="Why the version is unavailable.")


class RepositoryIndex(RootModel[list[IndexEntry]]):
    model_config = ConfigDict(json_schema_extra={"examples": [[INDEX_ENTRY]]})
