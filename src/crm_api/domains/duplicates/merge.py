"""Verb: merge another record into this one. Children, links, external ids and shares come along."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import Field

from crm_api.domains.duplicates.children import Moved, gather, move
from crm_api.domains.duplicates.circle import hand_over, keep_taken, unite_shares, united_ids
from crm_api.domains.duplicates.survivorship import Choices, FieldTaken, held, plain, survivors, unmoved
from crm_api.kernel.coalescing import emission
from crm_api.kernel.context import Context, new_id, settled
from crm_api.kernel.customs import CUSTOM, touched, unique_ids, without
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.external import own_id
from crm_api.kernel.external_ownership import owned_changes
from crm_api.kernel.external_sources import EXTERNAL_IDS, contested, may_name, without_owned
from crm_api.kernel.jobs import trusted
from crm_api.kernel.ledger import parameters
from crm_api.kernel.locking import one_at_a_time
from crm_api.kernel.merged import Merge
from crm_api.kernel.problems import CONFLICT, CYCLE, Fault, Problem, forbidden, invalid, not_found
from crm_api.kernel.record import table_of
from crm_api.kernel.repository import find, get, load, update
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.row import derived
from crm_api.kernel.schema import Id, Instant, Ref, Wire
from crm_api.kernel.stale import stale
from crm_api.kernel.tree import ancestors
from crm_api.kernel.writing import compile_mark

MERGES = table_of(Merge)


class MergeRequest(Wire):
    """The record that goes into this one, and whose value each field gets."""

    other_id: Ref
    other_version: Annotated[
        int | None, Field(ge=1, le=9_007_199_254_740_991, description="412 when the other record has another by now.")
    ] = None
    fields: Annotated[
        Choices,
        Field(description="By field: `survivor`, `other`, or `both` for lists. Else the other's where there is none."),
    ] = {}


class MergeView(Wire):
    """A merge: which record took which one in, and whether that was taken back."""

    object: Literal["merge"]
    id: Id
    survivor_id: Id
    merged_id: Id
    merged_at: Instant
    merged_by: Id | None
    undone_at: Instant | None


class MergeResult(MergeView):
    """What a merge came to, or would come to with `dry_run`."""

    fields: Annotated[list[FieldTaken], Field(max_length=200)]
    moved: Annotated[list[Moved], Field(max_length=200, description="Of what the caller sees.")]
    survivor: Annotated[dict[str, Any], Field(description="The record, as a GET sends it; absent in a replay.")]


_INSERT = Statement(
    sa.insert(MERGES)
    .values(
        tenant_id=TENANT,
        **{
            name: sa.bindparam(name, type_=MERGES.c[name].type)
            for name in ("id", "object_type", "survivor_id", "merged_id", "merged_at", "merged_by", "journal")
        },
    )
    .returning(MERGES.c.id)
)


async def merge(ctx: Context, resource: Resource, row: Any, body: MergeRequest) -> dict[str, Any]:
    """The other record is gone then: its id answers 308, and what referred to it refers to this one."""
    survivor, other = row["id"], await _other(ctx, resource, row, body)
    _not_barred(resource, row, other)
    _alike(ctx, resource, row, other)
    values, taken = survivors(ctx, resource, row, other, body.fields)
    await unmoved(ctx, resource, survivor, values, body.fields)
    ours = trusted(ctx)
    await _no_circle(ours, resource, row, other, values, frozenset(body.fields), taken)
    mine, theirs = held(row, resource, EXTERNAL_IDS), held(other, resource, EXTERNAL_IDS)
    ids = united_ids(mine, theirs)
    for source in ids:
        await may_name(ctx, resource, source)
    values = await not_theirs(ctx, resource, survivor, values)
    changed = {*touched(values)}
    taken = [item for item in taken if item.field in changed]
    found, moved = await gather(ctx, ours, resource, survivor, other["id"])
    if ids:
        values[EXTERNAL_IDS] = {**mine, **ids}
    journal: dict[str, Any] = {
        "before": {name: _before(row, resource, name, value) for name, value in values.items()},
        "after": plain(values),
        "external_ids": ids,
    }
    await mark(ours, resource, other["id"], survivor, deleted=True)
    await hand_over(ours, resource, ids, other["id"], survivor)
    await keep_taken(ours, resource, other["id"])
    journal["children"] = await move(ours, found, survivor, greater_of(resource))
    await update(ours, resource, survivor, values, recorded="merge", events=("updated", "merged"), by_verb=True)
    journal["shares"] = await unite_shares(ours, resource, survivor, other["id"]) if resource.owned else []
    made = {
        "id": new_id(),
        "object_type": resource.singular,
        "survivor_id": survivor,
        "merged_id": other["id"],
        "merged_at": ctx.now,
        "merged_by": ctx.principal.id,
    }
    await ours.fetch(_INSERT, {**made, "journal": journal})
    told = view({**made, "undone_at": None})
    item = await seen_after(ctx, ours, resource, survivor)
    return {
        **told,
        "fields": [item_.model_dump() for item_ in taken if resource.plural not in ctx.access.closed],
        "moved": [item_.model_dump() for item_ in moved],
        "survivor": item,
    }


def _before(row: Any, resource: Resource, name: str, value: Any) -> Any:
    """What a merge replaces: of custom fields those that it sets."""
    found = plain(held(row, resource, name))
    return {key: found.get(key) for key in value} if name == CUSTOM else found


def view(row: Any) -> dict[str, Any]:
    """A merge as it is sent."""
    ids = {name: row[name] and str(row[name]) for name in ("id", "survivor_id", "merged_id", "merged_by")}
    return {"object": "merge", **ids, "merged_at": row["merged_at"], "undone_at": row["undone_at"]}


async def seen_after(ctx: Context, ours: Context, resource: Resource, id_: str) -> dict[str, Any]:
    """The record as the caller sees it after what was done with our rights, which may have moved theirs."""
    if ours.moved:
        ctx.moved = True
        ctx.access = await ctx.kernel.authenticator.access(ctx.principal, link=ctx.link)
    if resource.plural in ctx.access.closed:  # a key that may write, but not read
        return {}
    return await find(ctx, resource, id_) or {}


async def _other(ctx: Context, resource: Resource, row: Any, body: MergeRequest) -> Row:
    """The other record, locked; refuses who may not merge and change both."""
    ctx.require(resource, "update")
    id_ = str(await own_id(ctx, resource, body.other_id)).lower()
    if id_ == row["id"]:
        raise invalid("/other_id", "same_record", "A record cannot be merged into itself.")
    if await find(ctx, resource, id_) is None:
        raise invalid("/other_id", "reference_not_found", f"There is no such {resource.singular}.")
    other = await load(ctx, resource, id_, "merge")
    if body.other_version is not None and other["version"] != body.other_version:
        raise await stale(ctx, resource, other["id"], body.other_version, other["version"])
    for one in (row["id"], other["id"]):
        if await find(ctx, resource, one, action="update") is None:
            raise forbidden(f"{resource.plural}:update")
    held_ = ctx.kernel.statement(("merged", resource.plural), lambda: _alone(resource))
    await ctx.fetch(held_, {"id": other["id"]})
    return other


def _alone(resource: Resource) -> Statement:
    """Locks a record against new references to it, too: those under way come first, others find it gone."""
    table = resource.table
    found = sa.select(table.c.id).where(table.c.tenant_id == TENANT, table.c.id == sa.bindparam("id", type_=sa.Uuid()))
    return Statement(found.with_for_update())


async def _no_circle(
    ours: Context,
    resource: Resource,
    row: Any,
    other: Row,
    values: dict[str, Any],
    chosen: frozenset[str],
    taken: list[FieldTaken],
) -> None:
    """409 when the survivor would come to stand below itself; a parent that was only to be filled in is not then."""
    for column, table in resource.references.items():
        if table != resource.table.name:
            continue
        await one_at_a_time(ours, f"{table}.{column}")
        below = other["id"] in await ancestors(ours, resource, column, row["id"])
        above = row["id"] in await ancestors(ours, resource, column, other["id"])
        if above and column in values and column not in chosen:
            del values[column]
            taken[:] = [item for item in taken if item.field != column]
        if below or (above and column in values):
            detail = "The record would become its own ancestor; merge it into the one above, or move it first."
            pointer = "/other_id" if below else f"/fields/{column}"
            raise Problem(CYCLE, detail, [Fault("cycle", detail, pointer=pointer)])


def _not_barred(resource: Resource, row: Any, other: Row) -> None:
    """409 when a merge would lose what bars the other record from business: that is lifted by its own verb."""
    for name in resource.duplicates.barring if resource.duplicates is not None else ():
        if other[name] and not row[name]:
            detail = f"The other record has {name}, and this one has not; lift it first, or merge the other way."
            raise Problem(CONFLICT, detail, [Fault("barred", detail, pointer="/other_id")])


def _alike(ctx: Context, resource: Resource, row: Any, other: Row) -> None:
    """409 when what other fields, or records that refer to the other one, mean would change; a missing value is none.

    Who may not see such a field merges nothing: the answer would tell of it.
    """
    for name in resource.duplicates.alike if resource.duplicates is not None else ():
        if name in ctx.access.hides(resource.plural):
            raise forbidden(f"field {resource.plural}.{name}")
        if None not in (row[name], other[name]) and row[name] != other[name]:
            detail = f"The two differ in {name}; make it the same first."
            raise Problem(CONFLICT, detail, [Fault("different", detail, pointer="/other_id")])


async def not_theirs(ctx: Context, resource: Resource, id_: str, values: dict[str, Any]) -> dict[str, Any]:
    """The values; 409 when the record has a source that owns one of the fields, and the caller is not it.

    A field that is hidden from the caller stays as it is instead: to refuse it would tell of its values.
    """
    if owners := contested(ctx.access, resource, values):
        item = await get(ctx, resource, id_)
        theirs = await owned_changes(ctx, resource, item, derived(resource, values), owners)
        for name in ctx.access.hides(resource.plural).intersection(theirs):
            del theirs[name]
            values = without(values, name)
        await without_owned(ctx, values, theirs, whole=True)
    return values


async def mark(ctx: Context, resource: Resource, id_: str, survivor: str, *, deleted: bool) -> None:
    """Deletes the other record, or restores it; its event names the survivor."""
    emitted = emission(ctx, resource, id_, ("deleted" if deleted else "restored",))
    values = parameters(ctx, resource, "merge" if deleted else "unmerge", emitted)
    unique = unique_ids(ctx.access, resource)
    if deleted:
        values["origin"] = {**values["origin"], "merged_into": survivor}
    plan, rows = await settled(
        ctx,
        ("mark", resource.plural, deleted, False, emitted.mode, bool(unique)),
        lambda: compile_mark(ctx, resource, deleted=deleted, match=False, mode=emitted.mode, unique=bool(unique)),
        {**values, "id": id_, "cf_unique": unique},
        once=True,
    )
    if plan.item(rows[0]) is None:
        raise not_found(resource.singular)
    emitted.done(rows[0])


def greater_of(resource: Resource) -> Mapping[str, tuple[Any, ...]]:
    """Columns of children of which the greater of two values is kept."""
    return resource.duplicates.greater if resource.duplicates is not None else {}


MERGE = Action(
    "merge",
    "Merge another record into this one",
    merge,
    event="merged",
    body=MergeRequest,
    reply=MergeResult,
    private=frozenset({"survivor"}),
)
