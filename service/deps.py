"""What routes ask for, as annotated dependencies.

All are coroutines: FastAPI runs plain functions in threads, and a prediction must not wait for one.
"""

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.auth import check_token
from service.engine import Engine
from service.errors import UnsupportedMediaTypeError
from service.media import JSON_TYPE
from service.repository import Repository
from service.request_schemas import PredictRequest
from service.settings import Settings

JSON_TYPES = (JSON_TYPE, "")  # an absent header is taken for JSON

bearer = HTTPBearer(
    auto_error=False, description="Needed where the server was given PERCEPTD_PREDICT_TOKEN."
)


async def get_settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def get_engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


async def get_repository(request: Request) -> Repository:
    repository: Repository = request.app.state.repository
    return repository


SettingsDep = Annotated[Settings, Depends(get_settings)]
EngineDep = Annotated[Engine, Depends(get_engine)]
RepositoryDep = Annotated[Repository, Depends(get_repository)]


async def require_predict_token(
    settings: SettingsDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
) -> None:
    if settings.predict_token:
        check_token(credentials.credentials if credentials else None, settings.predict_token)


def media_type(request: Request) -> str:
    """The body's media type without parameters, lower case; empty where the header is absent."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_prediction(request: Request, engine: EngineDep) -> PredictRequest:
    """The body, validated against the schema of the model it names."""
    if (kind := media_type(request)) not in JSON_TYPES:
        raise UnsupportedMediaTypeError(
            f"the body must be JSON; add the header Content-Type: {JSON_TYPE} (got {kind})"
        )
    return engine.schemas.parse(await request.body())


PredictionDep = Annotated[PredictRequest, Depends(read_prediction)]
