"""The values that filters compare with: which operators a kind has, and what is read from a request."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from crm_api.kernel.problems import Problem, invalid, invalid_parameter
from crm_api.kernel.schema import UUID_PATTERN, external_key, fold

MAX_IN = 500
COMPARISONS = ("gt", "gte", "lt", "lte")
OPERATORS: dict[str, tuple[str, ...]] = {
    "id": ("eq", "ne", "in", "nin", "is_null"),
    "text": ("eq", "ne", "in", "nin", "contains", "starts_with", "is_null", *COMPARISONS),
    "boolean": ("eq", "ne", "is_null"),
    "integer": ("eq", "ne", "in", "nin", "is_null", *COMPARISONS),
    "money": ("eq", "ne", "in", "nin", "is_null", *COMPARISONS),
    "ratio": ("eq", "ne", "in", "nin", "is_null", *COMPARISONS),
    "date": ("eq", "ne", "in", "nin", "is_null", *COMPARISONS),
    "instant": ("eq", "ne", "in", "nin", "is_null", *COMPARISONS),
    "values": ("any", "all"),
}
_UUID = re.compile(UUID_PATTERN)
_DECIMAL = re.compile(r"^-?[0-9]{1,12}(\.[0-9]{1,6})?$")


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


def from_text(kind: str, text: str, place: Place) -> Any:
    """A query parameter as a body would have it, where the two differ."""
    if kind == "boolean" and text in ("true", "false"):
        return text == "true"
    if kind == "integer" and re.fullmatch(r"-?[0-9]{1,19}", text):
        return int(text)
    if kind in ("boolean", "integer"):
        raise place.fault("invalid_value", f"This is not {_KINDS[kind][1]}.")
    return text


def typed_value(kind: str, op: str, raw: Any, place: Place, vocabulary: frozenset[str] | None) -> Any:
    """The value of a comparison, or the values of one that takes several; 422 for what is not of the kind."""
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
    read, form = _KINDS.get(kind, _TEXT)
    wrong = place.fault("invalid_value", f"This is not {form}.")
    if (kind == "boolean" and isinstance(raw, bool)) or (kind == "integer" and type(raw) is int and abs(raw) < 2**63):
        return raw
    if kind in ("boolean", "integer") or not isinstance(raw, str) or len(raw) > 500 or "\x00" in raw:
        raise wrong
    if vocabulary is not None and raw not in vocabulary:
        raise place.fault("invalid_value", f"One of {', '.join(sorted(vocabulary))}.")
    if kind in ("id", "reference") and not _UUID.fullmatch(raw) and (kind == "id" or external_key(raw) is None):
        raise wrong
    try:
        return read(raw)
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


_TEXT: tuple[Any, str] = (str, "text of at most 500 characters")
_KINDS: dict[str, tuple[Any, str]] = {
    "id": (str, "an id: a UUID"),
    "reference": (str, "an id: a UUID, or ext:{source}:{external_id}"),
    "boolean": (bool, "true or false"),
    "integer": (int, "a whole number"),
    "money": (_decimal(10_000), 'an amount: a decimal string such as "1234.50", with at most 4 decimals'),
    "ratio": (_decimal(1_000_000), 'a decimal string such as "2.5", with at most 6 decimals'),
    "date": (date.fromisoformat, "a date such as 2026-12-31"),
    "instant": (parse_instant, "a time such as 2026-12-31T18:00:00Z; in an address, the + of an offset is written %2B"),
    "values": (fold, _TEXT[1]),
}


def parameters_of(name: str, kind: str, *, chosen: bool, nullable: bool) -> dict[str, tuple[str, str, str]]:
    """The query parameters of one field; `chosen` when its values are words of a closed vocabulary."""
    found = {name: (name, "any" if kind == "values" else "eq", kind)}
    extra: tuple[str, ...] = COMPARISONS if kind in ("integer", "money", "ratio", "date", "instant") else ()
    if kind == "text" and not chosen:
        extra = ("contains", "starts_with")
    found |= {f"{name}_{op}": (name, op, kind) for op in extra}
    if nullable and kind != "values":
        found[f"{name}_is_null"] = (name, "is_null", "boolean")
    return found
