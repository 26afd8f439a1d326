"""No text in a request makes the server open a file, a connection or a module."""

import copy
import ctypes
import json
import os
import pickle
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import select

from perceptd.service.settings import Settings
from perceptd.service.store import db, tables
from tests.server import running
from tests.service.admin import as_admin, guarded
from tests.service.worker.test_worker import Malicious

MARK = "a-word-that-stands-in-no-other-file"
IN_OPEN, IN_ACCESS, IN_MODIFY, IN_CREATE = 0x20, 0x1, 0x2, 0x100
DEEP = 100_000
Place = tuple[str | int, ...]


class Watched:
    """inotify watches on folders: the names of files opened or created there."""

    def __init__(self, *folders: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK)
        for folder in folders:
            mask = IN_OPEN | IN_ACCESS | IN_MODIFY | IN_CREATE
            assert self._libc.inotify_add_watch(self._descriptor, bytes(folder), mask) > 0

    def seen(self) -> list[str]:
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return []
        names = []
        while data:
            _, _, _, length = struct.unpack_from("iIII", data)
            names.append(data[16 : 16 + length].rstrip(b"\0").decode())
            data = data[16 + length :]
        return names

    def close(self) -> None:
        os.close(self._descriptor)


class Trap(NamedTuple):
    """A server, and beside its folder files and a socket that no request may reach."""

    client: httpx.Client
    openapi: dict[str, Any]
    settings: Settings
    folder: Path
    watched: Watched
    listener: socket.socket

    @property
    def texts(self) -> list[str]:
        port = self.listener.getsockname()[1]
        return [
            "../../../canary/canary.csv",
            str(self.folder / "canary" / "canary.csv"),
            f"file://{self.folder}/canary/canary.npz",
            f"http://127.0.0.1:{port}/canary.csv",
            f"postgresql+psycopg://127.0.0.1:{port}/x",
            "linked.csv",
            "os.system",
            "tests.service.test_worker:Malicious",
            f"--out={self.folder}/canary/made",
            "..%2f..%2f..%2fcanary%2fcanary.csv",
            "canary.csv\0.csv",
            "..",
        ]

    def check(self, response: httpx.Response) -> None:
        assert response.status_code < 500, (response.request.url, response.text)
        assert MARK not in response.text


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trap]:
    folder = tmp_path_factory.mktemp("trap")
    canary, data = folder / "canary", folder / "store" / "data"
    canary.mkdir()
    (data / "datasets").mkdir(parents=True)
    for name in ("canary.csv", "canary.npz", "canary.pt"):
        (canary / name).write_text(f"x,y,label\n{MARK},1,1\n")
    (data / "datasets" / "linked.csv").symlink_to(canary / "canary.csv")
    settings = guarded(data)
    with socket.create_server(("127.0.0.1", 0)) as listener, running(settings) as client:
        listener.setblocking(False)
        watched = Watched(canary, folder)
        openapi = as_admin(client).get("/openapi.json").json()
        yield Trap(client, openapi, settings, folder, watched, listener)
        watched.close()


def test_the_trap_notices_access(trap: Trap) -> None:
    (trap.folder / "canary" / "canary.csv").read_text()
    assert "canary.csv" in trap.watched.seen()
    (trap.folder / "canary" / "made").touch()
    assert "made" in trap.watched.seen()
    (trap.folder / "canary" / "made").unlink()
    with socket.create_connection(trap.listener.getsockname()):
        trap.listener.accept()[0].close()


