"""Filters in both forms, flat parameters and JSON tree, to one tree of typed leaves; and that tree to SQL."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cache
from typing import Any, Literal, get_args

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.kernel.database import TENANT
from crm_api.kernel.domain import Catalog
from crm_api.kernel.policy import Access, Policy
from crm_api.kernel.problems import Problem, forbidden, invalid, invalid_parameter
from crm_api.kernel.record import FieldValue, among, table_of
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import UUID_PATTERN, external_key, fold

MAX_LEAVES = 50
MAX_DEPTH = 5
MAX_IN = 500
_COMPARE = ("gt", "gte", "lt", "lte")
OPERATORS: dict[str, tuple[str, ...]] = {
    "id": ("eq", "ne", "in", "nin", "is_null"),
    "text": ("eq", "ne", "in", "nin", "contains", "starts_with", "is_null", *_COMPARE),
    "boolean": ("eq", "ne", "is_null"),
    "integer": ("eq", "ne", "in", "nin", "is_null", *_COMPARE),
    "money": ("eq", "ne", "in", "nin", "is_null", *_COMPARE),
    "ratio": ("eq", "ne", "in", "nin", "is_null", *_COMPARE),
    "date": ("eq", "ne", "in", "nin", "is_null", *_COMPARE),
    "instant": ("eq", "ne", "in", "nin", "is_null", *_COMPARE),
    "values": ("any", "all"),
}
_UUID = re.compile(UUID_PATTERN)
_DECIMAL = re.compile(r"^-?[0-9]{1,12}(\.[0-9]{1,6})?$")
_SQL = {"gt": sa.sql.operators.gt, "gte": sa.sql.operators.ge, "lt": sa.sql.operators.lt, "lte": sa.sql.operators.le}


@dataclass(frozen=True, slots=True)
class Leaf:
    """One comparison: `hop` is the to-one reference it goes through, `name` the parameter that holds its value."""

    hop: str | None
    field: str
    op: str
    name: str

    @property
    def shape(self) -> tuple[Any, ...]:
        """What the SQL depends on."""
        return (self.hop, self.field, self.op)


@dataclass(frozen=True, slots=True)
class Group:
    """`and` or `or` of its children."""

    op: str
    children: tuple["Leaf | Group", ...] = ()

    @property
    def shape(self) -> tuple[Any, ...]:
        """What the SQL depends on."""
        return (self.op, *(child.shape for child in self.children))


@dataclass(slots=True)
class Filters:
    """Collects leaves and their values while a request is read."""

    catalog: Catalog
    resource: Resource
    access: Access
    values: dict[str, Any] = field(default_factory=dict)
    external: dict[str, Resource] = field(default_factory=dict)
    """Parameters with external ids among their values, and what is meant by them."""
    untyped: dict[str, "Place"] = field(default_factory=dict)
    """Those of a column that names a record of any kind, while no type is known to stand beside it."""

    def leaf(self, path: str, op: str, raw: Any, place: "Place") -> Leaf:
        """Checks and types one comparison.

        Raises:
            Problem: 422 for an unknown field, operator or value; 403 for a field the caller may not see.
        """
        resource, hop, name = self.resource, None, path
        if "." in path:
            hop, name = path.split(".", 1)
            found = self.catalog.to_one(self.resource).get(hop)
            if found is None:
                raise place.fault("unknown_field", f"There is no relation {hop!r} to filter through.")
            column, resource = found
            self._visible(self.resource, column)
            self.access.through(resource)
        kind = resource.filterable.get(name)
        if kind is None:
            raise place.fault("unknown_field", f"{name!r} is not a filter of {resource.plural}.")
        self._visible(resource, name)
        if op not in OPERATORS[kind]:
            raise place.fault(
                "unknown_operator", f"{op!r} does not apply to {name!r}; one of {', '.join(OPERATORS[kind])}."
            )
        parameter = f"f{len(self.values)}"
        target = self.catalog.meant(resource, name) if kind == "id" else None
        any_ = name == (resource.any_reference or ("", ""))[1]
        self.values[parameter] = value = _typed(
            kind if target is None and not any_ else "reference", op, raw, place, choices(resource).get(name)
        )
        if (target or any_) and any(map(external_key, value if isinstance(value, list) else [value])):
            if target is None:
                self.untyped[parameter] = place
            else:
                self.external[parameter] = target
        if len(self.values) > MAX_LEAVES:
            raise place.fault("too_many", f"A filter has at most {MAX_LEAVES} comparisons.")
        if op == "is_null":
            op = "is_null" if self.values.pop(parameter) else "is_not_null"
            self.values[parameter] = None
        return Leaf(hop, name, op, parameter)

    def _visible(self, resource: Resource, name: str) -> None:
        if name in self.access.hides(resource.plural):
            raise forbidden(f"field {resource.plural}.{name}")

    def every(self, leaves: Sequence["Leaf | Group"]) -> Group:
        """`and`: an external id of a record of any kind is of the one type that is asked beside it by `eq`."""
        told = [item for item in leaves if isinstance(item, Leaf)]
        for leaf in told if self.untyped else ():
            if leaf.name in self.untyped:
                type_, _ = self._end(leaf.hop).any_reference or ("", "")
                types = [self.values[item.name] for item in told if item.shape == (leaf.hop, type_, "eq")]
                if len(types) == 1 and types[0] in self.catalog.by_type:
                    self.external[leaf.name] = self.catalog.by_type[types[0]]
                    del self.untyped[leaf.name]
        return Group("and", tuple(leaves))

    def _end(self, hop: str | None) -> Resource:
        return self.resource if hop is None else self.catalog.to_one(self.resource)[hop][1]

    def typed(self) -> None:
        """Asked of the whole.

        Raises:
            Problem: 422 for an external id of which nothing says what kind of record it is of.
        """
        for place in self.untyped.values():
            raise place.fault(
                "ambiguous_reference",
                "With an external id, exactly one object_type of a known kind stands beside it, by eq.",
            )

    def tree(self, node: Any) -> Group | Leaf:
        """Reads the JSON form."""
        found = self._node(node, "/filter", 1)
        self.typed()
        return found

    def _node(self, node: Any, pointer: str, depth: int) -> Group | Leaf:
        place = Place(pointer=pointer)
        if depth > MAX_DEPTH:
            raise place.fault("too_deep", f"A filter nests at most {MAX_DEPTH} levels.")
        if not isinstance(node, dict):
            raise place.fault("invalid_filter", "A filter is an object: a comparison, or one of and, or.")
        if len(node) == 1 and (op := next(iter(node))) in ("and", "or"):
            children = node[op]
            if not isinstance(children, list) or not children:
                raise place.fault("invalid_filter", f"{op!r} takes a list of at least one filter.")
            found = tuple(self._node(child, f"{pointer}/{op}/{i}", depth + 1) for i, child in enumerate(children))
            return self.every(found) if op == "and" else Group(op, found)
        if not isinstance(node.get("field"), str) or set(node) - {"field", "op", "value"}:
            raise place.fault("invalid_filter", "A comparison has field, op and value and nothing else.")
        op = node.get("op", "eq")
        if not isinstance(op, str):
            raise place.fault("invalid_filter", "op is a string.")
        return self.leaf(node["field"], op, node.get("value"), place)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the request a value stands, for the problem that names it."""

    pointer: str | None = None
    parameter: str | None = None

    def fault(self, code: str, detail: str) -> Problem:
        """A 422 at this place."""
        return (
            invalid(self.pointer, code, detail)
            if self.pointer is not None
            else invalid_parameter(self.parameter or "", code, detail)
        )


