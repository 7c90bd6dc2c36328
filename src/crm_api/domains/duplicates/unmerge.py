"""Verbs: take a merge back, and list the merges of a record. Also what forbids to restore a merged record by itself."""

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
import sqlalchemy as sa
from pydantic import Field

from crm_api.domains.duplicates.children import MOST, Kept, put_back
from crm_api.domains.duplicates.circle import hand_over, not_reopened, part_shares
from crm_api.domains.duplicates.merge import MERGE, MERGES, MergeView, greater_of, mark, not_theirs, seen_after, view
from crm_api.domains.duplicates.survivorship import held, only_read, plain, revived, unmoved
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM, PREFIX, changed_keys, fields_of
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.external_sources import EXTERNAL_IDS, may_name
from crm_api.kernel.jobs import trusted
from crm_api.kernel.problems import CONFLICT, Fault, Problem, forbidden, invalid
from crm_api.kernel.repository import find, load, update
from crm_api.kernel.resource import Action, Check, Resource
from crm_api.kernel.schema import Id, Wire
from crm_api.kernel.sight import seen

MOST_MERGES = 200


class UnmergeRequest(Wire):
    """The record that was merged into this one."""

    other_id: Id


class UnmergeResult(MergeView):
    """What taking a merge back came to."""

    kept: Annotated[
        list[Kept],
        Field(
            max_length=MOST * 2,
            description="What was changed after the merge, and so was left as it is; of what the caller sees.",
        ),
    ]
    survivor: Annotated[dict[str, Any], Field(description="The record, as a GET sends it; absent in a replay.")]


class MergeList(Wire):
    """The merges into a record, newest first."""

    data: Annotated[list[MergeView], Field(max_length=MOST_MERGES)]


_OBJECT_TYPE = sa.bindparam("object_type", type_=sa.Text())
_SURVIVOR, _OTHER = sa.bindparam("survivor", type_=sa.Uuid()), sa.bindparam("other", type_=sa.Uuid())
_ALL = sa.select(MERGES).where(MERGES.c.tenant_id == TENANT, MERGES.c.object_type == _OBJECT_TYPE)
_NEWEST = MERGES.c.id.desc()
_LIST = Statement(_ALL.where(MERGES.c.survivor_id == _SURVIVOR).order_by(_NEWEST).limit(MOST_MERGES))
_LIVE = _ALL.where(MERGES.c.merged_id == _OTHER, MERGES.c.undone_at.is_(None)).order_by(_NEWEST).limit(1)
_FIND = Statement(_LIVE.where(MERGES.c.survivor_id == _SURVIVOR))
_MERGED = Statement(_LIVE)
_UNDO = Statement(
    sa.update(MERGES)
    .where(MERGES.c.tenant_id == TENANT, MERGES.c.id == sa.bindparam("id", type_=sa.Uuid()))
    .values(undone_at=sa.bindparam("now", type_=sa.DateTime(timezone=True)))
    .returning(MERGES.c.id)
)


async def unmerge(ctx: Context, resource: Resource, row: Any, body: UnmergeRequest) -> dict[str, Any]:
    """Restores both records and what belonged to each, except what was changed since: that stays, and is reported."""
    survivor, other = row["id"], body.other_id.lower()
    ctx.kernel.policy.require(ctx.access, ctx.principal.scopes, resource, "update")
    if await find(ctx, resource, survivor, action="update") is None:
        raise forbidden(f"{resource.plural}:update")
    of = {"object_type": resource.singular, "survivor": survivor, "other": other}
    found = await ctx.fetch(_FIND, of)
    if not found:
        detail = "No such record is merged into this one."
        raise Problem(CONFLICT, detail, [Fault("not_merged", detail, pointer="/other_id")])
    gone = await _gone(ctx, resource, other)
    journal = orjson.loads(found[0]["journal"])
    ours = trusted(ctx)
    values, kept = _former(ctx, resource, row, journal)
    only_read(ctx, resource, values, "/")
    await unmoved(ctx, resource, survivor, values, values.keys())
    values = await not_theirs(ctx, resource, survivor, values)
    for source in journal["external_ids"]:
        await may_name(ctx, resource, source)
    if resource.owned:
        kept += await not_reopened(ours, resource, journal["shares"], survivor, other)
        kept += await part_shares(ours, resource, journal["shares"], survivor)
    ids = await _take_back(ours, resource, gone, journal["external_ids"], survivor)
    present = held(row, resource, EXTERNAL_IDS)
    if ids:
        values[EXTERNAL_IDS] = {source: id_ for source, id_ in present.items() if ids.get(source) != id_}
    lost = journal["external_ids"].keys() - ids
    kept += [_left(resource, survivor, EXTERNAL_IDS) for _ in lost]
    await update(ours, resource, survivor, values, recorded="unmerge", events=("updated", "unmerged"), by_verb=True)
    await mark(ours, resource, other, survivor, deleted=False)
    kept += await put_back(ours, journal["children"], survivor, other, greater_of(resource))
    await ours.fetch(_UNDO, {"id": found[0]["id"], "now": ctx.now})
    item = await seen_after(ctx, ours, resource, survivor)
    told = await _told(ctx, kept)
    return {**view({**dict(found[0]), "undone_at": ctx.now}), "kept": told, "survivor": item}


