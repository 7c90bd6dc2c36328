"""The HTTP server's side of a connection: head and body of an answer leave in one write."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD = b"HTTP/1.1 "


class Corked:
    """A transport that holds the head of an answer until its body follows, or until the loop's next turn.

    A write of its own for the head costs a system call, and wakes the client twice for one answer.
    """

    __slots__ = ("_head", "_loop", "_release", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head: bytes | None = None
        self._release: asyncio.Handle | None = None

    def __getattr__(self, name: str) -> Any:
        """Whatever else a transport has."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Sends data, after the head that waits for it."""
        if self._head is not None:
            data = self._head + data
            self._forget()
        elif data.startswith(_HEAD):
            self._head = data
            self._release = self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        """Sends what waits, then closes."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head is not None:
            head = self._head
            self._forget()
            self._transport.write(head)

    def _forget(self) -> None:
        self._head = None
        if self._release is not None:
            self._release.cancel()
            self._release = None


class OneWrite(HttpToolsProtocol):
    """uvicorn's protocol over such a transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins a connection."""
        super().connection_made(Corked(transport, self.loop))  # type: ignore[arg-type]

    def shutdown(self) -> None:
        """Lets the answer that is under way know that the server leaves: a stream or a long poll ends by it."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.scope["crm.leaving"] = True  # type: ignore[typeddict-unknown-key]
        super().shutdown()
