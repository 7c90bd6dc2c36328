"""Shares: one row opened to one user, team or territory, with a level, a cause and an optional end."""

from contextlib import suppress
from datetime import datetime
from functools import cache, partial
from typing import Annotated, Any, Literal

import asyncpg
import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.dialects.postgresql import insert as upsert

from crm_api.kernel.context import Context, new_id
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.external import is_external
from crm_api.kernel.ledger import NOW
from crm_api.kernel.policy import Access
from crm_api.kernel.problems import CONFLICT, Problem, forbidden, invalid, not_found
from crm_api.kernel.record import Share, readable, table_of
from crm_api.kernel.repository import find, lock, record
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import Id, Instant, Line, Ref, Wire
from crm_api.kernel.unit_of_work import transact

_SHARES = table_of(Share)
MOST = 200
GRANTEES = {"user": "principals", "team": "teams", "territory": "territories"}
"""Whom records are shared with, and the table of each."""
GranteeType = Annotated[
    Literal["user", "team", "territory"],
    Field(description="With a `territory`: those who work in it, and in any that it lies in."),
]


class ShareRequest(Wire):
    """Opens the record to a user, a team or a territory; a second share for the same grantee replaces the first."""

    grantee_type: GranteeType
    grantee_id: Ref
    level: Literal["read", "write"] = "read"
    expires_at: Instant | None = None
    cause: Line = "manual"


class ShareView(Wire):
    """A share."""

    id: Id
    object: Literal["share"]
    grantee_type: GranteeType
    grantee_id: Id
    level: Literal["read", "write"]
    cause: Line
    granted_by: Id | None
    created_at: Instant
    expires_at: Instant | None


class ShareList(Wire):
    """The shares of a record; one that has expired opens nothing, and is removed within minutes."""

    data: Annotated[list[ShareView], Field(max_length=MOST)]


class UnshareRequest(Wire):
    """Closes a share."""

    share_id: Id


SHOWN = tuple(name for name in ShareView.model_fields if name != "object")
COLUMNS = [readable(_SHARES.c[name]).label(name) for name in SHOWN]
"""A share as it is sent."""
_OBJECT = sa.bindparam("object_id", type_=sa.Uuid())


def bind(name: str) -> Any:
    """A parameter with the type of a column of shares."""
    return sa.bindparam(name, type_=_SHARES.c[name].type)


_OF = (_SHARES.c.object_id == _OBJECT, _SHARES.c.object_type == bind("object_type"))
"""The record. Clients choose ids, so records of two types may have the same one."""
_VALUES = ("id", "object_type", "object_id", "grantee_type", "grantee_id", "level", "cause", "granted_by", "expires_at")
_INSERT = upsert(_SHARES).values(tenant_id=TENANT, created_at=NOW, **{name: bind(name) for name in _VALUES})
_SHARE = Statement(
    _INSERT.on_conflict_do_update(
        index_elements=["tenant_id", "object_id", "grantee_id"],
        set_={name: _INSERT.excluded[name] for name in ("grantee_type", "level", "cause", "granted_by", "expires_at")},
        where=_SHARES.c.object_type == _INSERT.excluded["object_type"],
    ).returning(*COLUMNS)
)
_UNSHARE = Statement(
    sa.delete(_SHARES).where(_SHARES.c.tenant_id == TENANT, *_OF, _SHARES.c.id == bind("id")).returning(*COLUMNS)
)
_EXPIRED = Statement(
    sa.select(*(sa.cast(_SHARES.c[name], sa.Text()).label(name) for name in ("id", "object_type", "object_id")))
    .where(_SHARES.c.tenant_id == TENANT, _SHARES.c.expires_at <= NOW)
    .order_by(_SHARES.c.expires_at)
    .limit(sa.bindparam("most", type_=sa.BigInteger()))
)
_EXPIRE = Statement(
    sa.delete(_SHARES)
    .where(_SHARES.c.tenant_id == TENANT, _SHARES.c.id == bind("id"), _SHARES.c.expires_at <= NOW)
    .returning(*COLUMNS)
)
_LIST = Statement(sa.select(*COLUMNS).where(_SHARES.c.tenant_id == TENANT, *_OF).order_by(_SHARES.c.id).limit(MOST))


