"""From the cells of a row to the body of a create: where each cell goes, and how its text is read."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

from babel import Locale
from pydantic import BaseModel

from crm_api.domains.exchange.importing import ColumnMapping as Entry
from crm_api.kernel.duplicates_search import similarity
from crm_api.kernel.external_sources import EXTERNAL_IDS
from crm_api.kernel.problems import Fault, Problem, invalid
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Country, fold

MOST_ITEMS = 50
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_TRUE, _FALSE = frozenset({"true", "yes", "y", "1", "x", "sí", "si"}), frozenset({"false", "no", "n", "0"})
_SIGNS = {"YYYY": "%Y", "YY": "%y", "MM": "%m", "DD": "%d", "hh": "%H", "mm": "%M", "ss": "%S"}
_ALSO = {"usa": "US", "uk": "GB", "united states of america": "US", "great britain": "GB", "england": "GB"}
_SYNONYMS = {
    "name": ("company", "company name", "account", "account name", "organization", "organisation", "full name"),
    "last_name": ("surname", "family name", "contact name"),
    "first_name": ("given name", "forename"),
    "title": ("job title", "position", "contact title"),
    "industry": ("sector", "branch"),
    "annual_revenue": ("revenue", "turnover"),
    "employees": ("number of employees", "headcount"),
    "website": ("homepage", "home page", "url", "web"),
    "tax_id": ("vat", "vat id", "vat number", "tax number"),
    "emails.0.address": ("email", "e mail", "mail", "email address"),
    "phones.0.number": ("phone", "telephone", "phone number", "mobile", "tel"),
    "addresses.0.line1": ("address", "street", "address line 1"),
    "addresses.0.line2": ("address line 2",),
    "addresses.0.city": ("city", "town"),
    "addresses.0.region": ("region", "state", "province"),
    "addresses.0.postal_code": ("postal code", "zip", "zip code", "postcode"),
    "addresses.0.country": ("country", "office location"),
    "parent_id": ("parent", "subsidiary of", "parent account"),
    "owner_id": ("owner", "sales agent", "seller", "account owner"),
}
"""Words that columns are often called by, for what DOMAIN calls otherwise."""
_ALIKE = 0.75


class UnreadableError(ValueError):
    """A text that is not what the field takes; (code, detail)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A record that a row refers to, by what names it; `key` is compared."""

    field: str
    column: str
    entry: Entry
    text: str

    @property
    def key(self) -> str:
        """What two names of the same record have in common."""
        return fold(self.text) if self.entry.by == "field" else self.text


@dataclass(slots=True)
class Draft:
    """A row as it was read: the body so far, names by source, the records it refers to, what is wrong."""

    row: int
    values: dict[str, Any] = field(default_factory=dict)
    external: dict[str, str] = field(default_factory=dict)
    wanted: list[Wanted] = field(default_factory=list)
    faults: list[tuple[str | None, Fault]] = field(default_factory=list)

    def fault(self, column: str | None, code: str, detail: str, pointer: str = "") -> None:
        """Notes something wrong, at a column if it is one column's."""
        self.faults.append((column, Fault(code, detail, pointer=pointer)))


@dataclass(frozen=True, slots=True)
class _Way:
    entry: Entry
    path: tuple[str, ...]
    read: Callable[[str], Any]


