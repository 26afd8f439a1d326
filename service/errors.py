"""The errors, and the table that maps them to HTTP. Nothing here knows a web framework."""

import math
from typing import Annotated, Any, NamedTuple, Self

from pydantic import AfterValidator, BaseModel

MAX_RETRY_AFTER_S = 60
MAX_NAME = 60  # characters of a field's name that an error repeats


class FieldError(BaseModel):
    """One mistake in a request: its place, what was expected, what was received."""

    loc: list[Annotated[str, AfterValidator(lambda name: name[:MAX_NAME])] | int]
    expected: str
    got: str


class PerceptdError(Exception):
    """Base of every error that is sent to a client; the text is the problem's `detail`."""

    retry_after_s: int | None = None


class InvalidInputError(PerceptdError):
    """A request that does not fit its schema. `example` is a body that works."""

    def __init__(
        self, detail: str, errors: list[FieldError] | None = None, example: Any = None
    ) -> None:
        super().__init__(detail)
        self.errors = errors or []
        self.example = example

    @classmethod
    def of(cls, errors: list[FieldError], example: Any = None) -> Self:
        """An error whose text names the first of these fields."""
        first = errors[0]
        where = ".".join(map(str, first.loc)) or "body"
        return cls(f"{where}: expected {first.expected}, got {first.got}", errors, example)


class ModelNotFoundError(PerceptdError): ...


def unloaded_error(model: str) -> ModelNotFoundError:
    """An error for a model that exists, but is unloaded."""
    return ModelNotFoundError(
        f"{model} is unloaded; POST /v2/repository/models/{model}/load loads it"
    )


class VersionNotFoundError(PerceptdError): ...


class PlotNotFoundError(PerceptdError): ...


class JobNotFoundError(PerceptdError): ...


class ConflictError(PerceptdError): ...


class UnauthorizedError(PerceptdError): ...


class ForbiddenError(PerceptdError): ...


class BodyTooLargeError(PerceptdError):
    @classmethod
    def over(cls, limit: int) -> Self:
        """An error for a body of more than `limit` bytes."""
        return cls(f"a body may have up to {limit:,} bytes")


class UnsupportedMediaTypeError(PerceptdError): ...


class ModelUnavailableError(PerceptdError):
    """A model that cannot serve: its checkpoint was refused, or is not loaded yet."""

    retry_after_s = 5


class QueueFullError(PerceptdError):
    """The queue of a version is full; it is empty after about `wait_s`."""

    def __init__(self, detail: str, wait_s: float = 0.0) -> None:
        super().__init__(detail)
        self.retry_after_s = min(max(math.ceil(wait_s), 1), MAX_RETRY_AFTER_S)


class DrainingError(PerceptdError):
    """The server is shutting down and accepts no more requests."""

    retry_after_s = 1

    def __init__(self) -> None:
        super().__init__("the server is shutting down; retry soon")


class HeadersTooLargeError(PerceptdError):
    """The head of a request is too large."""


class RequestTimeoutError(PerceptdError):
    """A request did not arrive in time."""


class TooManyConnectionsError(PerceptdError):
    """A process has its maximum of connections, and all of them await an answer."""

    retry_after_s = 1


class TooManyBytesError(PerceptdError):
    """The unfinished requests of a process hold its maximum of bytes."""

    retry_after_s = 1


class DeadlineExceededError(PerceptdError):
    """The deadline of a request has passed."""

    def __init__(self) -> None:
        super().__init__("no answer within the request's timeout")


class CallerGoneError(PerceptdError):
    """The client closed the connection before the answer, so this is never sent."""


class StoreError(PerceptdError):
    """The database or the checkpoint folder cannot be used."""

    retry_after_s = 5


class DiskError(StoreError):
    """The data folder cannot be read or written: it is full, read-only or missing."""


class ServerError(Exception):
    """A server refused a request of the command line, or is unreachable."""


class ServerAwayError(ServerError):
    """A server that is unreachable now and may answer later."""


class DeviceError(RuntimeError):
    """The configured device or runtime is not available on this machine."""


class Problem(NamedTuple):
    status: int
    code: str
    title: str


PROBLEMS: dict[type[PerceptdError], Problem] = {
    InvalidInputError: Problem(422, "invalid_input", "The request does not fit its schema"),
    ModelNotFoundError: Problem(404, "model_not_found", "No such model"),
    VersionNotFoundError: Problem(404, "version_not_found", "No such version"),
    PlotNotFoundError: Problem(404, "plot_not_found", "No such plot"),
    JobNotFoundError: Problem(404, "job_not_found", "No such job"),
    ConflictError: Problem(409, "conflict", "The request conflicts with the current state"),
    UnauthorizedError: Problem(401, "unauthorized", "A valid token is required"),
    ForbiddenError: Problem(403, "forbidden", "The token does not allow this"),
    BodyTooLargeError: Problem(413, "body_too_large", "The body is too large"),
    HeadersTooLargeError: Problem(431, "headers_too_large", "The request head is too large"),
    RequestTimeoutError: Problem(408, "request_timeout", "The request did not arrive in time"),
    UnsupportedMediaTypeError: Problem(415, "unsupported_media_type", "Unsupported media type"),
    QueueFullError: Problem(429, "queue_full", "The queue of the model is full"),
    CallerGoneError: Problem(499, "caller_gone", "The client closed the connection"),
    DeadlineExceededError: Problem(504, "deadline_exceeded", "The deadline has passed"),
    ModelUnavailableError: Problem(503, "model_unavailable", "The model is unavailable"),
    DrainingError: Problem(503, "draining", "The server is shutting down"),
    TooManyConnectionsError: Problem(503, "too_many_connections", "Too many connections"),
    TooManyBytesError: Problem(503, "too_many_bytes", "Too many bytes of unfinished requests"),
    DiskError: Problem(503, "store_unavailable", "The store is unavailable"),
    StoreError: Problem(503, "store_unavailable", "The store is unavailable"),
}

HTTP_PROBLEMS: dict[int, Problem] = {
    404: Problem(404, "not_found", "No such route"),
    405: Problem(405, "method_not_allowed", "The route does not allow this method"),
    500: Problem(500, "internal_error", "Internal error; the server has logged it"),
}
