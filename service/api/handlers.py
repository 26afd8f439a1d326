"""Exception handlers: every error of the app becomes a response of `problems`."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match

from perceptd.service.api import problems
from perceptd.service.api.media import FORM_TYPE
from perceptd.service.errors import HTTP_PROBLEMS, InvalidInputError, PerceptdError
from perceptd.service.schemas.validation import field_errors, invalid

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def install(app: FastAPI) -> None:
    app.add_exception_handler(PerceptdError, on_domain_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(ClientDisconnect, on_disconnect)
    app.add_exception_handler(Exception, on_fault)


async def on_domain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PerceptdError)  # noqa: S101 - registered for this class
    return problems.of(error, request.url.path)


async def on_validation_error(request: Request, error: Exception) -> Response:
    """FastAPI's verdict on parameters and on bodies that depend on no model."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    errors = field_errors(error.errors())
    return problems.of(InvalidInputError.of(errors, _example_of(request)), request.url.path)


def _example_of(request: Request) -> Any:
    """The example in the schema of the route's body; None for a route without one."""
    field = getattr(request.scope.get("route"), "body_field", None)
    config = getattr(field.field_info.annotation, "model_config", {}) if field else {}
    examples = config.get("json_schema_extra", {}).get("examples", [None])
    return examples[0]


async def on_http_error(request: Request, error: Exception) -> Response:
    """Errors that Starlette and FastAPI raise: an unknown path, a wrong method, a broken body."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    path = request.url.path
    if error.status_code == HTTPStatus.NO_CONTENT:  # raised by a dependency to end a request
        return Response(status_code=error.status_code)
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return problems.body_too_large(path, request.app.max_body_size)
    if isinstance(error.__cause__, PerceptdError):  # raised while FastAPI read the body
        return problems.of(error.__cause__, path)
    if error.status_code == HTTPStatus.BAD_REQUEST:  # a body that cannot be parsed
        if request.headers.get("content-type", "").startswith(FORM_TYPE):
            return problems.of(invalid(["body"], "a whole multipart form", error.detail), path)
        return problems.of(invalid([], "JSON", "a body that is not", _example_of(request)), path)
    problem = HTTP_PROBLEMS.get(error.status_code, HTTP_PROBLEMS[500])
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (methods := _methods_of(request)):
        headers["Allow"] = ", ".join(methods)
    unknown = error.status_code == HTTPStatus.NOT_FOUND
    detail = f"no route matches {path}" if unknown else error.detail
    return problems.response(problem, detail, path, headers=headers)


def _methods_of(request: Request) -> list[str]:
    """The methods that a path takes: Starlette's own header names those of its first route alone.

    Empty below a mount, whose own header is right.
    """
    asked = [(method, {**request.scope, "method": method}) for method in METHODS]
    routes = request.app.routes
    return [
        method
        for method, scope in asked
        if any(route.matches(scope)[0] is Match.FULL for route in routes)
    ]


async def on_disconnect(request: Request, error: Exception) -> Response:
    """The client disconnected while it sent its body: nobody reads this response."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def on_fault(request: Request, error: Exception) -> Response:
    request_id = request.scope["state"].get("request_id")
    return problems.fault(request.url.path, request_id, error)
