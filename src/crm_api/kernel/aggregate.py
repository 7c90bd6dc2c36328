"""The endpoint of groups and measures over many rows."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from crm_api.kernel.collections import tree_of
from crm_api.kernel.context import Context, settled
from crm_api.kernel.headers import parse, query, read_body
from crm_api.kernel.problems import forbidden, invalid
from crm_api.kernel.projection import Json, ratio_text
from crm_api.kernel.query import compile_aggregate
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Wire, money_text
from crm_api.kernel.unit_of_work import permitted

Endpoint = Callable[[Request], Awaitable[Response]]
_MEASURED = ("money", "ratio", "integer")


class Measure(Wire):
    """One figure per group; `field` is left out for count."""

    op: Literal["count", "sum", "avg", "min", "max"]
    field: Annotated[str, Field(max_length=63)] | None = None


class AggregateRequest(Wire):
    """Groups by own fields with measures, over the rows the caller may see."""

    group_by: Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=3)] = []
    measures: Annotated[list[Measure], Field(min_length=1, max_length=10)]
    filter: dict[str, Any] = {}
    limit: Annotated[int, Field(ge=1, le=1000)] = 1000


def aggregate_endpoint(resource: Resource) -> Endpoint:
    """`POST /v1/{collection}/aggregate`."""

    async def endpoint(request: Request) -> Response:
        ctx = await permitted(request, resource, "read")
        query(request, ())
        body = parse(await read_body(request), AggregateRequest)
        answer = await aggregate(ctx, resource, body)
        return Json(answer)

    return endpoint


async def aggregate(ctx: Context, resource: Resource, body: AggregateRequest) -> dict[str, Any]:
    """Groups and measures under the caller's policies; a hidden field can be neither grouped nor measured."""
    group, values = await tree_of(ctx, resource, body.filter if "filter" in body.model_fields_set else None)
    kinds = resource.filterable
    for i, name in enumerate(body.group_by):
        _groupable(ctx, resource, name, f"/group_by/{i}", tuple(kind for kind in kinds.values() if kind != "values"))
    for i, measure in enumerate(body.measures):
        if measure.op != "count" and measure.field is None:
            raise invalid(f"/measures/{i}/field", "required", f"{measure.op} needs a field.")
        if measure.field is not None:
            every = (*_MEASURED, "date", "instant") if measure.op in ("min", "max") else _MEASURED
            _groupable(ctx, resource, measure.field, f"/measures/{i}/field", every)
    measures = tuple((measure.op, measure.field) for measure in body.measures)
    grouped = tuple(body.group_by)
    _, rows = await settled(
        ctx,
        ("aggregate", resource.plural, grouped, measures, group.shape),
        lambda: compile_aggregate(ctx.kernel, ctx.access, resource, grouped, measures, group, _measure),
        {**values, "limit": body.limit + 1},
    )
    found = [row for row in rows if row["present"]]
    data = [
        {
            "group": {name: _figure(kinds[name], "group", row[f"g{i}"]) for i, name in enumerate(body.group_by)},
            "measures": [_figure(kinds.get(field or ""), op, row[f"m{i}"]) for i, (op, field) in enumerate(measures)],
        }
        for row in found[: body.limit]
    ]
    return {"data": data, "has_more": len(found) > body.limit}


def _groupable(ctx: Context, resource: Resource, name: str, pointer: str, kinds: tuple[str, ...]) -> None:
    if resource.filterable.get(name) not in kinds:
        raise invalid(pointer, "unknown_field", f"{name!r} cannot be used here.")
    if name in ctx.access.hides(resource.plural):
        raise forbidden(f"field {resource.plural}.{name}")


def _measure(op: str, column: Any) -> Any:
    if column is None:
        return sa.func.count()
    function = getattr(sa.func, op)(column)
    return sa.cast(function, sa.Numeric) if op in ("sum", "avg") else function


def _figure(kind: str | None, op: str, value: Any) -> Any:
    if value is None or op == "count":
        return value
    if op in ("sum", "avg") and kind != "integer":
        value = int(Decimal(value).to_integral_value())
    if kind in ("money", "ratio"):
        return money_text(int(value)) if kind == "money" else ratio_text(int(value))
    if isinstance(value, Decimal):
        return float(value) if op == "avg" else int(value)
    return value
