"""The HTTP server's side of a connection: what it writes at once, and how long it waits for the other side."""

import asyncio
import resource
from collections import Counter
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from crm_api import settings

_HEAD = b"HTTP/1.1 "
HEAD_SECONDS = 30.0
"""In which the head of a request has come, from the connection's begin or the head's first byte."""
BODY_SECONDS = 600.0
"""In which its body has come."""
STALL_SECONDS = 60.0
"""After which a client that takes nothing of an answer is given up."""
MOST_HEAD = 1_048_576
"""Bytes of a head."""
_OPEN: Counter[str] = Counter()
"""Connections of each address that has any."""


def most_open() -> int:
    """Connections of one address at the same time: half of what the process may have open, so that others get in."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


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

    _limit: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _awaited = ""
    _limited = ""
    _size = 0
    _address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins a connection, or ends it when its address, which is no proxy of ours, has too many."""
        super().connection_made(Corked(transport, self.loop))  # type: ignore[arg-type]
        self._address = self.client[0] if self.client else ""
        _OPEN[self._address] += 1
        if _OPEN[self._address] > most_open() and self._address not in settings.load_settings().trusted_proxies:
            transport.abort()
        self._awaited = "head"
        self._bound()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends it, and whatever waits for it."""
        self._awaited = ""
        self._bound()
        _OPEN[self._address] -= 1
        if not _OPEN[self._address]:
            del _OPEN[self._address]
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads a part of a request. One that comes at once costs no timer."""
        super().data_received(data)
        if not self._awaited and self._idle():
            self._awaited = "head"  # what came begins no request yet, and ended the time for which an idle one is kept
        if self._awaited == "head":
            self._size += len(data)
            if self._size > MOST_HEAD:
                self.transport.abort()
        if self._awaited != self._limited:
            self._bound()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._awaited, self._size = "head", 0

    def on_headers_complete(self) -> None:
        """Its head has come."""
        self._awaited = "body"
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of it has come."""
        self._awaited = ""
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client takes its answer slowly."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It has taken some."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        super().resume_writing()

    def _idle(self) -> bool:
        """Whether nothing is asked, and nothing else bounds how long that stays so."""
        return self.timeout_keep_alive_task is None and (self.cycle is None or self.cycle.response_complete)

    def _bound(self) -> None:
        """Limits the time for what the connection waits for now."""
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        self._limited = self._awaited
        if self._awaited:
            seconds = HEAD_SECONDS if self._awaited == "head" else BODY_SECONDS
            self._limit = self.loop.call_later(seconds, self.transport.abort)

    def shutdown(self) -> None:
        """Lets the answer that is under way know that the server leaves: a stream or a long poll ends by it."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.scope["crm.leaving"] = True  # type: ignore[typeddict-unknown-key]
        super().shutdown()
