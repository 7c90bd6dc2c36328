"""The only reader and writer of rows: visible, load, create, update, delete, restore."""

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from crm_api.kernel import writing
from crm_api.kernel.coalescing import Emission, emission
from crm_api.kernel.context import Context, settled
from crm_api.kernel.customs import fields_of, unique_ids
from crm_api.kernel.customs_body import customized
from crm_api.kernel.customs_expand import Path
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.duplicates_check import refuse_suspected
from crm_api.kernel.external import is_external, key_parameters, own_id, referred
from crm_api.kernel.external_ownership import owned_changes
from crm_api.kernel.external_sources import contested, without_owned
from crm_api.kernel.ledger import parameters
from crm_api.kernel.merged import absent
from crm_api.kernel.problems import (
    FORBIDDEN,
    INVALID,
    TRANSITION_REFUSED,
    Fault,
    Problem,
    forbidden,
    not_found,
    unavailable,
)
from crm_api.kernel.query import compile_get, compile_load
from crm_api.kernel.resource import Resource
from crm_api.kernel.row import derived, new_row, row_parameters
from crm_api.kernel.stale import stale

_TRIES = 8
_CHANGING = "Other requests keep changing the record; try again."
_ID = sa.bindparam("id", type_=sa.Uuid())


async def find(
    ctx: Context, resource: Resource, id_: str | UUID, expand: tuple[Path, ...] = (), action: str = "read"
) -> dict[str, Any] | None:
    """The wire object of a row the caller may see (or act on), or None. Here and below, an external id is an id too."""
    if is_external(id_):
        id_ = await own_id(ctx, resource, id_)
    shape = ("get", resource.plural, expand, action)
    plan, rows = await settled(
        ctx, shape, lambda: compile_get(ctx.kernel, ctx.access, resource, expand, action), {"id": id_}
    )
    return plan.item(rows[0]) if plan.present(rows[0]) else None


