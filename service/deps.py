"""What routes ask for, as annotated dependencies.

All are coroutines: FastAPI runs plain functions in threads, and a prediction must not wait for one.
"""

import threading
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Header, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from service.auth import check_admin, check_any, check_predict
from service.batcher import Caller
from service.callers import MAX_TIMEOUT_MS, TIMEOUT_HEADER, caller
from service.drift import Drift
from service.engine import Engine
from service.errors import UnsupportedMediaTypeError
from service.feedback import Feedback
from service.intake import Intake
from service.jobs import Jobs
from service.media import JSON_TYPE
from service.metrics import Metrics
from service.plans import Planner
from service.repository import Repository
from service.request_schemas import FeedbackRequest, PredictRequest
from service.settings import Settings

JSON_TYPES = (JSON_TYPE, "")  # an absent header is taken for JSON

bearer = HTTPBearer(
    auto_error=False,
    description="Whatever changes something needs the admin token, which `perceptd token` prints. "
    "The rest needs one only where the server was given PERCEPTD_PREDICT_TOKEN.",
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


async def get_jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


async def get_intake(request: Request) -> Intake:
    intake: Intake = request.app.state.intake
    return intake


async def get_planner(request: Request) -> Planner:
    planner: Planner = request.app.state.planner
    return planner


async def get_feedback(request: Request) -> Feedback:
    feedback: Feedback = request.app.state.feedback
    return feedback


async def get_metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


async def get_drift(request: Request) -> Drift:
    drift: Drift = request.app.state.drift
    return drift


async def get_closing(request: Request) -> threading.Event:
    """Set when the server has been asked to end, so that streams end first."""
    closing: threading.Event = request.app.state.closing
    return closing


SettingsDep = Annotated[Settings, Depends(get_settings)]
EngineDep = Annotated[Engine, Depends(get_engine)]
RepositoryDep = Annotated[Repository, Depends(get_repository)]
JobsDep = Annotated[Jobs, Depends(get_jobs)]
PlannerDep = Annotated[Planner, Depends(get_planner)]
IntakeDep = Annotated[Intake, Depends(get_intake)]
FeedbackDep = Annotated[Feedback, Depends(get_feedback)]
MetricsDep = Annotated[Metrics, Depends(get_metrics)]
DriftDep = Annotated[Drift, Depends(get_drift)]
ClosingDep = Annotated[threading.Event, Depends(get_closing)]

TokenCheck = Callable[[str | None, SecretStr, SecretStr | None], None]


class RequireToken:
    """A dependency that lets a request pass if its bearer token passes a check."""

    def __init__(self, check: TokenCheck) -> None:
        self._check = check

    async def __call__(
        self,
        request: Request,
        settings: SettingsDep,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
    ) -> None:
        given = credentials.credentials if credentials else None
        self._check(given, request.app.state.admin_token, settings.predict_token)


require_predict_token = RequireToken(check_predict)
require_admin_token = RequireToken(check_admin)
require_any_token = RequireToken(check_any)


def media_type(request: Request) -> str:
    """The body's media type without parameters, lower case; empty where the header is absent."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def require_json(request: Request) -> None:
    """Raises `UnsupportedMediaTypeError` for a body of another kind."""
    if (kind := media_type(request)) not in JSON_TYPES:
        raise UnsupportedMediaTypeError(
            f"the body must be JSON; add the header Content-Type: {JSON_TYPE} (got {kind})"
        )


async def json_body(request: Request) -> bytes:
    await require_json(request)
    return await request.body()


JsonBodyDep = Annotated[bytes, Depends(json_body)]


async def read_prediction(body: JsonBodyDep, engine: EngineDep) -> PredictRequest:
    """The body, validated against the schema of the model it names."""
    return engine.schemas.parse(body, PredictRequest)


async def read_feedback(body: JsonBodyDep, engine: EngineDep) -> FeedbackRequest:
    """The body, validated against the schema of the model it names."""
    return engine.schemas.parse(body, FeedbackRequest)


async def get_caller(
    request: Request,
    timeout_ms: Annotated[
        int | None,
        Header(
            alias=TIMEOUT_HEADER,
            ge=1,
            le=MAX_TIMEOUT_MS,
            description="Milliseconds within which the answer is of use; later it is a 504.",
        ),
    ] = None,
) -> Caller:
    return caller(request.receive, timeout_ms)


PredictionDep = Annotated[PredictRequest, Depends(read_prediction)]
CallerDep = Annotated[Caller, Depends(get_caller)]
FeedbackRequestDep = Annotated[FeedbackRequest, Depends(read_feedback)]
