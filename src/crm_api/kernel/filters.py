"""Filters in both forms, flat parameters and JSON tree, to one tree of typed leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args

from crm_api.kernel.customs import LONGEST_NAME, PREFIX, Custom, fields_of
from crm_api.kernel.customs_expand import step_names
from crm_api.kernel.customs_filters import custom_parameters
from crm_api.kernel.customs_hops import Hop, end_of, hop_of
from crm_api.kernel.customs_index import Form
from crm_api.kernel.domain import Catalog
from crm_api.kernel.filter_values import OPERATORS, Place, from_text, parameters_of, typed_value
from crm_api.kernel.policy import Access
from crm_api.kernel.problems import forbidden
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import external_key

MAX_LEAVES = 50
MAX_DEPTH = 5
MAX_HOPS = 2
LONGEST_PATH = (MAX_HOPS + 1) * (LONGEST_NAME + 1) - 1
MAX_STEPS = 20
QUANTIFIERS = ("any", "all", "none")
"""Of a record's children, with a filter of theirs as the value."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One comparison at the end of to-one references; `name` is the parameter that holds its value.

    `form` is what the SQL of a custom field depends on; the parameters `{name}_of` and `{name}_key` then say which
    field it is, as the index and as rows call it.
    """

    hops: tuple[Hop, ...]
    field: str
    op: str
    name: str
    form: Form | None = None

    @property
    def shape(self) -> tuple[Any, ...]:
        """What the SQL depends on."""
        return (_shapes(self.hops), self.form or self.field, self.op)


@dataclass(frozen=True, slots=True)
class Through:
    """Whether any, all or none of a record's children that the caller may see pass a filter of their own."""

    hops: tuple[Hop, ...]
    relation: str
    op: str
    name: str
    child: "Node"

    @property
    def shape(self) -> tuple[Any, ...]:
        """What the SQL depends on."""
        return (_shapes(self.hops), self.relation, self.op, self.child.shape)


@dataclass(frozen=True, slots=True)
class Group:
    """`and` or `or` of its children."""

    op: str
    children: tuple["Node", ...] = ()

    @property
    def shape(self) -> tuple[Any, ...]:
        """What the SQL depends on."""
        return (self.op, *(child.shape for child in self.children))


Node = Leaf | Through | Group


def _shapes(hops: tuple[Hop, ...]) -> tuple[Any, ...]:
    return tuple(hop.shape for hop in hops)


@dataclass(frozen=True, slots=True)
class Field:
    """A field at the end of a path: the references to follow, the resource they lead to, its field and kind."""

    hops: tuple[Hop, ...]
    resource: Resource
    name: str
    kind: str
    custom: Custom | None

    @property
    def shape(self) -> tuple[Any, ...]:
        """What the SQL depends on."""
        return (_shapes(self.hops), self.name if self.custom is None else (self.custom.kind.name,))


