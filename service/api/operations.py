"""What routes declare in the OpenAPI document beside their signatures: errors, bodies, links."""

from typing import Any, Literal

from perceptd.service.api.oip.schemas import ErrorBody
from perceptd.service.api.problems import media_type_of, problem_body, status_of
from perceptd.service.errors import (
    HTTP_PROBLEMS,
    PROBLEMS,
    BodyTooLargeError,
    DeadlineExceededError,
    ForbiddenError,
    InvalidInputError,
    ModelNotFoundError,
    ModelUnavailableError,
    PerceptdError,
    Problem,
    QueueFullError,
    StoreError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
    VersionNotFoundError,
)
from perceptd.service.schemas.responses import ProblemBody

Errors = tuple[type[PerceptdError], ...]
Responses = dict[int | str, dict[str, Any]]
BodyName = Literal["prediction", "feedback", "picture", "upload", "inference", "index", "load"]

# Errors that several routes have in common.
BODY: Errors = (BodyTooLargeError, UnsupportedMediaTypeError)
READ: Errors = (UnauthorizedError, InvalidInputError, StoreError)
WRITE: Errors = (*READ, ForbiddenError)
STORED_VERSION: Errors = (ModelNotFoundError, VersionNotFoundError, InvalidInputError, StoreError)
LOADED_VERSION: Errors = (
    ModelNotFoundError,
    VersionNotFoundError,
    InvalidInputError,
    ModelUnavailableError,
)
PREDICTION: Errors = (
    *LOADED_VERSION,
    *BODY,
    UnauthorizedError,
    QueueFullError,
    DeadlineExceededError,
)


def documented(*errors: type[PerceptdError]) -> Responses:
    """The errors of a native route, by status."""
    bodies = [(PROBLEMS[error], PROBLEMS[error].title) for error in errors]
    return _responses([(problem, problem_body(problem, title, "/")) for problem, title in bodies])


def documented_v2(*errors: type[PerceptdError]) -> Responses:
    """The errors of a route of the Open Inference Protocol, by status."""
    problems = [PROBLEMS[error] for error in errors]
    responses = _responses([(problem, ErrorBody(error=problem.title)) for problem in problems])
    fault = HTTP_PROBLEMS[500]
    # Without a default, FastAPI would add a 422 that these routes never answer.
    _add(responses, "default", fault, ErrorBody(error=fault.title))
    return responses


def _responses(bodies: list[tuple[Problem, ProblemBody | ErrorBody]]) -> Responses:
    responses: Responses = {}
    for problem, body in sorted(bodies, key=lambda pair: status_of(*pair)):
        _add(responses, str(status_of(problem, body)), problem, body)
    return responses


def _add(
    responses: Responses, status: str, problem: Problem, body: ProblemBody | ErrorBody
) -> None:
    """Add one error as an example of its status."""
    response = responses.setdefault(status, {"description": problem.title})
    schema = {"$ref": f"#/components/schemas/{type(body).__name__}"}
    content = response.setdefault("content", {media_type_of(body): {"schema": schema}})
    examples = content[media_type_of(body)].setdefault("examples", {})
    examples[problem.code] = {"value": body.model_dump(exclude_none=True)}


def body(name: BodyName) -> dict[str, Any]:
    """The `openapi_extra` of a route that parses its body itself.

    `openapi.document` puts the body in place of its name: it depends on the models that serve.
    """
    return {"requestBody": {"$ref": name}}


def links(parameters: dict[str, str], *operations: str) -> dict[str, Any]:
    """Links from a response to the operations whose `parameters` it contains."""
    return {name: {"operationId": name, "parameters": parameters} for name in operations}
