"""Verbs: look at what a retention policy would reach, and activate it knowing that."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
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
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import Id, Wire, instant_text

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
    before: Annotated[date, Field(description="Records that were changed last before this day, in UTC.")]
    count: Annotated[RetentionCount, Field(description="Held ones included; up to 10,000.")]
    samples: Annotated[list[Id], Field(max_length=SAMPLES, description="Some that the caller sees.")]


class ActivateRequest(Wire):
    """How many records the policy may reach, as the preview told."""

    at_most: Annotated[_Value, Field(description="It is refused when there are more by now.")]


def untouched_since(now: datetime, months: int) -> datetime:
    """The beginning of the day so many months before; of the last one of its month where that is shorter."""
    now = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
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


async def _count(ctx: Context, policy: Mapping[str, Any]) -> dict[str, Any]:
    """How many records of the tenant it reaches now, whoever sees them; counted up to 10,000."""
    ours = trusted(ctx)
    target, filters, listing = matching(ours, policy, 1, "exact")
    await settle(ours, filters)
    answer, _ = await page_of(ours, target, listing, None)
    found: dict[str, Any] = answer["count"]
    return found


async def preview(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """How many records it would reach now, held ones included, and some of those that the caller sees."""
    del resource, body
    target, filters, listing = matching(ctx, row, SAMPLES)
    ctx.require(target, "read")
    await settle(ctx, filters)
    answer, _ = await page_of(ctx, target, listing, None)
    return {
        "object": "retention_preview",
        "id": row["id"],
        "before": untouched_since(ctx.now, row["untouched_months"]).date(),
        "count": await _count(ctx, row),
        "samples": [item["id"] for item in answer["data"]],
    }


async def activate(ctx: Context, resource: Resource, row: Any, body: ActivateRequest) -> dict[str, Any]:
    """409 when the policy reaches more records than whoever activates it knows of."""
    del resource
    found = await _count(ctx, row)
    if found["value"] > body.at_most:
        detail = f"It reaches {found['value']} records now; look at them first (`preview`)."
        raise Problem(CONFLICT, detail, [Fault("reaches_more", detail, pointer="/at_most")])
    return {}


PREVIEW = Action(
    "preview", "Look at what the policy would reach", preview, reply=RetentionPreview, method="GET", level="read"
)