@dataclass(slots=True)
class Filters:
    """Collects leaves and their values while a request is read; without `indexed`, values are those in the rows."""

    catalog: Catalog
    resource: Resource
    access: Access
    indexed: bool = True
    values: dict[str, Any] = field(default_factory=dict)
    external: dict[str, Resource] = field(default_factory=dict)
    """Parameters with external ids among their values, and what is meant by them."""
    untyped: dict[str, Place] = field(default_factory=dict)
    """Those of a column that names a record of any kind, while no type is known to stand beside it."""
    leaves: int = 0
    steps: int = 0
    mark: str = "h"
    """Begins the parameters of references; those of another part of the same statement begin otherwise."""

    def leaf(self, path: str, op: str, raw: Any, place: Place, of: Resource | None = None) -> Leaf:
        """Checks and types one comparison of records of a resource, the filtered one unless told.

        Raises:
            Problem: 422 for an unknown field, operator or value; 403 for a field the caller may not see.
        """
        found = self.field(path, place, of)
        resource, name, kind, custom = found.resource, found.name, found.kind, found.custom
        if op not in OPERATORS[kind]:
            raise place.fault(
                "unknown_operator", f"{op!r} does not apply to {name!r}; one of {', '.join(OPERATORS[kind])}."
            )
        self.leaves += 1
        parameter = f"f{self.leaves}"
        target = self.catalog.meant(resource, name) if kind == "id" and custom is None else None
        if custom is not None and custom.target is not None:
            target = self.catalog.resources[custom.target]
        any_ = name == (resource.any_reference or ("", ""))[1]
        vocabulary = choices(resource).get(name) if custom is None else custom.known
        known = kind if target is None and not any_ else "reference"
        if custom is not None and kind == "values":
            known = "text"  # its values are words of a vocabulary, and kept as they are
        self.values[parameter] = value = typed_value(known, op, raw, place, vocabulary)
        if (target or any_) and any(map(external_key, value if isinstance(value, list) else [value])):
            if target is None:
                self.untyped[parameter] = place
            else:
                self.external[parameter] = target
        if self.leaves > MAX_LEAVES:
            raise place.fault("too_many", f"A filter has at most {MAX_LEAVES} comparisons.")
        if op == "is_null":
            op = "is_null" if self.values.pop(parameter) else "is_not_null"
            self.values[parameter] = None
        if custom is None:
            return Leaf(found.hops, name, op, parameter)
        indexed = self.indexed and custom.indexed
        self.values |= {f"{parameter}_of": custom.place, f"{parameter}_key": custom.key}
        return Leaf(found.hops, name, op, parameter, (custom.kind.name, indexed))

    def field(self, path: str, place: Place, of: Resource | None = None) -> "Field":
        """The field at the end of a path, which the caller may see.

        Raises:
            Problem: 422 for one that cannot be filtered by, 403 for one that is hidden.
        """
        hops, resource, name = self._way(of or self.resource, path, place)
        custom = fields_of(self.access, resource).get(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
        kind = resource.filterable.get(name) if custom is None else custom.kind.filter if custom.filterable else None
        if kind is None:
            raise place.fault("unknown_field", f"{name!r} is not a filter of {resource.plural}.")
        self._visible(resource, name)
        return Field(hops, resource, name, kind, custom)

    def _way(self, resource: Resource, path: str, place: Place) -> tuple[tuple[Hop, ...], Resource, str]:
        """(references to follow, the resource they lead to, its field) of a dotted path."""
        hops: list[Hop] = []
        *asked, last = step_names(path)
        for step in asked:
            hop, values = hop_of(self.catalog, self.access, resource, step, f"{self.mark}{self.steps}", place)
            if len(hops) == MAX_HOPS:
                raise place.fault("too_deep", f"A path follows at most {MAX_HOPS} relations.")
            self._visible(resource, hop.field)
            resource = self.catalog.resources[hop.target]
            self.access.through(resource)
            self._step(place)
            self.values |= values
            hops.append(hop)
        return tuple(hops), resource, last

    def _step(self, place: Place, cost: int = 1) -> None:
        self.steps += cost
        if self.steps > MAX_STEPS:
            raise place.fault("too_complex", f"A filter follows at most {MAX_STEPS} relations; a list counts twice.")

    def _visible(self, resource: Resource, name: str) -> None:
        if name in self.access.hides(resource.plural):
            raise forbidden(f"field {resource.plural}.{name}")

    def every(self, leaves: Sequence[Node], of: Resource | None = None) -> Group:
        """`and`: an external id of a record of any kind is of the one type that is asked beside it by `eq`."""
        told = [item for item in leaves if isinstance(item, Leaf)]
        for leaf in told if self.untyped else ():
            if leaf.name in self.untyped:
                type_, _ = end_of(self.catalog, of or self.resource, leaf.hops).any_reference or ("", "")
                beside = (leaf.hops, type_, "eq")
                types = [self.values[item.name] for item in told if (item.hops, item.field, item.op) == beside]
                if len(types) == 1 and types[0] in self.catalog.by_type:
                    self.external[leaf.name] = self.catalog.by_type[types[0]]
                    del self.untyped[leaf.name]
        return Group("and", tuple(leaves))

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

    def tree(self, node: Any) -> Node:
        """Reads the JSON form."""
        found = self._node(node, self.resource, "/filter", 1)
        self.typed()
        return found

    def _node(self, node: Any, resource: Resource, pointer: str, depth: int) -> Node:
        place = Place(pointer=pointer)
        if depth > MAX_DEPTH:
            raise place.fault("too_deep", f"A filter nests at most {MAX_DEPTH} levels.")
        if not isinstance(node, dict):
            raise place.fault("invalid_filter", "A filter is an object: a comparison, or one of and, or.")
        if len(node) == 1 and (op := next(iter(node))) in ("and", "or"):
            children = node[op]
            if not isinstance(children, list) or not children:
                raise place.fault("invalid_filter", f"{op!r} takes a list of at least one filter.")
            parts = [(child, f"{pointer}/{op}/{i}") for i, child in enumerate(children)]
            found = tuple(self._node(child, resource, where, depth + 1) for child, where in parts)
            return self.every(found, resource) if op == "and" else Group(op, found)
        if not isinstance(node.get("field"), str) or set(node) - {"field", "op", "value"}:
            raise place.fault("invalid_filter", "A comparison has field, op and value and nothing else.")
        op = node.get("op", "eq")
        if not isinstance(op, str):
            raise place.fault("invalid_filter", "op is a string.")
        if isinstance(node.get("value"), dict) and op in QUANTIFIERS:
            return self._children(node, resource, pointer, depth)
        return self.leaf(node["field"], op, node.get("value"), place, resource)

    def _children(self, node: Mapping[str, Any], resource: Resource, pointer: str, depth: int) -> Through:
        place = Place(pointer=pointer)
        hops, holder, relation = self._way(resource, node["field"], place)
        many = holder.many.get(relation)
        if many is None:
            raise place.fault("unknown_field", f"{holder.plural} have no list {relation!r} to filter through.")
        child = self.catalog.resources[many.plural]
        self.access.through(child)
        self._visible(child, many.column)
        self._step(place, 2)
        name = f"r{self.steps}"
        return Through(
            hops, relation, node["op"], name, self._node(node["value"], child, f"{pointer}/value", depth + 1)
        )


@cache
def flat_parameters(resource: Resource) -> dict[str, tuple[str, str, str]]:
    """Query parameter -> (field, operator, kind); also what OpenAPI lists."""
    found: dict[str, tuple[str, str, str]] = {}
    for name, kind in resource.filterable.items():
        nullable = kind != "values" and bool(resource.table.c[name].nullable)
        found |= parameters_of(name, kind, chosen=name in choices(resource), nullable=nullable)
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
    if any(parameter.startswith(PREFIX) for parameter in pairs):
        known = {**known, **custom_parameters(filters.access, filters.resource)}
    leaves = []
    for parameter, raw in pairs.items():
        name, op, kind = known[parameter]
        place = Place(parameter=parameter)
        value: Any = [from_text(kind, text, place) for text in raw]
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
