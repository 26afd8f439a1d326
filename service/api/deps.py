"""Dependencies of routes, as `Annotated` aliases.

All are coroutines: FastAPI runs plain functions in threads, and a prediction must not wait for one.
"""

import threading
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from perceptd.service.api.callers import MAX_TIMEOUT_MS, TIMEOUT_HEADER, caller
from perceptd.service.api.media import JSON_TYPE
from perceptd.service.api.services import Services, services_of
from perceptd.service.auth.access import Access
from perceptd.service.drift.drift import Drift
from perceptd.service.errors import UnsupportedMediaTypeError
from perceptd.service.inference import decoder
from perceptd.service.inference.decoder import LARGE_BYTES, Decoded, production_model
from perceptd.service.inference.engine import Engine
from perceptd.service.inference.loaded_version import LoadedVersion
from perceptd.service.inference.pending import Caller
from perceptd.service.jobs.intake import Intake
from perceptd.service.jobs.planner import Planner
from perceptd.service.jobs.queue import Jobs
from perceptd.service.schemas.requests import FeedbackRequest
from perceptd.service.settings import Settings
from perceptd.service.store.feedback import Feedback
from perceptd.service.store.repository import Repository
from perceptd.service.telemetry.metrics import Metrics

JSON_TYPES = (JSON_TYPE, "")  # a body without a Content-Type is taken for JSON

bearer = HTTPBearer(
    auto_error=False,
    description="Write operations need the admin token, which `perceptd token` prints. "
    "All others need a token only if a predict token was set or issued.",
)


Part = TypeVar("Part")


def _part(pick: Callable[[Services], Part]) -> Any:
    """A dependency that is one part of the application's `Services`."""

    async def part(request: Request) -> Part:
        return pick(services_of(request.app))

    return Depends(part)


SettingsDep = Annotated[Settings, _part(lambda services: services.settings)]
EngineDep = Annotated[Engine, _part(lambda services: services.engine)]
RepositoryDep = Annotated[Repository, _part(lambda services: services.repository)]
JobsDep = Annotated[Jobs, _part(lambda services: services.jobs)]
PlannerDep = Annotated[Planner, _part(lambda services: services.planner)]
IntakeDep = Annotated[Intake, _part(lambda services: services.intake)]
FeedbackDep = Annotated[Feedback, _part(lambda services: services.feedback)]
MetricsDep = Annotated[Metrics, _part(lambda services: services.metrics)]
DriftDep = Annotated[Drift, _part(lambda services: services.drift)]
DrainingDep = Annotated[threading.Event, _part(lambda services: services.draining)]
ClosingDep = Annotated[threading.Event, _part(lambda services: services.closing)]


def answered_by(request: Request, version: LoadedVersion) -> LoadedVersion:
    """Count a request as one to this version."""
    request.state.exchange.answered_by(version)
    return version


TokenCheck = Callable[[Access, str | None], None]


class RequireToken:
    """A dependency that checks the bearer token of a request."""

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
        self._check(services_of(request.app).access, given)


require_predict_token = RequireToken(Access.check_predict)
require_admin_token = RequireToken(Access.check_admin)
require_any_token = RequireToken(Access.check_any)


class GuardedRoute(APIRoute):
    """Checks the token before FastAPI reads and validates the body, which it does first."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        required = [one.dependency for one in self.dependencies]
        checks = [one.check for one in required if isinstance(one, RequireToken)]

        async def guarded(request: Request) -> Response:
            for check in checks:
                check(request, await bearer(request))
            return await handle(request)

        return guarded


def media_type(request: Request) -> str:
    """The body's media type in lower case, without parameters; empty if the header is absent."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def require_json(request: Request) -> None:
    """Raises `UnsupportedMediaTypeError` for a body of another media type."""
    if (kind := media_type(request)) not in JSON_TYPES:
        raise UnsupportedMediaTypeError(
            f"the body must be JSON; add the header Content-Type: {JSON_TYPE} (got {kind})"
        )


async def json_body(request: Request) -> bytes:
    await require_json(request)
    return await request.body()


JsonBodyDep = Annotated[bytes, Depends(json_body)]


async def read_body(engine: Engine, read: Callable[..., Part], body: bytes, *args: Any) -> Part:
    """What `read(body, *args)` makes of a body: of a large one in a thread, beside other work."""
    if len(body) <= LARGE_BYTES:
        return read(body, *args)
    return await engine.read_in_thread(read, body, *args)


async def read_prediction(body: JsonBodyDep, engine: EngineDep) -> Decoded:
    """Raises `QueueFullError` before it reads the body: in overload reading costs too much."""
    if (model := production_model(body)) and (serving := engine.serving(model)):
        serving.batcher.admit(1)
    snapshot = engine.snapshot
    return await read_body(engine, decoder.read, body, snapshot.decoder, snapshot.schemas)


async def read_feedback(body: JsonBodyDep, engine: EngineDep) -> FeedbackRequest:
    """The body, validated against the schema of the model it names."""
    return await read_body(engine, engine.schemas.parse, body, FeedbackRequest)


async def get_caller(
    request: Request,
    timeout_ms: Annotated[
        int | None,
        Header(
            alias=TIMEOUT_HEADER,
            ge=1,
            le=MAX_TIMEOUT_MS,
            description="Milliseconds that the answer may take; a later one is a 504.",
        ),
    ] = None,
) -> Caller:
    longest_ms = services_of(request.app).settings.request_timeout_ms
    return caller(request.receive, min(timeout_ms or MAX_TIMEOUT_MS, longest_ms))


PredictionDep = Annotated[Decoded, Depends(read_prediction)]
CallerDep = Annotated[Caller, Depends(get_caller)]
FeedbackRequestDep = Annotated[FeedbackRequest, Depends(read_feedback)]