def is_for(access: Access, grantee_type: Any, grantee_id: Any) -> bool:
    """Whether a share with somebody opens its record to this principal."""
    mine = {"user": (access.principal_id,), "team": access.teams, "territory": access.territories}
    return str(grantee_id) in map(str, mine.get(grantee_type, ()))


async def grantee_of(ctx: Context, type_: str, ref: str, until: Any) -> str:
    """The id of whom a share is for.

    Args:
        ctx: the request or job.
        type_: what they are, of `GRANTEES`.
        ref: their id or external id.
        until: when the share ends; None for never.

    Raises:
        Problem: 422 for whom the caller does not see, a territory that takes nothing new, and an end that has passed.
    """
    target = ctx.kernel.catalog.by_table[GRANTEES[type_]]
    if is_external(ref):
        ctx.access.through(target)
    found = await find(ctx, target, ref)
    if found is None:
        raise invalid("/grantee_id", "reference_not_found", f"There is no such {type_}.")
    if type_ == "territory" and not found["is_active"]:
        raise invalid("/grantee_id", "inactive", "This territory takes nothing new.")
    if isinstance(until, datetime) and until <= ctx.now:
        raise invalid("/expires_at", "in_the_past", "The end must be in the future.")
    return str(found["id"])


async def _share(ctx: Context, resource: Resource, row: Any, body: ShareRequest) -> dict[str, Any]:
    grantee = await grantee_of(ctx, body.grantee_type, body.grantee_id, body.expires_at)
    if body.level == "write" and await find(ctx, resource, row["id"], action="update") is None:
        raise forbidden(f"{resource.plural}:update")
    values = {
        **body.model_dump(),
        "grantee_id": grantee,
        "id": new_id(),
        **_object(resource, row),
        "granted_by": ctx.principal.id,
        "now": ctx.now,
    }
    rows = await ctx.fetch(_SHARE, values)
    if not rows:
        raise Problem(CONFLICT, "A record of another type has this id and is shared with the same grantee.")
    found = dict(rows[0])
    await record(ctx, resource, row["id"], "share", "shared", after={"share": found})
    return {"object": "share", **found}


async def _unshare(ctx: Context, resource: Resource, row: Any, body: UnshareRequest) -> dict[str, Any]:
    rows = await ctx.fetch(_UNSHARE, {**_object(resource, row), "id": body.share_id})
    if not rows:
        raise not_found("share")
    await record(ctx, resource, row["id"], "unshare", "unshared", before={"share": dict(rows[0])})
    return {"object": "share", **dict(rows[0])}


async def _shares(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    del body
    return {"data": [{"object": "share", **dict(share)} for share in await ctx.read(_LIST, _object(resource, row))]}


async def end_expired(ctx: Context, most: int) -> int:
    """Removes up to `most` shares of the tenant whose end has passed, oldest first; gives how many.

    Each goes in a transaction of its own, with the event of its record: `unshared`, with the cause `expired` beside the
    share in `previous`. One whose record is locked by somebody stays for the next time.
    """
    rows = await ctx.read(_EXPIRED, {"now": ctx.now, "most": most})
    ended = 0
    for row in rows:
        with suppress(asyncpg.LockNotAvailableError):
            ended += await transact(ctx, partial(_expire, share=row))
    return ended


async def _expire(ctx: Context, share: Row) -> int:
    resource = ctx.kernel.catalog.by_type.get(share["object_type"])
    if resource is not None:
        await lock(ctx, resource, share["object_id"])
    rows = await ctx.fetch(_EXPIRE, {"id": share["id"], "now": ctx.now})
    if not rows or resource is None:
        return len(rows)
    before = {"share": dict(rows[0]), "cause": "expired"}
    await record(ctx, resource, share["object_id"], "unshare", "unshared", before=before)
    return 1


def _object(resource: Resource, row: Any) -> dict[str, Any]:
    return {"object_id": row["id"], "object_type": resource.singular}


@cache
def share_actions() -> tuple[Action, ...]:
    """The verbs that every owned resource has; all need the permission to share."""
    return (
        Action(
            "share",
            "Open the record to a user, a team or a territory",
            _share,
            event="shared",
            body=ShareRequest,
            reply=ShareView,
            status=201,
            level="share",
        ),
        Action(
            "unshare", "Close a share", _unshare, event="unshared", body=UnshareRequest, reply=ShareView, level="share"
        ),
        Action("shares", "List who the record was opened to", _shares, reply=ShareList, method="GET", level="share"),
    )
