"""Tokens that are issued: by the command line, in the database, and as running servers see them."""

import io
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import httpx
import pytest
from sqlalchemy import Engine, text, update

from perceptd.service import server
from perceptd.service.auth import credentials
from perceptd.service.auth.credentials import Credential
from perceptd.service.auth.tokens import Tokens
from perceptd.service.commands.common import issued_tokens
from perceptd.service.commands.serve import ENDING, check_protected
from perceptd.service.errors import ConflictError
from perceptd.service.settings import Settings
from perceptd.service.store import db, tables
from tests.command_line import perceptd
from tests.service.admin import ADMIN, PREDICT
from tests.service.served import Served
from tests.waiting import eventually

XOR = {"model": "xor", "inputs": [[1, 1]]}
ORDINARY = {"X-Request-Timeout-Ms": "60000"}  # a header that the fast path leaves to the router
SOON = 15  # seconds: one, and many for a busy machine, which is asked 32 times


@pytest.fixture
def tokens(database: Engine) -> Tokens:
    return Tokens(database)


@pytest.mark.database
def test_the_store_keeps_only_the_hash_of_a_token(tokens: Tokens, database: Engine) -> None:
    made = {name: tokens.create(name, "predict") for name in ("ci", "page")}
    made["ops"] = tokens.create("ops", "admin", timedelta(days=90))
    assert len(set(made.values())) == 3
    assert {one.name: one.role for one in tokens.all()} == {
        "ci": "predict",
        "ops": "admin",
        "page": "predict",
    }
    ops = next(one for one in tokens.all() if one.name == "ops")
    assert ops.expires_at == ops.created_at + timedelta(days=90)
    known = {one.digest: one for one in tokens.credentials()}
    assert known[credentials.digest_of(made["ops"])].expires_at == ops.expires_at.timestamp()
    assert known[credentials.digest_of(made["ci"])] == Credential(
        "predict", credentials.digest_of(made["ci"]), "ci"
    )
    with database.connect() as connection:
        rows = repr(connection.execute(text("SELECT * FROM tokens")).all())
    assert not [token for token in made.values() if token in rows]


@pytest.mark.database
def test_a_name_is_taken_until_its_token_is_revoked(tokens: Tokens) -> None:
    first = tokens.create("ci", "predict")
    with pytest.raises(ConflictError, match="already"):
        tokens.create("ci", "admin")
    tokens.revoke("ci")
    with pytest.raises(ConflictError, match="no token 'ci'"):
        tokens.revoke("ci")
    assert tokens.create("ci", "admin") != first
    assert [one.role for one in tokens.all()] == ["admin"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "CI", "a b", "a\n", "x" * 64, "\x1b[31m"])
