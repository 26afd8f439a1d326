"""`POST /predict`, `/predict_proba` and `/predict/image`."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.datastructures import UploadFile

from perceptd.models.pictures.picture import PictureError
from perceptd.models.preprocessing import InputError, from_bytes, from_picture
from perceptd.service.api.deps import (
    CallerDep,
    EngineDep,
    PredictionDep,
    SettingsDep,
    answered_by,
    media_type,
    require_predict_token,
)
from perceptd.service.api.media import (
    FORM_TYPE,
    JSON_TYPE,
    PICTURE_MODEL,
    PICTURE_TYPES,
    RAW_TYPE,
)
from perceptd.service.api.operations import PREDICTION, body, documented
from perceptd.service.errors import InvalidInputError, UnsupportedMediaTypeError
from perceptd.service.inference.answers import Rows
from perceptd.service.inference.encoder import with_labels, with_pixels, with_probabilities
from perceptd.service.inference.engine import Engine
from perceptd.service.inference.loaded_version import LoadedVersion
from perceptd.service.schemas.responses import (
    PredictImageResponse,
    PredictProbaResponse,
    PredictResponse,
)
from perceptd.service.schemas.validation import invalid
from perceptd.service.settings import Settings

PICTURE_PARAMETERS = ("model", "version", "pixels")

router = APIRouter(
    tags=["predict"],
    dependencies=[Depends(require_predict_token)],
    responses=documented(*PREDICTION),
)


@router.post("/predict", response_model=PredictResponse, openapi_extra=body("prediction"))
async def predict(
    request: Request, prediction: PredictionDep, engine: EngineDep, caller: CallerDep
) -> Response:
    """The label of each row."""
    version = answered_by(request, await engine.find(prediction.model, prediction.version))
    answer = await version.answer(prediction.rows, caller)
    return Response(with_labels(version, answer), media_type=JSON_TYPE)


@router.post(
    "/predict_proba", response_model=PredictProbaResponse, openapi_extra=body("prediction")
)
async def predict_proba(
    request: Request, prediction: PredictionDep, engine: EngineDep, caller: CallerDep
) -> Response:
    """The label of each row with the probability of every label."""
    version = answered_by(request, await engine.find(prediction.model, prediction.version))
    answer = await version.answer(prediction.rows, caller)
    return Response(with_probabilities(version, answer), media_type=JSON_TYPE)


@router.post("/predict/image", response_model=PredictImageResponse, openapi_extra=body("picture"))
async def predict_image(
    request: Request,
    engine: EngineDep,
    settings: SettingsDep,
    caller: CallerDep,
    model: Annotated[str, Query(description="A model that reads pictures.")] = PICTURE_MODEL,
    version: Annotated[int | None, Query(ge=1, description="Default: production.")] = None,
    pixels: Annotated[
        bool, Query(description="Answer the pixels that the network saw as well.")
    ] = False,
) -> Response:
    """Read the digit in a picture.

    The picture may have any size and colours, dark on light or light on dark: it is cropped,
    inverted if need be, scaled into 20 x 20 and centred by mass, as MNIST was. 784 raw bytes are
    taken as they are: 28 rows of grey values, 0 the background and 255 the ink.

    `pixels=true` adds what the network saw: a row of `inputs` for `/predict` or `/feedback` with
    `"dtype": "uint8"`, so that a picture can be sent back with its right label.
    """
    for name in request.query_params:
        if name not in PICTURE_PARAMETERS:
            raise wrong_picture(request, ["query", name], known(PICTURE_PARAMETERS), "another")
    loaded = answered_by(request, await engine.find(model, version))
    if loaded.spec.input.picture is None:
        expected, got = "a model that reads pictures", f"{model}, which takes numbers"
        raise wrong_picture(request, ["query", "model"], expected, got)
    rows = await picture_rows(request, loaded, engine, settings)
    answer = await loaded.answer(rows, caller)
    if pixels:
        return Response(with_pixels(loaded, answer, rows), media_type=JSON_TYPE)
    return Response(with_probabilities(loaded, answer), media_type=JSON_TYPE)


async def picture_rows(
    request: Request, version: LoadedVersion, engine: Engine, settings: Settings
) -> Rows:
    """The picture of a body or a form, as one row (1, *spec.input.shape)."""
    spec = version.spec.input
    kind = media_type(request)
    try:
        if kind == RAW_TYPE:
            return from_bytes(spec, await request.body())
        if kind == FORM_TYPE:
            body = await form_file(request)
        elif kind in PICTURE_TYPES:
            body = await request.body()
        else:
            types = ", ".join((*PICTURE_TYPES, RAW_TYPE, FORM_TYPE))
            raise UnsupportedMediaTypeError(
                f"the body must be one of {types}, got {kind or 'no Content-Type'}"
            )
        return await engine.run_in_thread(read_picture, version, body, settings.max_picture_pixels)
    except (PictureError, InputError) as error:
        raise wrong_picture(request, ["body"], error.expected, error.got) from None


def read_picture(version: LoadedVersion, body: bytes, max_pixels: int) -> Rows:
    return from_picture(version.spec.input, body, max_pixels=max_pixels)


async def form_file(request: Request) -> bytes:
    """The field `file` of a multipart form that has no other field."""
    got = "no such field"
    try:
        async with request.form(max_files=1, max_fields=1) as form:
            for name in form:
                if name != "file":
                    expected = f"{known(['file'])}; the model goes into the address: ?model=..."
                    raise wrong_picture(request, ["body", name], expected, "another")
            file = form.get("file")
            if isinstance(file, UploadFile):
                return await file.read()
            got = "text" if file else got
    except UnicodeError:
        got = "a form in a charset that cannot be read"
    raise wrong_picture(request, ["body", "file"], "a PNG or JPEG file", got)


def known(names: Sequence[str]) -> str:
    return f"no field of this name (known: {', '.join(names)})"


def wrong_picture(
    request: Request, loc: list[str | int], expected: str, got: str
) -> InvalidInputError:
    """An error with a command that works on this server."""
    example = f"curl -F file=@digit.png '{request.base_url}predict/image?model=mnist-cnn'"
    return invalid(loc, expected, got, example)
