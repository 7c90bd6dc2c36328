"""Where a cell goes in the body of a create, and how its text becomes the value of a field."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, timezone
from decimal import Decimal
from functools import cache
from typing import Any, Literal, get_args, get_origin

import orjson
from babel import Locale
from pydantic import BaseModel

from crm_api.domains.exchange.importing import ColumnMapping as Entry
from crm_api.kernel.customs import CUSTOM, Custom
from crm_api.kernel.external_sources import EXTERNAL_IDS
from crm_api.kernel.problems import invalid
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Country, fold

MOST_ITEMS = 50
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_TRUE, _FALSE = frozenset({"true", "yes", "y", "1", "x", "sí", "si"}), frozenset({"false", "no", "n", "0"})
_SIGNS = {"YYYY": "%Y", "YY": "%y", "MM": "%m", "DD": "%d", "hh": "%H", "mm": "%M", "ss": "%S"}
_ALSO = {"usa": "US", "uk": "GB", "united states of america": "US", "great britain": "GB", "england": "GB"}


class UnreadableError(ValueError):
    """A text that is not what the field takes; (code, detail)."""


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def item_of(annotation: Any) -> Any:
    """What is in a list; None for anything else."""
    found = next((part for part in _parts(annotation) if get_origin(part) is list), None)
    if found is None:
        return None
    inner = get_args(found)[0]
    return get_args(inner)[0] if get_origin(inner) is not None and hasattr(inner, "__metadata__") else inner


def target_of(
    resource: Resource, customs: Mapping[str, Custom], entry: Entry, pointer: str
) -> tuple[tuple[str, ...], Callable[[str], Any]]:
    """Where a mapping leads in the create body, and what reads its texts.

    Raises:
        Problem: 422 when it leads nowhere, or to a custom field that takes no values any more.
    """
    path = tuple(entry.field.split("."))
    if path[0] == EXTERNAL_IDS and len(path) == 2:
        return path, str
    if path[0] == CUSTOM and len(path) == 2 and (custom := customs.get(path[1])) is not None:
        if custom.retired:
            raise invalid(f"{pointer}/field", "custom_field_retired", "This field is retired and takes no values.")
        if entry.by != "id" and custom.target is None:
            raise invalid(f"{pointer}/by", "invalid_value", f"{entry.field!r} is no reference.")
        return path, str if entry.by != "id" else _custom_reader(custom, entry)
    assert resource.create is not None  # noqa: S101 - checked before
    info = resource.create.model_fields.get(path[0])
    if info is None or path[0] == CUSTOM or not leads(info.annotation, path[1:]):
        raise invalid(f"{pointer}/field", "unknown_field", f"{resource.plural} have no field {entry.field!r}.")
    if entry.by != "id":
        if path[0] not in resource.references:
            raise invalid(f"{pointer}/by", "invalid_value", f"{entry.field!r} is no reference.")
        return path, str
    annotation: Any = info.annotation
    metadata = info.metadata
    for step in path[1:]:
        if step.isdigit():
            annotation, metadata = item_of(annotation), []
        else:
            inner = _model(annotation).model_fields[step]
            annotation, metadata = inner.annotation, inner.metadata
    return path, _reader(annotation, metadata, entry)


def _model(annotation: Any) -> Any:
    return next(part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, BaseModel))


def leads(annotation: Any, path: tuple[str, ...]) -> bool:
    """Whether a way of names and numbers leads to a part of a field."""
    if not path:
        return True
    step, item = path[0], item_of(annotation)
    if step.isdigit():
        return item is not None and int(step) < MOST_ITEMS and leads(item, path[1:])
    model = next((p for p in _parts(annotation) if isinstance(p, type) and issubclass(p, BaseModel)), None)
    return item is None and model is not None and step in model.model_fields and len(path) == 1


def _reader(annotation: Any, metadata: Iterable[Any], entry: Entry) -> Callable[[str], Any]:
    item = item_of(annotation)
    if item is not None:
        return _list_reader(item, entry)
    parts = [*_parts(annotation), *metadata]
    if get_args(Country)[-1] in parts:
        return _country
    literal = next((part for part in parts if get_origin(part) is Literal), None)
    if literal is not None:
        options = {fold(str(option)).replace("_", " "): option for option in get_args(literal)}
        return lambda text: options.get(fold(text).replace("_", " "), text)
    for kind, read in (
        (bool, _boolean),
        (int, lambda text: _integer(text, entry.decimal)),
        (Decimal, lambda text: _decimal(text, entry.decimal)),
        (datetime, lambda text: _moment(text, entry.date_format, datetime)),
        (date, lambda text: _moment(text, entry.date_format, date)),
    ):
        if kind in parts:
            return read
    if any(getattr(part, "__name__", "") == "AwareDatetime" for part in parts):
        return lambda text: _moment(text, entry.date_format, datetime)
    return str


def _custom_reader(custom: Custom, entry: Entry) -> Callable[[str], Any]:
    """What reads the texts of a custom field; what the field takes of it is asked later."""
    kind = custom.kind.name
    words = {fold(word).replace("_", " "): word for word in sorted(custom.known or ())}

    def word(text: Any) -> Any:
        return (
            text
            if not isinstance(text, str) or text in custom.choices
            else words.get(fold(text).replace("_", " "), text)
        )

    readers: dict[str, Callable[[str], Any]] = {
        "number": lambda text: _integer(text, entry.decimal),
        "decimal": lambda text: _decimal(text, entry.decimal),
        "money": lambda text: _decimal(text, entry.decimal),
        "date": lambda text: _moment(text, entry.date_format, date),
        "instant": lambda text: _moment(text, entry.date_format, datetime),
        "boolean": _boolean,
        "choice": word,
        "multi_choice": lambda text: [word(item) for item in _items(text, entry.separator)],
    }
    return readers.get(kind, str)


def _items(text: str, separator: str) -> list[Any]:
    """The items of a list, which is written as exports do, in JSON, or with a separator."""
    if text.startswith("["):
        try:
            return list(orjson.loads(text))
        except orjson.JSONDecodeError:
            pass
    return [piece.strip() for piece in text.split(separator) if piece.strip()]


def _list_reader(item: Any, entry: Entry) -> Callable[[str], Any]:
    if isinstance(item, type) and issubclass(item, BaseModel):
        name = next(part for part, found in item.model_fields.items() if found.is_required())
        return lambda text: [
            {name: piece} if isinstance(piece, str) else piece for piece in _items(text, entry.separator)
        ]
    return lambda text: _items(text, entry.separator)


def _boolean(text: str) -> bool:
    if fold(text) in _TRUE:
        return True
    if fold(text) in _FALSE:
        return False
    raise UnreadableError("invalid_boolean", "This is neither yes nor no.")


def _decimal(text: str, sign: str) -> str:
    plain = text.replace(" ", "").replace("\u00a0", "").replace("," if sign == "." else ".", "").replace(sign, ".")
    if not _NUMBER.fullmatch(plain):
        raise UnreadableError("invalid_number", "This is not a number.")
    return plain


def _integer(text: str, sign: str) -> int:
    number = Decimal(_decimal(text, sign))
    if number != int(number):
        raise UnreadableError("invalid_number", "This is not a whole number.")
    return int(number)


def _moment(text: str, form: str | None, kind: type[date]) -> str:
    try:
        if form is not None:
            pattern = form
            for sign, code in _SIGNS.items():
                pattern = pattern.replace(sign, code)
            found = datetime.strptime(text, pattern)  # noqa: DTZ007 - the zone follows
        else:
            found = datetime.fromisoformat(text)
    except ValueError:
        raise UnreadableError("invalid_date", "This is not a date as it was described.") from None
    if kind is date:
        return found.date().isoformat()
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).isoformat()  # noqa: UP017


def _country(text: str) -> str:
    code = _countries().get(fold(text))
    if code is None and re.fullmatch("[A-Z]{2}", text):
        return text
    if code is None:
        raise UnreadableError("invalid_country", "There is no such country; give its ISO 3166-1 code.")
    return code


@cache
def _countries() -> dict[str, str]:
    found = dict(_ALSO)
    for language in ("en", "es", "de", "fr"):
        for code, name in Locale(language).territories.items():
            if re.fullmatch("[A-Z]{2}", code):
                found.setdefault(fold(name), code)
    return found
