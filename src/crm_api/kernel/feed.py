"""The change feed: what was committed, in one order for each tenant, as one reader may see it.

Every event is told as the record is open to the reader now. Who may not see a record is not told of it, except that
access was lost to one they could see before the change; records that a change opened are told of as gained.
"""

import base64
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.kernel.context import Context, Kernel
from crm_api.kernel.customs import CUSTOM, changed_keys
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.domain import Catalog
from crm_api.kernel.problems import CURSOR_EXPIRED, FEED_RESTARTED, INVALID_CURSOR, Problem
from crm_api.kernel.projection import Projection
from crm_api.kernel.record import FeedEvent, FeedHead, among, readable, table_of
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import instant_text
from crm_api.kernel.sealing import SealError
from crm_api.kernel.sharing import is_for
from crm_api.kernel.sight import may_read, saw, seen, settle

API_VERSION = "v1"
RIGHTS = "access.changed"
"""The event that what the reader may see has changed in ways that no event of a record tells."""
TEST = "webhook.test"
"""The event that is sent to try a receiver; it is in no feed."""
NOWHERE = UUID(int=0)
_CURSOR = "feed_cursor"
BELL = "feed"
"""The bell that this process has moved events into the feed."""
_FEED, _HEADS = table_of(FeedEvent), table_of(FeedHead)
_SINCE = sa.bindparam("since", type_=sa.BigInteger())
_LIMIT = sa.bindparam("limit", type_=sa.BigInteger())
_TYPES = sa.bindparam("types", type_=ARRAY(sa.Text()))
_SEQUENCE = Statement(
    sa.select(sa.column("moved", sa.BigInteger())).select_from(
        sa.func.sequence_outbox(sa.bindparam("most", type_=sa.Integer())).table_valued("tenant", "moved")
    )
)
_HEAD = Statement(sa.select(_HEADS.c.epoch, _HEADS.c.seq, _HEADS.c.floor).where(_HEADS.c.tenant_id == TENANT))
COLUMNS = [readable(column).label(str(column.key)) for column in _FEED.c if column.key not in ("tenant_id", "moved_at")]
"""What `tell` reads of a stored event."""
_PAGE = sa.select(*COLUMNS).where(_FEED.c.tenant_id == TENANT, _FEED.c.seq > _SINCE).order_by(_FEED.c.seq).limit(_LIMIT)
_ALL = Statement(_PAGE)
_SOME = Statement(_PAGE.where(among(_FEED.c.type, _TYPES)))
STEP = 1000
"""Rows the sequencer moves for each tenant at a time."""
SCAN = 500
"""Rows a page looks at in one statement."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a feed ends and begins."""

    epoch: UUID
    seq: int
    floor: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing told to a reader, at its place in the feed."""

    seq: int
    envelope: dict[str, Any]


async def sequence(kernel: Kernel) -> tuple[bool, bool]:
    """Moves committed events from the outbox into the feed; whether any were, and whether more may be waiting."""
    rows = await kernel.database.fetch(None, _SEQUENCE, {"most": STEP})
    return bool(rows), any(row["moved"] >= STEP for row in rows)


async def head(ctx: Context) -> Head:
    """The feed of the caller's tenant; one without events has the epoch 0."""
    rows = await ctx.read(_HEAD, {})
    return Head(UUID(str(rows[0]["epoch"])), rows[0]["seq"], rows[0]["floor"]) if rows else Head(NOWHERE, 0, 0)


def cursor(ctx: Context, epoch: UUID, seq: int) -> str:
    """A place in the tenant's feed, sealed: how many events there are, hidden ones too, is nobody's to know."""
    plain = epoch.bytes + seq.to_bytes(8, "big")
    sealed = ctx.kernel.sealer.seal(ctx.principal.tenant_id, _CURSOR, plain)
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def place(ctx: Context, now: Head, text: str | None) -> int:
    """The number after which to read.

    Raises:
        Problem: 400 for no cursor of this tenant's feed, 409 for one of an earlier epoch, 410 for one that lies before
            what is kept.
    """
    if text is None:
        return now.floor
    epoch, seq = _opened(ctx, text)
    extra = {"bootstrap": "/v1/changes/cursor"}
    if epoch not in (now.epoch, NOWHERE) or seq > now.seq:
        raise Problem(FEED_RESTARTED, "Take a new cursor, read all records, then follow the feed again.", extra=extra)
    if seq < now.floor:
        raise Problem(CURSOR_EXPIRED, "Take a new cursor, read all records, then follow the feed again.", extra=extra)
    return seq


