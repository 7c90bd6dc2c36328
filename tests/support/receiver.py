"""A receiver of webhooks on loopback: a real HTTP peer that keeps what it gets, and fails as it is told."""

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass
class Message:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class Receiver:
    """`messages` are those that came; `answers` the next statuses, then `status`; `seconds` is how long it takes.

    With `echo` the reply has the request's headers. `decide` gives status and seconds of each message instead.
    """

    status: int = 200
    echo: bool = False
    seconds: float = 0
    headers: dict[str, str] = field(default_factory=dict)
    decide: Callable[[Message], tuple[int, float]] | None = None
    answers: deque[int] = field(default_factory=deque)
    messages: list[Message] = field(default_factory=list)

    def __enter__(self) -> Self:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                message = Message(self.path, headers, body, time.monotonic())
                status, seconds = receiver.decide(message) if receiver.decide else (None, receiver.seconds)
                time.sleep(seconds)
                message.at = time.monotonic()
                receiver.messages.append(message)
                status = status or (receiver.answers.popleft() if receiver.answers else receiver.status)
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                reply = json.dumps(headers).encode() if receiver.echo else b"ok"
                self.send_header("content-length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 256  # a burst is not to be refused by the five of the library

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/events"

    @property
    def events(self) -> list[dict[str, Any]]:
        return [message.event for message in self.messages]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]
