import httpx

from models import registry


def test_ready_names_the_production_version_of_every_model(client: httpx.Client) -> None:
    response = client.get("/health/ready")
    assert response.status_code == 200
    assert response.json() == {
        "status": "ready",
        "models": dict.fromkeys(sorted(registry.BUILT_IN), 1),
    }


def test_live_answers(client: httpx.Client) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
