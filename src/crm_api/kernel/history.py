"""Reads of records as they were at an instant: what a request may ask, and one record by its id."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from starlette.responses import Response

from crm_api.kernel.context import Context, settled
from crm_api.kernel.external import is_external, own_id
from crm_api.kernel.filters import Group, Node, Through
from crm_api.kernel.merged import absent
from crm_api.kernel.problems import Problem, invalid_parameter
from crm_api.kernel.projection import Json
from crm_api.kernel.query import compile_get
from crm_api.kernel.resource import Resource


def further(resource: Resource) -> tuple[str, ...]:
    """What reads of many records take in the query, beside what says which."""
    return ("as_of",) if resource.history else ()


def parse_as_of(ctx: Context, text: str | None) -> datetime | None:
    """The instant of `as_of`, if it is given.

    Raises:
        Problem: 422, as it is no instant with an offset, or is still to come.
    """
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text.upper())
    except ValueError:
        raise invalid_parameter("as_of", "invalid_value", "An instant, as 2026-01-31T12:00:00Z.") from None
    if instant.tzinfo is None or not 1 < instant.year < 9999:
        raise invalid_parameter("as_of", "invalid_value", "An instant, as 2026-01-31T12:00:00Z.")
    if instant > ctx.now:
        raise invalid_parameter("as_of", "invalid_value", "An instant that has passed.")
    return instant


def refuse_related(filter_: Group, asked: Mapping[str, Any]) -> None:
    """Refuses what is known only as it is now.

    Args:
        filter_: must be by fields of the record itself, of which each has one value.
        asked: what must be empty, by the parameter that a client knows it by.

    Raises:
        Problem: 422 that names the parameter.
    """
    if given := [name for name, value in asked.items() if value]:
        raise _refused(given[0], "This is read as it is now, not as it was.")
    if (strange := next(_strange(filter_), None)) is not None:
        raise _refused("as_of", f"{strange!r} is known as it is now, not as it was.")


def _refused(parameter: str, detail: str) -> Problem:
    return invalid_parameter(parameter, "not_as_of", detail)


def _strange(node: Node) -> Iterator[str]:
    """What a filter asks that the past row does not tell: of others, or of lists that only an index of now has."""
    if isinstance(node, Group):
        for child in node.children:
            yield from _strange(child)
    elif isinstance(node, Through):
        yield ".".join((*map(str, node.hops), node.relation))
    elif node.hops or (node.form is None and node.op in ("any", "all")):
        yield ".".join((*map(str, node.hops), node.field))


async def get_as_of(
    ctx: Context, resource: Resource, id_: str | UUID, instant: datetime, beside: Mapping[str, Any]
) -> Response:
    """The record as it was; it has no ETag, since it cannot be written.

    Raises:
        Problem: 404, as it was not there then or the caller may not see it now; 422 for what is `beside` it.
    """
    refuse_related(Group("and"), beside)
    for deleted in (False, True):  # an external id is of who has it now, else of who had it when it was deleted
        own = await own_id(ctx, resource, id_, deleted=deleted)
        plan, rows = await settled(
            ctx,
            ("as_of", resource.plural),
            lambda: compile_get(ctx.kernel, ctx.access, resource, (), as_of=True),
            {"id": own, "as_of": instant},
        )
        if plan.present(rows[0]):
            return Json(plan.item(rows[0]))
        if not is_external(id_):
            break
    raise await absent(ctx, resource, id_)
