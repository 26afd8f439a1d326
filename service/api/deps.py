"""What routes ask for, as annotated dependencies.

All are coroutines: FastAPI runs plain functions in threads, and a prediction must not wait for one.
"""

import threading
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from perceptd.service.api.callers import MAX_TIMEOUT_MS, TIMEOUT_HEADER, caller
from perceptd.service.api.media import JSON_TYPE
from perceptd.service.api.middleware import ANSWERED_BY
from perceptd.service.auth.access import Access
from perceptd.service.drift.drift import Drift
from perceptd.service.errors import UnsupportedMediaTypeError
from perceptd.service.inference.engine import Engine
from perceptd.service.inference.loaded_version import LoadedVersion
from perceptd.service.inference.pending import Caller
from perceptd.service.jobs.intake import Intake
from perceptd.service.jobs.plans import Planner
from perceptd.service.jobs.queue import Jobs
from perceptd.service.schemas.requests import FeedbackRequest, PredictRequest
from perceptd.service.settings import Settings
from perceptd.service.store.feedback import Feedback
from perceptd.service.store.repository import Repository
from perceptd.service.telemetry.metrics import Metrics
from perceptd.service.wire.overload import VERSION, model_of

JSON_TYPES = (JSON_TYPE, "")  # an absent header is taken for JSON

bearer = HTTPBearer(
    auto_error=False,
    description="Whatever changes something needs the admin token, which `perceptd token` prints. "
    "The rest needs one only where a predict token was set or issued.",
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


def answered_by(request: Request, version: LoadedVersion) -> LoadedVersion:
    """Have a request counted as one to this version."""
    setattr(request.state, ANSWERED_BY, (version.model, version.version))
    return version


async def get_draining(request: Request) -> threading.Event:
    """Set from when the server has been asked to end."""
    draining: threading.Event = request.app.state.draining
    return draining


SettingsDep = Annotated[Settings, Depends(get_settings)]
EngineDep = Annotated[Engine, Depends(get_engine)]
RepositoryDep = Annotated[Repository, Depends(get_repository)]
JobsDep = Annotated[Jobs, Depends(get_jobs)]
PlannerDep = Annotated[Planner, Depends(get_planner)]
IntakeDep = Annotated[Intake, Depends(get_intake)]
FeedbackDep = Annotated[Feedback, Depends(get_feedback)]
MetricsDep = Annotated[Metrics, Depends(get_metrics)]
DrainingDep = Annotated[threading.Event, Depends(get_draining)]
DriftDep = Annotated[Drift, Depends(get_drift)]
ClosingDep = Annotated[threading.Event, Depends(get_closing)]

TokenCheck = Callable[[Access, str | None], None]


class RequireToken:
    """A dependency that lets a request pass if its bearer token passes a check."""

    def __init__(self, check: TokenCheck) -> None:
        self._check = check

    async def __call__(
        self,
        request: Request,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
    ) -> None:
        self.check(request, credentials)

    def check(self, request: Request, credentials: HTTPAuthorizationCredentials | None) -> None:
        given = credentials.credentials if credentials else None
        self._check(request.app.state.access, given)


require_predict_token = RequireToken(Access.check_predict)
require_admin_token = RequireToken(Access.check_admin)
require_any_token = RequireToken(Access.check_any)


class GuardedRoute(APIRoute):
    """A route with a body of FastAPI's, which would be read before anybody is asked for a token."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        asked = [one.dependency for one in self.dependencies]
        checks = [one.check for one in asked if isinstance(one, RequireToken)]

        async def guarded(request: Request) -> Response:
            for check in checks:
                check(request, await bearer(request))
            return await handle(request)

        return guarded


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
    """The body, validated against the schema of the model it names.

    Raises `QueueFullError`, too: under overload a body is not read before it is refused.
    """
    if (model := model_of(body)) and VERSION not in body and (serving := engine.serving(model)):
        serving.batcher.admit(1)
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
    settings: Settings = request.app.state.settings
    return caller(request.receive, min(timeout_ms or MAX_TIMEOUT_MS, settings.request_timeout_ms))


PredictionDep = Annotated[PredictRequest, Depends(read_prediction)]
CallerDep = Annotated[Caller, Depends(get_caller)]
FeedbackRequestDep = Annotated[FeedbackRequest, Depends(read_feedback)]
