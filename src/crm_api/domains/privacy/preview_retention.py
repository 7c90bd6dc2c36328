"""Verb: look at what a retention policy would reach, which has to be done before it is activated."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field

from crm_api.kernel.collections import run as page_of
from crm_api.kernel.context import Context
from crm_api.kernel.external import settle
from crm_api.kernel.filters import Filters, Group
from crm_api.kernel.jobs import trusted
from crm_api.kernel.paging import parse_sort
from crm_api.kernel.problems import CONFLICT, Fault, Problem
from crm_api.kernel.query import Listing
from crm_api.kernel.repository import update
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import Id, Instant, Wire, instant_text

SAMPLES = 10
_Value = Annotated[int, Field(ge=0, le=9_007_199_254_740_991)]


class RetentionCount(Wire):
    """How many records."""

    value: _Value
    relation: Literal["eq", "gte"]


class RetentionPreview(Wire):
    """What a policy would reach now."""

    object: Literal["retention_preview"]
    id: Id
    before: Annotated[Instant, Field(description="Records that were changed last before this.")]
    count: Annotated[RetentionCount, Field(description="Of those that the caller sees, held ones included.")]
    samples: Annotated[list[Id], Field(max_length=SAMPLES)]


def untouched_since(now: datetime, months: int) -> datetime:
    """The instant so many months before; the last day of its month where that is shorter."""
    index = now.year * 12 + now.month - 1 - months
    year, month = divmod(index, 12)
    if year < 1:
        return datetime(1, 1, 1, tzinfo=UTC)
    for day in range(now.day, 27, -1):
        try:
            return now.replace(year=year, month=month + 1, day=day)
        except ValueError:
            continue
    return now.replace(year=year, month=month + 1)


def matching(
    ctx: Context, policy: Mapping[str, Any], limit: int, count: str = "none"
) -> tuple[Resource, Filters, Listing]:
    """The records that a policy reaches, the longest untouched of them by id; 422 for what the resource cannot do."""
    resource = ctx.kernel.catalog.resources[policy["resource"]]
    given = policy.get("filter")
    given = orjson.loads(given) if isinstance(given, str) else given
    old = {
        "field": "updated_at",
        "op": "lt",
        "value": instant_text(untouched_since(ctx.now, policy["untouched_months"])),
    }
    filters = Filters(ctx.kernel.catalog, resource, ctx.access)
    tree = filters.tree({"and": [*([given] if given else []), old]})
    group = tree if isinstance(tree, Group) else Group("and", (tree,))
    listing = Listing(group, filters.values, parse_sort(resource, ctx.access, None), limit, fields=("id",))
    listing.count = count
    return resource, filters, listing


async def preview(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Counts what the caller sees of it, up to 10,000, and notes that somebody has looked."""
    del body
    target, filters, listing = matching(ctx, row, SAMPLES, "exact")
    ctx.require(target, "read")
    await settle(ctx, filters)
    answer, _ = await page_of(ctx, target, listing, None)
    await update(trusted(ctx), resource, row["id"], {"previewed_at": ctx.now}, by_verb=True, recorded="preview")
    return {
        "object": "retention_preview",
        "id": row["id"],
        "before": instant_text(untouched_since(ctx.now, row["untouched_months"])),
        "count": answer["count"],
        "samples": [item["id"] for item in answer["data"]],
    }


async def previewed(ctx: Context, resource: Resource, row: Any, body: Any) -> None:
    """409 until somebody has looked at what the policy reaches as it is now."""
    del ctx, resource, body
    if row["previewed_at"] is None:
        detail = "Look at what it would reach first (`preview`)."
        raise Problem(CONFLICT, detail, [Fault("not_previewed", detail, pointer="")])


PREVIEW = Action("preview", "Look at what the policy would reach", preview, reply=RetentionPreview)
