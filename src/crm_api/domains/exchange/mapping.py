"""From the cells of a row to the body of a create: where each cell goes, and how its text is read."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from crm_api.domains.exchange.cells import UnreadableError, item_of, target_of
from crm_api.domains.exchange.importing import ColumnMapping as Entry
from crm_api.kernel.customs import CUSTOM, PREFIX, Custom
from crm_api.kernel.domain import Catalog
from crm_api.kernel.external_sources import EXTERNAL_IDS
from crm_api.kernel.problems import Fault, invalid
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import fold


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

    @property
    def path(self) -> tuple[str, ...]:
        """Where its id goes in the body."""
        return tuple(self.field.split("."))

    @property
    def pointer(self) -> str:
        """The same as a JSON pointer."""
        return "/" + "/".join(self.path)


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

    @property
    def custom(self) -> dict[str, Any]:
        """What the row says of custom fields, by key."""
        found = self.values.get(CUSTOM)
        return found if isinstance(found, dict) else {}

    def value(self, field: str) -> Any:
        """What the row says of a field, a custom one too; None for nothing."""
        return self.custom.get(field.removeprefix(PREFIX)) if field.startswith(PREFIX) else self.values.get(field)

    def put(self, path: tuple[str, ...], value: Any) -> None:
        """Sets a part of the body. What other drafts may share is copied first."""
        if path[0] == CUSTOM:
            self.values[CUSTOM] = {**self.custom, path[1]: value}
        else:
            _put(self.values, path, value)


@dataclass(frozen=True, slots=True)
class _Way:
    entry: Entry
    path: tuple[str, ...]
    read: Callable[[str], Any]


class Plan:
    """How rows of a file become bodies of one resource.

    Attributes:
        resource: what is imported.
        customs: its custom fields by key.
        columns: pointer into the body -> the column that it comes from.
        self_reference: the mapping by which rows refer to other rows of the same file, if one does.
    """

    def __init__(
        self,
        resource: Resource,
        customs: Mapping[str, Custom],
        mapping: Iterable[Entry],
        nulls: Iterable[str],
        defaults: Mapping[str, Any],
    ) -> None:
        self.resource, self.customs = resource, customs
        self._nulls, self._defaults = frozenset(nulls), dict(defaults)
        self.ways = [
            _Way(entry, *target_of(resource, customs, entry, f"/mapping/{i}")) for i, entry in enumerate(mapping)
        ]
        self._once()
        self.self_reference = next((way.entry for way in self.ways if self._own(way.entry)), None)
        self.columns: dict[str, str] = {}
        for way in self.ways:
            self.columns.setdefault("/" + "/".join(way.path), way.entry.column)
            if way.path[0] != CUSTOM:
                self.columns.setdefault(f"/{way.path[0]}", way.entry.column)

    def _once(self) -> None:
        """422 for a field that two columns would fill."""
        known: set[tuple[str, ...]] = set()
        for i, way in enumerate(self.ways):
            if way.path in known:
                raise invalid(
                    f"/mapping/{i}/field", "duplicate_field", f"Another column goes to {way.entry.field}, too."
                )
            known.add(way.path)

    def missing(self, columns: Collection[str]) -> None:
        """422 for a column that the file does not have."""
        for i, way in enumerate(self.ways):
            if way.entry.column not in columns:
                raise invalid(f"/mapping/{i}/column", "unknown_column", f"The file has no column {way.entry.column!r}.")

    def _own(self, entry: Entry) -> bool:
        """Whether a column names records of the same resource by what other columns of the file give them."""
        custom = self.customs.get(entry.field.removeprefix(PREFIX)) if entry.field.startswith(PREFIX) else None
        home = self.resource.plural if custom is not None else self.resource.table.name
        if entry.by == "id" or (custom.target if custom else self.resource.references[entry.field]) != home:
            return False
        wanted = (EXTERNAL_IDS, entry.source) if entry.by == "external_id" else (entry.target,)
        return any(way.path == wanted for way in self.ways)

    def target(self, catalog: Catalog, field: str) -> Resource | None:
        """The resource that a reference leads to, a custom one too; None for what is none."""
        return target_in(catalog, self.resource, self.customs, field)

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
        waiting = {wanted.field for wanted in found.wanted}
        for name, value in self._defaults.items():
            if name == CUSTOM and isinstance(value, dict):
                found.values[CUSTOM] = {k: v for k, v in value.items() if PREFIX + k not in waiting} | found.custom
            elif name not in waiting:
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
            found.wanted.append(Wanted(".".join(way.path), entry.column, entry, str(value)))
        else:
            found.put(way.path, value)

    def column(self, pointer: str | None) -> str | None:
        """The column that a place in the body comes from."""
        steps = (pointer or "").split("/")
        if not self.ways and len(steps) > 1:
            return steps[1]
        return next(
            (found for end in range(len(steps), 1, -1) if (found := self.columns.get("/".join(steps[:end])))), None
        )


def target_in(catalog: Catalog, resource: Resource, customs: Mapping[str, Custom], field: str) -> Resource | None:
    """The resource that a reference leads to, a custom one too; None for what is none."""
    if not field.startswith(PREFIX):
        return catalog.target(resource, field)
    custom = customs.get(field.removeprefix(PREFIX))
    return None if custom is None or custom.target is None else catalog.resources[custom.target]


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
            kept = [
                item for item in value if not isinstance(item, dict) or (item and (not needed or needed & item.keys()))
            ]
            values[name] = kept
            if not kept:
                del values[name]


@cache
def _needed(model: type[BaseModel], name: str) -> frozenset[str]:
    info = model.model_fields.get(name)
    item = item_of(info.annotation) if info is not None else None
    if not (isinstance(item, type) and issubclass(item, BaseModel)):
        return frozenset()
    return frozenset(part for part, found in item.model_fields.items() if found.is_required())
