"""A client of a running server: its models, and its jobs with their live events."""

import json
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from perceptd.service.errors import InvalidInputError, ServerAwayError, ServerError
from perceptd.service.jobs.events import Event
from perceptd.service.jobs.queue import ENDED, Status
from perceptd.service.jobs.schemas import JobDetail, JobPublic, JobsPublic
from perceptd.service.schemas.models import ModelsPublic, VersionPublic, VersionsPublic
from perceptd.service.schemas.responses import ProblemBody
from perceptd.service.settings import is_loopback
from perceptd.service.store.aliases import PRODUCTION

TIMEOUT = httpx.Timeout(60, connect=5)  # a promotion first loads and warms the version
STREAM_TIMEOUT = httpx.Timeout(45, connect=5)  # the server pings every 15 s
RETRY_S = 0.5  # between attempts to reconnect
PATIENCE_S = 30.0  # how long a followed job waits for a server that is gone
AWAY = (502, 503, 504)  # a proxy also answers these while its server restarts

Answer = TypeVar("Answer", bound=BaseModel)


class RefusedError(ServerError):
    """The server answered with a problem body."""

    def __init__(self, problem: ProblemBody) -> None:
        super().__init__(sentence(problem))
        self.problem = problem


class Client:
    """Every method raises `RefusedError` for an error of the server, and `ServerError` or
    `ServerAwayError` if no perceptd server answers.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=TIMEOUT,
            verify=httpx.create_ssl_context(),  # with SSL_CERT_FILE, on this machine too
            trust_env=not is_loopback(host_of(url)),  # a proxy cannot reach this machine
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def submit(self, request: Mapping[str, Any], key: str | None = None) -> JobPublic:
        """Submit a retraining; `request` is a body of `POST /jobs`, `key` its Idempotency-Key."""
        headers = {"Content-Type": "application/json"}
        body = json.dumps(request)  # also NaN, so that the server names the field
        return self._ask(
            JobPublic, "POST", "/jobs", content=body, headers={**headers, **_key_header(key)}
        )

    def reproduce(self, number: int) -> JobPublic:
        return self._ask(JobPublic, "POST", f"/jobs/{number}/reproduce")

    def cancel(self, number: int) -> JobPublic:
        return self._ask(JobPublic, "POST", f"/jobs/{number}/cancel")

    def job(self, number: int) -> JobDetail:
        return self._ask(JobDetail, "GET", f"/jobs/{number}")

    def jobs(
        self,
        *,
        status: Status | None = None,
        model: str | None = None,
        limit: int | None = None,
        after: int | None = None,
    ) -> JobsPublic:
        """A page of jobs, newest first; its `after` is the argument for the next page."""
        filters = {"status": status, "model": model, "limit": limit, "after": after}
        given = {name: value for name, value in filters.items() if value is not None}
        return self._ask(JobsPublic, "GET", "/jobs", params=given)

    def models(self) -> list[str]:
        """The names of the models that serve."""
        return [model.name for model in self._ask(ModelsPublic, "GET", "/models").models]

    def versions(self, model: str) -> VersionsPublic:
        return self._ask(VersionsPublic, "GET", f"/models/{_part(model)}/versions")

    def promote(self, model: str, version: int) -> VersionPublic:
        path = f"/models/{_part(model)}/aliases/{PRODUCTION}"
        return self._ask(VersionPublic, "PUT", path, json={"version": version})

    def upload(self, model: str, weights: Path, fields: Mapping[str, str]) -> JobPublic:
        """Submit the import of a weights file; `fields` are the other fields of the form.

        Raises `OSError` for a file that cannot be read.
        """
        with weights.open("rb") as file:
            return self._ask(
                JobPublic,
                "POST",
                f"/models/{_part(model)}/versions",
                files={"file": (weights.name, file)},
                data=fields,
            )

    def events(self, number: int, patience_s: float = PATIENCE_S) -> Generator[Event, None, None]:
        """The events of a job from the first to the last, each once.

        Reconnects after a lost connection, also to a restarted server. Raises `ServerAwayError`
        after `patience_s` seconds without a connection.
        """
        last, lost_at = 0, None
        while True:
            try:
                with self._http.stream(
                    "GET",
                    f"/jobs/{number}/events",
                    headers={"Last-Event-ID": str(last)},
                    timeout=STREAM_TIMEOUT,
                ) as response:
                    self._check(response)
                    lost_at = None
                    for event in read_events(response.iter_bytes()):
                        last = event.number
                        yield event
                        if event.kind == "status" and event.data["status"] in ENDED:
                            return
            except (httpx.RequestError, ServerAwayError) as error:
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > patience_s:
                    raise ServerAwayError(
                        f"job {number} is no longer followed: no server has answered at "
                        f"{self.url} for {patience_s:g} s"
                    ) from error
            time.sleep(RETRY_S)

    def _ask(self, kind: type[Answer], method: str, path: str, **request: Any) -> Answer:
        try:
            response = self._http.request(method, path, **request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ServerAwayError(
                f"no server answers at {self.url}: start it with perceptd serve, "
                f"or name another with --url ({error})"
            ) from error
        except httpx.RequestError as error:
            raise ServerAwayError(f"the server at {self.url} did not answer: {error}") from error
        self._check(response)
        try:
            return kind.model_validate_json(response.content)
        except ValidationError:
            raise ServerError(f"{self.url} is not a perceptd server") from None

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        is_away = response.status_code in AWAY
        try:
            problem = ProblemBody.model_validate_json(response.read())
        except ValidationError:
            status = f"{response.status_code} {response.reason_phrase}".strip()
            text = f"{self.url} answered {status}, but not as a perceptd server"
            raise (ServerAwayError if is_away else ServerError)(text) from None
        raise ServerAwayError(sentence(problem)) if is_away else RefusedError(problem)


def host_of(url: str) -> str:
    """The host of a server's address. Raises `ServerError` for an invalid address."""
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        address = httpx.URL()
    if address.scheme not in ("http", "https") or not address.host:
        expected = "expected one such as http://127.0.0.1:8000"
        raise ServerError(f"{url!r} is not the address of a server: {expected}")
    return address.host


def sentence(problem: ProblemBody) -> str:
    """The problem's detail, and each field error that the detail leaves out."""
    fields = [str(InvalidInputError.of([error])) for error in problem.errors or []]
    return "; ".join([problem.detail, *(field for field in fields if field != problem.detail)])


def read_events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Parse a stream of server-sent events; an event that the stream's end cuts off is dropped."""
    kind, data, number = "", [], 0
    for line in _lines(chunks):
        field, _, value = line.partition(":")  # a ping is a comment: its field is empty
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            number = int(value)
        elif not line and data:
            yield Event(kind, json.loads("\n".join(data)), number)
            kind, data = "", []


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines that end with a line feed; httpx also splits at U+2028, which log lines may contain."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode().removesuffix("\r")


def _part(name: str) -> str:
    """A name, quoted as one segment of a path."""
    return quote(name, safe="")


def _key_header(key: str | None) -> dict[str, bytes]:
    return {} if key is None else {"Idempotency-Key": key.encode()}