def texts_of(schema: dict[str, Any], document: dict[str, Any], depth: int = 5) -> Iterator[Place]:
    """The places in a body where a schema accepts a string."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if depth == 0:
        return
    kind = schema.get("type")
    for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from texts_of(part, document, depth)
    if kind == "string" or not {"type", "anyOf", "oneOf", "allOf", "properties"} & schema.keys():
        yield ()
    for name, part in schema.get("properties", {}).items():
        yield from ((name, *rest) for rest in texts_of(part, document, depth - 1))
    if kind == "object":
        yield ("another",)
    if kind == "array" and isinstance(schema.get("items"), dict):
        yield from ((0, *rest) for rest in texts_of(schema["items"], document, depth - 1))


def with_text(body: Any, place: Place, text: str) -> Any:
    """A copy of the body with a text at a place, whose parents are created."""
    if not place:
        return text
    first, *rest = place
    if isinstance(first, int):
        return [with_text(body[0] if isinstance(body, list) and body else None, tuple(rest), text)]
    body = copy.copy(body) if isinstance(body, dict) else {}
    body[first] = with_text(body.get(first), tuple(rest), text)
    return body


def bodies(trap: Trap) -> Iterator[tuple[str, str, Any, list[Place]]]:
    """Each operation with a JSON body: method, path, a valid body, and the places of strings."""
    for path, operations in trap.openapi["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content:
                examples = [one["value"] for one in content.get("examples", {}).values()]
                name = content["schema"].get("$ref", "").rpartition("/")[2]
                of_class = trap.openapi["components"]["schemas"].get(name, {}).get("examples", [])
                example: Any = next(iter([*examples, *of_class]), {})
                places = dict.fromkeys(texts_of(content["schema"], trap.openapi))
                yield method, path, example, list(places)


def filled(path: str, text: str | None = None) -> str:
    """A path with its parameters filled: by existing names, or by a text."""
    there = {"{model}": "xor", "{version}": "1", "{alias}": "mine", "{job}": "1"}
    for name, value in {**there, "{plot}": "loss", "{extension}": "svg"}.items():
        path = path.replace(name, value if text is None else quote(text, safe=""))
    return path


def assert_nothing_was_reached(trap: Trap) -> None:
    assert trap.watched.seen() == []
    with pytest.raises(BlockingIOError):
        trap.listener.accept()
    database = db.connect(trap.settings)
    with database.connect() as connection:
        plans = json.dumps([job.plan for job in connection.execute(select(tables.jobs))])
    database.dispose()
    assert not [text for text in trap.texts if json.dumps(text)[1:-1] in plans]


def test_no_text_in_a_body_reaches_anything(trap: Trap) -> None:
    tried = 0
    for method, path, example, places in bodies(trap):
        for place in places:
            for text in trap.texts:
                body = with_text(example, place, text)
                trap.check(trap.client.request(method, filled(path), json=body))
                tried += 1
    assert tried > 200
    assert_nothing_was_reached(trap)


def test_no_address_header_or_parameter_reaches_anything(trap: Trap) -> None:
    for path, operations in trap.openapi["paths"].items():
        for method, operation in operations.items():
            for text in trap.texts:
                if "{" in path:
                    trap.check(trap.client.request(method, filled(path, text), content=b""))
                if "{" in path and "/" in text:  # as a path of its own, not as one name
                    url = path.replace("{", "").replace("}", "").replace("model", text)
                    trap.check(trap.client.request(method, url, content=b""))
            given = [one for one in operation.get("parameters", ()) if one["in"] != "path"]
            for text in trap.texts if given and not path.endswith("events") else ():
                query = {one["name"]: text for one in given if one["in"] == "query"}
                headers = {
                    one["name"]: text.replace("\0", "") for one in given if one["in"] == "header"
                }
                url = filled(path)
                trap.check(trap.client.request(method, url, params=query, headers=headers))
    assert_nothing_was_reached(trap)


@pytest.mark.parametrize("path", ["/static/", "/static-offline-docs/"])
def test_only_files_of_the_pages_are_served(trap: Trap, path: str) -> None:
    up = "/".join([".."] * 12)
    for text in (*trap.texts, f"{up}{trap.folder}/canary/canary.csv", f"/{trap.folder}/canary"):
        for url in (path + text, path + quote(text, safe=""), path + text.replace(".", "%2e")):
            url = url.replace("\0", "%00")
            lines = (f"GET {url} HTTP/1.1", "Host: here", "Connection: close", "", "")
            answer = raw(trap.client, "\r\n".join(lines).encode())
            assert answer.split()[1] in (b"404", b"400", b"405", b"307"), (url, answer[:200])
            assert MARK.encode() not in answer
    assert_nothing_was_reached(trap)


def raw(client: httpx.Client, request: bytes) -> bytes:
    """The answer to raw bytes: HTTP clients would normalise the path."""
    with socket.create_connection((client.base_url.host, client.base_url.port), 30) as connection:
        connection.sendall(request)
        return connection.makefile("rb").read()


def test_no_text_in_an_upload_reaches_anything_and_nothing_is_unpickled(trap: Trap) -> None:
    content = pickle.dumps(Malicious(trap.folder / "canary" / "made"))
    for text in trap.texts:
        for name, fields in (
            (f"{text}.pt", {}),
            ("weights.pt", {"dataset": text}),
            ("weights.pt", {"architecture": text}),
            ("weights.pt", {"config": text}),
            ("weights.pt", {"gate": text}),
            ("weights.pt", {text: text}),
        ):
            file = {"file": (name.replace("\0", ""), content)}
            trap.check(trap.client.post("/models/xor/versions", files=file, data=fields))
    assert_nothing_was_reached(trap)
    jobs = trap.settings.data_dir / "jobs"
    assert all(path.name.startswith(".upload-") for path in jobs.iterdir())


NESTED: Sequence[tuple[str, str]] = [
    ("/predict", '{"model": "xor", "inputs": %s}'),
    ("/predict_proba", "%s"),
    ("/feedback", '{"model": "xor", "inputs": %s, "labels": ["1"]}'),
    ("/jobs", '{"model": "xor", "config": %s}'),
    ("/jobs", '{"model": "xor", "gate": {"metric": %s}}'),
    ("/v2/models/dnn/infer", '{"inputs": %s}'),
    ("/v2/repository/index", '{"ready": %s}'),
    ("/v2/repository/models/xor/load", '{"parameters": %s}'),
]


@pytest.mark.parametrize(("path", "body"), NESTED)
@pytest.mark.parametrize("kind", ["arrays", "objects"])
def test_deeply_nested_json_is_refused(trap: Trap, path: str, body: str, kind: str) -> None:
    opening, closing = ("[", "]") if kind == "arrays" else ('{"a":', "}")
    nested = body % (opening * DEEP + "1" + closing * DEEP)
    response = trap.client.post(path, content=nested, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422), response.text[:200]
    assert len(response.content) < 10_000
    assert trap.client.get("/health/live").is_success


def test_a_deeply_nested_form_field_is_refused(trap: Trap) -> None:
    nested = '{"a":' * DEEP + "1" + "}" * DEEP
    fields = {"config": nested}
    file = {"file": ("weights.pt", b"")}
    response = trap.client.post("/models/xor/versions", files=file, data=fields)
    assert response.status_code == 422
