"""A custom field of each kind on one resource, of which the laws of declared fields are asked, too."""

from collections.abc import Iterable, Mapping
from typing import Any

from crm_api.catalog import CATALOG
from crm_api.kernel.customs import CUSTOM, KINDS, PREFIX, Custom, custom_of
from crm_api.kernel.customs_filters import custom_flat
from crm_api.kernel.filters import choices, flat_parameters
from crm_api.kernel.resource import Resource, kind
from crm_api.kernel.schema import fold
from tests.customs.kinds import EXAMPLES

CUSTOMIZED = CATALOG.resources["accounts"]
"""Whose records have them, in tenants in which they are declared."""
VALUES: Mapping[str, tuple[Any, ...]] = {
    **{f"my_{example.kind}": example.values for example in EXAMPLES if example.values},
    "my_text": ("Ñandú & Söhne", "100%_sure\\", "zebra", "Über Größe", "alpha beta"),
    "my_long_text": ("One line", "Several\nlines", "zebra"),
    "my_open_choice": ("gold", "lead", "Zinc"),
}
"""Values by key, as they are sent back; those of references are records of the tenant."""
_BODIES = [
    *((f"my_{example.kind}", example.kind, example.definition) for example in EXAMPLES),
    ("my_open_choice", "choice", {"choices": [{"value": "gold"}], "is_open": True}),
]
DEFINITIONS: Mapping[str, dict[str, Any]] = {
    key: {"key": key, "kind": kind, "label": key, "is_searchable": KINDS[kind].searched, **definition}
    for key, kind, definition in _BODIES
}
_PLAIN: Mapping[str, Any] = {
    "id": "",
    "is_required": False,
    "is_unique": False,
    "is_filterable": True,
    "index_state": "ready",
    "default_value": None,
    "choices": [],
    "is_open": False,
    "target": None,
    "state": "active",
}


def _known(body: Mapping[str, Any]) -> Custom:
    words = [{"is_retired": False, **choice} for choice in body.get("choices", ())]
    return custom_of({**_PLAIN, **body, "choices": words})


CUSTOMS: Mapping[str, Custom] = {PREFIX + key: _known(body) for key, body in DEFINITIONS.items()}


def declare(person: Any) -> None:
    """Declares them in the tenant of a person who may."""
    for body in DEFINITIONS.values():
        person.make("custom_fields", resource=CUSTOMIZED.plural, **body)


def customs(resource: Resource) -> Mapping[str, Custom]:
    """The custom fields of a resource, by name."""
    return CUSTOMS if resource is CUSTOMIZED else {}


def value_of(item: Mapping[str, Any], name: str) -> Any:
    """The value of a field in a record, or in one side of an audit entry; None where there is none."""
    return (item.get(CUSTOM) or {}).get(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else item.get(name)


def setting(name: str, value: Any) -> dict[str, Any]:
    """A body that sets a field."""
    return {CUSTOM: {name.removeprefix(PREFIX): value}} if name.startswith(PREFIX) else {name: value}


def named(body: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a body or record by field, each custom one by its own name."""
    own = {PREFIX + key: value for key, value in (body.get(CUSTOM) or {}).items()}
    return {name: value for name, value in body.items() if name != CUSTOM} | own


def filterable(resource: Resource) -> dict[str, str]:
    """Fields that filters take -> kind of value."""
    own = {name: field.kind.filter for name, field in customs(resource).items()}
    return {**resource.filterable, **{name: filter_ for name, filter_ in own.items() if filter_ is not None}}


def flat(resource: Resource) -> dict[str, tuple[str, str, str]]:
    """Query parameters that filter -> (field, operator, kind)."""
    return {**flat_parameters(resource), **custom_flat({item.key: item for item in customs(resource).values()})}


def sortable(resource: Resource) -> dict[str, tuple[str, bool]]:
    """Sort keys -> (kind of value, whether there may be none)."""
    found = {name: (kind(column), bool(column.nullable)) for name, column in resource.sortable.items()}
    return {
        **found,
        **{name: (str(item.kind.filter), True) for name, item in customs(resource).items() if item.sortable},
    }


def vocabularies(resource: Resource) -> dict[str, frozenset[str]]:
    """Fields that take words of a closed vocabulary."""
    own = {name: item.known for name, item in customs(resource).items()}
    return {**choices(resource), **{name: words for name, words in own.items() if words is not None}}


def references(resource: Resource) -> dict[str, tuple[str, Resource]]:
    """What a path follows -> (the field that has it, what it leads to)."""
    own = {name: (name, item.target) for name, item in customs(resource).items() if item.target is not None}
    return {**CATALOG.to_one(resource), **{name: (field, CATALOG.resources[to]) for name, (field, to) in own.items()}}


def listed(resource: Resource, name: str, row: Mapping[str, Any]) -> set[str]:
    """What filters find a multi-valued field of a row by."""
    values: Iterable[str] = value_of(row, name) or []
    return {fold(value) for value in (values if name.startswith(PREFIX) else resource.values[name](values))}
