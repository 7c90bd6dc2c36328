"""Definitions of custom fields: in the next request they are in writes, filters, sorts, events and the contract."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, WithJsonSchema

from crm_api.domains.customs.build_index import IndexRequest, begin, duplicates
from crm_api.domains.identity.delegation import parsed
from crm_api.kernel.context import Context
from crm_api.kernel.customs import (
    KINDS,
    MOST_CHOICES,
    MOST_FIELDS,
    Custom,
    CustomKind,
    custom_of,
    customizable,
    fields_of,
    pointer,
    read_values,
)
from crm_api.kernel.customs_records import CustomField
from crm_api.kernel.filter_values import parameters_of
from crm_api.kernel.joints import Build
from crm_api.kernel.lifecycle import Lifecycle, edge
from crm_api.kernel.locking import one_at_a_time
from crm_api.kernel.problems import DUPLICATE, LIMIT_REACHED, Fault, Problem, invalid
from crm_api.kernel.resource import Check, Resource
from crm_api.kernel.schema import Code, Count, Currency, Id, Input, Language, Name, Output, Paragraph, Tag, Wire

LIFECYCLE = Lifecycle(
    "state",
    "active",
    (
        edge("retire", ("active",), "retired", event="retired"),
        edge("reinstate", ("retired",), "active", event="reinstated"),
    ),
)
Kind = Literal[
    "text",
    "long_text",
    "number",
    "decimal",
    "money",
    "date",
    "instant",
    "boolean",
    "choice",
    "multi_choice",
    "reference",
    "url",
    "email",
    "phone",
]
Labels = Annotated[
    dict[Language, Name], Field(max_length=50, description="The label in other languages.", examples=[{"es": "Nivel"}])
]


class Choice(Wire):
    """One of the words that may be chosen; a retired one stays where it is, and is not chosen anew."""

    value: Tag
    label: Name | None = None
    labels: Labels = {}
    is_retired: bool = False


Choices = Annotated[list[Choice], Field(max_length=MOST_CHOICES)]
_SCALAR = {"type": ["string", "integer", "boolean"], "maxLength": 10_000}
Default = Annotated[
    Any | None,
    Field(description="What a new record gets when its body leaves the field out."),
    WithJsonSchema(
        {
            "type": ["string", "integer", "boolean", "array", "null"],
            "maxLength": 10_000,
            "items": _SCALAR,
            "maxItems": 50,
        }
    ),
]
_TEXTS = {
    "key": "Its name in `custom`. Never changes.",
    "is_required": "New records must bring it, and none may clear it; records from before stay as they are.",
    "is_unique": "No two live records have the same value. It must be filterable.",
    "is_filterable": "It may be filtered, sorted and grouped by, as far as its kind can be.",
    "is_searchable": "Text search, `q`, looks into it: fields of text, web, e-mail addresses and phone numbers.",
    "is_open": "Other words than the choices are taken, too.",
    "target": "The resource that a reference leads to.",
    "currency": "Of an amount; that of the record, unless told.",
    "index_state": "Whether filters by it are fast already; it can be sorted by when it is `ready`.",
}


class CustomFieldCreate(Input):
    """A field that is added to a resource."""

    id: Id | None = None
    resource: Annotated[Code, Field(examples=["accounts"])]
    key: Annotated[Code, Field(description=_TEXTS["key"])]
    kind: Kind
    label: Name
    labels: Labels = {}
    help: Paragraph | None = None
    position: Count = 0
    is_required: Annotated[bool, Field(description=_TEXTS["is_required"])] = False
    is_unique: Annotated[bool, Field(description=_TEXTS["is_unique"])] = False
    is_filterable: Annotated[bool, Field(description=_TEXTS["is_filterable"])] = True
    is_searchable: Annotated[bool, Field(description=_TEXTS["is_searchable"])] = False
    default_value: Default = None
    choices: Choices = []
    is_open: Annotated[bool, Field(description=_TEXTS["is_open"])] = False
    target: Annotated[Code | None, Field(description=_TEXTS["target"])] = None
    currency: Annotated[Currency | None, Field(description=_TEXTS["currency"])] = None


class CustomFieldView(Output):
    """A field that was added to a resource."""

    object: Literal["custom_field"]
    resource: Code
    key: Annotated[Code, Field(description=_TEXTS["key"])]
    kind: Kind
    label: Name
    labels: Labels
    help: Paragraph | None
    position: Count
    is_required: Annotated[bool, Field(description=_TEXTS["is_required"])]
    is_unique: Annotated[bool, Field(description=_TEXTS["is_unique"])]
    is_filterable: Annotated[bool, Field(description=_TEXTS["is_filterable"])]
    is_searchable: Annotated[bool, Field(description=_TEXTS["is_searchable"])]
    default_value: Default
    choices: Choices
    is_open: Annotated[bool, Field(description=_TEXTS["is_open"])]
    target: Annotated[Code | None, Field(description=_TEXTS["target"])]
    currency: Annotated[Currency | None, Field(description=_TEXTS["currency"])]
    state: Literal["active", "retired"]
    index_state: Annotated[Literal["none", "building", "ready"], Field(description=_TEXTS["index_state"])]


async def _placed(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """422 for a resource that takes none, or a name that another field has or is read by; 409 for one too many."""
    del resource, before
    target = ctx.kernel.catalog.resources.get(values["resource"])
    if target is None or not customizable(target):
        raise invalid("/resource", "unknown_resource", "There is no such resource, or it takes no custom fields.")
    if values["key"] in target.output.model_fields or values["key"] in target.table.c:
        raise invalid("/key", "name_taken", f"{target.plural} have a field of this name.")
    await one_at_a_time(ctx, f"custom_fields.{target.plural}")
    known = fields_of(ctx.access, target)
    if len(known) >= MOST_FIELDS:
        raise Problem(LIMIT_REACHED, f"A resource has at most {MOST_FIELDS} custom fields, retired ones included.")
    own = _parameters(values["key"], KINDS[values["kind"]])
    for key, custom in known.items():
        if key != values["key"] and (key in own or values["key"] in _parameters(key, custom.kind)):
            detail = f"A query parameter of {values['key']!r} would be one of {key!r}, too."
            raise invalid("/key", "name_taken", detail)


def _parameters(key: str, kind: CustomKind) -> Collection[str]:
    """What may stand in a query by a field, now or when it is defined otherwise."""
    return parameters_of(key, kind.filter, chosen=False, nullable=True) if kind.filter is not None else (key,)


async def _whole(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """What follows from the whole definition; 422 for what its kind does not have."""
    del resource
    row = {**_plain(before), **values} if before is not None else dict(values)
    kind = KINDS[row["kind"]]
    chosen = kind.name in ("choice", "multi_choice")
    refused = (
        (bool(row["choices"]) and not chosen, "choices"),
        (row["is_open"] and not chosen, "is_open"),
        ((row["target"] is None) == (kind.name == "reference"), "target"),
        (row["currency"] is not None and kind.name != "money", "currency"),
        (row["is_searchable"] and not kind.searched, "is_searchable"),
        (row["is_unique"] and not (kind.unique and row["is_filterable"]), "is_unique"),
    )
    for wrong, name in refused:
        if wrong:
            raise invalid(f"/{name}", "wrong_for_kind", f"This does not fit a field of kind {kind.name}.")
    if chosen:
        _check_choices(row, before)
    if row["target"] is not None and row["target"] not in ctx.kernel.catalog.resources:
        raise invalid("/target", "unknown_resource", "There is no such resource.")
    found: dict[str, Any] = {}
    if kind.filter is None:
        row["is_filterable"] = found["is_filterable"] = False
    if row["default_value"] is not None:
        found["default_value"] = _default(custom_of({**_BLANK, **row}))
    if before is None:
        return {**found, "index_state": "ready" if row["is_filterable"] and kind.filter else "none", "index_build": 0}
    if row["is_filterable"] != before["is_filterable"]:
        state = "building" if row["is_filterable"] and kind.filter else "none"
        found["index_state"] = state
    if any(row[name] != before[name] for name in ("is_filterable", "is_searchable")):
        found["index_build"] = before["index_build"] + 1
    return found


_BLANK = {"id": "", "index_state": "none", "state": "active"}


def _plain(row: Mapping[str, Any] | None) -> dict[str, Any]:
    """A row with its lists and objects read."""
    found = dict(row or {})
    for name in ("choices", "default_value", "labels"):
        if isinstance(found.get(name), str):
            found[name] = orjson.loads(found[name])
    return found


def _check_choices(row: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    given = [choice["value"] for choice in row["choices"]]
    for i, value in enumerate(given):
        if value in given[:i]:
            raise invalid(f"/choices/{i}/value", "repeated", "A choice stands there once.")
    if not given and not row["is_open"]:
        raise invalid("/choices", "required", "A field of this kind has at least one choice, or is open.")
    gone = [choice["value"] for choice in parsed((before or {}).get("choices")) if choice["value"] not in given]
    if gone:
        raise invalid("/choices", "choice_removed", "A choice is not taken away, since records may have it: retire it.")


def _default(custom: Custom) -> Any:
    if custom.target is not None:
        raise invalid("/default_value", "wrong_for_kind", "A reference has no default.")
    try:
        return read_values({custom.key: custom}, {custom.key: custom.default}, new=False, complete=False)[custom.key]
    except Problem as problem:
        own = pointer(custom.key)
        faults = [
            Fault(fault.code, fault.detail, pointer=f"/default_value{(fault.pointer or own).removeprefix(own)}")
            for fault in problem.errors
        ]
        raise Problem(problem.kind, "The default is not a value of the field.", faults) from None


async def _unique(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """409 that lists the records, for a field that is to be unique and is not."""
    del resource
    if before is None or not values.get("is_unique") or before["is_unique"]:
        return
    if before["index_state"] != "ready":
        raise invalid("/is_unique", "index_building", "Make it filterable first, and wait until the index is ready.")
    records = ctx.kernel.catalog.resources[before["resource"]]
    if found := await duplicates(ctx, records, before["id"]):
        faults = [
            Fault("duplicate", f"{value!r}: {', '.join(map(str, ids))}", pointer="/is_unique") for value, ids in found
        ]
        raise Problem(DUPLICATE, "Several records have the same value; each value is told with some of them.", faults)


async def _reindexed(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """Starts what puts the values of records that are there into the index."""
    del resource
    if before is None:
        return
    whole = {**before, **values}
    text = whole["index_build"] != before["index_build"] and (whole["is_searchable"] or before["is_searchable"])
    if values.get("index_state") == "building" or text or (values.get("is_unique") and not before["is_unique"]):
        build = values.get("index_build", before["index_build"])
        await begin(ctx, IndexRequest(custom_field_id=str(before["id"]), build=build))


_DEFINING = frozenset(CustomFieldCreate.model_fields) - {"id", "label", "labels", "help", "position"}
CUSTOM_FIELDS = Resource(
    singular="custom_field",
    plural="custom_fields",
    model=CustomField,
    output=CustomFieldView,
    create=CustomFieldCreate,
    title="label",
    filters=(CustomField.resource, CustomField.key, CustomField.kind, CustomField.state),
    sorts=(CustomField.position, CustomField.created_at),
    lifecycle=LIFECYCLE,
    builds=(Build(_DEFINING, _whole),),
    checks=(
        Check(frozenset({"resource", "key"}), _placed),
        Check(frozenset({"is_unique"}), _unique),
        Check(frozenset({"is_filterable", "is_searchable", "is_unique"}), _reindexed),
    ),
    operations=frozenset({"get", "list", "search", "create", "update"}),
    default_access="read",
    access_fields=_DEFINING | {"state", "index_state"},
    once=frozenset({"resource", "key", "kind", "target"}),
)
