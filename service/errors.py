"""What can go wrong, and the one table that maps it to HTTP. Nothing here knows a web framework."""

import math
from typing import Annotated, Any, NamedTuple, Self

from pydantic import AfterValidator, BaseModel

MAX_RETRY_AFTER_S = 60
MAX_NAME = 60  # characters of a wrong name that are repeated to its sender


class FieldError(BaseModel):
    """One thing wrong with a request: where, what was expected there, what came."""

    loc: list[Annotated[str, AfterValidator(lambda name: name[:MAX_NAME])] | int]
    expected: str
    got: str


class PerceptdError(Exception):
    """Base of every error a caller is told about; the text is the problem's `detail`."""

    retry_after_s: int | None = None


class InvalidInputError(PerceptdError):
    """A request that the schema refuses. `example` is a body that works."""

    def __init__(
        self, detail: str, errors: list[FieldError] | None = None, example: Any = None
    ) -> None:
        super().__init__(detail)
        self.errors = errors or []
        self.example = example

    @classmethod
    def of(cls, errors: list[FieldError], example: Any = None) -> Self:
        """An error whose text is the first of those fields."""
        first = errors[0]
        where = ".".join(map(str, first.loc)) or "body"
        return cls(f"{where}: expected {first.expected}, got {first.got}", errors, example)


class ModelNotFoundError(PerceptdError): ...


def unloaded_error(model: str) -> ModelNotFoundError:
    """An error for a model that is there, but was unloaded."""
    loads = f"POST /v2/repository/models/{model}/load loads it"
    return ModelNotFoundError(f"{model} is unloaded and answers nothing; {loads}")


class VersionNotFoundError(PerceptdError): ...


class PlotNotFoundError(PerceptdError): ...


class JobNotFoundError(PerceptdError): ...


class ConflictError(PerceptdError): ...


class UnauthorizedError(PerceptdError): ...


class ForbiddenError(PerceptdError): ...


class BodyTooLargeError(PerceptdError):
    @classmethod
    def over(cls, limit: int) -> Self:
        """An error for a body of more bytes than that."""
        return cls(f"a body may have up to {limit:,} bytes")


class UnsupportedMediaTypeError(PerceptdError): ...


class ModelUnavailableError(PerceptdError):
    """A model that should serve and cannot: its checkpoint was refused, or is not loaded yet."""

    retry_after_s = 5


class QueueFullError(PerceptdError):
    """More waits for a version than may; its queue is empty after `retry_after_s`."""

    def __init__(self, detail: str, wait_s: float = 0.0) -> None:
        super().__init__(detail)
        self.retry_after_s = min(max(math.ceil(wait_s), 1), MAX_RETRY_AFTER_S)


class DrainingError(PerceptdError):
    """The server is about to end, and wants no more requests."""

    retry_after_s = 1

    def __init__(self) -> None:
        super().__init__("the server is ending; another one, or this one again, answers soon")


class HeadersTooLargeError(PerceptdError):
    """The head of a request has more bytes than it may."""


class RequestTimeoutError(PerceptdError):
    """A request did not arrive within the time that it may take."""


class TooManyConnectionsError(PerceptdError):
    """All connections that a process may have wait for an answer."""

    retry_after_s = 1


class DeadlineExceededError(PerceptdError):
    """The time within which an answer is of use has passed."""

    def __init__(self) -> None:
        super().__init__("there was no answer within the time that the request allowed")


class CallerGoneError(PerceptdError):
    """The caller closed the connection before the answer; nobody reads this."""


class StoreError(PerceptdError):
    """The database or the checkpoint folder cannot be used."""

    retry_after_s = 5


class DiskError(StoreError):
    """The data folder cannot be written or read: full, read-only, gone."""


class ServerError(Exception):
    """A server refused, or cannot be asked; the text is for people."""


class ServerAwayError(ServerError):
    """A server that may answer later."""


class DeviceError(RuntimeError):
    """The device or runtime asked for is not to be had here."""


class Problem(NamedTuple):
    status: int
    code: str
    title: str


PROBLEMS: dict[type[PerceptdError], Problem] = {
    InvalidInputError: Problem(422, "invalid_input", "The request does not fit its schema"),
    ModelNotFoundError: Problem(404, "model_not_found", "No such model"),
    VersionNotFoundError: Problem(404, "version_not_found", "No such version"),
    PlotNotFoundError: Problem(404, "plot_not_found", "No such picture"),
    JobNotFoundError: Problem(404, "job_not_found", "No such job"),
    ConflictError: Problem(409, "conflict", "The request contradicts what is there"),
    UnauthorizedError: Problem(401, "unauthorized", "A valid token is needed"),
    ForbiddenError: Problem(403, "forbidden", "The token does not allow this"),
    BodyTooLargeError: Problem(413, "body_too_large", "The body is too large"),
    HeadersTooLargeError: Problem(431, "headers_too_large", "The head is too large"),
    RequestTimeoutError: Problem(408, "request_timeout", "The request did not arrive in time"),
    UnsupportedMediaTypeError: Problem(415, "unsupported_media_type", "Unknown kind of body"),
    QueueFullError: Problem(429, "queue_full", "Too much waits for this model"),
    CallerGoneError: Problem(499, "caller_gone", "The caller went away"),
    DeadlineExceededError: Problem(504, "deadline_exceeded", "The time for an answer has passed"),
    ModelUnavailableError: Problem(503, "model_unavailable", "The model cannot answer now"),
    DrainingError: Problem(503, "draining", "The server is ending"),
    TooManyConnectionsError: Problem(503, "too_many_connections", "Too many connections"),
    DiskError: Problem(503, "store_unavailable", "The store cannot be reached"),
    StoreError: Problem(503, "store_unavailable", "The store cannot be reached"),
}

HTTP_PROBLEMS: dict[int, Problem] = {
    404: Problem(404, "not_found", "No such page"),
    405: Problem(405, "method_not_allowed", "The page does not take this method"),
    500: Problem(500, "internal_error", "Something broke; it was logged"),
}
