"""Idempotency-Key: one effect and one reply for any number of tries (draft-ietf-httpapi-idempotency-key-header)."""

import hashlib
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from crm_api.kernel.context import Context, Idempotency
from crm_api.kernel.customs import veiled
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.ledger import insert_from
from crm_api.kernel.problems import IDEMPOTENCY_IN_FLIGHT, IDEMPOTENCY_MISMATCH, Problem, from_database, not_found
from crm_api.kernel.projection import Projection
from crm_api.kernel.record import IdempotencyKey, IdempotencyReply, table_of
from crm_api.kernel.repository import find

_KEYS = table_of(IdempotencyKey)
_REPLIES = table_of(IdempotencyReply)
_SCOPE = sa.bindparam("scope", type_=sa.LargeBinary())
_NOW = sa.bindparam("now", type_=sa.DateTime(timezone=True))

_IGNORED = "@ignored"
"""Where a kept reply says which fields were left out; no field has such a name."""
_STATUS = sa.bindparam("status", type_=sa.BigInteger())
_IMAGE = sa.bindparam("image", type_=JSONB())
_TAKE = (
    upsert(_KEYS)
    .values(
        tenant_id=TENANT, scope=_SCOPE, fingerprint=sa.bindparam("fingerprint", type_=sa.LargeBinary()), created_at=_NOW
    )
    .on_conflict_do_nothing()
    .returning(_KEYS.c.scope)
)
_CLAIM = Statement(_TAKE)
_REPLY = {"tenant_id": TENANT, "status": _STATUS, "created_at": _NOW, "raw": sa.false(), "image": _IMAGE}
_OBJECT = {name: sa.bindparam(name, type_=_REPLIES.c[name].type) for name in ("object_type", "object_id")}
_NOTHING = {"object_type": sa.literal("", sa.Text()), "object_id": sa.literal(UUID(int=0), sa.Uuid())}
_KEEP = Statement(sa.insert(_REPLIES).values(**_REPLY, **_OBJECT, scope=_SCOPE))
_TAKEN = _TAKE.cte("taken")
_REFUSED = {**_REPLY, **_NOTHING, "scope": _TAKEN.c.scope}
_REFUSE = Statement(insert_from(_REPLIES, _REFUSED, _TAKEN).returning(_REPLIES.c.scope))
_LOOK_UP = Statement(
    sa.select(
        _KEYS.c.fingerprint,
        _REPLIES.c.status,
        _REPLIES.c.object_type,
        sa.cast(_REPLIES.c.object_id, sa.Text()).label("object_id"),
        _REPLIES.c.raw,
        _REPLIES.c.image,
    )
    .select_from(_KEYS.outerjoin(_REPLIES, sa.and_(_REPLIES.c.scope == _KEYS.c.scope, _REPLIES.c.tenant_id == TENANT)))
    .where(_KEYS.c.tenant_id == TENANT, _KEYS.c.scope == _SCOPE)
)


def identify(ctx: Context, key: str, method: str, path: str, body: bytes) -> Idempotency:
    """The key within its scope: tenant (by row security), credential, method and path. Events name it as sent."""
    ctx.idempotency_key = key
    who, path = f"{ctx.principal.credential_id}\n{ctx.principal.id}", path + "?" * ctx.allow_duplicate
    scope = hashlib.sha256(f"{who}\n{method}\n{path}\n{key}".encode()).digest()
    return Idempotency(scope, hashlib.sha256(body).digest())


def part(key: Idempotency, index: int) -> Idempotency:
    """The key of one item of a batch whose items are kept each by itself."""
    return Idempotency(hashlib.sha256(key.scope + index.to_bytes(4)).digest(), key.fingerprint)


async def bind(ctx: Context) -> None:
    """Takes the key of a request whose parts have keys of their own, for good: it stands for this body from now on.

    Raises:
        Problem: 422 when it came with another body.
    """
    assert ctx.idempotency is not None  # noqa: S101 - narrows the type
    if not await claim(ctx):
        _same(ctx.idempotency, await ctx.fetch(_LOOK_UP, {"scope": ctx.idempotency.scope}))


