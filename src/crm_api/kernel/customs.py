"""Custom fields as requests know them: what each kind takes, and the checking of what a body brings under `custom`."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import orjson
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from crm_api.kernel.customs_records import KIND_NAMES
from crm_api.kernel.problems import INVALID, Fault, Problem
from crm_api.kernel.record import MONEY_SCALE, RATIO_SCALE
from crm_api.kernel.schema import (
    Email,
    Line,
    Money,
    Paragraph,
    Ref,
    Tag,
    Url,
    e164,
    instant_text,
    money_text,
    ratio_text,
)

if TYPE_CHECKING:
    from crm_api.kernel.policy import Access
    from crm_api.kernel.resource import Resource

CUSTOM = "custom"
PREFIX = "custom."
MOST_FIELDS = 200
"""Fields of one resource, retired ones too."""
MOST_CHOICES = 500
LONGEST_INDEXED = 500
_DECIMAL = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,6})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(_DATE.pattern + r"[Tt][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?([Zz]|[+-][0-9]{2}:[0-9]{2})")
_MOST_NUMBER = 10**15

CustomValues = Annotated[
    dict[Annotated[str, Field(max_length=63)], Any],
    Field(max_length=MOST_FIELDS, description="Custom fields by their key; null clears one, absent ones stay."),
]
"""What a create body takes under `custom`; the tenant's own document says which keys there are."""
LONGEST_NAME = len(PREFIX) + 63
FieldName = Annotated[
    str,
    Field(
        pattern=r"^(custom\.)?[a-z][a-z0-9_]{0,62}$",
        max_length=LONGEST_NAME,
        description="A field, or `custom.` and the key of a custom field.",
    ),
]


@dataclass(frozen=True, slots=True)
class CustomKind:
    """What a kind of custom field takes, and how it is found.

    Attributes:
        name: as in definitions.
        read: a JSON value to the form in which it is kept and sent; raises ValueError or a pydantic error.
        filter: the kind of filter that it is like; None where nobody filters by it.
        column: where its indexed value stands; "" where values are kept one by one, or not at all.
        unique: whether it may be unique.
        searched: whether text search may look into it.
    """

    name: str
    read: Callable[[Any], Any]
    filter: str | None
    column: str
    unique: bool = False
    searched: bool = False


def _typed(type_: Any) -> Callable[[Any], Any]:
    adapter: TypeAdapter[Any] = TypeAdapter(
        type_, config=ConfigDict(strict=True, str_strip_whitespace=True, hide_input_in_errors=True)
    )
    return adapter.validate_python


def _fault(code: str, detail: str) -> PydanticCustomError:
    return PydanticCustomError(code, detail)