class Plan:
    """How rows of a file become bodies of one resource.

    Attributes:
        resource: what is imported.
        columns: pointer into the body -> the column that it comes from.
        self_reference: the mapping by which rows refer to other rows of the same file, if one does.
    """

    def __init__(
        self, resource: Resource, mapping: Iterable[Entry], nulls: Iterable[str], defaults: Mapping[str, Any]
    ) -> None:
        self.resource, self._nulls, self._defaults = resource, frozenset(nulls), dict(defaults)
        self.ways = [_Way(entry, *_target(resource, entry, f"/mapping/{i}")) for i, entry in enumerate(mapping)]
        self.self_reference = next((way.entry for way in self.ways if self._own(way.entry)), None)
        self.columns: dict[str, str] = {}
        for way in self.ways:
            self.columns.setdefault("/" + "/".join(way.path), way.entry.column)
            self.columns.setdefault(f"/{way.path[0]}", way.entry.column)

    def _own(self, entry: Entry) -> bool:
        """Whether a column names records of the same resource by what other columns of the file give them."""
        if entry.by == "id" or self.resource.references[entry.field] != self.resource.table.name:
            return False
        wanted = (EXTERNAL_IDS, entry.source) if entry.by == "external_id" else (entry.target,)
        return any(way.path == wanted for way in self.ways)

    def own_key(self, draft: Draft) -> str | None:
        """By what other rows of the file refer to this one; None when none can."""
        entry = self.self_reference
        if entry is None:
            return None
        if entry.by == "external_id":
            return draft.external.get(entry.source or "")
        value = draft.values.get(entry.target or "")
        return None if value is None else fold(str(value))

    def draft(self, row: int, cells: Mapping[str, Any] | Fault) -> Draft:
        """The body that a row means, with what cannot be read in it."""
        found = Draft(row)
        if isinstance(cells, Fault):
            found.faults.append((None, cells))
            return found
        if not self.ways:
            self._identity(found, cells)
        for way in self.ways:
            self._take(found, way, cells.get(way.entry.column))
        _pruned(self.resource, found.values)
        for name, value in self._defaults.items():
            if not any(wanted.field == name for wanted in found.wanted):
                found.values.setdefault(name, value)
        return found

    def _identity(self, found: Draft, cells: Mapping[str, Any]) -> None:
        for name, value in cells.items():
            if name == EXTERNAL_IDS and isinstance(value, dict):
                found.external = {str(source): str(text) for source, text in value.items() if text is not None}
            elif value is not None:
                found.values[name] = value

    def _take(self, found: Draft, way: _Way, cell: Any) -> None:
        entry = way.entry
        if isinstance(cell, str):
            text = entry.values.get(cell.strip(), cell.strip())
            if not text or text in self._nulls:
                return
            cell = _part(text, entry.take)
        if cell is None or cell == "":
            return
        try:
            value = way.read(cell) if isinstance(cell, str) else cell
        except UnreadableError as problem:
            code, detail = problem.args
            found.fault(entry.column, code, detail, "/" + "/".join(way.path))
            return
        if way.path[0] == EXTERNAL_IDS:
            found.external[way.path[1]] = str(value)
        elif entry.by != "id":
            found.wanted.append(Wanted(way.path[0], entry.column, entry, str(value)))
        else:
            _put(found.values, way.path, value)

    def column(self, pointer: str | None) -> str | None:
        """The column that a place in the body comes from."""
        steps = (pointer or "").split("/")
        return next(
            (found for end in range(len(steps), 1, -1) if (found := self.columns.get("/".join(steps[:end])))), None
        )


def _part(text: str, take: str) -> str:
    if take == "all":
        return text
    first, _, others = text.partition(" ")
    return first if take == "first_word" else others.strip()


