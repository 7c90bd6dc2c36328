"""Tells callers of what they use that will go: `Deprecation` (RFC 9745), `Sunset` (RFC 8594) and a link to more."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from email.utils import format_datetime
from urllib.parse import parse_qsl

import orjson
from starlette.types import Message, Receive, Scope, Send

from crm_api.domains.deprecation.use import Uses
from crm_api.kernel.edge import Edge
from crm_api.kernel.spec_deprecated import Deprecated
from crm_api.kernel.spec_deprecation import Watched

_LINK = b'</v1/me/deprecations>; rel="deprecation"; type="application/json"'


class Notices:
    """Stands before the application, `edge`, where anything is declared deprecated, and counts its uses."""

    def __init__(self, edge: Edge, watched: Sequence[Watched], uses: Uses) -> None:
        self.edge = edge
        self._watched = watched
        self._uses = uses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        watched = self._find(scope) if scope["type"] == "http" else None
        if watched is None:
            await self.edge(scope, receive, send)
            return
        body = bytearray()

        async def hear() -> Message:
            message = await receive()
            if watched.fields:
                body.extend(message.get("body", b""))
            return message

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start" and (
                used := _used(watched, scope["query_string"], bytes(body))
            ):
                message = {**message, "headers": [*message["headers"], *headers(used)]}
                if (principal := scope.get("crm.principal")) is not None:
                    for one in used:
                        self._uses.note(principal, one.name)
            await send(message)

        await self.edge(scope, hear, tell)

    def _find(self, scope: Scope) -> Watched | None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        return next((one for one in self._watched if one.method == method and one.path.fullmatch(scope["path"])), None)


def _used(watched: Watched, query: bytes, body: bytes) -> list[Deprecated]:
    """What a request used of what is deprecated."""
    named = {name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)}
    sent = set()
    if watched.fields and body:
        try:
            content = orjson.loads(body)
        except ValueError:
            content = None
        sent = set(content) if isinstance(content, dict) else set()
    found = [watched.whole] if watched.whole else []
    found += [gone for name, gone in watched.parameters.items() if name in named]
    return found + [gone for name, gone in watched.fields.items() if name in sent]


def headers(used: Sequence[Deprecated]) -> list[tuple[bytes, bytes]]:
    """Since when the oldest of them is deprecated, when the first of them goes, and where to read more."""
    since = int(_midnight(min(one.since for one in used)).timestamp())
    found = [(b"deprecation", f"@{since}".encode()), (b"link", _LINK)]
    if days := [one.sunset for one in used if one.sunset]:
        found.append((b"sunset", format_datetime(_midnight(min(days)), usegmt=True).encode()))
    return found


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
