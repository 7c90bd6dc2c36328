"""Run as a program: the receiver of examples/, which fails at random, and notes what arrived and was kept.

A second address, `/restricted`, is that of an endpoint of somebody who may see little; it only takes note.
"""

import asyncio
import json
import os
import random
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn
from examples.erp_receiver.app import create_app

Message = MutableMapping[str, Any]
Receive, Send = Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]


class Unreliable:
    """Fails before or after the event is kept, or takes long, at the rate it is given; `/calm` ends that."""

    def __init__(self, log: Path, rate: float) -> None:
        self.app, self.rate = create_app(), rate
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        path = scope.get("path")
        if path == "/calm":
            self.rate = 0
            return await _answer(send, 204)
        if path not in ("/crm-events", "/restricted"):
            return await self.app(scope, receive, send)
        body = b""
        while True:
            part = await receive()
            if part["type"] == "http.disconnect":
                return None
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        chance = random.random()  # noqa: S311 - luck, no secrets
        if chance < self.rate / 3:
            self._note(path, body, kept=False)
            return await _answer(send, 500)
        status = await self._apply(scope, body) if path == "/crm-events" else 204
        self._note(path, body, kept=status == 204)
        if chance < self.rate * 2 / 3:
            return await _answer(send, 502)
        if chance < self.rate:
            await asyncio.sleep(0.2)
        return await _answer(send, status)

    async def _apply(self, scope: Any, body: bytes) -> int:
        statuses = []

        async def whole() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        await self.app(scope, whole, keep)
        return statuses[0]

    def _note(self, path: str, body: bytes, *, kept: bool) -> None:
        event = json.loads(body)
        arrived = {
            "path": path,
            "event": event["id"],
            "type": event["type"],
            "object": event["object"]["id"],
            "version": event["object"]["version"],
            "told": event["data"] is not None,
            "kept": kept,
        }
        os.write(self.log, json.dumps(arrived).encode() + b"\n")


async def _answer(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    app = Unreliable(Path(sys.argv[2]), float(sys.argv[3]))
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
