"""How the endpoints of OAuth read and answer: forms, and errors as RFC 6749, 5.2 has them."""

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request
from starlette.responses import Response

from crm_api.kernel.problems import RATE_LIMITED, Problem

LONGEST_BODY = 65_536
_UNKEPT = {"Cache-Control": "no-store", "Pragma": "no-cache"}
Endpoint = Callable[[Request], Awaitable[Response]]


class OAuthError(Exception):
    """Ends a request; `error` is a code of the standards, `description` is for the programmer of the client."""

    def __init__(
        self, error: str, description: str, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status
        self.headers = headers or {}

    def response(self) -> Response:
        """As it is sent."""
        body = {"error": self.error, "error_description": self.description}
        return answer(body, self.status, self.headers)


def answer(body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON that nobody keeps."""
    return Response(orjson.dumps(body), status, {**_UNKEPT, **(headers or {})}, "application/json")


def endpoint(function: Endpoint) -> Endpoint:
    """Answers an `OAuthError` as the standard says, and who asks too often."""

    @wraps(function)
    async def wrapped(request: Request) -> Response:
        try:
            return await function(request)
        except OAuthError as error:
            return error.response()
        except Problem as problem:
            if problem.kind is not RATE_LIMITED:
                raise
            return OAuthError("temporarily_unavailable", problem.detail, 429, problem.headers).response()

    return wrapped


def pairs(text: str) -> dict[str, str]:
    """Parameters of a form or query: each once, none of them empty (RFC 6749, 3.1 and 3.2)."""
    try:
        found = parse_qsl(text, keep_blank_values=True, max_num_fields=100, errors="strict")
    except ValueError:
        raise OAuthError("invalid_request", "The parameters are malformed.") from None
    known = dict(found)
    if len(known) < len(found):
        raise OAuthError("invalid_request", "A parameter is given twice.")
    if any("\x00" in value for value in known.values()):
        raise OAuthError("invalid_request", "A parameter holds a NUL character.")
    return {name: value for name, value in known.items() if value}


async def form(request: Request) -> dict[str, str]:
    """The body of a request."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise OAuthError("invalid_request", "Send application/x-www-form-urlencoded.", 415)
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > LONGEST_BODY:
            raise OAuthError("invalid_request", f"A body has at most {LONGEST_BODY} bytes.", 413)
    try:
        return pairs(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise OAuthError("invalid_request", "The body is not UTF-8.") from None


def scopes_of(text: str | None) -> frozenset[str]:
    """The scopes of a parameter."""
    return frozenset((text or "").split(" ")) - {""}
