"""Verb in bulk: set fields of records, and add to their lists or take out of them."""

from functools import partial
from typing import Annotated, Any

import orjson
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from crm_api.domains.distribution import edited
from crm_api.domains.distribution.selection import LONGEST_FILTER, Selection
from crm_api.domains.distribution.walk import Bulk, State, Task
from crm_api.domains.editing.change import OWNERSHIP, Change, check, differing, field_of, present
from crm_api.domains.editing.restore import UNDO
from crm_api.kernel.context import Context
from crm_api.kernel.customs import customizable
from crm_api.kernel.problems import Problem
from crm_api.kernel.projection import plain
from crm_api.kernel.repository import update
from crm_api.kernel.resource import Resource
from crm_api.kernel.running import attempt
from crm_api.kernel.schema import Tag

MOST_SAMPLES = 10
_Words = Annotated[
    dict[Annotated[str, Field(max_length=70)], Annotated[list[Tag], Field(min_length=1, max_length=50)]],
    Field(max_length=20),
]


class BulkEdit(Selection):
    """What to change in each record."""

    changes: Annotated[
        dict[str, Any], Field(max_length=100, description="As the body of an update: null clears, absent fields stay.")
    ] = {}
    add: Annotated[
        _Words, Field(description="Field -> words that its list is to have, such as `tags`, or `custom.` and a key.")
    ] = {}
    remove: Annotated[_Words, Field(description="Field -> words that its list is not to have.")] = {}

    @model_validator(mode="after")
    def _something(self) -> "BulkEdit":
        if not (self.changes or self.add or self.remove):
            raise PydanticCustomError("required", "Say what to change, add or remove.")
        if len(orjson.dumps(self.changes)) > LONGEST_FILTER:
            raise PydanticCustomError("too_long", "Changes have at most 40000 bytes.")
        return self


def _change(resource: Resource, body: BulkEdit) -> Change:
    return Change.of(resource, body.changes, body.add, body.remove)


def _actions(body: BulkEdit) -> tuple[str, ...]:
    return ("update", "transfer") if OWNERSHIP.intersection(body.changes) else ("update",)


async def _prepare(ctx: Context, resource: Resource, body: BulkEdit, state: State | None) -> State:
    await check(ctx, resource, _change(resource, body), first=state is None)
    return {}


async def _act(ctx: Context, task: Task[BulkEdit]) -> None:
    resource, tally, change = task.resource, task.tally, _change(task.resource, task.body)
    names, ctx.cause = change.names, task.cause
    there = await present(ctx, resource, [row.id for row in task.rows], names)
    if task.cause is None:
        _foresee(task, change, there)
        return
    job = str(task.cause["job_id"])
    done = []
    for row in task.rows:
        values, _ = change.values_for(there[row.id])
        try:
            item = plain(await attempt(ctx, partial(update, ctx, resource, row.id, values)))
        except Problem as problem:
            tally.fail(resource.singular, row.id, problem)
            continue
        if not (changed := differing(there[row.id], item, names)):
            tally.skip("unchanged")
            continue
        before = {name: field_of(there[row.id], name) for name in changed}
        done.append({"object_id": row.id, "before": before, "after": {name: field_of(item, name) for name in changed}})
    await edited.keep(ctx, job, done)
    tally.done += len(done)


def _foresee(task: Task[BulkEdit], change: Change, there: dict[str, dict[str, Any]]) -> None:
    """Counts records that would change, and tells how the first of them would."""
    tally = task.tally
    for row in task.rows:
        item = there[row.id]
        _, told = change.values_for(item)
        if not (changed := differing(item, told, change.names)):
            tally.skip("unchanged")
            continue
        tally.done += 1
        if len(tally.samples) < MOST_SAMPLES:
            before, after = ({name: field_of(side, name) for name in changed} for side in (item, told))
            tally.samples.append({"id": row.id, "before": before, "after": after})


_BULK = Bulk("edit", BulkEdit, _actions, _prepare, _act, undo=UNDO)
EDIT = _BULK.verb("update", "Change many {many}", customizable)