def test_an_invalid_name_is_refused(tmp_path: Path, name: str) -> None:
    result = perceptd("token", "create", "--role", "admin", "--", name, data_dir=tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no name for a token" in result.stderr
    assert "\x1b" not in result.stderr


def test_the_command_line_issues_lists_and_revokes(tmp_path: Path) -> None:
    options = ["--role", "predict", "--expires", "90d"]
    made = perceptd("token", "create", "ci", *options, data_dir=tmp_path)
    said = "From now on predictions and reads need a token.\n"
    assert (made.exit_code, made.stderr) == (0, said)
    token = made.stdout.strip()
    assert len(token) >= 40
    listed = perceptd("token", "list", data_dir=tmp_path)
    assert listed.stdout.split()[:2] == ["ci", "predict"]
    assert listed.stdout.count("UTC") == 2
    assert perceptd("token", "create", "ci", *options, data_dir=tmp_path).exit_code == 1
    assert token not in listed.stdout
    assert token.encode() not in b"".join(one.read_bytes() for one in tmp_path.iterdir())
    assert perceptd("token", "revoke", "ci", data_dir=tmp_path).exit_code == 0
    assert perceptd("token", "list", data_dir=tmp_path).stdout == ""
    again = perceptd("token", "revoke", "ci", data_dir=tmp_path)
    assert (again.exit_code, again.stderr) == (1, "Error: there is no token 'ci'\n")
    assert not (tmp_path / credentials.FILE).exists()


def test_an_expired_token_is_listed_as_expired(tmp_path: Path) -> None:
    with issued_tokens(Settings(data_dir=tmp_path)) as tokens:
        tokens.create("over", "admin", timedelta(seconds=-1))
    assert perceptd("token", "list", data_dir=tmp_path).stdout.endswith(" UTC (expired)\n")


@pytest.mark.parametrize("lasts", ["0d", "90", "d", "-1d", "1.5d", "40000d", "9999999s", "1y"])
def test_an_invalid_lifetime_is_refused(tmp_path: Path, lasts: str) -> None:
    options = ["--role", "admin", f"--expires={lasts}"]
    result = perceptd("token", "create", "ci", *options, data_dir=tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert not list(tmp_path.iterdir())


def test_hash_prints_the_hash_of_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{ADMIN}\nshort\n"))
    printed = perceptd("token", "hash", data_dir=tmp_path)
    assert (printed.exit_code, printed.stdout.strip()) == (0, credentials.hash_of(ADMIN))
    refused = perceptd("token", "hash", data_dir=tmp_path)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "short" not in refused.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_loopback_needs_no_protection(host: str, tmp_path: Path) -> None:
    check_protected(Settings(host=host, data_dir=tmp_path))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.test"])
def test_a_public_address_needs_a_predict_token_or_an_explicit_setting(
    host: str, tmp_path: Path
) -> None:
    settings = Settings(host=host, data_dir=tmp_path)
    with pytest.raises(click.UsageError, match="PERCEPTD_OPEN_PREDICTIONS=1"):
        check_protected(settings)
    perceptd("token", "create", "ops", "--role", "admin", data_dir=tmp_path)
    with pytest.raises(click.UsageError, match="perceptd token create"):
        check_protected(settings)
    perceptd("token", "create", "ci", "--role", "predict", data_dir=tmp_path)
    check_protected(settings)
    perceptd("token", "revoke", "ci", data_dir=tmp_path)
    for change in ({"open_predictions": True}, {"predict_token": PREDICT}):
        check_protected(Settings.model_validate({"host": host, "data_dir": tmp_path, **change}))


def test_a_server_of_one_process_gets_only_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Settings] = []
    monkeypatch.setattr(server, "run", lambda settings, *_: given.append(settings))
    handlers = {number: signal.getsignal(number) for number in ENDING}
    tokens = {"PERCEPTD_ADMIN_TOKEN": ADMIN, "PERCEPTD_PREDICT_TOKEN": PREDICT}
    options = ("--port", "0", "--processes", "1")
    try:
        perceptd("serve", *options, data_dir=tmp_path, PERCEPTD_WORKERS="0", **tokens)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    (settings,) = given
    for token, kept in ((ADMIN, settings.admin_token), (PREDICT, settings.predict_token)):
        assert kept
        assert kept.get_secret_value() == credentials.hash_of(token)


@contextmanager
def without(database: Engine, table: str) -> Iterator[None]:
    """A table of the store cannot be found."""
    with database.begin() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO away"))
    yield
    with database.begin() as connection:
        connection.execute(text(f"ALTER TABLE away RENAME TO {table}"))


class Asking:
    """Connections of their own to a server, so that each of its processes is asked."""

    def __init__(self, url: str, count: int = 16) -> None:
        self.clients = [
            httpx.Client(base_url=url, timeout=30, trust_env=False) for _ in range(count)
        ]

    def statuses(self, token: str | None) -> set[int]:
        """What predictions are answered, where their bytes arrive and by the router."""
        given = {"Authorization": f"Bearer {token}"} if token else {}
        return {
            client.post("/predict", json=XOR, headers={**given, **more}).status_code
            for client in self.clients
            for more in ({}, ORDINARY)
        }

    def close(self) -> None:
        for client in self.clients:
            client.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of two processes that tells all it does."""
    started = Served(
        tmp_path_factory.mktemp("served"),
        PERCEPTD_PROCESSES="2",
        PERCEPTD_WORKERS="0",
        PERCEPTD_LOG_LEVEL="debug",
        PERCEPTD_ADMIN_TOKEN=f"{ADMIN},{credentials.hash_of(ADMIN + '-by-its-hash')}",
    )
    yield started
    started.end()


@pytest.fixture(scope="module")
def store(served: Served) -> Iterator[Engine]:
    """The database of that server."""
    assert served.url
    engine = db.connect(Settings(data_dir=served.data_dir))
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def issued(store: Engine) -> Tokens:
    return Tokens(store)


@pytest.fixture
def asking(served: Served) -> Iterator[Asking]:
    opened = Asking(served.url)
    yield opened
    opened.close()


def wait_until_accepted(asking: Asking, token: str) -> None:
    """Wait until every process needs a token and accepts this one."""
    eventually(lambda: asking.statuses(None) == {401}, "every process is closed")
    eventually(lambda: asking.statuses(token) == {200}, "every process accepts the token")


def test_every_process_follows_issued_and_revoked_tokens(
    asking: Asking, store: Engine, issued: Tokens
) -> None:
    assert asking.statuses(None) == {200}, "open: no token for predictions is set or issued"
    old = issued.create("old", "predict")
    assert eventually(lambda: asking.statuses(None) == {401}, "predictions close") < SOON
    assert asking.statuses(old) == {200}
    new = issued.create("new", "predict")
    assert eventually(lambda: asking.statuses(new) == {200}, "the token is accepted") < SOON
    assert asking.statuses(old) == {200}, "both, so that one can replace the other"
    issued.revoke("old")
    assert eventually(lambda: asking.statuses(old) == {401}, "the token is revoked") < SOON
    with store.begin() as connection:
        past = {"expires_at": datetime.now(UTC) - timedelta(seconds=1)}
        connection.execute(update(tables.tokens).values(past))
    assert eventually(lambda: asking.statuses(new) == {401}, "the token expires") < SOON
    assert asking.statuses(None) == {401}, "what has expired protects"
    for token in (ADMIN, f"{ADMIN}-by-its-hash"):
        assert asking.statuses(token) == {200}
    issued.revoke("new")
    assert eventually(lambda: asking.statuses(None) == {200}, "predictions open") < SOON


def test_without_the_database_the_last_known_tokens_are_accepted(
    served: Served, asking: Asking, store: Engine, issued: Tokens
) -> None:
    token = issued.create("kept", "predict")
    eventually(lambda: asking.statuses(None) == {401}, "predictions close")
    with without(store, "tokens"):
        warned = "still accepting the known tokens"
        eventually(lambda: served.log.read_text().count(warned) == 2, "both processes warn")
        assert asking.statuses(token) == {200}
        assert asking.statuses(None) == {401}
    issued.revoke("kept")
    assert eventually(lambda: asking.statuses(None) == {200}, "predictions open") < SOON


def test_a_request_is_logged_with_the_name_of_its_token(
    served: Served, asking: Asking, issued: Tokens
) -> None:
    given = {
        "deploys": issued.create("deploys", "admin"),
        "reads": issued.create("reads", "predict"),
        "PERCEPTD_ADMIN_TOKEN": ADMIN,
        None: "a-token-that-nobody-issued",
    }
    wait_until_accepted(asking, given["reads"])
    for name, token in given.items():
        headers = {"Authorization": f"Bearer {token}", "X-Request-ID": f"named-{name}"}
        asking.clients[0].put("/models/xor/aliases/production", json={}, headers=headers)
    for name in ("deploys", "reads"):
        issued.revoke(name)
    eventually(lambda: len(logged(served)) == len(given), "all requests are logged")
    assert logged(served) == [
        (422, "deploys"),
        (403, "reads"),
        (422, "PERCEPTD_ADMIN_TOKEN"),
        (401, None),
    ]


def logged(served: Served) -> list[tuple[int, str | None]]:
    """What was answered to the requests of that test, and to which token."""
    whole, _, _ = served.log.read_text().rpartition("\n")
    lines = [json.loads(line) for line in whole.splitlines()]
    asked = [line for line in lines if line.get("request_id", "").startswith("named-")]
    return [(line["status"], line.get("token")) for line in asked if "status" in line]


def test_no_token_is_logged_answered_or_stored(
    served: Served, asking: Asking, store: Engine, issued: Tokens
) -> None:
    """Not in a log line, an answer, the database, or what the processes were started with."""
    secrets = {
        "admin": ADMIN,
        "issued": issued.create("told", "admin"),
        "predicts": issued.create("foretold", "predict"),
        "unknown": "a-token-that-nobody-issued",
        "odd": "a-token-%0d%0a-and-%s-{request}",
    }
    wait_until_accepted(asking, secrets["predicts"])
    said = []
    client = asking.clients[0]
    for token in secrets.values():
        headers = {"Authorization": f"Bearer {token}"}
        for method, path, content in (
            ("POST", "/predict", json.dumps(XOR)),
            ("POST", "/predict", "{"),
            ("POST", "/v2/models/xor/infer", "{"),
            ("PUT", "/models/xor/aliases/production", "{}"),
            ("POST", "/jobs", '{"model": 1}'),
            ("POST", "/models/xor/versions", ""),
            ("GET", "/models/xor/versions/1/plots/loss.svg", None),
            ("GET", "/nothing/here", None),
            ("GET", "/metrics", None),
            ("DELETE", "/models", None),
        ):
            answer = client.request(method, path, content=content, headers=headers)
            said.append(f"{answer.headers} {answer.text}")
    with without(store, "versions"):  # such errors are logged with their cause
        headers = {"Authorization": f"Bearer {ADMIN}"}
        answer = client.get("/models/xor/versions", headers=headers)
        assert answer.status_code == 503
        said.append(answer.text)
    log = served.log.read_text()
    assert "no such table: versions" in log
    for name, token in secrets.items():
        assert token not in log, name
        assert token not in " ".join(said), name
    for file in filter(Path.is_file, served.data_dir.rglob("*")):
        held = file.read_bytes()
        assert not [name for name, token in secrets.items() if token.encode() in held], file
    for number in (1, 2):
        started_with = Path(f"/proc/{served.server(number)}/environ").read_bytes()
        assert ADMIN.encode() not in started_with
        assert credentials.hash_of(ADMIN).encode() in started_with


def test_the_files_of_a_server_are_unreadable_for_others(served: Served) -> None:
    assert served.data_dir.stat().st_mode & 0o777 == 0o700
    for path in served.data_dir.iterdir():
        assert path.stat().st_mode & 0o007 == 0, path