@cache
def flat_parameters(resource: Resource) -> dict[str, tuple[str, str, str]]:
    """Query parameter -> (field, operator, kind); also what OpenAPI lists."""
    found: dict[str, tuple[str, str, str]] = {}
    for name, kind in resource.filterable.items():
        found[name] = (name, "any" if kind == "values" else "eq", kind)
        extra: tuple[str, ...] = _COMPARE if kind in ("integer", "money", "ratio", "date", "instant") else ()
        if kind == "text" and name not in choices(resource):
            extra = ("contains", "starts_with")
        for op in extra:
            found[f"{name}_{op}"] = (name, op, kind)
        if kind != "values" and resource.table.c[name].nullable:
            found[f"{name}_is_null"] = (name, "is_null", "boolean")
    return found


@cache
def choices(resource: Resource) -> dict[str, frozenset[str]]:
    """Fields with a closed vocabulary, from the output schema's literals."""
    found = {}
    for name, info in resource.output.model_fields.items():
        options = [info.annotation, *get_args(info.annotation)]
        for option in options:
            if getattr(option, "__origin__", None) is Literal:
                found[name] = frozenset(get_args(option))
    return found


def from_parameters(filters: Filters, pairs: Mapping[str, Sequence[str]]) -> Group:
    """Reads the flat form; a repeated parameter means any of its values."""
    known = flat_parameters(filters.resource)
    leaves = []
    for parameter, raw in pairs.items():
        name, op, kind = known[parameter]
        place = Place(parameter=parameter)
        value: Any = [_from_text(kind, text, place) for text in raw]
        if op == "eq":
            op, value = ("eq", value[0]) if len(value) == 1 else ("in", value)
        elif op != "any":
            if len(value) > 1:
                raise place.fault("repeated", "This parameter is given once.")
            value = value[0]
        leaves.append(filters.leaf(name, op, value, place))
    found = filters.every(leaves)
    filters.typed()
    return found


def _from_text(kind: str, text: str, place: Place) -> Any:
    if kind == "boolean":
        if text not in ("true", "false"):
            raise place.fault("invalid_value", "true or false.")
        return text == "true"
    if kind == "integer":
        if not re.fullmatch(r"-?[0-9]{1,19}", text):
            raise place.fault("invalid_value", "An integer.")
        return int(text)
    return text


