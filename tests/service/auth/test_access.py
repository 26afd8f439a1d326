"""Who may do what: the tokens by themselves, and every route of a server with each of them."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from perceptd.service.auth import credentials
from perceptd.service.auth.access import Access
from perceptd.service.auth.credentials import Credential, Role
from perceptd.service.auth.tokens import Tokens
from perceptd.service.errors import ForbiddenError, PerceptdError, UnauthorizedError
from perceptd.service.settings import Settings
from perceptd.service.store import db
from tests.server import running
from tests.service.admin import ADMIN, PREDICT, guarded
from tests.waiting import eventually

CHECKS = {
    "admin": Access.check_admin,
    "predict": Access.check_predict,
    "any": Access.check_any,
}
GARBAGE = ("", "another", "tökén", ADMIN[:-1], f"{ADMIN} ", credentials.hash_of(ADMIN), "x" * 5000)


def credential(role: Role, token: str, ends_in: float | None = None) -> Credential:
    ends = {} if ends_in is None else {"expires_at": time.time() + ends_in}
    return Credential(role, credentials.digest_of(token), role, **ends)


def refused(access: Access, given: str | None) -> dict[str, type[PerceptdError]]:
    """Which checks refuse a token, and how. No error contains the token."""
    found: dict[str, PerceptdError] = {}
    for name, check in CHECKS.items():
        try:
            check(access, given)
        except PerceptdError as error:
            found[name] = error
    said = " ".join(map(str, found.values()))
    assert ADMIN not in said
    assert not given or len(given) < 10 or given not in said
    return {name: type(error) for name, error in found.items()}


BY_ALL = dict.fromkeys(CHECKS, UnauthorizedError)
BY_ALL_BUT_PREDICT = dict.fromkeys(("admin", "any"), UnauthorizedError)


@pytest.mark.parametrize("given", [None, *GARBAGE])
def test_an_unknown_token_opens_only_what_is_open(given: str | None) -> None:
    admin, predict = credential("admin", ADMIN), credential("predict", PREDICT)
    assert refused(Access([admin], may_be_open=True), given) == BY_ALL_BUT_PREDICT
    assert refused(Access([admin], may_be_open=False), given) == BY_ALL
    assert refused(Access([admin, predict], may_be_open=True), given) == BY_ALL


@pytest.mark.parametrize("may_be_open", [True, False])
def test_each_token_opens_the_routes_of_its_role(may_be_open: bool) -> None:
    access = Access([credential("admin", ADMIN)], may_be_open=may_be_open)
    access.update([credential("predict", PREDICT), credential("admin", "an-issued-admin-token")])
    for token in (ADMIN, "an-issued-admin-token"):
        assert refused(access, token) == {}
        assert access.may_predict(credentials.digest_of(token))
    assert refused(access, PREDICT) == {"admin": ForbiddenError}
    assert access.may_predict(credentials.digest_of(PREDICT))
    assert not access.may_predict(b"")
    assert not access.may_predict(credentials.digest_of(""))


def test_one_token_for_both_roles_opens_everything() -> None:
    both = [credential("predict", ADMIN), credential("admin", ADMIN)]
    assert refused(Access(both, may_be_open=False), ADMIN) == {}


def test_a_used_token_expires_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    access = Access([credential("admin", ADMIN)], may_be_open=True)
    access.update([credential("predict", PREDICT, ends_in=60)])
    assert refused(access, PREDICT) == {"admin": ForbiddenError}
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert refused(access, PREDICT) == BY_ALL
    assert not access.may_predict(credentials.digest_of(PREDICT))
    assert not access.is_open, "an expired token does not open predictions"


def test_an_update_replaces_only_the_issued_tokens() -> None:
    access = Access([credential("admin", ADMIN)], may_be_open=True)
    assert access.is_open
    access.update([credential("predict", PREDICT)])
    assert not access.is_open
    assert refused(access, PREDICT) == {"admin": ForbiddenError}
    access.update([credential("admin", "an-issued-admin-token")])
    assert access.is_open
    assert not access.may_predict(credentials.digest_of(PREDICT))
    assert refused(access, ADMIN) == refused(access, "an-issued-admin-token") == {}


class Guarded(NamedTuple):
    """A server, and a token of each kind that it may be sent."""

    client: httpx.Client
    tokens: dict[str, str | None]
    openapi: dict[str, Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    settings = guarded(tmp_path_factory.mktemp("data"))
    database = db.connect(settings)
    with running(settings) as client:
        tokens = Tokens(database)
        issued = {
            "issued admin": tokens.create("admin", "admin"),
            "issued predict": tokens.create("predict", "predict", timedelta(days=1)),
            "revoked": tokens.create("gone", "admin"),
            "expired": tokens.create("over", "admin", timedelta(seconds=-1)),
        }
        revoked = {"Authorization": f"Bearer {issued['revoked']}"}

        def status() -> int:
            return client.get("/models", headers=revoked).status_code

        eventually(lambda: status() == 200, "the token is accepted", seconds=30)
        tokens.revoke("gone")
        eventually(lambda: status() == 401, "the token is refused", seconds=30)
        given = {"none": None, "admin": ADMIN, "predict": PREDICT, "garbage": "garbage" * 5}
        yield Guarded(client, {**given, **issued}, client.get("/openapi.json").json())
    database.dispose()


def operations(openapi: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]


def needed(path: str, operation: dict[str, Any]) -> str:
    """The role that a route asks for, as its document declares it."""
    if not operation.get("security"):
        return "none"
    if "403" in operation["responses"]:
        return "admin"
    return "any"


ADMINS = {"admin", "issued admin"}
PREDICTORS = {"predict", "issued predict"}


def test_every_route_answers_each_token_as_its_document_says(server: Guarded) -> None:
    """Requests are empty: one that is let in is refused for that, and changes nothing."""
    wrong = []
    seen = set()
    for method, path, operation in operations(server.openapi):
        need = needed(path, operation)
        seen.add(need)
        url = path.replace("{version}", "0").replace("{", "").replace("}", "")
        for kind, token in server.tokens.items():
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            response = server.client.request(method, url, headers=headers, content=b"?")
            if need == "none" or kind in ADMINS or (need == "any" and kind in PREDICTORS):
                expected = "let in"
                got = "refused" if response.status_code in (401, 403) else expected
            else:
                expected = "403" if kind in PREDICTORS else "401"
                got = str(response.status_code)
            if got != expected:
                wrong.append((method, path, kind, got, expected))
            if got == "401":
                assert response.headers["WWW-Authenticate"] == "Bearer"
            for secret in filter(None, server.tokens.values()):
                assert secret not in f"{response.headers} {response.text}"
    assert wrong == []
    assert seen == {"none", "any", "admin"}


def test_only_health_and_the_documentation_need_no_token(server: Guarded) -> None:
    open_to_all = {
        path
        for _, path, operation in operations(server.openapi)
        if needed(path, operation) == "none"
    }
    assert open_to_all == {
        "/health/live",
        "/health/ready",
        "/v2/health/live",
        "/v2/health/ready",
    }
    assert server.client.get("/docs").status_code == 200


def test_a_malformed_header_is_refused(server: Guarded) -> None:
    for value in (
        PREDICT,
        f"Basic {PREDICT}",
        "Bearer",
        f"Token {PREDICT}",
        f"Bearer {PREDICT}, x",
        "Bearer tökén",
    ):
        for path in ("/predict", "/v2/models/xor/infer", "/jobs"):
            headers = {b"Authorization": value.encode()}
            response = server.client.post(path, headers=headers, content=b"{}")
            assert response.status_code == 401, value


def test_a_public_address_needs_a_token_without_an_explicit_setting(tmp_path: Path) -> None:
    """Also where its last token was revoked."""
    body = {"model": "xor", "inputs": [[1, 1]]}
    settings = Settings(data_dir=tmp_path, host="0.0.0.0")
    with running(settings) as client:
        assert client.post("/predict", json=body).status_code == 401
        token = credentials.admin_token(settings).get_secret_value()
        headers = {"Authorization": f"Bearer {token}"}
        assert client.post("/predict", json=body, headers=headers).status_code == 200
