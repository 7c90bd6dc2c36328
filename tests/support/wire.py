"""The client's end of HTTP/1.1, parsed in C: for the tests' many requests httpx2's own costs more than the server."""

import select
import socket
import time
from collections.abc import Iterator

import httptools
import httpx2

_PART = 1 << 16
_IDLE_SECONDS = 2.0
"""Servers close a connection that is idle for 5 s."""


class Wire(httpx2.BaseTransport):
    """Connections to plain HTTP servers, kept open and used again, by any client and thread.

    What it does not know (HEAD, a body of unknown length, 100-continue) httpx2's own transport does.
    """

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int], list[tuple[socket.socket, float]]] = {}
        self._other: httpx2.HTTPTransport | None = None

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends a request; the body of the answer is read as it is asked for."""
        headers = request.headers
        if request.method == "HEAD" or "transfer-encoding" in headers or "expect" in headers:
            if self._other is None:
                self._other = httpx2.HTTPTransport(verify=False)
            return self._other.handle_request(request)
        seconds = request.extensions.get("timeout", {}).get("read")
        url = request.url
        origin = url.host, url.port or 80
        lines = [b"%s %s HTTP/1.1\r\n" % (request.method.encode(), url.raw_path)]
        lines += [b"%s: %s\r\n" % item for item in headers.raw]
        data = b"".join((*lines, b"\r\n", request.read()))
        try:
            connection = self._connection(origin, seconds)
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpx2.ConnectError(str(error)) from error
        answer = _Answer(self, origin, connection)
        answer.send(data)
        answer.head()
        return httpx2.Response(
            answer.parser.get_status_code(),
            headers=answer.headers,
            stream=answer,
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": answer.reason},
        )

    def _connection(self, origin: tuple[str, int], seconds: float | None) -> socket.socket:
        idle = self._idle.setdefault(origin, [])
        while idle:
            try:
                connection, since = idle.pop()
            except IndexError:  # another thread took it
                break
            readable = select.select([connection], [], [], 0)[0]  # that is: closed by the server
            if not readable and time.monotonic() - since < _IDLE_SECONDS:
                connection.settimeout(seconds)
                return connection
            connection.close()
        connection = socket.create_connection(origin, timeout=seconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def release(self, origin: tuple[str, int], connection: socket.socket) -> None:
        """Takes a connection back that may be used again."""
        self._idle.setdefault(origin, []).append((connection, time.monotonic()))

    def close(self) -> None:
        """Nothing: it is shared by clients, and a connection is closed when it has been idle."""


class _Answer(httpx2.SyncByteStream):
    """An answer under way: the parser calls it, and it is the stream of the answer's body."""

    def __init__(self, wire: Wire, origin: tuple[str, int], connection: socket.socket) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.headers: list[tuple[bytes, bytes]] = []
        self.reason = b""
        self._wire, self._origin, self._connection = wire, origin, connection
        self._begun = self._whole = self._kept = self._cut = self._closed = False
        self._parts: list[bytes] = []

    def on_status(self, status: bytes) -> None:
        self.reason = status

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._begun = True

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self._whole, self._kept = True, self.parser.should_keep_alive()

    def send(self, data: bytes) -> None:
        try:
            self._connection.sendall(data)
        except TimeoutError as error:
            raise self._broken(httpx2.WriteTimeout(str(error))) from error
        except OSError:  # a server that has read enough of the body may have answered, and closed
            self._cut = True

    def head(self) -> None:
        while not self._begun:
            self._read()

    def _read(self) -> None:
        try:
            data = self._connection.recv(_PART)
        except TimeoutError as error:
            raise self._broken(httpx2.ReadTimeout(str(error))) from error
        except OSError as error:
            raise self._broken(httpx2.ReadError(str(error))) from error
        if not data:
            raise self._broken(httpx2.RemoteProtocolError("The server closed the connection before its answer ended."))
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise self._broken(httpx2.RemoteProtocolError(str(error))) from error

    def _broken(self, error: Exception) -> Exception:
        self.close()
        return error

    def __iter__(self) -> Iterator[bytes]:
        while True:
            parts, self._parts = self._parts, []
            yield from parts
            if self._whole:
                return
            self._read()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._kept and not self._cut:
            self._wire.release(self._origin, self._connection)
        else:
            self._connection.close()


WIRE = Wire()
"""The one that all clients of a run share."""


def anonymous(base_url: str) -> httpx2.Client:
    """A client without credentials."""
    return httpx2.Client(base_url=base_url, transport=WIRE, timeout=30)
