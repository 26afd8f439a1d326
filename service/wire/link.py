"""The transport that uvicorn's protocol sees: it can send an answer's head and body as one."""

import asyncio
from typing import Any

from perceptd.service.wire.guard import Guarded

CONTINUE = b"HTTP/1.1 100 "


class Link:
    """A transport. What it does not have here is that of the true one."""

    def __init__(self, owner: Guarded, transport: asyncio.Transport) -> None:
        self._owner = owner
        self._transport = transport
        self._corked: list[bytes] | None = None
        self.has_begun = False  # the current answer
        self.is_paused = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """uvicorn asks the socket for its addresses, by six system calls. Without a socket it takes
        those that the event loop looked up already.
        """
        if name == "socket":
            return default
        found = self._transport.get_extra_info(name, default)
        return found[:2] if name in ("peername", "sockname") and isinstance(found, tuple) else found

    def cork(self) -> None:
        """Keep what is written until `uncork`: one system call instead of two."""
        if self._corked is None:
            self._corked = []

    def uncork(self) -> None:
        pieces, self._corked = self._corked, None
        if pieces:
            self.write(b"".join(pieces))

    def write(self, data: bytes) -> None:
        if self._corked is not None:
            self._corked.append(data)
        elif not self._owner.is_turned_away:
            self.has_begun = not data.startswith(CONTINUE)
            self._transport.write(data)

    def close(self) -> None:
        self.uncork()
        if not (self._owner.is_turned_away or self._owner.outlives_close):
            self._transport.close()

    def is_closing(self) -> bool:
        return self._owner.is_turned_away or self._transport.is_closing()

    def pause_reading(self) -> None:
        self.is_paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self.is_paused = False
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._owner.hand_to(protocol)
