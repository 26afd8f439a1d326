import asyncio
from collections.abc import MutableMapping
from typing import Any

from perceptd.service.api.callers import caller, has_gone


class Client:
    """The `receive` of an ASGI server whose client's body has been read."""

    def __init__(self) -> None:
        self.disconnected = asyncio.Event()

    async def receive(self) -> MutableMapping[str, Any]:
        await self.disconnected.wait()
        return {"type": "http.disconnect"}


def test_a_caller_has_gone_once_the_connection_is_closed() -> None:
    async def check() -> None:
        client = Client()
        waiting = caller(client.receive, None)
        assert [waiting.has_gone(), waiting.has_gone()] == [False, False]
        client.disconnected.set()
        assert waiting.has_gone()

    asyncio.run(check())


def test_a_piece_of_a_body_is_no_disconnect() -> None:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    assert not has_gone(receive)


def test_a_timeout_begins_when_the_caller_is_made() -> None:
    async def check() -> None:
        client = Client()
        now = asyncio.get_running_loop().time()
        limited = caller(client.receive, 1500)
        assert limited.deadline is not None
        assert now + 1.5 <= limited.deadline < now + 2.5
        assert caller(client.receive, None).deadline is None

    asyncio.run(check())
