"""`GET /health/live` and `/health/ready`."""

from fastapi import APIRouter

from perceptd.service.api.deps import DrainingDep, EngineDep
from perceptd.service.api.operations import documented
from perceptd.service.errors import DrainingError, ModelUnavailableError
from perceptd.service.schemas.responses import Live, Ready

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
async def live() -> Live:
    """The process responds."""
    return Live()


@router.get("/ready", responses=documented(ModelUnavailableError, DrainingError))
async def ready(engine: EngineDep, draining: DrainingDep) -> Ready:
    """Every production version is loaded and warm, and the server is not shutting down."""
    if draining.is_set():
        raise DrainingError
    if engine.failures:
        raise ModelUnavailableError(
            "; ".join(f"{model}: {reason}" for model, reason in engine.failures.items())
        )
    if not engine.production:
        raise ModelUnavailableError("no model is loaded")
    return Ready(models={name: loaded.version for name, loaded in engine.production.items()})
