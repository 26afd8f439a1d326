import socket

import httpx
import pytest

from perceptd.service.api.middleware import SECURITY_HEADERS


def test_a_request_id_is_made_for_every_answer(client: httpx.Client) -> None:
    ids = {
        client.get(path).headers["X-Request-ID"] for path in ("/models", "/nope", "/health/live")
    }
    assert len(ids) == 3
    assert all(len(request_id) == 32 for request_id in ids)


@pytest.mark.parametrize("path", ["/models", "/nope", "/models/dnn/versions/0"])
def test_the_callers_request_id_comes_back(client: httpx.Client, path: str) -> None:
    response = client.get(path, headers={"X-Request-ID": "order-7:42/a"})
    assert response.headers["X-Request-ID"] == "order-7:42/a"


@pytest.mark.parametrize("bad", ["", "a" * 129, "a b", "<script>", "\u00e9"])
def test_a_harmful_request_id_is_replaced(client: httpx.Client, bad: str) -> None:
    response = client.get("/models", headers={b"X-Request-ID": bad.encode("latin-1")})
    assert len(response.headers["X-Request-ID"]) == 32


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /models HTTP/1.1\r\nX-Request-ID: a\r\n evil: folded\r\n",
        b"GET /models HTTP/1.1\r\nX-Request-ID: a\x00b\r\n",
        b"GET /models%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\n",
        b"GET /models/%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\n",
        b"GET /v2/models/%0d%0aSet-Cookie:%20a=b/ready HTTP/1.1\r\n",
    ],
)
def test_no_request_sets_a_header_of_its_answer(client: httpx.Client, raw: bytes) -> None:
    address = (client.base_url.host, client.base_url.port)
    with socket.create_connection(address, 30) as connection:
        connection.sendall(raw + b"Host: here\r\nConnection: close\r\n\r\n")
        head = connection.makefile("rb").read().partition(b"\r\n\r\n")[0]
    names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    assert not {b"evil", b"set-cookie"} & set(names)
    assert all(line.isascii() and line.decode().isprintable() for line in head.split(b"\r\n"))


PAGES = ("/", "/static/js/main.js", "/docs", "/openapi.json")
READ = ("/models", "/metrics", "/health/live", "/v2", "/models/dnn/versions/1/plots/loss.svg")
REQUESTS = [
    *(("GET", path) for path in (*PAGES, *READ, "/nothing/here")),
    *(("POST", path) for path in ("/predict", "/v2/models/dnn/infer", "/jobs")),
    *((method, "/models") for method in ("DELETE", "BREW")),
]


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_every_answer_has_the_security_headers_once(
    client: httpx.Client, method: str, path: str
) -> None:
    response = client.request(method, path)
    for name, value in SECURITY_HEADERS.items():
        assert response.headers.get_list(name) == [value]
    assert "server" not in response.headers


def test_fast_answers_and_uvicorns_errors_have_security_headers(
    client: httpx.Client,
) -> None:
    for body in ({"model": "dnn", "inputs": [[0, 0]]}, {"model": "dnn", "inputs": [[9e38, 0]]}):
        response = client.post("/predict", json=body)
        for name, value in SECURITY_HEADERS.items():
            assert response.headers.get_list(name) == [value]
        assert "server" not in response.headers
    with socket.create_connection((client.base_url.host, client.base_url.port), 30) as connection:
        connection.sendall(b"NONSENSE\r\n\r\n")
        refusal = connection.makefile("rb").read().lower()
    assert refusal.startswith(b"http/1.1 400 ")
    assert b"x-content-type-options: nosniff" in refusal
    assert b"server:" not in refusal


def test_an_answer_to_a_token_is_not_cached(client: httpx.Client) -> None:
    with_token = {"Authorization": "Bearer anything-that-is-sent"}
    for path in ("/models", "/jobs", "/models/dnn/versions/1", "/nothing/here"):
        assert client.get(path, headers=with_token).headers["Cache-Control"] == "no-store"
        assert "Cache-Control" not in client.get(path).headers
    plot = "/models/dnn/versions/1/plots/loss.svg"
    assert client.get(plot, headers=with_token).headers["Cache-Control"] == "private, no-cache"
