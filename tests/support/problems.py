"""What every refusal must look like, and a client that sends bytes as they are."""

import json
import socket
from typing import Any
from urllib.parse import unquote_plus

import httpx2

MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id", "retryable", "errors"}
_INTERNAL = ("traceback", "asyncpg", "sqlalchemy", "psycopg", "select ", "insert into", 'file "', "pydantic_core")


def problem(answer: Any, *statuses: int, code: str | None = None) -> dict[str, Any]:
    """The body of a problem; fails unless it is one, complete, of these statuses, and shows nothing internal."""
    assert answer.status_code < 500 or answer.status_code in statuses, (answer.status_code, answer.text[:2000])
    assert answer.status_code in statuses, (answer.status_code, answer.text[:2000])
    assert answer.headers["content-type"].startswith("application/problem+json"), answer.headers
    body = answer.json()
    assert body.keys() >= MEMBERS, body
    assert body["status"] == answer.status_code
    assert body["type"] == f"/problems/{body['code']}"
    assert body["request_id"] == answer.headers["x-request-id"]
    assert len(answer.content) < 100_000, "a refusal is not larger than what it refuses"
    for fault in body["errors"]:
        assert len({"pointer", "parameter", "header"} & fault.keys()) <= 1, fault
        assert fault["code"], fault
        assert fault["detail"], fault
    text, sent = answer.text.lower(), _sent(answer).lower()
    assert not [word for word in _INTERNAL if word in text and word not in sent], answer.text[:2000]
    if code is not None:
        assert body["code"] == code, body
    return body


def _sent(answer: Any) -> str:
    """What the client itself said, which a refusal may repeat."""
    request = getattr(answer, "request", None)
    if request is None:
        return ""
    try:
        body = request.content.decode("utf-8", "replace")
    except httpx2.RequestNotRead:
        body = ""
    return unquote_plus(str(request.url)) + body


class Answer:
    """A reply read from a socket, with the part of an HTTP client's interface that `problem` uses."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.content = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        self.status_code = int(status.split(" ")[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.text = self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        return json.loads(self.content)


def send_raw(base_url: str, data: bytes, timeout: float = 10) -> Answer:
    """Sends bytes on a connection of their own and reads until the server closes it or the reply is whole."""
    host, _, port = base_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        connection.sendall(data)
        return read_answer(connection)


def read_answer(connection: socket.socket) -> Answer:
    """One reply, by its content length."""
    raw = b""
    while True:
        while b"\r\n\r\n" not in raw or raw.startswith(b"HTTP/1.1 100"):
            part = connection.recv(65_536)
            assert part, f"the server closed the connection after {raw!r}"
            raw += part
            if raw.startswith(b"HTTP/1.1 100"):
                raw = raw.partition(b"\r\n\r\n")[2]
        answer = Answer(raw)
        wanted = int(answer.headers.get("content-length", 0))
        while len(answer.content) < wanted and (part := connection.recv(65_536)):
            raw += part
            answer = Answer(raw)
        return answer


def request_bytes(method: str, target: str | bytes, headers: list[tuple[str, str]], body: bytes = b"") -> bytes:
    """A request as bytes; Host and Content-Length are added unless given."""
    names = {name.lower() for name, _ in headers}
    lines = [*headers]
    if "host" not in names:
        lines.append(("Host", "localhost"))
    if "content-length" not in names and "transfer-encoding" not in names and (body or method in ("POST", "PATCH")):
        lines.append(("Content-Length", str(len(body))))
    target = target.encode() if isinstance(target, str) else target
    head = method.encode() + b" " + target + b" HTTP/1.1\r\n"
    return head + b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in lines) + b"\r\n" + body
