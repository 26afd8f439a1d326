import asyncio
import socket
from collections.abc import MutableMapping
from typing import Any

from perceptd.service.api.callers import caller, has_gone, has_left


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


def test_a_client_has_left_even_if_its_data_is_unread() -> None:
    async def check() -> None:
        here, there = socket.socketpair()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=here)
        transport.pause_reading()
        there.sendall(b"a request")
        assert not has_left(transport)
        there.close()
        assert has_left(transport)
        transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert has_left(transport)

    asyncio.run(check())
