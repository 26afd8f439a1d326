"""`GET /models/{model}/drift`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from perceptd.service.api.deps import DriftDep, EngineDep, require_predict_token
from perceptd.service.api.problems import documented
from perceptd.service.api.routes.drift_answers import drift_public
from perceptd.service.api.routes.models import ModelName
from perceptd.service.drift.schemas import DriftPublic
from perceptd.service.errors import (
    InvalidInputError,
    ModelNotFoundError,
    ModelUnavailableError,
    StoreError,
    UnauthorizedError,
    VersionNotFoundError,
)

router = APIRouter(
    tags=["models"],
    dependencies=[Depends(require_predict_token)],
    responses=documented(
        UnauthorizedError,
        ModelNotFoundError,
        VersionNotFoundError,
        InvalidInputError,
        ModelUnavailableError,
        StoreError,
    ),
)


@router.get("/models/{model}/drift")
async def get_drift(
    model: ModelName,
    engine: EngineDep,
    drift: DriftDep,
    version: Annotated[
        int | None, Query(ge=1, examples=[1], description="Default: the one in production.")
    ] = None,
) -> DriftPublic:
    """How the latest inputs and predictions of a model compare with those of its training."""
    return drift_public(await engine.find(model, version), drift)
