"""Error responses: problem details (RFC 9457), or those of the Open Inference Protocol."""

import json
import logging
from functools import lru_cache
from http import HTTPStatus

from starlette.responses import Response

from perceptd.service.api.media import JSON_TYPE
from perceptd.service.api.oip.schemas import ErrorBody
from perceptd.service.errors import (
    HTTP_PROBLEMS,
    PROBLEMS,
    BodyTooLargeError,
    FieldError,
    InvalidInputError,
    PerceptdError,
    Problem,
    QueueFullError,
    StoreError,
    UnauthorizedError,
)
from perceptd.service.schemas.responses import ProblemBody

log = logging.getLogger("perceptd")

MEDIA_TYPE = "application/problem+json"
OIP_PATH = "/v2"  # prefix of the paths of the Open Inference Protocol


def of(error: PerceptdError, path: str) -> Response:
    """The response to a request for `path` that raised `error`."""
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = "Bearer"
    invalid = error if isinstance(error, InvalidInputError) else None
    detail = str(error)
    if isinstance(error, StoreError):  # its text may name hosts, users and paths
        log.error("%s: %s", path, detail)
        detail = "the store is not available; the server's log has the cause"
    return response(
        PROBLEMS[type(error)],
        detail,
        path,
        errors=invalid.errors if invalid else None,
        example=invalid.example if invalid else None,
        headers=headers,
    )


def fault(path: str, request_id: str | None, error: Exception) -> Response:
    """Log an uncaught exception, and return the 500 response."""
    facts = {"request_id": request_id}
    log.error("%s failed", path, exc_info=error, extra={"facts": facts})
    return response(HTTP_PROBLEMS[500], "internal error; the server's log has the cause", path)


def body_too_large(path: str, limit: int) -> Response:
    return response(PROBLEMS[BodyTooLargeError], str(BodyTooLargeError.over(limit)), path)


@lru_cache(maxsize=256)  # in overload a refusal must cost much less than an answer
def queue_full(path: str, detail: str, retry_after_s: int | None) -> Response:
    """A response that all callers share: nobody may change it."""
    return of(QueueFullError(detail, retry_after_s or 1), path)


def response(
    problem: Problem,
    detail: str,
    path: str,
    *,
    errors: list[FieldError] | None = None,
    example: object = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """An error response in the format that clients of `path` expect."""
    body: ProblemBody | ErrorBody
    if path == OIP_PATH or path.startswith(f"{OIP_PATH}/"):
        body = ErrorBody(error=detail)
    else:
        body = problem_body(problem, detail, path, errors, example)
    return Response(
        # In ASCII, as UTF-8 cannot encode a lone surrogate.
        json.dumps(body.model_dump(exclude_none=True)),
        status_code=status_of(problem, body),
        headers=headers,
        media_type=media_type_of(body),
    )


def problem_body(
    problem: Problem,
    detail: str,
    path: str,
    errors: list[FieldError] | None = None,
    example: object = None,
) -> ProblemBody:
    return ProblemBody(
        title=problem.title,
        status=problem.status,
        detail=detail,
        instance=path,
        code=problem.code,
        errors=errors,
        example=example,
    )


def status_of(problem: Problem, body: ProblemBody | ErrorBody) -> int:
    """The problem's status, except that the Open Inference Protocol answers 400 for 422."""
    invalid = problem.status == HTTPStatus.UNPROCESSABLE_ENTITY
    return HTTPStatus.BAD_REQUEST if invalid and isinstance(body, ErrorBody) else problem.status


def media_type_of(body: ProblemBody | ErrorBody) -> str:
    return JSON_TYPE if isinstance(body, ErrorBody) else MEDIA_TYPE


def code_of(error: PerceptdError) -> str:
    return PROBLEMS[type(error)].code
