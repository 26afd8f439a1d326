"""The server that the browser visits, asked without one."""

from pathlib import Path
from typing import Any

import httpx

from tests.service.admin import AS_ADMIN
from tests.waiting import eventually

ENDED = ("succeeded", "failed", "cancelled")


class Site:
    def __init__(self, url: str, data_dir: Path) -> None:
        self.url = url
        self.data_dir = data_dir
        self._client = httpx.Client(base_url=url, headers=AS_ADMIN, timeout=30, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def get(self, path: str) -> Any:
        return self._json(self._client.get(path))

    def post(self, path: str, body: object = None, **given: Any) -> Any:
        return self._json(self._client.post(path, json=body, **given))

    def put(self, path: str, body: object) -> Any:
        return self._json(self._client.put(path, json=body))

    def read(self, picture: bytes, model: str) -> Any:
        """What a model says of a picture's digit."""
        headers = {"Content-Type": "image/png"}
        answer = self._client.post(
            "/predict/image", params={"model": model}, content=picture, headers=headers
        )
        return self._json(answer)["predictions"][0]

    def retrain(self, **body: Any) -> int:
        """Ask for a job; its number."""
        number: int = self.post("/jobs", body)["id"]
        return number

    def ended(self, number: int) -> Any:
        """A job once it has ended."""
        eventually(lambda: self.get(f"/jobs/{number}")["status"] in ENDED)
        return self.get(f"/jobs/{number}")

    @staticmethod
    def _json(answer: httpx.Response) -> Any:
        assert answer.is_success, answer.text
        return answer.json()
