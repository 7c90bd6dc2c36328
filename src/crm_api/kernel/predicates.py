"""A tree of filters to SQL: values are parameters, and each relation goes through the gate of what it leads to."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.kernel.customs import KINDS
from crm_api.kernel.customs_hops import Hop
from crm_api.kernel.customs_index import VALUES, column, entry, expression, options
from crm_api.kernel.database import TENANT
from crm_api.kernel.filters import Group, Leaf, Node, Through
from crm_api.kernel.policy import Access, Met, Policy
from crm_api.kernel.record import FieldValue, among, table_of
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import fold

_SQL = {"gt": sa.sql.operators.gt, "gte": sa.sql.operators.ge, "lt": sa.sql.operators.lt, "lte": sa.sql.operators.le}
OPPOSITE = {"ne": "eq", "nin": "in", "is_null": "is_not_null"}
"""What is true of a record without a value, and what it denies."""


def to_sql(
    policy: Policy, access: Access, resource: Resource, node: Node, table: Any, met: Met = Met.SET
) -> sa.ColumnElement[bool]:
    """The condition of a filter tree on rows of a resource."""
    if isinstance(node, Group):
        parts = [to_sql(policy, access, resource, each, table, met) for each in node.children]
        return sa.and_(sa.true(), *parts) if node.op == "and" else sa.or_(sa.false(), *parts)
    return _along(policy, access, resource, node, node.hops, table, met)


def _along(
    policy: Policy,
    access: Access,
    resource: Resource,
    node: Leaf | Through,
    hops: tuple[Hop, ...],
    table: Any,
    met: Met,
) -> sa.ColumnElement[bool]:
    if hops:
        hop, target = hops[0], policy.catalog.resources[hops[0].target]
        other = target.table.alias(f"{hop.label}_{len(hops)}_{node.name}")
        gate = policy.gate(access, target, "read", other, met)
        rest = _along(policy, access, target, node, hops[1:], other, met)
        # What is read out of jsonb is no condition on an index unless it is a value of the row that is looked at.
        alone = met is Met.WALK or hop.form is not None
        return _exists(table, other, other.c.id == hop.reference(table), *gate, rest, alone=alone)
    if isinstance(node, Leaf):
        return leaf_to_sql(resource, node, table) if node.form is None else _custom(node, table, met)
    many = resource.many[node.relation]
    child = policy.catalog.resources[many.plural]
    other = child.table.alias(f"{node.relation}_{node.name}")
    gate = policy.gate(access, child, "read", other, met)
    passes = to_sql(policy, access, child, node.child, other, met)
    if node.op == "all":
        passes = passes.is_not(sa.true())
    found = _exists(table, other, other.c[many.column] == table.c.id, *gate, passes, alone=met is Met.WALK)
    return found if node.op == "any" else ~found


def _exists(table: Any, other: Any, *conditions: Any, alone: bool) -> sa.ColumnElement[bool]:
    rows: sa.Select[Any] = sa.select(sa.literal_column("1")).select_from(other).where(*conditions)
    return sa.exists((rows.offset(sa.literal_column("0")) if alone else rows).correlate(table))


def leaf_to_sql(resource: Resource, leaf: Leaf, table: Any) -> sa.ColumnElement[bool]:
    """The condition of a comparison with a declared field."""
    if leaf.op in ("any", "all"):
        return _listed(leaf, table, sa.literal(f"{resource.plural}.{leaf.field}", sa.Text()))
    key = resource.keys.get(leaf.field)
    return compared(leaf, table.c[leaf.field], folded=None if key is None else table.c[key.key])


def compared(leaf: Leaf, column: Any, *, folded: Any = None) -> sa.ColumnElement[bool]:
    """The condition of a comparison with an expression; `folded` is its folded form where there is one."""
    if leaf.op == "is_null":
        return sa.cast(column.is_(None), sa.Boolean)
    if leaf.op == "is_not_null":
        return sa.cast(column.is_not(None), sa.Boolean)
    if leaf.op in ("in", "nin"):
        values = sa.bindparam(leaf.name, type_=ARRAY(column.type))
        return column == sa.any_(values) if leaf.op == "in" else sa.or_(column != sa.all_(values), column.is_(None))
    if leaf.op in ("contains", "starts_with"):
        pattern = sa.bindparam(leaf.name, type_=_Pattern(leaf.op, folded=folded is not None))
        return sa.cast(folded.like(pattern) if folded is not None else column.ilike(pattern), sa.Boolean)
    value = sa.bindparam(leaf.name, type_=column.type)
    if leaf.op == "eq":
        return sa.cast(column == value, sa.Boolean)
    if leaf.op == "ne":
        return sa.or_(column != value, column.is_(None))
    comparison: sa.ColumnElement[bool] = _SQL[leaf.op](column, value)
    return comparison


def _custom(leaf: Leaf, table: Any, met: Met) -> sa.ColumnElement[bool]:
    """The condition of a comparison with a custom field: asked of the row where it is at hand, else of the index."""
    kind, indexed = leaf.form or ("", False)
    of, key = sa.bindparam(f"{leaf.name}_of", type_=sa.Text()), sa.bindparam(f"{leaf.name}_key", type_=sa.Text())
    if KINDS[kind].filter == "values":
        if indexed:
            return _listed(leaf, table, of)
        values = sa.bindparam(leaf.name, type_=ARRAY(sa.Text()))
        have = options(table, key)
        return sa.cast(have.has_any(values) if leaf.op == "any" else have.has_all(values), sa.Boolean)
    if met is not Met.SET or not indexed:
        asked = compared(leaf, expression(table, kind, key))
        # CASE: the planner takes what is read out of jsonb for rare, and would read all rows rather than walk.
        return sa.case((asked, sa.true()), else_=sa.false()) if met is Met.WALK else asked
    alias = VALUES.alias(f"custom_{leaf.name}")
    opposite = OPPOSITE.get(leaf.op)
    same = Leaf((), leaf.field, opposite or leaf.op, leaf.name)
    value = column(kind, KINDS[kind].column, alias)
    found = _exists(table, alias, *entry(table.c.id, of.key, alias), compared(same, value), alone=False)
    return found if opposite is None else ~found


def _listed(leaf: Leaf, table: Any, of: Any) -> sa.ColumnElement[bool]:
    """Whether a multi-valued field, named as the index of values names it, has any or all of the values."""
    rows = table_of(FieldValue).alias(f"values_{leaf.name}")
    values = sa.bindparam(leaf.name, type_=ARRAY(sa.Text()))
    found = sa.select(rows.c.object_id).where(
        rows.c.tenant_id == TENANT,
        rows.c.field == of,
        rows.c.value == sa.any_(values),
    )
    if leaf.op == "all":
        found = found.group_by(rows.c.object_id).having(sa.func.count() == sa.func.cardinality(values))
    return among(table.c.id, sa.func.array(found.scalar_subquery()))


class _Pattern(sa.types.TypeDecorator[str]):
    """Text to a LIKE pattern, with what is special in patterns escaped."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, op: str, *, folded: bool) -> None:
        super().__init__()
        self.op = op
        self.folded = folded

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str:  # noqa: ARG002 - SQLAlchemy's signature
        return like(fold(value) if self.folded else value, prefix=self.op == "starts_with")


def like(text: str, *, prefix: bool = False) -> str:
    """A LIKE pattern that finds the text literally."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{escaped}%" if prefix else f"%{escaped}%"