def _opened(ctx: Context, text: str) -> tuple[UUID, int]:
    wrong = Problem(INVALID_CURSOR, "This is no cursor of the feed.")
    try:
        sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        if base64.urlsafe_b64encode(sealed).rstrip(b"=") != text.encode():
            raise wrong  # another spelling of the same bytes
        plain = ctx.kernel.sealer.unseal(ctx.principal.tenant_id, _CURSOR, sealed)
    except (ValueError, SealError):
        raise wrong from None
    return UUID(bytes=plain[:16]), int.from_bytes(plain[16:], "big")


@cache
def event_types(catalog: Catalog) -> dict[str, frozenset[str]]:
    """Every type of event there is, with the stored types it may come from."""
    found: dict[str, frozenset[str]] = {}
    rights: set[str] = set()
    for resource in catalog.resources.values():
        found |= {name: frozenset({name}) for name in resource.events}
        if resource.deciding:
            names = {f"{resource.singular}.{past}" for past in ("updated", "shared", "unshared")}
            found[f"{resource.singular}.access_changed"] = frozenset(names & set(resource.events))
        if resource.rights is not None:
            rights |= set(resource.events)
    return {**found, RIGHTS: frozenset(rights)}


async def page(ctx: Context, since: int, limit: int, wanted: Collection[str] | None) -> tuple[list[Entry], int, bool]:
    """What the caller is told of the events after a number.

    Args:
        ctx: the reader.
        since: where to begin.
        limit: about how many entries; an event may come with a marker of changed access beside it.
        wanted: types to tell of; None for all.

    Returns:
        The entries, the number up to which was read, and whether there may be more.
    """
    known = event_types(ctx.kernel.catalog)
    stored = None if wanted is None else sorted(frozenset().union(*(known[name] for name in wanted)))
    end = (await head(ctx)).seq
    entries: list[Entry] = []
    for _ in range(10):
        values: dict[str, Any] = {"since": since, "limit": min(limit - len(entries), SCAN)}
        if stored is None:
            rows = await ctx.read(_ALL, values)
        else:
            rows = await ctx.read(_SOME, {**values, "types": stored})
        told = await tell(ctx, rows)
        entries += [item for item in told if wanted is None or item.envelope["type"] in wanted]
        full = len(rows) == values["limit"]
        since = rows[-1]["seq"] if full else max(end, rows[-1]["seq"] if rows else since)
        if not full or len(entries) >= limit:
            return entries, since, full
    return entries, since, True


async def tell(ctx: Context, rows: Iterable[Row]) -> list[Entry]:
    """Stored events as the caller may be told of them, in their order; several or none for one."""
    stories = [_Story.of(ctx, row) for row in rows if row["object_type"] in ctx.kernel.catalog.by_type]
    by_resource: dict[str, list[_Story]] = {}
    for story in stories:
        by_resource.setdefault(story.resource.plural, []).append(story)
    if stories and not any(may_read(ctx, group[0].resource) for group in by_resource.values()):
        await settle(ctx)
    for group in by_resource.values():
        resource = group[0].resource
        now = await seen(ctx, resource, {story.row["object_id"] for story in group})
        for story in group:
            story.visible = story.row["object_id"] in now
        for story in group:
            if into := story.origin.get("merged_into"):
                story.merged_into = into if into in await seen(ctx, resource, {into}) else None
            if story.moved:  # one by one: a record may have moved several times
                was = await saw(ctx, resource, [{**story.data, **story.previous}])
                story.was_visible = story.row["object_id"] in was
    return [Entry(story.row["seq"], envelope) for story in stories for envelope in story.envelopes(ctx)]


