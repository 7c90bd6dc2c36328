"""Groups with measures as one statement, whatever references the grouped fields stand behind."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from crm_api.kernel.context import Kernel
from crm_api.kernel.customs_index import expression
from crm_api.kernel.database import Statement
from crm_api.kernel.filters import Field, Group
from crm_api.kernel.history_rows import rows_as_of
from crm_api.kernel.policy import Access, Met
from crm_api.kernel.predicates import to_sql
from crm_api.kernel.query import framed
from crm_api.kernel.record import readable
from crm_api.kernel.resource import Resource

if TYPE_CHECKING:
    from crm_api.kernel.customs_hops import Hop

_LIMIT = sa.bindparam("limit", type_=sa.BigInteger())


def compile_aggregate(
    kernel: Kernel,
    access: Access,
    resource: Resource,
    group_by: Sequence[Field],
    measures: Sequence[tuple[str, Field | None]],
    filter_: Group,
    build: Callable[[str, Any], Any],
    *,
    as_of: bool = False,
) -> Statement:
    """Groups with measures, under the gate; each row carries the access version.

    Custom fields are read from the rows by their keys, which are the parameters `custom0`, `custom1`, ...
    """
    fields = [*group_by, *(field for _, field in measures if field is not None)]
    one: sa.ColumnElement[int] = sa.literal_column("1")
    parts = []
    for table, gate in _sources(kernel, access, resource, as_of=as_of):
        source, columns = _followed(kernel, access, fields, table)
        filtered = to_sql(kernel.policy, access, resource, filter_, table)
        parts.append(sa.select(one.label("one"), *columns).select_from(source).where(*gate, filtered))
    rows = sa.union_all(*parts).subquery("rows")
    groups = [rows.c[f"u{i}"] for i in range(len(group_by))]
    places = iter(range(len(group_by), len(fields)))
    figures = [build(op, None if field is None else rows.c[f"u{next(places)}"]) for op, field in measures]
    shown = [
        *[readable(column).label(f"g{i}") for i, column in enumerate(groups)],
        *[figure.label(f"m{i}") for i, figure in enumerate(figures)],
        sa.literal_column("true").label("present"),
    ]
    # Ordered apart from the rows: with the limit beside them, the planner reads all of them in the order of an index.
    grouped = sa.select(*shown).select_from(rows).group_by(*groups).subquery("grouped")
    order = [grouped.c[f"g{i}"] for i in range(len(groups))]
    return framed(sa.select(*grouped.c).order_by(*order).limit(_LIMIT).lateral("groups"))


def _sources(kernel: Kernel, access: Access, resource: Resource, *, as_of: bool) -> list[tuple[Any, list[Any]]]:
    """Parts of the rows that are open to the caller, each with what is still to be asked of it."""
    if as_of:
        return [(rows_as_of(kernel.policy, access, resource, Met.SET), [])]
    return [(resource.table, gate) for gate in kernel.policy.apart(access, resource, resource.table)]


def _followed(kernel: Kernel, access: Access, fields: Sequence[Field], table: Any) -> tuple[Any, list[Any]]:
    """(the rows with what their references lead to as far as the caller may see it, the columns of the fields)."""
    source = table
    joined: dict[Hop, Any] = {}
    columns, customs = [], 0
    for i, one in enumerate(fields):
        base = table
        for hop in one.hops:
            if hop not in joined:
                target = kernel.catalog.resources[hop.target]
                name = f"{hop.label}_{len(joined)}"
                other = target.table.alias(f"of_{name}")
                gate = kernel.policy.gate(access, target, "read", other, Met.ALL)
                joined[hop] = sa.select(other).where(*gate).subquery(name)
                source = source.outerjoin(joined[hop], joined[hop].c.id == hop.reference(table))
            base = joined[hop]
        if one.custom is None:
            columns.append(base.c[one.name].label(f"u{i}"))
        else:
            key = sa.bindparam(f"custom{customs}", type_=sa.Text())
            columns.append(expression(base, one.custom.kind.name, key).label(f"u{i}"))
            customs += 1
    return source, columns
