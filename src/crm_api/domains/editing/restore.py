"""How an edit is taken back: records whose edited fields nobody changed since get their values from before."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from crm_api.domains.distribution.undo import Undo, Undoing
from crm_api.domains.editing.change import differing, nested, present
from crm_api.kernel.context import Context
from crm_api.kernel.headers import parse
from crm_api.kernel.problems import Problem
from crm_api.kernel.repository import update
from crm_api.kernel.running import attempt


async def _restore(ctx: Context, task: Undoing, records: Sequence[Mapping[str, Any]]) -> None:
    names = sorted({name for record in records for name in record["after"]})
    there = await present(ctx, task.resource, [record["id"] for record in records], names)
    ctx.cause = task.cause
    for record in records:
        await _give_back(ctx, task, record, there.get(record["id"]))


async def _give_back(ctx: Context, task: Undoing, record: Mapping[str, Any], item: Mapping[str, Any] | None) -> None:
    """Gives one record its fields back, or counts why not."""
    resource, tally, id_ = task.resource, task.tally, record["id"]
    if item is None:
        tally.refuse(resource.singular, id_, "not_found")
        return
    if changed := differing(nested(record["after"]), item, record["after"]):
        task.changed(id_, changed)
        return
    assert resource.update is not None  # noqa: S101 - it was edited
    try:
        body = parse(orjson.dumps(nested(record["before"])), resource.update).model_dump()
        values = {name: body[name] for name in nested(record["before"])}
        await attempt(ctx, partial(update, ctx, resource, id_, values))
    except Problem as problem:
        if problem.kind.status >= 500 or problem.kind.retryable:
            raise
        tally.fail(resource.singular, id_, problem)
        return
    tally.done += 1


UNDO = Undo("edit", ("update",), _restore)
