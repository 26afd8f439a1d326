"""`POST /feedback`: stores corrected labels for later trainings."""

from anyio import to_thread
from fastapi import APIRouter, Depends

from perceptd.models.preprocessing import from_numbers
from perceptd.models.spec import ModelSpec
from perceptd.service.api.deps import (
    EngineDep,
    FeedbackDep,
    FeedbackRequestDep,
    MetricsDep,
    require_any_token,
)
from perceptd.service.api.operations import BODY, READ, body, documented
from perceptd.service.errors import ModelNotFoundError, ModelUnavailableError
from perceptd.service.schemas.requests import FeedbackRequest
from perceptd.service.schemas.responses import FeedbackPublic
from perceptd.service.store.feedback import Feedback

router = APIRouter(
    tags=["feedback"],
    dependencies=[Depends(require_any_token)],
    responses=documented(ModelNotFoundError, ModelUnavailableError, *BODY, *READ),
)


@router.post("/feedback", status_code=201, openapi_extra=body("feedback"))
async def give_feedback(
    request: FeedbackRequestDep, engine: EngineDep, feedback: FeedbackDep, metrics: MetricsDep
) -> FeedbackPublic:
    """Store rows with their correct labels, all or none; jobs with `include_feedback` use them."""
    spec = (await engine.find(request.model)).spec
    # Not by `engine.run_in_thread`: predictions must not wait for the database.
    total = await to_thread.run_sync(store, feedback, spec, request)
    kept = len(request.labels)
    metrics.feedback(request.model, kept)
    return FeedbackPublic(model=request.model, kept=kept, total=total)


def store(feedback: Feedback, spec: ModelSpec, request: FeedbackRequest) -> int:
    """Store the rows, and return the new count of the model."""
    rows = from_numbers(spec.input, request.inputs, request.dtype)
    return feedback.add(request.model, rows, request.labels)
