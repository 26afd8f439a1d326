"""`POST /v2/models/{model}/infer`: predictions in the Open Inference Protocol."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response

from perceptd.service.api.deps import (
    CallerDep,
    EngineDep,
    SettingsDep,
    answered_by,
    read_body,
    require_predict_token,
)
from perceptd.service.api.media import JSON_TYPE, RAW_TYPE
from perceptd.service.api.oip import codec
from perceptd.service.api.oip.schemas import InferResponse
from perceptd.service.api.oip.tensors import HEADER
from perceptd.service.api.operations import PREDICTION, Responses, body, documented_v2
from perceptd.service.api.routes.models import ModelName, VersionNumber
from perceptd.service.inference.engine import Engine
from perceptd.service.inference.loaded_version import LoadedVersion
from perceptd.service.inference.pending import Caller
from perceptd.service.settings import Settings

JsonLength = Annotated[
    str | None,
    Header(
        alias=HEADER, description="Length of the JSON in bytes, if bytes of a tensor follow it."
    ),
]
ANSWER: Responses = {
    200: {
        "model": InferResponse,
        "description": "The requested tensors, in the JSON or as bytes that follow it.",
        "content": {RAW_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        "headers": {HEADER: {"schema": {"type": "string"}, "description": "Length of the JSON."}},
    }
}

router = APIRouter(
    prefix="/v2/models/{model}",
    tags=["open inference protocol"],
    dependencies=[Depends(require_predict_token)],
    responses={**documented_v2(*PREDICTION), **ANSWER},
    default_response_class=Response,
)


@router.post("/infer", openapi_extra=body("inference"))
async def infer(
    model: ModelName,
    request: Request,
    engine: EngineDep,
    settings: SettingsDep,
    caller: CallerDep,
    json_length: JsonLength = None,
) -> Response:
    """Predict with the production version of a model.

    The input `x` holds N rows of the model's shape as FP32. Pictures may be [N, 784], [N, 28, 28]
    or [N, 1, 28, 28], as FP32 in 0..1 or as UINT8 in 0..255. The outputs are `label` and
    `probabilities`. With the parameter `classification`, `probabilities` has the most likely
    labels instead. Requests and answers may use the binary tensor extension.
    """
    return await predict(engine, await engine.find(model), request, caller, settings, json_length)


@router.post("/versions/{version}/infer", openapi_extra=body("inference"))
async def infer_version(
    model: ModelName,
    version: VersionNumber,
    request: Request,
    engine: EngineDep,
    settings: SettingsDep,
    caller: CallerDep,
    json_length: JsonLength = None,
) -> Response:
    """Predict with one version of a model, which is loaded first if necessary."""
    loaded = await engine.find(model, version)
    return await predict(engine, loaded, request, caller, settings, json_length)


async def predict(
    engine: Engine,
    version: LoadedVersion,
    request: Request,
    caller: Caller,
    settings: Settings,
    json_length: str | None,
) -> Response:
    version.batcher.admit(1, caller.deadline)  # refuse before the body is read
    body = await request.body()
    answered_by(request, version)
    inference = await read_body(
        engine, codec.read, body, json_length, version.spec, settings.max_rows
    )
    reply = codec.write(inference, version, await version.answer(inference.rows, caller))
    if reply.json_length is None:
        return Response(reply.content, media_type=JSON_TYPE)
    headers = {HEADER: str(reply.json_length)}
    return Response(reply.content, media_type=RAW_TYPE, headers=headers)
