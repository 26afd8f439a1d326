import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from perceptd.service.auth import credentials
from perceptd.service.client import Client, read_events, sentence
from perceptd.service.errors import FieldError, ServerAwayError, ServerError
from perceptd.service.jobs.claims import Claims
from perceptd.service.jobs.events import Event
from perceptd.service.schemas.responses import ProblemBody
from perceptd.service.settings import Settings
from perceptd.service.store import db
from tests.server import running


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Client]:
    with running(settings) as server:
        token = credentials.admin_token(settings).get_secret_value()
        with Client(str(server.base_url), token) as client:
            yield client


@pytest.fixture(scope="module")
def claims(settings: Settings, client: Client) -> Iterator[Claims]:
    database = db.connect(settings)
    yield Claims(database, "a worker", lease_s=60, max_attempts=1)
    database.dispose()


def test_events_come_apart_wherever_the_stream_is_cut() -> None:
    stream = (
        ': ping\n\nevent: log\ndata: {"line": "één\u2028line"}\nid: 1\n\n'
        'event: status\r\ndata: {"status":\r\ndata: "running"}\r\nid: 2\r\n\r\n'
        'event: log\ndata: {"line": "cut o'
    ).encode()
    expected = [
        Event("log", {"line": "één\u2028line"}, 1),
        Event("status", {"status": "running"}, 2),
    ]
    for size in (1, 7, len(stream)):
        chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert list(read_events(chunks)) == expected


def test_a_problem_becomes_a_sentence_with_every_field() -> None:
    wrong = [
        FieldError(loc=["config", "hidden"], expected="at least 1", got="0"),
        FieldError(loc=["epochs"], expected="a number", got='"many"'),
    ]
    problem = ProblemBody(
        title="Invalid",
        status=422,
        detail="config.hidden: expected at least 1, got 0",
        instance="/jobs",
        code="invalid_input",
        errors=wrong,
        example={"model": "dnn"},
    )
    assert sentence(problem) == (
        'config.hidden: expected at least 1, got 0; epochs: expected a number, got "many"'
    )


def test_a_refusal_has_the_words_of_the_server(client: Client) -> None:
    for ask, told in (
        (lambda: client.job(77), "there is no job 77"),
        (lambda: client.promote("a b?", 1), "no model is called 'a b\\?'"),
        (lambda: client.submit({"model": "dnn"}, "é"), "header.Idempotency-Key: expected 1 to"),
        (lambda: client.submit({"model": "dnn", "seed": float("nan")}), "seed: expected "),
        (lambda: next(client.events(77)), "there is no job 77"),
    ):
        with pytest.raises(ServerError, match="^" + told) as error:
            ask()
        assert not isinstance(error.value, ServerAwayError)


def test_the_same_key_gives_the_same_job(client: Client) -> None:
    request = {"model": "xor", "recipe": "fast"}
    first = client.submit(request, "once")
    assert client.submit(request, "once") == first
    assert client.cancel(first.id).status == "cancelled"
    page = client.jobs(model="xor", status="cancelled", limit=1)
    assert [job.id for job in page.jobs] == [first.id]


def test_events_are_those_of_the_job_to_its_end(client: Client, claims: Claims) -> None:
    number = client.submit({"model": "dnn"}).id
    job = claims.claim()
    assert job is not None
    claims.heartbeat(job, runtime_s=1, events=[Event("log", {"line": "a\u2028b"})])
    claims.fail(job, "training_failed", "no reason")
    events = list(client.events(number))
    assert [(event.number, event.kind) for event in events] == [
        (1, "status"),
        (2, "status"),
        (3, "log"),
        (4, "status"),
    ]
    assert events[2].data == {"line": "a\u2028b"}
    assert events[3].data == {
        "status": "failed",
        "attempts": 1,
        "code": "training_failed",
        "reason": "no reason",
    }


def test_without_a_server_the_error_says_how_to_start_one() -> None:
    with Client("http://127.0.0.1:1") as client:
        expected = (
            "^no server answers at http://127.0.0.1:1: "
            "start it with perceptd serve, or name another with --url"
        )
        with pytest.raises(ServerAwayError, match=expected):
            client.jobs()
        with pytest.raises(ServerAwayError, match=r"no server has answered .* for 0\.1 s"):
            next(client.events(1, patience_s=0.1))


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "there", "http://", "http://x:port", "ftp://x"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ServerError, match="is not the address of a server"):
        Client(url)


def test_a_proxy_of_the_environment_does_not_stand_before_loopback(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Client(client.url) as direct:
        assert direct.versions("dnn").versions[-1].version == 1


class Stranger(BaseHTTPRequestHandler):
    """A server of something else: its pages, and a proxy's word that nothing is behind it."""

    def do_GET(self) -> None:
        self.send_response(502 if self.path.startswith("/gone") else 200)
        self.end_headers()
        self.wfile.write(b"<h1>Welcome</h1>")

    def log_message(self, *_: object) -> None: ...


def test_another_kind_of_server_is_named_as_such() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            with (
                Client(url) as client,
                pytest.raises(ServerError, match="is not a perceptd server"),
            ):
                client.jobs()
            with (
                Client(f"{url}/gone") as client,
                pytest.raises(ServerAwayError, match="gone answered 502 Bad Gateway, but not as"),
            ):
                client.jobs()
        finally:
            server.shutdown()
            thread.join()