def _typed(kind: str, op: str, raw: Any, place: Place, vocabulary: frozenset[str] | None) -> Any:
    if op == "is_null":
        if not isinstance(raw, bool):
            raise place.fault("invalid_value", "true or false.")
        return raw
    if op in ("in", "nin", "any", "all"):
        items = raw if isinstance(raw, list) else [raw]
        if not items or len(items) > MAX_IN:
            raise place.fault("invalid_value", f"A list of 1 to {MAX_IN} values.")
        return list(dict.fromkeys(_scalar(kind, item, place, vocabulary) for item in items))
    return _scalar(kind, raw, place, vocabulary)


def _scalar(kind: str, raw: Any, place: Place, vocabulary: frozenset[str] | None) -> Any:
    known = {"values": "text", "reference": "id"}.get(kind, kind)
    wrong = place.fault("invalid_value", f"This is not a value of kind {known}.")
    if kind == "boolean":
        if isinstance(raw, bool):
            return raw
        raise wrong
    if kind == "integer":
        if isinstance(raw, int) and not isinstance(raw, bool) and abs(raw) < 2**63:
            return raw
        raise wrong
    if not isinstance(raw, str) or len(raw) > 500 or "\x00" in raw:
        raise wrong
    if vocabulary is not None and raw not in vocabulary:
        raise place.fault("invalid_value", f"One of {', '.join(sorted(vocabulary))}.")
    if kind in ("id", "reference") and not _UUID.fullmatch(raw) and (kind == "id" or external_key(raw) is None):
        raise wrong
    try:
        return _PARSERS.get(kind, str)(raw)
    except ValueError:
        raise wrong from None


def _decimal(scale: int) -> Any:
    def parse(raw: str) -> int:
        if not _DECIMAL.fullmatch(raw):
            raise ValueError
        whole, _, rest = raw.lstrip("-").partition(".")
        digits = len(str(scale)) - 1
        if len(rest.rstrip("0")) > digits:
            raise ValueError
        scaled = int(whole) * scale + int(rest[:digits].ljust(digits, "0") or 0)
        return -scaled if raw.startswith("-") else scaled

    return parse


def parse_instant(raw: str) -> datetime:
    """RFC 3339 with an offset."""
    value = datetime.fromisoformat(raw)
    if value.tzinfo is None:
        raise ValueError
    return value


_PARSERS: dict[str, Any] = {
    "money": _decimal(10_000),
    "ratio": _decimal(1_000_000),
    "date": date.fromisoformat,
    "instant": parse_instant,
    "values": fold,
}


def to_sql(
    policy: Policy, access: Access, resource: Resource, node: Leaf | Group, table: Any, *, narrow: bool
) -> sa.ColumnElement[bool]:
    """The condition of a filter tree; values are parameters, and a hop goes through its target's gate."""
    if isinstance(node, Group):
        parts = [to_sql(policy, access, resource, child, table, narrow=narrow) for child in node.children]
        return sa.and_(sa.true(), *parts) if node.op == "and" else sa.or_(sa.false(), *parts)
    if node.hop is None:
        return _leaf(resource, node, table)
    column, target = policy.catalog.to_one(resource)[node.hop]
    other = target.table.alias(f"{node.hop}_{node.name}")
    gate = policy.gate(access, target, "read", other, narrow=narrow)
    inner = sa.select(sa.literal(1)).select_from(other)
    return sa.exists(inner.where(other.c.id == table.c[column], *gate, _leaf(target, node, other)).correlate(table))


def _leaf(resource: Resource, leaf: Leaf, table: Any) -> sa.ColumnElement[bool]:
    if leaf.op in ("any", "all"):
        return _indexed(resource, leaf, table)
    column = table.c[leaf.field]
    if leaf.op == "is_null":
        return sa.cast(column.is_(None), sa.Boolean)
    if leaf.op == "is_not_null":
        return sa.cast(column.is_not(None), sa.Boolean)
    if leaf.op in ("in", "nin"):
        values = sa.bindparam(leaf.name, type_=ARRAY(column.type))
        return column == sa.any_(values) if leaf.op == "in" else sa.or_(column != sa.all_(values), column.is_(None))
    if leaf.op in ("contains", "starts_with"):
        key = resource.keys.get(leaf.field)
        pattern = sa.bindparam(leaf.name, type_=_Pattern(leaf.op, folded=key is not None))
        return sa.cast(table.c[key.key].like(pattern) if key is not None else column.ilike(pattern), sa.Boolean)
    value = sa.bindparam(leaf.name, type_=column.type)
    if leaf.op == "eq":
        return sa.cast(column == value, sa.Boolean)
    if leaf.op == "ne":
        return sa.or_(column != value, column.is_(None))
    comparison: sa.ColumnElement[bool] = _SQL[leaf.op](column, value)
    return comparison


def _indexed(resource: Resource, leaf: Leaf, table: Any) -> sa.ColumnElement[bool]:
    rows = table_of(FieldValue).alias(f"values_{leaf.name}")
    values = sa.bindparam(leaf.name, type_=ARRAY(sa.Text()))
    found = sa.select(rows.c.object_id).where(
        rows.c.tenant_id == TENANT,
        rows.c.field == sa.literal(f"{resource.plural}.{leaf.field}", sa.Text()),
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