async def _told(ctx: Context, kept: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of what was left as it is, what the caller sees."""
    by_resource: dict[str, set[str]] = {}
    for note in kept:
        by_resource.setdefault(note["resource"], set()).add(note["id"])
    visible = {name: await seen(ctx, ctx.kernel.catalog.resources[name], ids) for name, ids in by_resource.items()}
    return [
        note
        for note in kept
        if note["id"] in visible[note["resource"]] and note["field"] not in ctx.access.hides(note["resource"])
    ]


async def _gone(ctx: Context, resource: Resource, other: str) -> Row:
    """The merged record, locked; for who may not merge it, there is none."""
    try:
        return await load(ctx, resource, other, MERGE.verb, deleted=True)
    except Problem as problem:
        raise invalid("/other_id", "reference_not_found", f"There is no such {resource.singular}.") from problem


def _former(
    ctx: Context, resource: Resource, row: Any, journal: Mapping[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The survivor's values as they were before, where nobody changed them; and what somebody did."""
    values: dict[str, Any] = {}
    kept: list[dict[str, Any]] = []
    for name, before in journal["before"].items():
        if name == EXTERNAL_IDS or name not in resource.table.c:
            continue
        if name == CUSTOM:
            present = held(row, resource, name)
            for key, old in changed_keys(before, journal["after"][name]).items():
                field = fields_of(ctx.access, resource).get(key)
                bound = field is not None and old is None and field.required and not field.retired
                if present.get(key) == journal["after"][name].get(key) and not bound:
                    values.setdefault(name, {})[key] = old
                else:
                    kept.append(_left(resource, row["id"], PREFIX + key))
            continue
        if plain(held(row, resource, name)) == journal["after"][name]:
            values[name] = revived(resource, name, before)
        else:
            kept.append(_left(resource, row["id"], name))
    return values, kept


def _left(resource: Resource, id_: str, name: str) -> dict[str, Any]:
    return {"resource": resource.plural, "id": id_, "field": name, "reason": "changed"}


async def _take_back(
    ctx: Context, resource: Resource, gone: Row, ids: Mapping[str, str], survivor: str
) -> dict[str, str]:
    """External ids that the survivor still has from the merge; a merged record is without those it has not."""
    found = await hand_over(ctx, resource, ids, survivor, gone["id"])
    if found.keys() != ids.keys():
        kept = held(gone, resource, EXTERNAL_IDS)
        left = {source: id_ for source, id_ in kept.items() if source not in ids or source in found}
        table = resource.table
        change = sa.update(table).where(table.c.tenant_id == TENANT, table.c.id == sa.bindparam("id", type_=sa.Uuid()))
        bind = sa.bindparam("left", type_=table.c.external_ids.type)
        await ctx.fetch(
            Statement(change.values(external_ids=bind).returning(table.c.id)), {"id": gone["id"], "left": left}
        )
    return found


async def merges(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """The records that were merged into this one."""
    del body
    of = {"object_type": resource.singular, "survivor": row["id"]}
    return {"data": [view(item) for item in await ctx.read(_LIST, of)]}


async def _not_merged(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """A merged record comes back with what belonged to it, or not at all."""
    del before
    of = {"object_type": resource.singular, "other": values["id"]}
    if values.get("deleted_at") is not None and await ctx.fetch(_MERGED, of):
        raise Problem(CONFLICT, "The record was merged into another one; `unmerge` that one.")


NOT_MERGED = Check(frozenset({"deleted_at"}), _not_merged)
"""For each resource that can be merged: asked when a record is restored."""
UNMERGE = Action(
    "unmerge",
    "Take a merge back",
    unmerge,
    event="unmerged",
    body=UnmergeRequest,
    reply=UnmergeResult,
    level=MERGE.verb,
    private=frozenset({"survivor"}),
)
LIST = Action("merges", "List what was merged into the record", merges, reply=MergeList, method="GET", level="read")
MERGING = (MERGE, UNMERGE, LIST)
"""The verbs of a resource that can be merged."""
