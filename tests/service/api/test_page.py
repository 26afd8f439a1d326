"""The playground as a browser fetches it: files, headers, and nothing outside the folder."""

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from perceptd.service.api import page
from perceptd.service.settings import Settings
from tests.server import running
from tests.service.admin import guarded, problem

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "connect-src": "'self'",
    "font-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
INDEX = "<!doctype html><title>perceptd</title><script src=static/app.js></script>" + "a" * 600
SCRIPT = "export const answer = 42;\n" * 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files, with a secret file beside it."""
    folder = tmp_path_factory.mktemp("page") / "static"
    (folder / "deep").mkdir(parents=True)
    (folder / "index.html").write_text(INDEX)
    (folder / "app.js").write_text(SCRIPT)
    (folder / "deep" / "style.css").write_text("h1 { color: black }")
    (folder / "picture.png").write_bytes(bytes(range(256)) * 8)
    (folder.parent / "secret.js").write_text("none of their business")
    (folder / "link.js").symlink_to(folder.parent / "secret.js")
    return folder


@pytest.fixture(scope="module")
def client(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "FOLDER", folder)
        with running(guarded(tmp_path_factory.mktemp("data"))) as client:
            yield client


def test_the_shipped_page_is_served(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    client = serve(Settings(data_dir=tmp_path))
    response = client.get("/")
    assert response.status_code == 200
    assert response.content == (page.FOLDER / "index.html").read_bytes()
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    for asset in re.findall(r'(?:src|href)="(static/[^"#?]+)', response.text):
        assert client.get(asset).status_code == 200, asset


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/static/index.html", "text/html; charset=utf-8"),
        ("/static/app.js", "text/javascript; charset=utf-8"),
        ("/static/deep/style.css", "text/css; charset=utf-8"),
        ("/static/picture.png", "image/png"),
    ],
)
def test_the_page_and_its_files_need_no_token_and_have_strict_headers(
    client: httpx.Client, path: str, kind: str
) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == kind
    policy = response.headers.get_list("content-security-policy")
    assert [dict(part.split(" ", 1) for part in one.split("; ")) for one in policy] == [POLICY]
    for name, value in {
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-cache",
    }.items():
        assert response.headers.get_list(name) == [value]
    assert response.headers["x-request-id"]
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "vary"):
        assert head.headers[name] == response.headers[name]
    assert problem(client.get("/models")) == (401, "unauthorized")


@pytest.mark.parametrize("path", ["/", "/static/app.js"])
def test_an_unchanged_file_is_answered_with_304(client: httpx.Client, path: str) -> None:
    first = client.get(path)
    for headers in (
        {"If-None-Match": first.headers["etag"]},
        {"If-None-Match": first.headers["etag"].removeprefix("W/")},
        {"If-Modified-Since": first.headers["last-modified"]},
    ):
        again = client.get(path, headers=headers)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["cache-control"] == "no-cache"
        assert again.headers["etag"] == first.headers["etag"]
        assert again.headers["vary"] == "Accept-Encoding"
    assert client.get(path, headers={"If-None-Match": '"another"'}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/static/app.js"])
@pytest.mark.parametrize("asked", ["bytes=0-9", "bytes=99999-", "bytes=5-1", "lines=1", "bytes"])
def test_range_requests_are_answered_with_the_whole_file(
    client: httpx.Client, path: str, asked: str
) -> None:
    whole = client.get(path)
    response = client.get(path, headers={"Range": asked})
    assert (response.status_code, response.content) == (200, whole.content)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "accept-ranges" not in response.headers


@pytest.mark.parametrize(("path", "text"), [("/", INDEX), ("/static/app.js", SCRIPT)])
def test_text_is_compressed_with_the_same_etag(client: httpx.Client, path: str, text: str) -> None:
    packed = client.get(path, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "Accept-Encoding"
    assert packed.text == text
    plain = client.get(path, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == "Accept-Encoding"
    assert plain.text == text
    assert plain.headers["etag"] == packed.headers["etag"]
    assert plain.headers["etag"].startswith('W/"')


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("deflate , gzip ; q=0.001", True),
        ("gzip;q=0", False),
        ("br, gzip; q=0.000", False),
        ("notgzip", False),
        ("", False),
    ],
)
def test_text_is_compressed_only_if_the_client_accepts_gzip(
    client: httpx.Client, accepted: str, packed: bool
) -> None:
    response = client.get("/static/app.js", headers={"Accept-Encoding": accepted})
    assert ("content-encoding" in response.headers) == packed
    assert response.text == SCRIPT


def test_pictures_and_api_answers_are_not_compressed(client: httpx.Client) -> None:
    for path in ("/static/picture.png", "/openapi.json"):
        assert "content-encoding" not in client.get(path).headers


def raw(client: httpx.Client, path: str) -> bytes:
    """The answer to a path sent as it is: HTTP clients would normalise it."""
    with socket.create_connection((client.base_url.host, client.base_url.port), 30) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    "path",
    [
        "/static/../secret.js",
        "/static/deep/../../secret.js",
        "/static/%2e%2e/secret.js",
        "/static/%2e%2e%2fsecret.js",
        "/static/..%2fsecret.js",
        "/static/..%5csecret.js",
        "/static//secret.js",
        "/static/%2fetc/passwd",
        "/static/link.js",
        "/static/app.js%00",
        "/static/%00",
        "/static/" + "a" * 300,
        "/static/",
        "/static/deep",
        "/static/nope.js",
        "/index.html",
    ],
)
def test_no_other_file_is_reached(client: httpx.Client, path: str) -> None:
    answer = raw(client, path)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 "), answer
    assert b"content-type: application/problem+json" in head
    assert b'"code": "not_found"' in body


@pytest.mark.parametrize("path", ["/", "/static/app.js"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(client: httpx.Client, path: str, method: str) -> None:
    response = client.request(method, path)
    assert problem(response) == (405, "method_not_allowed")
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize(("method", "path"), [("GET", "nope.js"), ("POST", "app.js")])
def test_errors_have_the_headers_of_the_page(client: httpx.Client, method: str, path: str) -> None:
    response = client.request(method, f"/static/{path}")
    for name, value in page.HEADERS.items():
        assert response.headers.get_list(name) == [value]
    assert response.headers["content-type"] == "application/problem+json"


def test_files_are_counted_under_one_label(tmp_path: Path) -> None:
    with running(Settings(data_dir=tmp_path)) as client:
        for path in ("", "static/app.js", "static/picture.png", "static/nope", "static/a/b/c"):
            client.get(f"/{path}")
            client.post(f"/{path}")
        figures = client.get("/metrics").text
    labels = re.findall(r'perceptd_http_requests_total\{.*path="([^"]*)"', figures)
    assert set(labels) == {"/", "/static"}


def test_the_page_is_not_in_the_openapi_document(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert not [path for path in paths if path == "/" or path.startswith("/static")]


def test_pages_work_behind_a_prefix(tmp_path: Path) -> None:
    """Behind a proxy that strips /perceptd from the path."""
    prefix = "/perceptd"
    with running(Settings(data_dir=tmp_path), root_path=prefix) as client:
        assert client.get("/").content == (page.FOLDER / "index.html").read_bytes()
        assert client.get("/static/index.html").status_code == 200
        assert problem(client.get("/static/nope")) == (404, "not_found")
        assert problem(client.post("/")) == (405, "method_not_allowed")
        for path in ("/docs", "/redoc"):
            assets = re.findall(r'(?:src|href|spec-url)="([^"]+)"', client.get(path).text)
            assert assets
            for asset in assets:
                assert asset.startswith(f"{prefix}/")
                assert client.get(asset.removeprefix(prefix)).status_code == 200
        document = client.get("/openapi.json").json()
        assert document["servers"] == [{"url": prefix}]
