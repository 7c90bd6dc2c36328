"""Upsert: `PUT /v1/{collection}/ext:{source}:{external_id}` makes a record be as a source says, new or not."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Any

import asyncpg
import sqlalchemy as sa

from crm_api.kernel import repository
from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.external import EXTERNAL_ID, IDS, SOURCE, key_parameters, kind_of
from crm_api.kernel.external_sources import EXTERNAL_IDS, contested, known, may_name, without_owned
from crm_api.kernel.locking import one_at_a_time
from crm_api.kernel.merged import absent
from crm_api.kernel.problems import (
    CONFLICT,
    IDEMPOTENCY_IN_FLIGHT,
    NOT_FOUND,
    PRECONDITION_REQUIRED,
    VERSION_MISMATCH,
    Fault,
    Problem,
    invalid_parameter,
    unavailable,
)
from crm_api.kernel.query import framed
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import external_key
from crm_api.kernel.unit_of_work import Outcome, Work

_TRIES = 8
_LOCK_TRIES = 4


def permit(ctx: Context, resource: Resource) -> None:
    """403 unless the caller may create or update records of the resource at all."""
    ways = [action for action in ("create", "update") if ctx.access.may(resource.plural, action)]
    ctx.require(resource, *(ways[:1] or ["create"]))


async def upsert(
    ctx: Context,
    resource: Resource,
    key: tuple[str, str],
    values: Mapping[str, Any],
    given: Collection[str],
    *,
    if_match: int | None = None,
    matched: bool = False,
) -> dict[str, Any]:
    """Creates the record with this external id, or merges the given fields into it; `ctx.status` is 201 or 200.

    Of several at once, one creates and the others update: the statement that writes the row takes the external id.

    Args:
        ctx: the request.
        resource: what is written.
        key: (source, external id).
        values: every field of the create schema.
        given: the fields that the client sent; the others are kept when the record is there.
        if_match: the version that the record must have.
        matched: the client sent If-Match, so the record must be there.

    Raises:
        Problem: 404 when the record is there but hidden from the caller; 409 when it may not be so, by its source or
            by what can be set once; 412, 428; 422 `unknown_source`; and whatever create and update refuse.
    """
    if ctx.link is not None:  # a check may lock first what another upsert of the record locks last
        kind = kind_of(ctx.kernel.catalog, resource)
        await one_at_a_time(ctx, f"external {kind} {key[0]}:{key[1]}")
    for _ in range(_TRIES):
        holder, visible = await _holder(ctx, resource, key)
        if holder is None:
            if matched:
                raise Problem(VERSION_MISMATCH, "No record has this external id.")
            ctx.status = 201
            item = await _create(ctx, resource, key, values, given)
        elif not visible:
            raise await absent(ctx, resource, holder)
        else:
            if resource.require_match and not matched:
                raise Problem(PRECONDITION_REQUIRED, "Send If-Match with the ETag of the version you read.")
            ctx.status = 200
            item = await _update(ctx, resource, holder, {name: values[name] for name in given}, if_match)
        if item is not None:
            return item
    raise unavailable("Other requests keep changing who has this external id; try again.")


async def patiently(run: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """Runs an upsert again that stood too long behind another one of the same record."""
    for _ in range(_LOCK_TRIES - 1):
        try:
            return await run()
        except asyncpg.LockNotAvailableError:
            continue
        except Problem as problem:
            if problem.kind is not IDEMPOTENCY_IN_FLIGHT:
                raise
    return await run()


async def _holder(ctx: Context, resource: Resource, key: tuple[str, str]) -> tuple[str | None, bool]:
    """The live record with an external id, whoever may see it, and whether the caller may: both as of one moment."""
    shape, values = ("holder", resource.plural), key_parameters(key)
    _, rows = await settled(ctx, shape, lambda: _holder_statement(ctx, resource), values, once=True)
    return rows[0]["object_id"], rows[0]["visible"]


def _holder_statement(ctx: Context, resource: Resource) -> Statement:
    table = resource.table
    gate = ctx.kernel.policy.gate(ctx.access, resource, "read", table)
    seen = sa.exists(sa.select(sa.literal(1)).select_from(table).where(table.c.id == IDS.c.object_id, *gate))
    kind = sa.literal(kind_of(ctx.kernel.catalog, resource), sa.Text())
    held = (
        sa.select(sa.cast(IDS.c.object_id, sa.Text()).label("object_id"), seen.correlate(IDS).label("visible"))
        .where(
            IDS.c.tenant_id == TENANT,
            IDS.c.source == SOURCE,
            IDS.c.object_type == kind,
            IDS.c.external_id == EXTERNAL_ID,
            IDS.c.deleted_at.is_(None),
        )
        .lateral("held")
    )
    return framed(held)


async def _create(
    ctx: Context, resource: Resource, key: tuple[str, str], values: Mapping[str, Any], given: Collection[str]
) -> dict[str, Any] | None:
    ctx.require(resource, "create")
    source = await known(ctx, key[0], invalid_parameter("id", "unknown_source", "There is no such source."))
    await may_name(ctx, resource, source.code)
    sent = {name: values[name] for name in given}
    owners = {name: (source,) for name, all_ in contested(ctx.access, resource, sent).items() if source in all_}
    await without_owned(ctx, sent, owners, whole=True)
    whole = {**values, EXTERNAL_IDS: {key[0]: key[1]}}
    return await repository.create(ctx, resource, whole, given=given, external=key)


async def _update(
    ctx: Context, resource: Resource, holder: str, values: Mapping[str, Any], if_match: int | None
) -> dict[str, Any] | None:
    """None when the record is gone meanwhile."""
    ctx.require(resource, "update")
    fixed = {name: value for name, value in values.items() if name in ("id", *resource.once) and value is not None}
    changes = {name: value for name, value in values.items() if name not in ("id", *resource.once)}
    try:
        if fixed or not changes:
            item = await repository.get(ctx, resource, holder)
            _unchanged(item, fixed)
        if changes:
            item = await repository.update(ctx, resource, holder, changes, if_match=if_match)
    except Problem as problem:
        if problem.kind is not NOT_FOUND:
            raise
        return None
    return item


def _unchanged(item: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    faults = [
        Fault("set_once", f"The record with this external id has another {name}.", pointer=f"/{name}")
        for name, value in fixed.items()
        if str(item[name]).lower() != str(value).lower()
    ]
    if faults:
        raise Problem(CONFLICT, faults[0].detail, faults)


def prepared(resource: Resource) -> Callable[[str, Any, int | None, bool], tuple[Work, bool]]:
    """An upsert as `writes.py` declares it: (external id, body, expected version, whether one was) -> its work."""

    def prepare(id_: str, body: Any, expected: int | None, matched: bool) -> tuple[Work, bool]:
        key = external_key(id_)
        if key is None:
            raise invalid_parameter("id", "not_an_external_id", "PUT takes ext:{source}:{external_id}.")
        values, given = body.model_dump(), body.model_fields_set
        run = partial(upsert, if_match=expected, matched=matched)
        alone = not (resource.touched(values) or resource.reads_first(values))
        return lambda ctx: run(ctx, resource, key, values, given), alone

    return prepare