def _put(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    place: Any = values
    for step, following in pairwise(path):
        fresh: Any = [] if following.isdigit() else {}
        if isinstance(place, list):
            while len(place) <= int(step):
                place.append({})
            place = place[int(step)]
        else:
            place = place.setdefault(step, fresh)
    if isinstance(place, list):
        place.append(value)
    else:
        place[path[-1]] = value


def _pruned(resource: Resource, values: dict[str, Any]) -> None:
    """Leaves out items of lists that lack all they must have, such as a phone of which only the country is known."""
    assert resource.create is not None  # noqa: S101 - else nothing is imported
    for name, value in list(values.items()):
        if isinstance(value, list) and value and isinstance(value[0], dict):
            needed = _needed(resource.create, name)
            kept = [item for item in value if item and (not needed or needed & item.keys())]
            values[name] = kept
            if not kept:
                del values[name]


@cache
def _needed(model: type[BaseModel], name: str) -> frozenset[str]:
    info = model.model_fields.get(name)
    item = _item(info.annotation) if info is not None else None
    if not (isinstance(item, type) and issubclass(item, BaseModel)):
        return frozenset()
    return frozenset(part for part, found in item.model_fields.items() if found.is_required())


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _item(annotation: Any) -> Any:
    """What is in a list; None for anything else."""
    found = next((part for part in _parts(annotation) if get_origin(part) is list), None)
    if found is None:
        return None
    inner = get_args(found)[0]
    return get_args(inner)[0] if get_origin(inner) is not None and hasattr(inner, "__metadata__") else inner


def _target(resource: Resource, entry: Entry, pointer: str) -> tuple[tuple[str, ...], Callable[[str], Any]]:
    """Where a mapping leads in the create body, and what reads its texts.

    Raises:
        Problem: 422 when it leads nowhere.
    """
    path = tuple(entry.field.split("."))
    if path[0] == EXTERNAL_IDS and len(path) == 2:
        return path, str
    assert resource.create is not None  # noqa: S101 - checked before
    info = resource.create.model_fields.get(path[0])
    if info is None or not _leads(info.annotation, path[1:]):
        raise invalid(f"{pointer}/field", "unknown_field", f"{resource.plural} have no field {entry.field!r}.")
    if entry.by != "id":
        if path[0] not in resource.references:
            raise invalid(f"{pointer}/by", "invalid_value", f"{entry.field!r} is no reference.")
        return path, str
    annotation: Any = info.annotation
    metadata = info.metadata
    for step in path[1:]:
        if step.isdigit():
            annotation, metadata = _item(annotation), []
        else:
            inner = _model(annotation).model_fields[step]
            annotation, metadata = inner.annotation, inner.metadata
    return path, _reader(annotation, metadata, entry)


def _model(annotation: Any) -> Any:
    return next(part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, BaseModel))


def _leads(annotation: Any, path: tuple[str, ...]) -> bool:
    if not path:
        return True
    step, item = path[0], _item(annotation)
    if step.isdigit():
        return item is not None and int(step) < MOST_ITEMS and _leads(item, path[1:])
    model = next((p for p in _parts(annotation) if isinstance(p, type) and issubclass(p, BaseModel)), None)
    return item is None and model is not None and step in model.model_fields and len(path) == 1


def _reader(annotation: Any, metadata: Iterable[Any], entry: Entry) -> Callable[[str], Any]:
    item = _item(annotation)
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


def _list_reader(item: Any, entry: Entry) -> Callable[[str], Any]:
    def read(text: str) -> list[Any]:
        return [piece.strip() for piece in text.split(entry.separator) if piece.strip()]

    if isinstance(item, type) and issubclass(item, BaseModel):
        name = next(part for part, found in item.model_fields.items() if found.is_required())
        return lambda text: [{name: piece} for piece in read(text)]
    return read


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
    if re.fullmatch("[A-Z]{2}", text):
        return text
    code = _countries().get(fold(text))
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


def suggested(resource: Resource, columns: Iterable[str]) -> list[dict[str, Any]]:
    """A mapping of columns to fields that seem to be meant, each field at most once."""
    names = _names(resource)
    taken: set[str] = set()
    found = []
    for column in columns:
        words = fold(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", column).replace("_", " ").replace("-", " "))
        scores = {path: max(similarity(words, name) for name in known) for path, known in names.items()}
        best = max(scores, key=lambda path: (scores[path], path.count(".") == 0), default=None)
        if best is not None and scores[best] >= _ALIKE and best not in taken and len(column) <= 500:
            taken.add(best)
            found.append({"column": column, "field": best})
    return found


@cache
def _names(resource: Resource) -> dict[str, tuple[str, ...]]:
    assert resource.create is not None  # noqa: S101 - checked before
    paths = [name for name in resource.create.model_fields if name != "id"]
    known = {path: (path.replace("_", " "), *_SYNONYMS.get(path, ())) for path in paths}
    for path, synonyms in _SYNONYMS.items():
        first, *others = path.split(".")
        info = resource.create.model_fields.get(first)
        if others and info is not None and _leads(info.annotation, tuple(others)):
            known[path] = synonyms
    return known


def refused(detail: str, pointer: str) -> Problem:
    """422 for a setting that does not fit the resource."""
    return invalid(pointer, "invalid_value", detail)
