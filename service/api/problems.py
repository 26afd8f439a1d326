"""Errors -> `application/problem+json` (RFC 9457), or as the Open Inference Protocol says."""

import json
import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match

from perceptd.service.api.media import FORM_TYPE, JSON_TYPE
from perceptd.service.api.oip.schemas import ErrorBody
from perceptd.service.errors import (
    HTTP_PROBLEMS,
    PROBLEMS,
    BodyTooLargeError,
    FieldError,
    InvalidInputError,
    PerceptdError,
    Problem,
    StoreError,
    UnauthorizedError,
)
from perceptd.service.schemas.responses import ProblemBody
from perceptd.service.schemas.validation import field_errors

log = logging.getLogger("perceptd")

MEDIA_TYPE = "application/problem+json"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
PROTOCOL = "/v2"  # below it, errors are as the Open Inference Protocol has them


def install(app: FastAPI) -> None:
    """Answer every error of the app in the shape that its address has."""
    app.add_exception_handler(PerceptdError, on_domain_error)
    app.add_exception_handler(RequestValidationError, on_invalid_parameters)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(ClientDisconnect, on_disconnect)
    app.add_exception_handler(Exception, on_fault)


def response(
    problem: Problem,
    detail: str,
    path: str,
    *,
    errors: list[FieldError] | None = None,
    example: object = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """An error in the shape that its address has: the one place that decides it."""
    body: ProblemBody | ErrorBody
    if path == PROTOCOL or path.startswith(f"{PROTOCOL}/"):
        body = ErrorBody(error=detail)
    else:
        body = problem_body(problem, detail, path, errors, example)
    return Response(
        json.dumps(body.model_dump(exclude_none=True)),  # ASCII: half a character has no UTF-8
        status_code=status_of(problem, body),
        headers=headers,
        media_type=media_type_of(body),
    )


def status_of(problem: Problem, body: ProblemBody | ErrorBody) -> int:
    """The problem's own, but invalid input is 400 in the Open Inference Protocol."""
    invalid = problem.status == HTTPStatus.UNPROCESSABLE_ENTITY
    return HTTPStatus.BAD_REQUEST if invalid and isinstance(body, ErrorBody) else problem.status


def media_type_of(body: ProblemBody | ErrorBody) -> str:
    return JSON_TYPE if isinstance(body, ErrorBody) else MEDIA_TYPE


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


def code_of(error: PerceptdError) -> str:
    return PROBLEMS[type(error)].code


def body_too_large(path: str, limit: int) -> Response:
    return response(PROBLEMS[BodyTooLargeError], str(BodyTooLargeError.over(limit)), path)


async def on_domain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PerceptdError)  # noqa: S101 - what it is registered for
    return of(error, request.url.path)


def of(error: PerceptdError, path: str) -> Response:
    """What the request of this path is answered."""
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = "Bearer"
    invalid = error if isinstance(error, InvalidInputError) else None
    detail = str(error)
    if isinstance(error, StoreError):  # its text is the operator's: hosts, users, paths
        log.error("%s: %s", path, detail)
        detail = "the store cannot be used now; the server's log says why"
    return response(
        PROBLEMS[type(error)],
        detail,
        path,
        errors=invalid.errors if invalid else None,
        example=invalid.example if invalid else None,
        headers=headers,
    )


async def on_invalid_parameters(request: Request, error: Exception) -> Response:
    """Parameters and bodies; rows of a model are validated by `service/schemas/requests.py`."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what it is registered for
    example = _example_of(request.scope.get("route"))
    return await on_domain_error(
        request, InvalidInputError.of(field_errors(error.errors()), example)
    )


def _example_of(route: Any) -> Any:
    """The example in the schema of a route's body; None for a route without one."""
    field = getattr(route, "body_field", None)
    config = getattr(field.field_info.annotation, "model_config", {}) if field else {}
    examples = config.get("json_schema_extra", {}).get("examples", [None])
    return examples[0]


async def on_http_error(request: Request, error: Exception) -> Response:
    """What Starlette raises itself: an unknown path, a wrong method, a broken form."""
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    if error.status_code == HTTPStatus.NO_CONTENT:  # no error, but no other way to say so
        return Response(status_code=error.status_code)
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return body_too_large(request.url.path, request.app.max_body_size)
    if isinstance(error.__cause__, PerceptdError):  # what FastAPI met while it read a body
        return await on_domain_error(request, error.__cause__)
    if error.status_code == HTTPStatus.BAD_REQUEST:  # a body that cannot be taken apart
        if request.headers.get("content-type", "").startswith(FORM_TYPE):
            wrong = FieldError(loc=["body"], expected="a whole multipart form", got=error.detail)
            return await on_domain_error(request, InvalidInputError.of([wrong]))
        wrong = FieldError(loc=[], expected="JSON", got="what cannot be read as such")
        example = _example_of(request.scope.get("route"))
        return await on_domain_error(request, InvalidInputError.of([wrong], example))
    problem = HTTP_PROBLEMS.get(error.status_code, HTTP_PROBLEMS[500])
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (methods := _methods_of(request)):
        headers["Allow"] = ", ".join(methods)
    unknown = error.status_code == HTTPStatus.NOT_FOUND
    detail = f"there is nothing at {request.url.path}" if unknown else error.detail
    return response(problem, detail, request.url.path, headers=headers)


def _methods_of(request: Request) -> list[str]:
    """All that an address takes; the framework names those of its first route alone.

    None below a mount, which knows its own.
    """
    asked = [(method, {**request.scope, "method": method}) for method in METHODS]
    routes = request.app.routes
    return [
        method
        for method, scope in asked
        if any(route.matches(scope)[0] is Match.FULL for route in routes)
    ]


async def on_disconnect(request: Request, error: Exception) -> Response:
    """The caller went away in the middle of a body: nobody reads this, and nobody is at fault."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def on_fault(request: Request, error: Exception) -> Response:
    return fault(request.url.path, request.scope["state"].get("request_id"), error)


def fault(path: str, request_id: str | None, error: Exception) -> Response:
    facts = {"request_id": request_id}
    log.error("%s failed", path, exc_info=error, extra={"facts": facts})
    return response(HTTP_PROBLEMS[500], "the request broke something here", path)
