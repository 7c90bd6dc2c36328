"""Who a merged record was opened to, and what other systems call it: united with the survivor's, and parted again."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.kernel.context import Context, new_id
from crm_api.kernel.database import TENANT, Row, Statement, bound
from crm_api.kernel.external import IDS, kind_of
from crm_api.kernel.problems import LIMIT_REACHED, Problem
from crm_api.kernel.record import Share, among, table_of
from crm_api.kernel.repository import record
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import MOST_SOURCES
from crm_api.kernel.sharing import COLUMNS, SHOWN, bind

MOST_SHARES = 200
_SHARES = table_of(Share)
_LEVELS = ("read", "write")
_KIND, _TEXTS = sa.bindparam("kind", type_=sa.Text()), ARRAY(sa.Text())
_OBJECT, _TARGET = sa.bindparam("object_id", type_=sa.Uuid()), sa.bindparam("target", type_=sa.Uuid())
_SOURCES, _EXTERNAL = sa.bindparam("sources", type_=_TEXTS), sa.bindparam("external", type_=_TEXTS)
_OF = (IDS.c.tenant_id == TENANT, IDS.c.object_type == _KIND, IDS.c.object_id == _OBJECT)
_PAIRS = (
    sa.func.unnest(_SOURCES, _EXTERNAL)
    .table_valued(sa.column("source", sa.Text()), sa.column("external_id", sa.Text()), name="pairs")
    .render_derived()
)
_SAME = sa.exists(
    sa.select(sa.literal_column("1"))
    .select_from(_PAIRS)
    .where(_PAIRS.c.source == IDS.c.source, _PAIRS.c.external_id == IDS.c.external_id)
    .correlate(IDS)
)
_TAKE = Statement(sa.delete(IDS).where(*_OF, _SAME).returning(IDS.c.source, IDS.c.external_id))
_GIVE = Statement(
    sa.insert(IDS)
    .from_select(
        ["tenant_id", "source", "object_type", "external_id", "object_id"],
        sa.select(TENANT, _PAIRS.c.source, _KIND, _PAIRS.c.external_id, _TARGET).select_from(_PAIRS),
    )
    .returning(IDS.c.source)
)
_KEEP = Statement(
    sa.update(IDS).where(*_OF, IDS.c.deleted_at.is_not(None)).values(deleted_at=sa.null()).returning(IDS.c.source)
)


async def hand_over(ctx: Context, resource: Resource, ids: Mapping[str, str], giver: str, taker: str) -> dict[str, str]:
    """Moves external ids from one record to another in the table that finds records by them; gives those moved."""
    if not ids:
        return {}
    kind = kind_of(ctx.kernel.catalog, resource)
    given = {"kind": kind, "object_id": giver, "sources": list(ids), "external": list(ids.values())}
    found = {row["source"]: row["external_id"] for row in await ctx.fetch(_TAKE, given)}
    if found:
        moved = {"kind": kind, "target": taker, "sources": list(found), "external": list(found.values())}
        await ctx.fetch(_GIVE, moved)
    return found


async def keep_taken(ctx: Context, resource: Resource, id_: str) -> None:
    """The external ids that a merged record keeps stay taken: they lead to the survivor."""
    await ctx.fetch(_KEEP, {"kind": kind_of(ctx.kernel.catalog, resource), "object_id": id_})


def united_ids(mine: Mapping[str, str], theirs: Mapping[str, str]) -> dict[str, str]:
    """The external ids that the survivor takes: those of sources that do not know it yet."""
    moved = {source: id_ for source, id_ in theirs.items() if source not in mine}
    if len(mine) + len(moved) > MOST_SOURCES:
        raise Problem(LIMIT_REACHED, f"A record has external ids of at most {MOST_SOURCES} sources.")
    return moved


_LIVE = sa.or_(_SHARES.c.expires_at.is_(None), _SHARES.c.expires_at > sa.func.now())
_LIST = Statement(
    sa.select(*COLUMNS)
    .where(_SHARES.c.tenant_id == TENANT, _SHARES.c.object_type == _KIND, _SHARES.c.object_id == _OBJECT, _LIVE)
    .order_by(_SHARES.c.id)
    .limit(sa.literal_column(str(MOST_SHARES + 1)))
)


_WITH = Statement(
    sa.select(*COLUMNS).where(
        _SHARES.c.tenant_id == TENANT,
        _SHARES.c.object_id == _OBJECT,
        _SHARES.c.object_type == _KIND,
        sa.cast(_SHARES.c.grantee_id == sa.any_(sa.bindparam("grantees", type_=ARRAY(sa.Uuid()))), sa.Boolean),
        _LIVE,
    )
)
_ADD = Statement(
    sa.insert(_SHARES)
    .values(tenant_id=TENANT, object_type=_KIND, object_id=_OBJECT, **{name: bind(name) for name in SHOWN})
    .returning(*COLUMNS)
)
_SET = Statement(
    sa.update(_SHARES)
    .where(_SHARES.c.tenant_id == TENANT, _SHARES.c.id == bind("id"), _SHARES.c.object_id == _OBJECT)
    .values(level=bind("level"), expires_at=bind("expires_at"))
    .returning(*COLUMNS)
)
_END = Statement(
    sa.delete(_SHARES)
    .where(
        _SHARES.c.tenant_id == TENANT,
        _SHARES.c.object_id == _OBJECT,
        among(_SHARES.c.id, sa.bindparam("ids", type_=ARRAY(sa.Uuid()))),
    )
    .returning(*COLUMNS)
)


async def unite_shares(ctx: Context, resource: Resource, survivor: str, other: str) -> list[dict[str, Any]]:
    """Opens the survivor to whom the other record is open, and gives the journal of it.

    Of two shares of one grantee the survivor's stays, unless the other's gives as much for as long and more: two that
    are each the greater in something are not added up, which would give more than either.
    """
    of = {"kind": resource.singular}
    theirs = await ctx.fetch(_LIST, {**of, "object_id": other})
    if len(theirs) > MOST_SHARES:
        raise Problem(LIMIT_REACHED, f"The other record has more than {MOST_SHARES} shares; end some of them first.")
    mine = await _with(ctx, resource, survivor, theirs)
    journal = []
    for share in theirs:
        own = mine.get(share["grantee_id"])
        if own is None:
            values = {**share, "id": new_id(), **of, "object_id": survivor, "created_at": ctx.now}
            (made,) = await ctx.fetch(_ADD, values)
            was = None
        elif _more(share, own):
            level, end = share["level"], share["expires_at"]
            values = {"id": own["id"], "object_id": survivor, "level": level, "expires_at": end}
            (made,) = await ctx.fetch(_SET, values)
            was = _terms(own)
        else:
            made, was = own, _terms(own)
        journal.append({"id": made["id"], "grantee_id": made["grantee_id"], "was": was, "is": _terms(made)})
        if made is not own:
            await record(ctx, resource, survivor, "share", "shared", after={"share": dict(made)})
    return journal


async def _with(ctx: Context, resource: Resource, id_: str, theirs: list[Row]) -> dict[str, Row]:
    """The shares of a record with the grantees of others, by grantee."""
    grantees = bound([UUID(share["grantee_id"]) for share in theirs])
    rows = await ctx.fetch(_WITH, {"kind": resource.singular, "object_id": id_, "grantees": grantees})
    return {row["grantee_id"]: row for row in rows}


def _terms(share: Row) -> dict[str, Any]:
    end = share["expires_at"]
    return {"level": share["level"], "expires_at": None if end is None else end.isoformat()}


def _more(one: Row, than: Row) -> bool:
    levels = _LEVELS.index(one["level"]) - _LEVELS.index(than["level"])
    ends, other_ends = one["expires_at"], than["expires_at"]
    as_long = ends is None or (other_ends is not None and ends >= other_ends)
    longer = as_long and ends != other_ends
    return levels >= 0 and as_long and (levels > 0 or longer)


async def not_reopened(
    ctx: Context, resource: Resource, journal: list[dict[str, Any]], survivor: str, other: str
) -> list[dict[str, Any]]:
    """Takes from the grantees of the other record's shares what was taken from them on the survivor since the merge.

    Each of them had a share of the survivor then. Where that was ended by somebody, theirs of the other record ends
    too; where it was changed, they get no more than it gives now. Call it before `part_shares`; gives what does not
    come back.
    """
    theirs = await ctx.fetch(_LIST, {"kind": resource.singular, "object_id": other})
    present = await _with(ctx, resource, survivor, theirs)
    then = {note["grantee_id"]: note["is"] for note in journal}
    lost = []
    for share in theirs:
        grantee, of = share["grantee_id"], {"id": share["id"], "object_id": other}
        now, was = present.get(grantee), then.get(grantee)
        if was is None or (was["expires_at"] and datetime.fromisoformat(was["expires_at"]) <= ctx.now):
            continue  # it came later, or the survivor's has run out by itself
        if now is None:
            (ended,) = await ctx.fetch(_END, {"object_id": other, "ids": bound([UUID(share["id"])])})
            await record(ctx, resource, other, "unshare", "unshared", before={"share": dict(ended)})
            lost.append({"resource": resource.plural, "id": other, "field": "shares", "reason": "gone"})
        elif _terms(now) != was and (least := _least(share, now)) != _terms(share):
            end = least["expires_at"]
            values = {"level": least["level"], "expires_at": end and datetime.fromisoformat(end)}
            (made,) = await ctx.fetch(_SET, {**of, **values})
            await record(ctx, resource, other, "share", "shared", after={"share": dict(made)})
            lost.append({"resource": resource.plural, "id": other, "field": "shares", "reason": "changed"})
    return lost


def _least(one: Row, other: Row) -> dict[str, Any]:
    """The lower level and the earlier end of two shares, as terms."""
    level = min(one["level"], other["level"], key=_LEVELS.index)
    ends = [share["expires_at"] for share in (one, other) if share["expires_at"] is not None]
    return {"level": level, "expires_at": min(ends).isoformat() if ends else None}


async def part_shares(
    ctx: Context, resource: Resource, journal: list[dict[str, Any]], survivor: str
) -> list[dict[str, Any]]:
    """Undoes `unite_shares`; gives what was left as it is."""
    present = {row["id"]: row for row in await ctx.fetch(_LIST, {"kind": resource.singular, "object_id": survivor})}
    kept = []
    for note in journal:
        if note["was"] == note["is"]:  # it was there, and the merge left it
            continue
        share = present.get(note["id"])
        if share is None or _terms(share) != note["is"]:
            reason = "gone" if share is None else "changed"
            kept.append({"resource": resource.plural, "id": survivor, "field": "shares", "reason": reason})
        elif note["was"] is None:
            (ended,) = await ctx.fetch(_END, {"object_id": survivor, "ids": bound([UUID(note["id"])])})
            await record(ctx, resource, survivor, "unshare", "unshared", before={"share": dict(ended)})
        else:
            end = note["was"]["expires_at"]
            values = {"level": note["was"]["level"], "expires_at": end and datetime.fromisoformat(end)}
            (made,) = await ctx.fetch(_SET, {"id": note["id"], "object_id": survivor, **values})
            await record(ctx, resource, survivor, "share", "shared", after={"share": dict(made)})
    return kept
