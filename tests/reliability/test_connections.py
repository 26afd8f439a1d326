"""Time limits of a connection, which no fault about another one ends."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from perceptd.service.settings import Settings
from perceptd.service.wire.connections import Connection as Guarded
from tests.service.wire.test_connections import settings
from tests.service.wire.test_hot_path import Connection, request
from tests.waiting import eventually

Serve = Callable[[Settings], httpx.Client]


def test_a_fault_about_one_connection_leaves_the_others_their_limits(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    look = Guarded.look
    broken: list[Guarded] = []

    def fails(self: Guarded, now: float) -> None:
        if not broken:
            broken.append(self)
        if self is broken[0]:
            raise ValueError("not to be looked at")
        look(self, now)

    monkeypatch.setattr(Guarded, "look", fails)
    client = serve(settings(tmp_path, read_timeout_s=1))
    first = Connection(client)
    eventually(lambda: "not to be looked at" in caplog.text)
    second = Connection(client).send(request()[:40])
    assert second.answer()[0] == 408
    for connection in (first, second):
        connection.close()
