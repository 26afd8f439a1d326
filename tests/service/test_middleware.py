import httpx
import pytest


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
def test_a_request_id_that_could_do_harm_is_replaced(client: httpx.Client, bad: str) -> None:
    response = client.get("/models", headers={b"X-Request-ID": bad.encode("latin-1")})
    assert len(response.headers["X-Request-ID"]) == 32
