"""Verbs: revise a quote that others have seen, and copy one."""

from typing import Any

from crm_api.domains.selling.copying import lines_of, make, terms_of
from crm_api.domains.selling.document import today
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM
from crm_api.kernel.customs_body import carried
from crm_api.kernel.repository import record
from crm_api.kernel.resource import Resource


async def revise(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Makes the next revision, a draft of the same number and day, so that prices stay as they are; tells its id."""
    del body
    terms = {**terms_of(ctx, resource, row), CUSTOM: await carried(ctx, resource, row, resource)}
    revision = {"number": row["number"], "revision": row["revision"] + 1, "previous_id": row["id"]}
    made = await make(ctx, resource, {**terms, **revision, "quoted_on": row["quoted_on"], "lines": lines_of(row)})
    return {"superseded_by_id": made["id"]}


async def copy(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """A new draft of today with the same terms and lines, at the prices of today."""
    del body
    lines = [{**line, "origin_line_id": None} for line in lines_of(row)]
    terms = {**terms_of(ctx, resource, row), CUSTOM: await carried(ctx, resource, row, resource)}
    made = await make(ctx, resource, {**terms, "quoted_on": today(), "lines": lines})
    await record(ctx, resource, row["id"], "copy", "copied", after={"copy_id": made["id"]})
    return made
