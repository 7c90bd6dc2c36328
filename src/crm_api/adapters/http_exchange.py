"""The client's side of one HTTP/1.1 connection: sends a request, reads a bounded part of its reply."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import httptools

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_REPLY: Final = 64 * 1024
MAX_HEAD: Final = 32 * 1024
"""Bytes of status line and headers, interim replies included, and of trailers."""
MAX_WIRE: Final = 256 * 1024
"""Bytes that are read for one reply, however little of them is body: chunks of one byte are dear."""
KEPT: Final = frozenset((b"content-type", b"retry-after", b"location", b"date", b"server"))
_KEPT_LENGTH = 500
_STATUS_LINE = 20


class ExchangeError(Exception):
    """No reply; `unread` says that nothing of one had arrived, `large` that its headers do not fit."""

    def __init__(self, text: str, *, unread: bool = False, large: bool = False) -> None:
        super().__init__(text)
        self.unread = unread
        self.large = large


class _Enough(Exception):  # noqa: N818 - stops the parser
    pass


@dataclass(frozen=True, slots=True)
class RawReply:
    """What came back: `headers` are those of `KEPT`, `truncated` says that there was more body."""

    status: int
    headers: dict[str, str]
    body: bytes
    truncated: bool


class Exchange(asyncio.Protocol):
    """One connection, with one request at a time. `reusable` says whether another may follow."""

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.reusable = False
        self.closed = False
        self.born = loop.time()
        self.on_close: Callable[[Exchange], None] | None = None
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[RawReply] | None = None
        self._begin()

    def _begin(self) -> None:
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = self._head = self._wire = 0
        self._status: int | None = None
        self._delimited = self._complete = False

    def request(self, data: bytes) -> asyncio.Future[RawReply]:
        """Sends a whole request. The future ends with its reply, or with ExchangeError."""
        self.reusable = False
        self._begin()
        waiter = self._waiter = self._loop.create_future()
        if self.closed:
            self._fail("The connection was closed.", unread=True)
        else:
            self.transport.write(data)
        return waiter

    def abort(self) -> None:
        """Ends the connection at once; what was under way is given up."""
        self.reusable = False
        self._waiter = None
        if not self.closed:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins the connection."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by class

    def data_received(self, data: bytes) -> None:
        """Reads a part of the reply."""
        if self._waiter is None:  # nothing was asked: what comes is nobody's
            self.abort()
            return
        self._wire += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # `_Enough` comes out as one, too
            self.reusable = False
            if self._waiter is not None and not self._complete:
                self._fail("The reply is not HTTP.")
        if self._waiter is None:
            return
        if self._complete:
            self._finish(truncated=False)
        elif self._status is None and self._wire > MAX_HEAD:
            self._fail("The headers of the reply are too large.", large=True)
        elif self._wire > MAX_WIRE:
            self._finish(truncated=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the connection, and with it a reply that had no other end."""
        self.closed, self.reusable = True, False
        if self._waiter is not None:
            if self._status is not None and not self._delimited and exc is None:
                self._finish(truncated=False)
            elif self._status is not None:
                self._fail("The connection was closed within the reply.")
            else:
                self._fail("The connection was closed before a reply.", unread=self._wire == 0)
        if self.on_close is not None:
            self.on_close(self)

    def _finish(self, *, truncated: bool) -> None:
        waiter, self._waiter = self._waiter, None
        assert self._status is not None  # noqa: S101 - the headers were complete
        if waiter is not None and not waiter.done():
            waiter.set_result(RawReply(self._status, self._headers, b"".join(self._body)[:MAX_REPLY], truncated))
        if truncated or self.transport.get_write_buffer_size():
            self.reusable = False
        if not self.reusable and not self.closed:
            self.transport.abort()

    def _fail(self, text: str, *, unread: bool = False, large: bool = False) -> None:
        waiter = self._waiter
        self.abort()
        if waiter is not None and not waiter.done():
            waiter.set_exception(ExchangeError(text, unread=unread, large=large))

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A reply begins; a second one was not asked for."""
        if self._complete:
            raise _Enough
        self._count(_STATUS_LINE)

    def on_status(self, text: bytes) -> None:
        """A part of the reason."""
        self._count(len(text))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        self._count(len(name) + len(value or b"") + 4)
        name = name.lower()
        if self._status is None:
            self._delimited |= name in (b"content-length", b"transfer-encoding")
            if name in KEPT:
                self._headers.setdefault(name.decode(), (value or b"")[:_KEPT_LENGTH].decode("latin-1"))

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > MAX_HEAD:
            self._fail("The headers of the reply are too large.", large=True)
            raise _Enough

    def on_headers_complete(self) -> None:
        """The headers end; those of an interim reply are forgotten."""
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._headers, self._delimited = {}, False
            if status == 101:
                self._fail("The reply changes the protocol.")
                raise _Enough
        else:
            self._status = status

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        self._body.append(data)
        self._size += len(data)
        if self._size > MAX_REPLY:
            self._finish(truncated=True)
            raise _Enough

    def on_message_complete(self) -> None:
        """The reply ends."""
        if self._status is not None:
            self._complete = True
            self.reusable = self._parser.should_keep_alive()