def _matching(pattern: re.Pattern[str], value: Any, code: str, detail: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _fault(code, detail)
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _MOST_NUMBER:
        raise _fault("invalid_number", "A whole number of at most 15 digits.")
    return value


def _decimal(value: Any) -> str:
    detail = 'A decimal string such as "2.5", with at most 12 digits before the point and 6 after it.'
    return ratio_text(int(Decimal(_matching(_DECIMAL, value, "invalid_decimal", detail)) * RATIO_SCALE))


def _money(value: Any) -> str:
    return money_text(int(_MONEY(value) * MONEY_SCALE))


def _date(value: Any) -> str:
    text = _matching(_DATE, value, "invalid_date", 'A date such as "2026-12-31".')
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise _fault("invalid_date", "There is no such day.") from None


def _instant(value: Any) -> str:
    text = _matching(_INSTANT, value, "invalid_instant", 'A time with its offset, such as "2026-12-31T10:00:00Z".')
    try:
        return instant_text(datetime.fromisoformat(text.upper()).astimezone(UTC))
    except (ValueError, OverflowError):
        raise _fault("invalid_instant", "There is no such time.") from None


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _fault("invalid_boolean", "true or false.")
    return value


_MONEY = _typed(Money)
_URL = _typed(Annotated[Url, Field(max_length=LONGEST_INDEXED)])
_PHONE = _typed(Annotated[str, Field(min_length=5, max_length=30)])
_OPTIONS = _typed(Annotated[list[Tag], Field(max_length=50)])
KINDS = {
    kind.name: kind
    for kind in (
        CustomKind("text", _typed(Line), "text", "text_value", unique=True, searched=True),
        CustomKind("long_text", _typed(Paragraph), None, ""),
        CustomKind("number", _number, "integer", "number_value", unique=True),
        CustomKind("decimal", _decimal, "ratio", "number_value", unique=True),
        CustomKind("money", _money, "money", "number_value"),
        CustomKind("date", _date, "date", "number_value"),
        CustomKind("instant", _instant, "instant", "instant_value"),
        CustomKind("boolean", _boolean, "boolean", "number_value"),
        CustomKind("choice", _typed(Tag), "text", "text_value"),
        CustomKind("multi_choice", lambda value: list(dict.fromkeys(_OPTIONS(value))), "values", ""),
        CustomKind("reference", _typed(Ref), "id", "text_value"),
        CustomKind("url", _URL, "text", "text_value", unique=True, searched=True),
        CustomKind("email", _typed(Email), "text", "text_value", unique=True, searched=True),
        CustomKind("phone", lambda value: e164(_PHONE(value), None), "text", "text_value", unique=True, searched=True),
    )
}
assert set(KINDS) == set(KIND_NAMES)  # noqa: S101 - the table's vocabulary


@dataclass(frozen=True, slots=True, eq=False)
class Custom:
    """One custom field of a tenant.

    Attributes:
        id: of its definition.
        key: its name in `custom`.
        kind: what it takes.
        required: a create body must bring it, and no body may clear it.
        unique: no two live records have the same value.
        filterable: it may be filtered, sorted and grouped by.
        searchable: text search looks into it.
        indexed: each record's value is in the index by now.
        default: what a new record gets when its body leaves it out.
        choices: what may be chosen now.
        known: what could ever be chosen; None where anything may be.
        target: the resource that a reference leads to.
        retired: it takes no new values.
    """

    id: str
    key: str
    kind: CustomKind
    required: bool
    unique: bool
    filterable: bool
    searchable: bool
    indexed: bool
    default: Any
    choices: frozenset[str]
    known: frozenset[str] | None
    target: str | None
    retired: bool

    @property
    def name(self) -> str:
        """What filters, sorts and field rules call it."""
        return PREFIX + self.key

    @property
    def place(self) -> Any:
        """What the index knows it by: lists are kept with the values of other lists, by text."""
        return self.id if self.kind.filter == "values" else UUID(self.id)

    @property
    def sortable(self) -> bool:
        """Whether records are sorted by it."""
        return self.filterable and self.kind.filter not in (None, "values", "id")

    def read(self, value: Any) -> Any:
        """A JSON value as it is kept and sent; raises ValueError or a pydantic error."""
        found = self.kind.read(value)
        if self.known is not None:
            chosen = found if isinstance(found, list) else [found]
            if strange := [item for item in chosen if item not in self.choices]:
                retired = self.known.intersection(strange)
                detail = "This choice is retired." if retired else "There is no such choice."
                raise _fault("choice_retired" if retired else "unknown_choice", detail)
        return found


def kept_of(field: Custom, value: Any) -> Any:
    """A value that some record has, if another one could get it now; else None."""
    try:
        return None if value is None or field.retired else field.read(value)
    except ValueError:
        return None


Customs = Mapping[str, Mapping[str, Custom]]
"""By resource and key."""


@lru_cache(maxsize=512)
def customs_of(text: str | bytes | None) -> Customs:
    """Definitions as the database tells them: a list of objects, as JSON. Equal text gives the same object."""
    found: dict[str, dict[str, Custom]] = {}
    for item in orjson.loads(text) if text else []:
        found.setdefault(item["resource"], {})[item["key"]] = custom_of(item)
    return found


def custom_of(item: Mapping[str, Any]) -> Custom:
    """A definition as requests know it, from the columns of its row."""
    kind, choices = KINDS[item["kind"]], item["choices"]
    closed = item["kind"] in ("choice", "multi_choice") and not item["is_open"]
    return Custom(
        id=item["id"],
        key=item["key"],
        kind=kind,
        required=item["is_required"],
        unique=item["is_unique"],
        filterable=item["is_filterable"] and kind.filter is not None,
        searchable=item["is_searchable"],
        indexed=item["index_state"] == "ready",
        default=item["default_value"],
        choices=frozenset(choice["value"] for choice in choices if not choice["is_retired"]),
        known=frozenset(choice["value"] for choice in choices) if closed else None,
        target=item["target"],
        retired=item["state"] == "retired",
    )


COLUMNS = (
    *("id", "resource", "key", "kind", "is_required", "is_unique", "is_filterable", "is_searchable", "index_state"),
    *("default_value", "choices", "is_open", "target", "state"),
)
"""What `custom_of` asks of a row."""


def customizable(resource: "Resource") -> bool:
    """Whether records of a resource take custom fields."""
    return resource.create is not None and CUSTOM in resource.create.model_fields


def fields_of(access: "Access", resource: "Resource") -> Mapping[str, Custom]:
    """The tenant's custom fields of a resource by key, retired ones too."""
    return access.customs.get(resource.plural, _NONE)


def unique_ids(access: "Access", resource: "Resource") -> list[UUID]:
    """The ids of the custom fields of a resource that are unique."""
    return [UUID(field.id) for field in fields_of(access, resource).values() if field.unique]


_NONE: Mapping[str, Custom] = {}


def read_values(fields: Mapping[str, Custom], sent: Mapping[str, Any], *, new: bool, complete: bool) -> dict[str, Any]:
    """What is kept of the values that a body brings; null clears one.

    Args:
        fields: those of the resource.
        sent: values by key.
        new: the record is made by this write, so that defaults are filled in and nulls left out.
        complete: what is required must be there.

    Raises:
        Problem: 422 that names each value at fault.
    """
    faults: list[Fault] = []
    found: dict[str, Any] = {}
    for key, value in sent.items():
        try:
            found[key] = _value(fields.get(key), value)
        except PydanticCustomError as error:
            faults.append(Fault(error.type, error.message(), pointer=pointer(key)))
        except ValidationError as error:
            faults += [
                Fault(item["type"], item["msg"], pointer=pointer(key, *item["loc"]))
                for item in error.errors(include_url=False, include_context=False, include_input=False)
            ]
    if new:
        absent = [field for field in fields.values() if field.key not in sent and not field.retired]
        found |= {field.key: field.default for field in absent if field.default is not None}
        missing = [field for field in absent if field.required and field.default is None] if complete else []
        faults += [Fault("required", "This field is required.", pointer=pointer(field.key)) for field in missing]
        found = {key: value for key, value in found.items() if value is not None}
    if faults:
        raise Problem(INVALID, f"{len(faults)} custom field(s) are wrong.", faults[:100])
    return found


def _value(field: Custom | None, value: Any) -> Any:
    if field is None:
        raise _fault("unknown_field", "There is no such custom field.")
    if value is None:
        if field.required and not field.retired:
            raise _fault("required", "This field may not be empty.")
        return None
    if field.retired:
        raise _fault("custom_field_retired", "This field is retired and takes no values.")
    return field.read(value)


def pointer(*steps: Any) -> str:
    """RFC 6901, below `custom`."""
    return "/".join(["", CUSTOM, *(str(step)[:100].replace("~", "~0").replace("/", "~1") for step in steps)])


def hidden_keys(hidden: frozenset[str]) -> tuple[str, ...]:
    """Of hidden fields, the keys of custom ones."""
    return tuple(sorted(name.removeprefix(PREFIX) for name in hidden if name.startswith(PREFIX)))


def touched(values: Mapping[str, Any]) -> Iterator[str]:
    """The fields that a body touches, as field rules name them."""
    yield from values
    for key in values.get(CUSTOM) or ():
        yield PREFIX + key


def without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Values less one, which may be that of a custom field; of which there is then no member when none is left."""
    found = {key: value for key, value in values.items() if key != name}
    if name.startswith(PREFIX) and (custom := found.pop(CUSTOM, None)):
        left = {key: value for key, value in custom.items() if PREFIX + key != name}
        found |= {CUSTOM: left} if left else {}
    return found


def veiled(item: Mapping[str, Any], hidden: frozenset[str]) -> dict[str, Any]:
    """A wire object without what is hidden, and the names of that in `redacted`, if it has any of it."""
    shown = dict(item)
    names = hidden.intersection(item)
    if keys := hidden_keys(hidden) if isinstance(item.get(CUSTOM), dict) else ():
        shown[CUSTOM] = {key: value for key, value in item[CUSTOM].items() if key not in keys}
        names |= {PREFIX + key for key in keys}
    return shown | dict.fromkeys(hidden.intersection(item)) | {"redacted": sorted(names)} if names else shown


def changed_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Old values of the custom fields that differ; null where there was none."""
    names = sorted({*before, *after})
    return {name: before.get(name) for name in names if before.get(name) != after.get(name)}
