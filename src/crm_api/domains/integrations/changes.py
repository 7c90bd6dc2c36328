"""`/v1/changes`: the change feed, by pages, by long poll, and as a stream of server-sent events (WHATWG HTML, 9.2)."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from crm_api.kernel import feed
from crm_api.kernel.context import Context
from crm_api.kernel.feed_envelope import Event, EventType
from crm_api.kernel.headers import query
from crm_api.kernel.problems import AccessMoved, Problem, invalid_parameter, meant, unavailable
from crm_api.kernel.projection import Json, dumps
from crm_api.kernel.pulse import grows
from crm_api.kernel.unit_of_work import open_context

router = APIRouter()
MOST_WAITING, MOST_OF_TENANT = 500, 100
"""Requests of one process that wait, of all and of one tenant; one more is answered at once, and a stream refused."""
STREAM_SECONDS = 300
HEARTBEAT_SECONDS = 15
_ROUND = 1.0
_Cursor = Annotated[str, Field(max_length=200)]


class EventList(BaseModel):
    """A page of the feed. `next_cursor` is where to go on, also when `data` is empty."""

    data: Annotated[list[Event], Field(max_length=400)]
    has_more: bool
    next_cursor: _Cursor


class ChangeCursor(BaseModel):
    """The present end of the feed."""

    object: Literal["change_cursor"]
    cursor: _Cursor


async def _reader(request: Request) -> Context:
    query(request, {parameter.alias for parameter in request.scope["route"].dependant.query_params})
    return await open_context(request)


Reader = Annotated[Context, Depends(_reader)]
Since = Annotated[_Cursor | None, Query(description="Where to go on; without it, from the oldest event that is kept.")]
Types = Annotated[
    list[EventType] | None,
    Query(max_length=50, description="Only these types; `account.*` and `*.deleted` stand for several."),
]


def parse_types(ctx: Context, names: list[str] | None) -> frozenset[str] | None:
    """Types with their wildcards resolved; None for all.

    Raises:
        Problem: 422 for a name that is or stands for none.
    """
    if not names or names == ["*"]:
        return None
    known = feed.event_types(ctx.kernel.catalog)
    found: set[str] = set()
    for name in names:
        object_, _, past = name.partition(".")
        matching = {
            item
            for item in known
            if name == item or ("*" in (object_, past) and _matches(object_, past, *item.split(".", 1)))
        }
        if not matching:
            raise invalid_parameter(
                "types", "unknown_event_type", f"There is no event type {name[:100]!r}.{meant(name[:100], known)}"
            )
        found |= matching
    return frozenset(found)


def _matches(object_: str, past: str, other: str, other_past: str) -> bool:
    return object_ in ("*", other) and past in ("*", other_past)


@router.get(
    "/v1/changes",
    operation_id="list_changes",
    summary="Read the change feed",
    response_model=EventList,
    responses={409: {}, 410: {}, 422: {}},
)
async def list_changes(
    request: Request,
    ctx: Reader,
    since: Since = None,
    types: Types = None,
    limit: Annotated[int, Query(ge=1, le=200, description="About how many events.")] = 100,
    wait: Annotated[int, Query(ge=0, le=30, description="Seconds to wait for an event when there is none.")] = 0,
) -> Response:
    """Events in the order of their commits, as far as the caller may see their records; none is skipped or doubled."""
    wanted = parse_types(ctx, types)
    now = await feed.head(ctx)
    seq = feed.place(ctx, now, since)
    until = time.monotonic() + wait
    while True:
        entries, seq, more = await feed.page(ctx, seq, limit, wanted)
        if entries or more or not await _wait(request, ctx, seq, until):
            break
    epoch = now.epoch if now.epoch != feed.NOWHERE else (await feed.head(ctx)).epoch
    data = [entry.envelope for entry in entries]
    return Json({"data": data, "has_more": more, "next_cursor": feed.cursor(ctx, epoch, seq)})


@router.get("/v1/changes/cursor", operation_id="get_change_cursor", summary="The present end of the change feed")
async def change_cursor(ctx: Reader) -> ChangeCursor:
    """To begin with all records: take this, read the lists, then follow the feed from here; nothing is missed."""
    now = await feed.head(ctx)
    return ChangeCursor(object="change_cursor", cursor=feed.cursor(ctx, now.epoch, now.seq))


_SHOWN = 'retry: 1000\n\nid: Q7pUo1zC…\nevent: account.created\ndata: {"id":"evt_…","type":"account.created", …}\n\n'


@router.get(
    "/v1/changes/stream",
    operation_id="stream_changes",
    summary="Follow the change feed as server-sent events",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string", "maxLength": 1_000_000},
                    "examples": {"reply": {"value": _SHOWN}},
                }
            }
        },
        409: {},
        410: {},
        422: {},
    },
)
async def stream_changes(
    request: Request,
    ctx: Reader,
    since: Since = None,
    types: Types = None,
    last_event_id: Annotated[_Cursor | None, Header(description="Goes on where a broken stream was.")] = None,
) -> Response:
    """The id of each event is a cursor; `Last-Event-ID` goes on there. A stream ends after five minutes."""
    wanted = parse_types(ctx, types)
    now = await feed.head(ctx)
    given = last_event_id or since
    seq = feed.place(ctx, now, given) if given else now.seq
    if _full(ctx):
        raise unavailable("Too many follow the feed here.")
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(request, seq, wanted), media_type="text/event-stream", headers=headers)


async def _stream(request: Request, seq: int, wanted: frozenset[str] | None) -> AsyncIterator[bytes]:
    end = time.monotonic() + STREAM_SECONDS
    yield b"retry: 1000\n\n"
    beat = time.monotonic()
    while time.monotonic() < end and not request.scope.get("crm.leaving"):
        try:
            ctx = await open_context(request)  # a revoked credential ends the stream
            now = await feed.head(ctx)
            entries, seq, more = await feed.page(ctx, seq, 100, wanted)
        except AccessMoved:
            continue
        except Problem:
            return
        for i, entry in enumerate(entries):
            whole = i + 1 == len(entries) or entries[i + 1].seq > entry.seq  # else a marker of the same event follows
            id_ = feed.cursor(ctx, now.epoch, entry.seq if whole else entry.seq - 1)
            yield b"id: %s\nevent: %s\ndata: %s\n\n" % (
                id_.encode(),
                entry.envelope["type"].encode(),
                dumps(entry.envelope),
            )
        if more:
            continue
        if time.monotonic() - beat > HEARTBEAT_SECONDS:
            beat = time.monotonic()
            yield b": still here\n\n"
        await grows(ctx, seq, _ROUND)


def _full(ctx: Context) -> bool:
    pulses = ctx.kernel.pulses
    mine = pulses.get(ctx.principal.tenant_id)
    return sum(pulse.waiting for pulse in pulses.values()) >= MOST_WAITING or (
        mine is not None and mine.waiting >= MOST_OF_TENANT
    )


async def _wait(request: Request, ctx: Context, seq: int, until: float) -> bool:
    """Whether the feed grew before `until`, with the client and the server still there."""
    if _full(ctx):
        await asyncio.sleep(0)
        return False
    while (left := until - time.monotonic()) > 0:
        if request.scope.get("crm.leaving") or await request.is_disconnected():
            return False
        if await grows(ctx, seq, min(left, _ROUND)):
            return True
    return False
