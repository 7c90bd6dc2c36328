"""Verb in bulk: give records, and what belongs to them, another owner."""

from typing import Annotated, Any, Literal

from pydantic import Field

from crm_api.domains.distribution.people import active
from crm_api.domains.distribution.selection import Selection, permitted
from crm_api.domains.distribution.walk import PREVIEW_ROWS, Bulk, State, Task
from crm_api.kernel.collective_rows import children
from crm_api.kernel.collective_writes import assign
from crm_api.kernel.context import Context
from crm_api.kernel.domain import Catalog
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Ref

CHILDREN = 1_000
"""Children that move in one step."""
ACTIONS = ("update", "transfer")


class BulkTransfer(Selection):
    """To whom, and whether what belongs to the records goes with them."""

    owner_id: Ref
    children: Annotated[
        Literal["none", "open", "all"],
        Field(
            description="Records that belong to these by a reference and have the same owner go to the new one first. "
            "`open` leaves those in a final state."
        ),
    ] = "none"


def movable(resource: Resource) -> bool:
    """Whether records have an owner that a client may change, and that no check of theirs looks at."""
    given = {"owner_id": ""}
    changed = resource.update is not None and "owner_id" in resource.update.model_fields
    return resource.owned and changed and not resource.touched(given) and "owner_id" not in resource.access_fields


def parts(catalog: Catalog, resource: Resource) -> list[tuple[Resource, str]]:
    """What belongs to records of a resource: other owned resources that are open to who may see the record."""
    return [
        (other, column)
        for other in catalog.resources.values()
        if other is not resource and movable(other)
        for column in sorted(other.circles)
        if other.references.get(column) == resource.table.name
    ]


async def _prepare(ctx: Context, resource: Resource, body: BulkTransfer, state: State | None) -> State:
    (owner,) = await active(ctx, [body.owner_id], ["/owner_id"])
    if body.children != "none":
        for other, _ in parts(ctx.kernel.catalog, resource):
            for action in ("read", *ACTIONS):
                ctx.require(other, action)
            ctx.kernel.policy.writable(ctx.access, other, {"owner_id": None})
    return {**(state or {}), "owner": owner}


async def _act(ctx: Context, task: Task[BulkTransfer]) -> Any:
    owner, tally = task.state["owner"], task.tally
    rows = [row for row in task.rows if row.owner_id != owner]
    if task.body.children != "none":
        parents = [(row.id, row.owner_id) for row in rows if row.owner_id is not None]
        left = await _children(ctx, task, parents, owner)
        if left is not None:
            return left
    changed = len(rows)
    if task.cause is not None and rows:
        changed = len(await assign(ctx, task.resource, {row.id: owner for row in rows}, task.cause))
    tally.done += changed
    tally.give(owner, changed)
    tally.skip("unchanged", len(task.rows) - changed)
    return None


async def _children(ctx: Context, task: Task[BulkTransfer], parents: list[tuple[str, str]], owner: str) -> Any:
    """Moves the children of some records; gives where it stopped when they are too many for one step."""
    number, after = task.at or (0, None)
    moved = 0
    found = parts(ctx.kernel.catalog, task.resource)
    while parents and number < len(found):
        other, column = found[number]
        lock = task.cause is not None
        some = await children(ctx, other, column, parents, ACTIONS, after, CHILDREN, lock=lock)
        chosen = [row for row in some if row.open or task.body.children == "all"]
        ids = [row.id for row in chosen if permitted(other.plural, other.singular, row, row.id, task.tally, owner=True)]
        if task.cause is not None and ids:
            task.tally.children += len(await assign(ctx, other, dict.fromkeys(ids, owner), task.cause))
        else:
            task.tally.children += len(ids)
        moved += len(some)
        if len(some) == CHILDREN:
            after = some[-1].id
            if task.cause is not None:
                return [number, after]
            if moved >= PREVIEW_ROWS:
                return None
        else:
            number, after = number + 1, None
    return None


_BULK = Bulk("transfer", BulkTransfer, lambda _: ACTIONS, _prepare, _act, owner=True)
TRANSFER = _BULK.verb("transfer", "Give many {many} another owner", movable)