def _same(key: Idempotency, rows: list[Row]) -> None:
    if rows and rows[0]["fingerprint"] != key.fingerprint:
        raise Problem(IDEMPOTENCY_MISMATCH, "This Idempotency-Key came with another body before.")


async def claim(ctx: Context) -> bool:
    """Takes the key inside the open transaction; False when it was used before."""
    assert ctx.idempotency is not None  # noqa: S101 - narrows the type
    values = {"scope": ctx.idempotency.scope, "fingerprint": ctx.idempotency.fingerprint, "now": ctx.now}
    return bool(await ctx.fetch(_CLAIM, values))


async def keep(ctx: Context, status: int, item: dict[str, Any]) -> None:
    """Stores the reply in the transaction of its effect."""
    assert ctx.idempotency is not None  # noqa: S101 - narrows the type
    await ctx.fetch(
        _KEEP,
        {
            "scope": ctx.idempotency.scope,
            "status": status,
            "now": ctx.now,
            "image": {**item, _IGNORED: ctx.ignored} if ctx.ignored else item,
            "object_type": item.get("object", ""),
            "object_id": item.get("id") or UUID(int=0),
        },
    )


async def refuse(ctx: Context, error: Exception) -> bool:
    """Settles what a failure means to the key, after its work was rolled back.

    A refusal that the same request would meet again (409 or 422, not retryable: a value taken, a reference gone, a
    state or rule against it) is kept as the reply, key and reply in one statement. Nothing else is: neither what is
    refused before the work (schema of the body, preconditions), nor 401, 403, 404, 412, locks, races or our own faults.

    Returns:
        Whether the key has a reply by another request, which is then the answer: this was a retry, or its twin won.

    Raises:
        Problem: 409 while a twin still runs.
    """
    assert ctx.idempotency is not None  # noqa: S101 - narrows the type
    problem = error if isinstance(error, Problem) else from_database(error, ctx.kernel.catalog.constraints)
    if problem is None or problem.kind.status >= 500:
        return False
    if problem.kind.status not in (409, 422) or problem.kind.retryable:
        return bool(await ctx.fetch(_LOOK_UP, {"scope": ctx.idempotency.scope}))
    values = {"scope": ctx.idempotency.scope, "fingerprint": ctx.idempotency.fingerprint, "now": ctx.now}
    try:
        kept = await ctx.fetch(_REFUSE, {**values, "status": problem.kind.status, "image": problem.image()})
    except asyncpg.LockNotAvailableError:
        raise in_flight() from None
    return not kept


async def replay(ctx: Context) -> tuple[int, dict[str, Any]]:
    """The first request's status and reply, if the caller may still read it; what it left out is noted again.

    Raises:
        Problem: 422 when the key came with another body, 409 when the first request still runs, 404 when the
            record is out of the caller's sight by now; the first request's own when it was refused.
    """
    assert ctx.idempotency is not None  # noqa: S101 - narrows the type
    rows = await ctx.fetch(_LOOK_UP, {"scope": ctx.idempotency.scope})
    _same(ctx.idempotency, rows)
    if not rows or rows[0]["status"] is None:
        raise in_flight()
    row = rows[0]
    image = orjson.loads(row["image"])
    ctx.ignored = image.pop(_IGNORED, {})
    if row["status"] >= 400:
        refused = Problem.from_image(image)
        refused.headers["Idempotency-Replayed"] = "true"
        raise refused
    resource = ctx.kernel.catalog.by_type.get(row["object_type"])
    if resource is None:
        return row["status"], image
    if row["status"] != 204 and await find(ctx, resource, row["object_id"]) is None:
        raise not_found(resource.singular)
    if row["raw"]:
        return row["status"], Projection(resource, ctx.access).from_image(image)
    return row["status"], veiled(image, ctx.access.hides(resource.plural))


def in_flight() -> Problem:
    """409 for the twin of a running request."""
    return Problem(IDEMPOTENCY_IN_FLIGHT, "The first request with this key still runs.", headers={"Retry-After": "1"})
