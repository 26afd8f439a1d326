"""The running server, as a client without a browser sees it."""

from pathlib import Path
from typing import Any

import httpx

from tests.service.admin import AS_ADMIN
from tests.waiting import eventually

FINAL = ("succeeded", "failed", "cancelled")


class Site:
    def __init__(self, url: str, data_dir: Path) -> None:
        self.url = url
        self.data_dir = data_dir
        self._client = httpx.Client(base_url=url, headers=AS_ADMIN, timeout=30, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def get(self, path: str) -> Any:
        return self._json(self._client.get(path))

    def post(self, path: str, body: object = None) -> Any:
        return self._json(self._client.post(path, json=body))

    def read(self, image: bytes, model: str) -> Any:
        """A model's prediction for a PNG."""
        response = self._client.post(
            "/predict/image",
            params={"model": model},
            content=image,
            headers={"Content-Type": "image/png"},
        )
        return self._json(response)["predictions"][0]

    def retrain(self, **body: Any) -> int:
        """Create a job, and return its id."""
        job: int = self.post("/jobs", body)["id"]
        return job

    def finished(self, job: int) -> Any:
        """Wait for a job to end, and return it."""
        eventually(lambda: self.get(f"/jobs/{job}")["status"] in FINAL, f"job {job} ends")
        return self.get(f"/jobs/{job}")

    @staticmethod
    def _json(response: httpx.Response) -> Any:
        assert response.is_success, response.text
        return response.json()
