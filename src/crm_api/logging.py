"""Structured logs on standard output: one JSON object a line, without secrets."""

import asyncio
import logging
import re
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import structlog

_SECRET = re.compile(
    r"crm_[a-z]+_[0-9A-Za-z]{20,}_[0-9A-Za-z]{20,}|crm_cs_[\w-]{20,}|Bearer\s+\S+|eyJ[\w-]{10,}\.[\w.-]+|(?<=://)[^/@\s]+:[^/@\s]+(?=@)"
)

_SIGNS = ("crm_", "earer", "eyJ", "://")


def scrub(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Takes keys, tokens and passwords out of every text that is logged."""
    del logger, method
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _scrubbed(value)
    return event


def _scrubbed(text: str) -> str:
    return _SECRET.sub("[secret]", text) if any(each in text for each in _SIGNS) else text


class AccessLog:
    """One line for each request, written some at a time.

    A line waits for at most a tenth of a second, so a system call serves many requests; a killed process loses no more.
    Lines go out whole, in pieces that a pipe takes at once, so that several processes can share one output.
    """

    _PIECE = 3_500
    _SECONDS = 0.1

    def __init__(self, level: str, form: str) -> None:
        self._wanted = getattr(logging, level.upper()) <= logging.INFO
        self._json = form == "json"
        self._lines: list[bytes] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, fields: dict[str, Any]) -> None:
        """Notes a request; `fields` are those of the line."""
        if not self._wanted:
            return
        if not self._json:
            told = {name: str(value) if isinstance(value, UUID) else value for name, value in fields.items()}
            structlog.get_logger("crm_api.http").info(**told)
            return
        fields["path"] = _scrubbed(fields["path"])
        fields["level"] = "info"
        fields["timestamp"] = datetime.now(UTC)
        line = orjson.dumps(fields, default=str, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)
        if self._size + len(line) > self._PIECE:
            self.flush()
        self._lines.append(line)
        self._size += len(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._SECONDS, self.flush)

    def flush(self) -> None:
        """Writes what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines, self._size = self._lines, [], 0
        if lines:
            sys.stdout.buffer.write(b"".join(lines))
            sys.stdout.buffer.flush()


def configure(level: str, form: str) -> None:
    """Sets up structlog, and the standard library's loggers of others."""
    number = getattr(logging, level.upper())
    renderer: Any = (
        structlog.processors.JSONRenderer(lambda value, **_: orjson.dumps(value, default=str))
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    )
    factory: Any = structlog.BytesLoggerFactory(sys.stdout.buffer) if form == "json" else structlog.PrintLoggerFactory()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            scrub,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=max(number, logging.WARNING), format="%(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