async def get(ctx: Context, resource: Resource, id_: str | UUID, expand: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Like `find`; 404 when there is none."""
    item = await find(ctx, resource, id_, expand)
    if item is None:
        raise await absent(ctx, resource, id_)
    return item


async def load(
    ctx: Context, resource: Resource, id_: str | UUID, action: str, *, deleted: bool = False, lock: bool = True
) -> Row:
    """The raw row for a verb, locked; 404 when it cannot be seen, 403 when it may not be acted on."""
    id_ = await own_id(ctx, resource, id_, deleted=deleted)
    shape = ("load", resource.plural, action, deleted, lock)

    def build() -> Statement:
        return compile_load(ctx.kernel, ctx.access, resource, action, deleted=deleted, lock=lock)

    for _ in range(_TRIES):
        _, rows = await settled(ctx, shape, build, {"id": id_}, once=True)
        if rows[0]["id"] is not None:
            return rows[0]
        if deleted or await find(ctx, resource, id_) is None:
            raise await absent(ctx, resource, id_)
        await _permit(ctx, resource, id_, action)
    raise unavailable(_CHANGING)  # it is there each time it is looked for


async def _permit(ctx: Context, resource: Resource, id_: str | UUID, action: str) -> None:
    """403 when a record may not be acted on, 404 when it is gone."""
    seen = None
    for _ in range(_TRIES):
        if await find(ctx, resource, id_, action=action) is not None:
            return
        version = (await get(ctx, resource, id_))["version"]
        if version == seen:
            raise forbidden(f"{resource.plural}:{action}")
        seen = version  # others may have deleted and restored it between the two looks
    raise unavailable(_CHANGING)


async def lock(ctx: Context, resource: Resource, id_: str | UUID) -> None:
    """Locks a row, deleted or not, for our own code; nothing happens when there is none."""
    table = resource.table
    found = sa.select(table.c.id).where(table.c.tenant_id == TENANT, table.c.id == _ID)
    key = ("lock", resource.plural)
    await ctx.fetch(ctx.kernel.statement(key, lambda: Statement(found.with_for_update(key_share=True))), {"id": id_})


async def create(
    ctx: Context,
    resource: Resource,
    values: Mapping[str, Any],
    events: tuple[str, ...] = ("created",),
    given: Collection[str] | None = None,
    external: tuple[str, str] | None = None,
    complete: bool = True,
) -> dict[str, Any] | None:
    """Writes a row with its ledger in one statement; None when its idempotency key or external id was taken before.

    Args:
        ctx: the request.
        resource: what is created.
        values: every field of the create schema.
        events: past tenses to emit, the generic one first.
        given: the fields that the client sent, which field rules apply to; None for all of `values`.
        external: (source, external id) that it is found by from now on.
        complete: what a client sent must have the custom fields that are required; not so what a verb makes.
    """
    row = await drafted(ctx, resource, values, given, complete=complete)
    bound = row_parameters(resource, row, fields_of(ctx.access, resource))
    form, keyed = writing.New.of(ctx, resource, row, bound), ctx.idempotency is not None
    emitted = emission(ctx, resource, row["id"], events)
    sent = {**parameters(ctx, resource, "create", emitted), **bound, **key_parameters(external)}
    if ctx.idempotency is not None:
        sent |= {"scope": ctx.idempotency.scope, "fingerprint": ctx.idempotency.fingerprint}
    plan, rows = await settled(
        ctx,
        ("create", resource.plural, keyed, form, emitted.mode, external is None),
        lambda: writing.compile_create(ctx, resource, form, emitted.mode, linked=external is not None),
        sent,
        once=True,
    )
    if (item := plan.item(rows[0])) is not None:
        emitted.done(rows[0])
        return dict(item)
    await _explain_create(ctx, resource, row)
    if ctx.idempotency is not None or external is not None:
        return None
    raise unavailable("The record could not be written; try again.")


async def drafted(
    ctx: Context, resource: Resource, values: Mapping[str, Any], given: Collection[str] | None, *, complete: bool = True
) -> dict[str, Any]:
    """Every column of a new row, after all that can be refused before it is written; arguments as for `create`."""
    values = await referred(ctx, resource, values)
    sent = values if given is None else {name: values.get(name) for name in given}
    ctx.kernel.policy.writable(ctx.access, resource, sent)
    values = await customized(ctx, resource, values, None, complete=complete and given is not None)
    values = await _built(ctx, resource, values, None)
    row = new_row(ctx, resource, values)
    for check in resource.touched(values):
        await check.run(ctx, resource, row, None)
    await refuse_suspected(ctx, resource, row)
    return row


async def _built(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    for build in resource.builds:
        if before is None or build.fields & values.keys():
            values = {**values, **await build.run(ctx, resource, values, before)}
    return values


def _refuse_locked(resource: Resource, row: Mapping[str, Any], values: Collection[str]) -> None:
    """409 when the record is issued and no body may change one of these fields any more."""
    if resource.lock is not None and resource.lifecycle is not None and not resource.lock.free.issuperset(values):
        state, allowed = row[resource.lifecycle.column], sorted(resource.lock.states)
        if state not in allowed:
            detail = f"The {resource.singular} is {state}: this can be changed when it is {' or '.join(allowed)}."
            raise Problem(TRANSITION_REFUSED, detail, extra={"state": state, "allowed_from": allowed})


async def _explain_create(ctx: Context, resource: Resource, row: Mapping[str, Any]) -> None:
    await check_references(ctx, resource, row)
    if not await _permitted(ctx, resource, row):
        detail, extra = "You may not create such a record for this owner.", {"permission": f"{resource.plural}:create"}
        raise Problem(FORBIDDEN, detail, extra=extra)


async def _permitted(ctx: Context, resource: Resource, row: Mapping[str, Any]) -> bool:
    source = writing.source(resource, frozenset(row))
    reached = writing.for_another(ctx, resource, row)
    rule = ctx.kernel.policy.rows(ctx.access, resource, "create", source, reached=reached)
    if rule is None:
        return True
    statement = Statement(sa.select(sa.literal(1)).select_from(source).where(rule))
    return bool(await ctx.read(statement, {**ctx.access.values, **row_parameters(resource, row)}))


async def check_references(ctx: Context, resource: Resource, values: Mapping[str, Any]) -> None:
    """422 for each reference to a record that is absent, deleted, hidden or another tenant's: one answer for all."""
    faults = []
    for column in sorted(resource.references.keys() - resource.vouched):
        target, value = ctx.kernel.catalog.target(resource, column), values.get(column)
        if target is not None and value is not None and await find(ctx, target, value) is None:
            faults.append(Fault("reference_not_found", f"There is no such {target.singular}.", pointer=f"/{column}"))
    if faults:
        raise Problem(INVALID, "A reference leads nowhere.", faults)


async def update(
    ctx: Context,
    resource: Resource,
    id_: str | UUID,
    values: Mapping[str, Any],
    *,
    if_match: int | None = None,
    action: str = "update",
    events: tuple[str, ...] = ("updated",),
    by_verb: bool = False,
    recorded: str | None = None,
) -> dict[str, Any]:
    """Merges values into a row with its ledger, in one statement; a merge that changes nothing writes nothing.

    Args:
        ctx: the request.
        resource: what is written.
        id_: which row.
        values: columns to set; empty only for verbs that record nothing but their event.
        if_match: the version the row must have.
        action: the permission whose gate applies.
        events: past tenses to emit, the generic one first.
        by_verb: the values come from our own code, so field rules and the transfer permission do not apply.
        recorded: what the audit log calls it; `action`, unless told.
    """
    id_, values = await own_id(ctx, resource, id_), await referred(ctx, resource, values)
    if not by_verb:
        ctx.kernel.policy.writable(ctx.access, resource, values)
    values = await customized(ctx, resource, values, id_)
    actions: tuple[str, ...] = (action,)
    if not by_verb and resource.owned and {"owner_id", "team_id", "territory_id"} & set(values):
        ctx.require(resource, "transfer")
        actions = (action, "transfer")
    checks = resource.touched(values)
    before: dict[str, Any] | None = None
    if checks or (not by_verb and resource.reads_first(values)):
        before = dict(await load(ctx, resource, id_, action))
        if not by_verb:
            _refuse_locked(resource, before, values)
            values = await _built(ctx, resource, values, before)
    changed = derived(resource, values)
    for check in checks:
        await check.run(ctx, resource, changed, before)
    references = frozenset(name for name in resource.references if values.get(name) is not None) - resource.vouched
    names, match = frozenset(changed), if_match is not None
    owners = contested(ctx.access, resource, values)
    emitted = emission(ctx, resource, id_, events)
    bound = row_parameters(resource, changed, fields_of(ctx.access, resource))
    indexes = writing.touched_indexes(bound)
    change = writing.Change(names, references, actions, match, emitted.mode, frozenset(owners), indexes)
    sent = {**parameters(ctx, resource, recorded or action, emitted), **bound}
    sent |= {f"o_{i}": [source.code for source in owners[name]] for i, name in enumerate(sorted(owners))}
    sent |= {"id": id_, "if_match": if_match}
    seen = None
    for _ in range(_TRIES):
        shape = ("update", resource.plural, change)
        plan, rows = await settled(ctx, shape, lambda: writing.compile_update(ctx, resource, change), sent, once=True)
        if (written := plan.item(rows[0])) is not None:
            emitted.done(rows[0])
            return dict(written)
        item = await _explain_update(ctx, resource, id_, values, if_match, actions)
        if owners and (theirs := await owned_changes(ctx, resource, item, changed, owners)):
            kept = await without_owned(ctx, values, theirs, whole=by_verb)
            if not kept:
                return item
            return await update(
                ctx, resource, id_, kept, if_match=if_match, action=action, events=events, recorded=recorded
            )
        if item["version"] == seen:
            return item  # tried again at a version that was seen before and after: nothing differs
        seen = item["version"]
    raise unavailable(_CHANGING)


async def _explain_update(
    ctx: Context,
    resource: Resource,
    id_: str | UUID,
    values: Mapping[str, Any],
    if_match: int | None,
    actions: tuple[str, ...],
) -> dict[str, Any]:
    item = await get(ctx, resource, id_)
    for action in actions:
        await _permit(ctx, resource, id_, action)
    if if_match is not None and item["version"] != if_match:
        raise await stale(ctx, resource, id_, if_match, item["version"])
    await check_references(ctx, resource, values)
    changed = derived(resource, values)
    new = writing.found_under_parent(ctx, resource, frozenset(changed), actions[0])
    if new is not None and not await ctx.read(
        Statement(new), {**ctx.access.values, **row_parameters(resource, changed)}
    ):
        raise forbidden(f"{resource.plural}:{actions[0]}")
    opening = writing.opens_circle(ctx, resource, frozenset(changed), actions[0])
    if opening is not None and not await holds(ctx, resource, id_, opening, row_parameters(resource, changed)):
        raise forbidden(f"{resource.plural}:share")
    return item


async def holds(ctx: Context, resource: Resource, id_: str | UUID, condition: Any, values: Mapping[str, Any]) -> bool:
    """Whether a condition holds of a row, deleted or not, whoever may see it; `values` are those of its parameters."""
    table = resource.table
    statement = sa.select(sa.literal(1)).where(table.c.tenant_id == TENANT, table.c.id == _ID, condition)
    return bool(await ctx.read(Statement(statement), {**ctx.access.values, **values, "id": id_}))


async def may_open(ctx: Context, resource: Resource, id_: str | UUID) -> bool:
    """Whether the caller may change a record and open it to the circle of another."""
    if await find(ctx, resource, id_, action="update") is None:
        return False
    opening = ctx.kernel.policy.opening(ctx.access, resource, resource.table)
    return opening is None or await holds(ctx, resource, id_, opening, {})


async def record(
    ctx: Context,
    resource: Resource,
    id_: str | UUID,
    action: str,
    event: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Audit and business event for what a verb did beside the row itself; the row is locked by `load`."""
    key = ("record", resource.plural)
    statement = ctx.kernel.statement(key, lambda: writing.compile_record(resource))
    await ctx.fetch(
        statement,
        {
            **parameters(ctx, resource, action, Emission("apart", (event,))),
            "id": id_,
            "before": before or {},
            "after": after or {},
        },
    )


async def delete(ctx: Context, resource: Resource, id_: str | UUID, *, if_match: int | None = None) -> None:
    """Soft deletion; unique values and external ids are free again."""
    id_ = await own_id(ctx, resource, id_)
    if resource.guarded:
        row = dict(await load(ctx, resource, id_, "delete"))
        _refuse_locked(resource, row, ("deleted_at",))
        if resource.deletable is not None:
            await resource.deletable(ctx, resource, {}, row)
    await _mark(ctx, resource, id_, if_match, deleted=True)


async def restore(ctx: Context, resource: Resource, id_: str | UUID) -> dict[str, Any]:
    """Undoes a deletion, if all checks pass; 409 when a live record took a unique value or external id meanwhile."""
    id_ = await own_id(ctx, resource, id_, deleted=True)
    if resource.checks:
        row = dict(await load(ctx, resource, id_, "delete", deleted=True))
        for check in resource.touched(row):
            await check.run(ctx, resource, row, None)
    return await _mark(ctx, resource, id_, None, deleted=False)


async def _mark(
    ctx: Context, resource: Resource, id_: str | UUID, if_match: int | None, *, deleted: bool
) -> dict[str, Any]:
    match = if_match is not None
    emitted = emission(ctx, resource, id_, ("deleted" if deleted else "restored",))
    unique = unique_ids(ctx.access, resource)
    shape = ("mark", resource.plural, deleted, match, emitted.mode, bool(unique))

    def build() -> writing.Writing:
        mode = emitted.mode
        return writing.compile_mark(ctx, resource, deleted=deleted, match=match, mode=mode, unique=bool(unique))

    sent = parameters(ctx, resource, "delete" if deleted else "restore", emitted) | {"cf_unique": unique}
    sent |= {"id": id_, "if_match": if_match}
    for _ in range(_TRIES):
        plan, rows = await settled(ctx, shape, build, sent, once=True)
        if (item := plan.item(rows[0])) is not None:
            emitted.done(rows[0])
            return dict(item)
        if not deleted:
            raise not_found(resource.singular)
        item = await get(ctx, resource, id_)
        if if_match is not None and item["version"] != if_match:
            raise await stale(ctx, resource, id_, if_match, item["version"])
        await _permit(ctx, resource, id_, "delete")
    raise unavailable(_CHANGING)
