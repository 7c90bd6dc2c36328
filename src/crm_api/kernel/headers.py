"""Reads a request: bodies, query strings, preconditions, preferences. Each fault is a problem that says where."""

import math
import re
from collections.abc import Iterable
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import jiter
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from crm_api.kernel.problems import (
    INVALID_HEADER,
    MALFORMED_JSON,
    TOO_LARGE,
    UNSUPPORTED_MEDIA,
    Fault,
    Problem,
    from_validation,
    invalid,
    invalid_parameter,
    meant,
)

MAX_DEPTH = 32
_JSON_TYPES = ("application/json", "application/merge-patch+json")
ANY = "*"
"""In place of a version: whatever is there, as long as something is (RFC 9110, 13.1.1)."""
_ETAG = re.compile(r'^(?:W/)?"([0-9]{1,18})"$')
_KEY = re.compile(r"^[\x21-\x7e]{1,255}$")
Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: Request) -> bytes:
    """The whole body, up to the limit.

    Raises:
        Problem: 413 when it is larger than the limit, 415 when it is not JSON.
    """
    if (known := request.scope.get("crm.body")) is not None:
        return bytes(known)  # the request is read a second time, under new rights
    limit = request.scope["crm.max_body"]
    length = header(request, b"content-length")
    if length is not None and length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    media = (header(request, b"content-type") or "").partition(";")[0].strip().lower()
    if size and media not in _JSON_TYPES:
        raise Problem(UNSUPPORTED_MEDIA, "Send application/json.", headers={"Accept": ", ".join(_JSON_TYPES)})
    request.scope["crm.body"] = b"".join(parts)
    return bytes(request.scope["crm.body"])


def _too_large(limit: int) -> Problem:
    return Problem(TOO_LARGE, f"A body has at most {limit} bytes.", headers={"Connection": "close"})


def parse(body: bytes, model: type[Body], read_only: frozenset[str] = frozenset()) -> Body:
    """A validated body.

    Raises:
        Problem: 400 for what is not one JSON value with distinct keys, 422 for what the schema refuses.
    """
    if not body:
        raise Problem(MALFORMED_JSON, "The body is empty; send a JSON object.")
    try:
        tree = jiter.from_json(body, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        raise Problem(MALFORMED_JSON, str(error)) from None
    _inspect(tree, "", 1)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise from_validation(error, read_only, model.model_fields) from None


def _inspect(node: Any, pointer: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Problem(MALFORMED_JSON, f"JSON nests at most {MAX_DEPTH} levels.")
    if isinstance(node, str):
        if "\x00" in node:
            raise invalid(pointer, "bad_value", "Text cannot hold a NUL character.")
    elif isinstance(node, dict):
        for key, value in node.items():
            _inspect(key, pointer, depth)
            _inspect(value, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}", depth + 1)
    elif isinstance(node, list):
        for i, value in enumerate(node):
            _inspect(value, f"{pointer}/{i}", depth + 1)
    elif isinstance(node, float) and not math.isfinite(node):
        raise invalid(pointer, "bad_value", "A number is out of range.")


def query(request: Request, allowed: Iterable[str]) -> dict[str, list[str]]:
    """Query parameters by name, in order.

    Raises:
        Problem: 422 for a name that is not allowed here.
    """
    raw: bytes = request.scope["query_string"]
    if not raw:
        return {}
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, max_num_fields=600, errors="strict")
    except ValueError:
        raise invalid_parameter("", "malformed", "The query string is malformed.") from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in allowed:
            raise invalid_parameter(
                name, "unknown_parameter", f"There is no parameter {name} here.{meant(name, allowed)}"
            )
        if "\x00" in value:
            raise invalid_parameter(name, "bad_value", "Text cannot hold a NUL character.")
        found.setdefault(name, []).append(value)
    return found


def single(pairs: dict[str, list[str]], name: str) -> str | None:
    """Takes the value of a parameter that may be given once; of a list, which may be repeated, `a,b`."""
    values = pairs.pop(name, None)
    if values is None:
        return None
    if len(values) > 1 and name not in ("sort", "expand"):
        raise invalid_parameter(name, "repeated", "This parameter is given once.")
    return ",".join(values)


def boolean(pairs: dict[str, list[str]], name: str) -> bool:
    """Takes a flag; absent is false."""
    value = single(pairs, name)
    if value not in (None, "true", "false"):
        raise invalid_parameter(name, "invalid_value", "true or false.")
    return value == "true"


def values(request: Request, name: bytes) -> list[str]:
    """Each value of a header; `name` in lower case, as the server gives it."""
    return [value.decode("latin-1") for known, value in request.scope["headers"] if known == name]


def header(request: Request, name: bytes) -> str | None:
    """The first value of a header."""
    found = values(request, name)
    return found[0] if found else None


def only(request: Request, name: str) -> str | None:
    """The value of a header that may be given once."""
    found = values(request, name.lower().encode())
    if len(found) > 1:
        raise _wrong(name, "This header is given once.")
    return found[0] if found else None


def if_match(request: Request) -> int | None:
    """The version a write expects; `*` expects any."""
    text = only(request, "If-Match")
    if text is None or text == ANY:
        return None
    match = _ETAG.match(text)
    if match is None:
        raise _wrong("If-Match", 'One ETag as it was sent, such as "3".')
    return int(match[1])


def if_none_match(request: Request, version: int) -> bool:
    """Whether the caller already has this version."""
    text = header(request, b"if-none-match")
    return text is not None and (text == "*" or f'"{version}"' in text.replace("W/", "").replace(" ", "").split(","))


def idempotency_key(request: Request) -> str | None:
    """The client's key for this write."""
    key = only(request, "Idempotency-Key")
    if key is not None and not _KEY.match(key):
        raise _wrong("Idempotency-Key", "1 to 255 visible ASCII characters.")
    return key


def minimal(request: Request) -> bool:
    """Whether the caller wants no body back (RFC 7240)."""
    return "return=minimal" in (header(request, b"prefer") or "").replace(" ", "")


def _wrong(header: str, detail: str) -> Problem:
    return Problem(INVALID_HEADER, detail, [Fault("invalid_header", detail, header=header)])
