"""`GET /v2`: metadata, health and configuration in the Open Inference Protocol."""

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool

from perceptd.service.api.deps import (
    DrainingDep,
    EngineDep,
    RepositoryDep,
    SettingsDep,
    require_predict_token,
)
from perceptd.service.api.oip import codec, tensors
from perceptd.service.api.oip.schemas import (
    ModelConfiguration,
    ModelMetadata,
    ModelReady,
    Reshape,
    ServerLive,
    ServerMetadata,
    ServerReady,
    TensorConfig,
    TensorMetadata,
)
from perceptd.service.api.operations import LOADED_VERSION, READ, documented_v2
from perceptd.service.api.routes import health
from perceptd.service.api.routes.models import ModelName, VersionNumber
from perceptd.service.errors import DrainingError, ModelUnavailableError, UnauthorizedError
from perceptd.service.inference.loaded_version import LoadedVersion
from perceptd.service.store.repository import Repository

# As Triton names them.
EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration", "model_repository"]
PLATFORMS = {"onnx": "onnxruntime_onnx", "torch": "pytorch"}

router = APIRouter(prefix="/v2", tags=["open inference protocol"])
of_a_model = APIRouter(
    prefix="/models/{model}",
    dependencies=[Depends(require_predict_token)],
    responses=documented_v2(*LOADED_VERSION, *READ),
)


@router.get(
    "", dependencies=[Depends(require_predict_token)], responses=documented_v2(UnauthorizedError)
)
async def server_metadata(request: Request) -> ServerMetadata:
    """The server's name, its version and the protocol extensions that it supports."""
    app = request.app
    return ServerMetadata(name=app.title, version=app.version, extensions=EXTENSIONS)


@router.get("/health/live")
async def server_live() -> ServerLive:
    """The process responds."""
    return ServerLive()


@router.get("/health/ready", responses=documented_v2(ModelUnavailableError, DrainingError))
async def server_ready(engine: EngineDep, draining: DrainingDep) -> ServerReady:
    """Every production version is loaded and warm, except those of unloaded models."""
    await health.ready(engine, draining)
    return ServerReady()


@of_a_model.get("")
async def model_metadata(
    model: ModelName, engine: EngineDep, repository: RepositoryDep
) -> ModelMetadata:
    """The input and output tensors of a model."""
    return await metadata(await engine.find(model), repository)


@of_a_model.get("/versions/{version}")
async def version_metadata(
    model: ModelName, version: VersionNumber, engine: EngineDep, repository: RepositoryDep
) -> ModelMetadata:
    """The input and output tensors of a version, which is loaded first if necessary."""
    return await metadata(await engine.find(model, version), repository)


@of_a_model.get("/ready")
async def model_ready(model: ModelName, engine: EngineDep) -> ModelReady:
    """The production version of a model is loaded and warm."""
    await engine.find(model)
    return ModelReady(name=model)


@of_a_model.get("/versions/{version}/ready")
async def version_ready(model: ModelName, version: VersionNumber, engine: EngineDep) -> ModelReady:
    """A version is loaded and warm; it is loaded first if necessary."""
    await engine.find(model, version)
    return ModelReady(name=model)


@of_a_model.get("/config", response_model_exclude_none=True)
async def model_config(
    model: ModelName, engine: EngineDep, settings: SettingsDep
) -> ModelConfiguration:
    """Triton's model configuration: the fields that apply to this server."""
    return configuration(await engine.find(model), settings.max_rows)


@of_a_model.get("/versions/{version}/config", response_model_exclude_none=True)
async def version_config(
    model: ModelName, version: VersionNumber, engine: EngineDep, settings: SettingsDep
) -> ModelConfiguration:
    """Triton's model configuration of one version, which is loaded first if necessary."""
    return configuration(await engine.find(model, version), settings.max_rows)


async def metadata(loaded: LoadedVersion, repository: Repository) -> ModelMetadata:
    spec = loaded.spec
    numbers = await run_in_threadpool(repository.numbers, loaded.model)
    return ModelMetadata(
        name=loaded.model,
        versions=[str(number) for _, number in numbers],
        platform=PLATFORMS[loaded.runtime.name],
        inputs=[
            TensorMetadata(
                name=spec.input.name, datatype=tensors.FP32, shape=[-1, *spec.input.shape]
            )
        ],
        outputs=[
            TensorMetadata(name=codec.LABEL, datatype=tensors.BYTES, shape=[-1]),
            TensorMetadata(
                name=codec.PROBABILITIES, datatype=tensors.FP32, shape=[-1, len(spec.labels)]
            ),
        ],
    )


def configuration(loaded: LoadedVersion, max_rows: int) -> ModelConfiguration:
    spec = loaded.spec
    return ModelConfiguration(
        name=loaded.model,
        platform=PLATFORMS[loaded.runtime.name],
        max_batch_size=max_rows,
        input=[
            TensorConfig(name=spec.input.name, data_type="TYPE_FP32", dims=list(spec.input.shape))
        ],
        output=[
            TensorConfig(
                name=codec.LABEL, data_type="TYPE_STRING", dims=[1], reshape=Reshape(shape=[])
            ),
            TensorConfig(name=codec.PROBABILITIES, data_type="TYPE_FP32", dims=[len(spec.labels)]),
        ],
    )


router.include_router(of_a_model)
