"""Structured logs on standard output: one JSON object a line, without secrets."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog

_SECRET = re.compile(r"crm_[a-z]+_[0-9A-Za-z]{20,}_[0-9A-Za-z]{20,}|Bearer\s+\S+|(?<=://)[^/@\s]+:[^/@\s]+(?=@)")


def scrub(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Takes keys, tokens and passwords out of every text that is logged."""
    del logger, method
    for name, value in event.items():
        if isinstance(value, str) and ("crm_" in value or "earer" in value or "://" in value):
            event[name] = _SECRET.sub("[secret]", value)
    return event


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
