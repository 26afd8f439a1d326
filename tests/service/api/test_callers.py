import asyncio
from collections.abc import MutableMapping
from typing import Any

from perceptd.service.api.callers import caller, has_gone


class Client:
    """What an ASGI server's `receive` says once the body has been read."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def receive(self) -> MutableMapping[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}


def test_a_caller_is_there_until_the_connection_is_closed() -> None:
    async def look() -> None:
        client = Client()
        waiting = caller(client.receive, None)
        assert [waiting.has_gone(), waiting.has_gone()] == [False, False]
        client.left.set()
        assert waiting.has_gone()

    asyncio.run(look())


def test_more_of_a_body_is_no_goodbye() -> None:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    assert not has_gone(receive)


def test_the_time_allowed_begins_when_the_request_is_taken_up() -> None:
    async def look() -> None:
        client = Client()
        now = asyncio.get_running_loop().time()
        limited = caller(client.receive, 1500)
        assert limited.deadline is not None
        assert now + 1.5 <= limited.deadline < now + 2.5
        assert caller(client.receive, None).deadline is None

    asyncio.run(look())
