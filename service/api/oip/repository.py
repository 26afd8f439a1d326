"""`/v2/repository`: Triton's extension of the protocol by which models are loaded and unloaded."""

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
    asked: Annotated[IndexRequest, Depends(read_index_request)],
    engine: EngineDep,
    repository: RepositoryDep,
) -> RepositoryIndex:
    """Every version of every model, and whether it is loaded here.

    A version that is not may be asked for all the same, if its model serves: it loads then.
    """
    entries = [entry(engine, model, number) for model, number in repository.numbers()]
    return RepositoryIndex([one for one in entries if one.state == "READY" or not asked.ready])


@changes.post("/load", openapi_extra=body("load"))
def load(
    model: ModelName,
    asked: Annotated[LoadRequest, Depends(read_load_request)],
    engine: EngineDep,
    repository: RepositoryDep,
) -> IndexEntry:
    """Have a model that was unloaded serve again, with the version that is its production.

    It is loaded and warm before it serves. For a model that serves, nothing changes. Neither a
    configuration nor files are taken from the request.
    """
    for name in asked.parameters or {}:
        if name == "config" or name.startswith("file:"):
            expected = "neither a configuration nor files: a model comes from the store alone"
            raise invalid(["parameters", name], expected, "one")
    version = repository.production_of(model)
    engine.warm(model, version)
    repository.load(model)
    engine.refresh()
    return entry(engine, model, version)


@changes.post("/unload", openapi_extra=body("load"))
def unload(
    model: ModelName,
    asked: Annotated[LoadRequest, Depends(read_load_request)],
    engine: EngineDep,
    repository: RepositoryDep,
) -> IndexEntry:
    """Take a model out of service: in every process of the store, also after a restart.

    It serves again when it is loaded, or when a version of it is promoted.
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