@dataclass(slots=True)
class _Story:
    """One stored event, and what the reader may know of its record."""

    row: Row
    resource: Resource
    previous: dict[str, Any]
    data: dict[str, Any]
    past: str
    changed: frozenset[str]
    origin: dict[str, Any]
    visible: bool = False
    was_visible: bool | None = None
    merged_into: str | None = None

    @classmethod
    def of(cls, ctx: Context, row: Row) -> "_Story":
        resource = ctx.kernel.catalog.by_type[row["object_type"]]
        previous, past = orjson.loads(row["previous"]), row["type"].partition(".")[2]
        changed = frozenset(previous) if past == "updated" else frozenset()
        origin = orjson.loads(row["origin"])
        return cls(row, resource, previous, orjson.loads(row["data"]), past, changed, origin)

    @property
    def moved(self) -> bool:
        return not self.changed.isdisjoint(self.resource.deciding)

    def envelopes(self, ctx: Context) -> list[dict[str, Any]]:
        found = []
        change = self._access(ctx)
        if change == "gained" or (change == "lost" and not self.visible):
            found.append(self._marker(ctx, f"{self.resource.singular}.access_changed", change))
        if self.visible:
            found.insert(0, self._event(ctx))
        elif self.merged_into:  # who saw the record through what is the survivor's now is told of the id alone
            object_ = self._object(self.row["version"])
            found.append(self._envelope(ctx, self.row["event_id"], self.row["type"], object_, [], {}, None))
        rights, me = self.resource.rights, str(ctx.principal.id)
        images = (self.data, {**self.data, **self.previous})  # what went from one principal to another is of both
        if rights is not None and any(rights(self.past, self.changed, image, me) for image in images):
            found.append(self._marker(ctx, RIGHTS, "changed"))
        return found

    def _access(self, ctx: Context) -> str | None:
        if self.was_visible is not None and self.was_visible != self.visible:
            return "lost" if self.was_visible else "gained"
        if self.past in ("shared", "unshared") and may_read(ctx, self.resource):
            share = (self.data if self.past == "shared" else self.previous).get("share", {})
            if is_for(ctx.access, share.get("grantee_type"), share.get("grantee_id")):
                return "gained" if self.visible else "lost"
        return None

    def _event(self, ctx: Context) -> dict[str, Any]:
        projection = ctx.kernel.statement(
            ("told", self.resource.plural, ctx.access.shape), lambda: Projection(self.resource, ctx.access)
        )
        shown = frozenset(projection.columns) - projection.hidden
        before = {name: value for name, value in self.previous.items() if name in shown} if self.changed else {}
        item = projection.from_image(self.data)
        if before:
            whole = projection.from_image({**self.data, **before})
            before = {name: whole[name] for name in before}
            if CUSTOM in before:
                before |= {CUSTOM: changed_keys(before[CUSTOM], item[CUSTOM])}
                before = {name: value for name, value in before.items() if name != CUSTOM or value}
        object_ = self._object(self.row["version"])
        return self._envelope(ctx, self.row["event_id"], self.row["type"], object_, sorted(before), before, item)

    def _object(self, version: int | None) -> dict[str, Any]:
        id_ = self.row["object_id"]
        url = f"/v1/{self.resource.plural}/{id_}"
        into = self.merged_into
        return {"type": self.resource.singular, "id": id_, "version": version, "url": url, "merged_into": into}

    def _marker(self, ctx: Context, type_: str, access: str) -> dict[str, Any]:
        if type_ == RIGHTS:
            object_ = {"type": "access", "id": str(ctx.principal.id), "version": None, "url": "/v1/me"}
            object_["merged_into"] = None
        else:
            object_ = self._object(None)
        return {
            **self._envelope(ctx, f"{self.row['event_id']}_{access}", type_, object_, [], {}, None),
            "access": access,
        }

    def _envelope(
        self,
        ctx: Context,
        id_: str,
        type_: str,
        object_: dict[str, Any],
        changed: list[str],
        previous: Mapping[str, Any],
        data: dict[str, Any] | None,
    ) -> dict[str, Any]:
        told = self.visible and data is not None
        origin = self.origin if told else {}
        return {
            "id": f"evt_{id_}",
            "type": type_,
            "timestamp": instant_text(self.row["at"]),
            "api_version": API_VERSION,
            "tenant_id": str(ctx.principal.tenant_id),
            "object": object_,
            "changed": changed,
            "previous": previous,
            "data": data,
            "access": None,
            "actor": {
                "type": origin.get("actor") or "system" if told else None,
                "id": self.row["actor_id"] if told else None,
            },
            "origin": {
                "client_id": origin.get("credential_id"),
                "request_id": origin.get("request_id"),
                "idempotency_key": origin.get("idempotency_key"),
                "via": origin.get("via"),
                "cause": origin.get("cause"),
            },
            "transaction_id": self.row["transaction_id"],
        }
