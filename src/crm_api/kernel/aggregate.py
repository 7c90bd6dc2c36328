"""The endpoint of groups and measures over many rows."""

from collections.abc import Awaitable, Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import pydantic
import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import Response

from crm_api.kernel.aggregate_groups import compile_aggregate
from crm_api.kernel.collections import tree_of
from crm_api.kernel.context import Context, settled
from crm_api.kernel.filter_values import OPERATORS, Place
from crm_api.kernel.filters import LONGEST_PATH, Field, Filters
from crm_api.kernel.headers import parse, query, read_body, single
from crm_api.kernel.history import further, parse_as_of, refuse_related
from crm_api.kernel.problems import invalid
from crm_api.kernel.projection import Json
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Wire, money_text, ratio_text
from crm_api.kernel.unit_of_work import permitted

Endpoint = Callable[[Request], Awaitable[Response]]
_MEASURED = ("money", "ratio", "integer")
_EXTREME = (*_MEASURED, "date", "instant")
_GROUPED = tuple(kind for kind in OPERATORS if kind != "values")
MAX_HOPS = 1


class Measure(Wire):
    """One figure per group; `field` is left out for count."""

    op: Literal["count", "sum", "avg", "min", "max"]
    field: Annotated[str, pydantic.Field(max_length=LONGEST_PATH)] | None = None


class AggregateRequest(Wire):
    """Groups by own fields with measures, over the rows the caller may see."""

    group_by: Annotated[
        list[Annotated[str, pydantic.Field(max_length=LONGEST_PATH)]], pydantic.Field(max_length=3)
    ] = []
    measures: Annotated[list[Measure], pydantic.Field(min_length=1, max_length=10)]
    filter: dict[str, Any] = {}
    limit: Annotated[int, pydantic.Field(ge=1, le=1000)] = 1000


def aggregate_endpoint(resource: Resource) -> Endpoint:
    """`POST /v1/{collection}/aggregate`."""

    async def endpoint(request: Request) -> Response:
        ctx = await permitted(request, resource, "read")
        as_of = parse_as_of(ctx, single(query(request, further(resource)), "as_of"))
        body = parse(await read_body(request), AggregateRequest)
        answer = await aggregate(ctx, resource, body, as_of)
        return Json(answer)

    return endpoint


async def aggregate(
    ctx: Context, resource: Resource, body: AggregateRequest, as_of: datetime | None = None
) -> dict[str, Any]:
    """Groups and measures under the caller's policies; a hidden field can be neither grouped nor measured."""
    group, values = await tree_of(ctx, resource, body.filter if "filter" in body.model_fields_set else None, as_of)
    fields = Filters(ctx.kernel.catalog, resource, ctx.access, mark="g")
    groups = [_field(fields, path, f"/group_by/{i}", _GROUPED) for i, path in enumerate(body.group_by)]
    measures: list[tuple[str, Field | None]] = []
    for i, measure in enumerate(body.measures):
        pointer, kinds = f"/measures/{i}/field", _EXTREME if measure.op in ("min", "max") else _MEASURED
        if measure.op != "count" and measure.field is None:
            raise invalid(pointer, "required", f"{measure.op} needs a field.")
        told = None if measure.field is None else _field(fields, measure.field, pointer, kinds)
        measures.append((measure.op, told))
    if as_of is not None:
        paths = (field for field in (*groups, *(field for _, field in measures)) if field)
        refuse_related(group, {".".join((*map(str, field.hops), field.name)): field.hops for field in paths})
        values["as_of"] = as_of
    form = tuple((op, field and field.shape) for op, field in measures)
    keys = [field.custom for field in (*groups, *(field for _, field in measures)) if field and field.custom]
    _, rows = await settled(
        ctx,
        ("aggregate", resource.plural, tuple(field.shape for field in groups), form, group.shape, as_of is not None),
        lambda: compile_aggregate(
            ctx.kernel, ctx.access, resource, groups, measures, group, _measure, as_of=as_of is not None
        ),
        {
            **values,
            **fields.values,
            **{f"custom{i}": custom.key for i, custom in enumerate(keys)},
            "limit": body.limit + 1,
        },
    )
    found = [row for row in rows if row["present"]]
    data = [
        {
            "group": {
                path: _figure(field, "group", row[f"g{i}"])
                for i, (path, field) in enumerate(zip(body.group_by, groups, strict=True))
            },
            "measures": [_figure(field, op, row[f"m{i}"]) for i, (op, field) in enumerate(measures)],
        }
        for row in found[: body.limit]
    ]
    return {"data": data, "has_more": len(found) > body.limit}


def _field(fields: Filters, path: str, pointer: str, kinds: tuple[str, ...]) -> Field:
    found = fields.field(path, Place(pointer=pointer))
    if found.kind not in kinds or len(found.hops) > MAX_HOPS:
        raise invalid(pointer, "unknown_field", f"{path!r} cannot be used here.")
    return found


def _measure(op: str, column: Any) -> Any:
    if column is None:
        return sa.func.count()
    function = getattr(sa.func, op)(column)
    return sa.cast(function, sa.Numeric) if op in ("sum", "avg") else function


def _figure(field: Field | None, op: str, value: Any) -> Any:
    if value is None or op == "count" or field is None:
        return value
    kind = field.kind
    if op in ("sum", "avg") and kind != "integer":
        value = int(Decimal(value).to_integral_value())
    if kind in ("money", "ratio"):
        return money_text(int(value)) if kind == "money" else ratio_text(int(value))
    if field.custom is not None and kind in ("date", "boolean"):
        return date.fromordinal(value) if kind == "date" else bool(value)
    if isinstance(value, Decimal):
        return float(value) if op == "avg" else int(value)
    return value
