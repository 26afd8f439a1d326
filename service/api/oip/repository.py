"""`/v2/repository`: Triton's protocol extension that lists, loads and unloads models."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from perceptd.service.api.deps import (
    EngineDep,
    RepositoryDep,
    require_admin_token,
    require_predict_token,
)
from perceptd.service.api.oip.requests import (
    IndexRequest,
    LoadRequest,
    index_request,
    load_request,
    parse,
)
from perceptd.service.api.oip.schemas import IndexEntry, RepositoryIndex
from perceptd.service.api.operations import BODY, READ, body, documented_v2
from perceptd.service.api.routes.models import ModelName
from perceptd.service.errors import (
    ConflictError,
    ForbiddenError,
    ModelNotFoundError,
)
from perceptd.service.inference.engine import Engine
from perceptd.service.schemas.validation import invalid

router = APIRouter(
    prefix="/v2/repository",
    tags=["open inference protocol"],
    dependencies=[Depends(require_predict_token)],
    responses=documented_v2(*BODY, *READ),
)
changes = APIRouter(
    prefix="/models/{model}",
    dependencies=[Depends(require_admin_token)],
    responses=documented_v2(ForbiddenError, ModelNotFoundError, ConflictError),
)


async def read_index_request(request: Request) -> IndexRequest:
    return parse(index_request, await request.body() or b"{}")


async def read_load_request(request: Request) -> LoadRequest:
    return parse(load_request, await request.body() or b"{}")


@router.post("/index", openapi_extra=body("index"))
def index(
    request: Annotated[IndexRequest, Depends(read_index_request)],
    engine: EngineDep,
    repository: RepositoryDep,
) -> RepositoryIndex:
    """List every version of every model, and whether this process has it loaded.

    A version that is not loaded still answers if its model serves: the first request loads it.
    """
    entries = [entry(engine, model, number) for model, number in repository.numbers()]
    return RepositoryIndex([one for one in entries if one.state == "READY" or not request.ready])


@changes.post("/load", openapi_extra=body("load"))
def load(
    model: ModelName,
    request: Annotated[LoadRequest, Depends(read_load_request)],
    engine: EngineDep,
    repository: RepositoryDep,
) -> IndexEntry:
    """Put an unloaded model back into service with its production version.

    The version is loaded and warm before it serves. Loading a model that serves changes nothing.
    A request with a configuration or files is refused.
    """
    for name in request.parameters or {}:
        if name == "config" or name.startswith("file:"):
            expected = "neither a configuration nor files: models come from the store only"
            raise invalid(["parameters", name], expected, "one")
    version = repository.production_of(model)
    engine.warm(model, version)
    repository.load(model)
    engine.refresh()
    return entry(engine, model, version)


@changes.post("/unload", openapi_extra=body("load"))
def unload(
    model: ModelName,
    request: Annotated[LoadRequest, Depends(read_load_request)],
    engine: EngineDep,
    repository: RepositoryDep,
) -> IndexEntry:
    """Take a model out of service, in every process that uses the store and after restarts.

    It serves again after a load or a promotion.
    """
    version = repository.production_of(model)
    repository.unload(model)
    engine.refresh()
    return entry(engine, model, version)


def entry(engine: Engine, model: str, version: int) -> IndexEntry:
    reason = engine.why_not_loaded(model, version)
    state = "UNAVAILABLE" if reason else "READY"
    return IndexEntry(name=model, version=str(version), state=state, reason=reason)


router.include_router(changes)
