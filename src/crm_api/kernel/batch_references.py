"""References of a batch: `{"$ref": "acc.id"}` stands for a field of what an earlier operation gives."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crm_api.kernel.problems import Fault, wrong

SIGN = "$ref"
NAME_PATTERN = "^[a-z][a-z0-9_]{0,39}$"
REFERENCE_PATTERN = r"^[a-z][a-z0-9_]{0,39}\.[a-z][a-z0-9_]{0,62}$"
_REFERENCE = re.compile(REFERENCE_PATTERN)
_MOST_FAULTS = 100


@dataclass(frozen=True, slots=True)
class Reference:
    """A place in an operation that takes a `field` of what the operation called `name` gives."""

    pointer: str
    name: str
    field: str


@dataclass(frozen=True, slots=True)
class Part:
    """What references may mean of one operation: what it is called, the fields it gives, what it refers to."""

    place: str
    name: str | None
    fields: frozenset[str]
    trees: Mapping[str, Any]
    """Where it may refer to others: pointer -> JSON."""


def _escaped(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")


def found(tree: Any, pointer: str) -> Iterator[Reference | Fault]:
    """The references in a JSON tree, and the faults of what looks like one."""
    if isinstance(tree, dict):
        if SIGN not in tree:
            for key, value in tree.items():
                yield from found(value, f"{pointer}/{_escaped(key)}")
        elif len(tree) > 1 or not isinstance(tree[SIGN], str) or not _REFERENCE.fullmatch(tree[SIGN]):
            yield Fault("invalid_reference", 'A reference is {"$ref": "name.field"}, by itself.', pointer=pointer)
        else:
            name, _, field = tree[SIGN].partition(".")
            yield Reference(pointer, name, field)
    elif isinstance(tree, list):
        for i, value in enumerate(tree):
            yield from found(value, f"{pointer}/{i}")


def replaced(tree: Any, value_of: Callable[[str, str], Any]) -> Any:
    """The tree with each reference's value in its place."""
    if isinstance(tree, dict):
        if SIGN in tree:
            name, _, field = tree[SIGN].partition(".")
            return value_of(name, field)
        return {key: replaced(value, value_of) for key, value in tree.items()}
    if isinstance(tree, list):
        return [replaced(value, value_of) for value in tree]
    return tree


def check(parts: Sequence[Part]) -> list[bool]:
    """Which operations refer to others.

    Raises:
        Problem: 422 for a name given twice, a reference to nothing, to a field that is not there, to a later
            operation, or round in a circle.
    """
    faults: list[Fault] = []
    places: dict[str, int] = {}
    for i, part in enumerate(parts):
        if part.name is not None and places.setdefault(part.name, i) != i:
            faults.append(Fault("duplicate_name", "Another operation has this name.", pointer=f"{part.place}/ref"))
    uses: list[list[Reference]] = []
    for part in parts:
        seen = [item for pointer, tree in part.trees.items() for item in found(tree, pointer)]
        faults += [item for item in seen if isinstance(item, Fault)]
        uses.append([item for item in seen if isinstance(item, Reference)])
    towards = [{places[item.name] for item in used if item.name in places} for used in uses]
    for i, used in enumerate(uses):
        for item in used:
            if (fault := _fault(item, i, places, parts, towards)) is not None:
                faults.append(fault)
    if faults:
        raise wrong(faults[:_MOST_FAULTS])
    return [bool(used) for used in uses]


def _fault(
    item: Reference, at: int, places: Mapping[str, int], parts: Sequence[Part], towards: Sequence[set[int]]
) -> Fault | None:
    target = places.get(item.name)
    if target is None:
        return Fault("unknown_reference", "No operation of this batch has this name.", pointer=item.pointer)
    if at in _reached(target, towards):
        return Fault("reference_cycle", "The operations refer to each other in a circle.", pointer=item.pointer)
    if target > at:
        return Fault(
            "forward_reference", "Only an operation further up can be referred to; change the order.", item.pointer
        )
    if item.field not in parts[target].fields:
        return Fault("unknown_field", "What this refers to gives no such field.", pointer=item.pointer)
    return None


def _reached(start: int, towards: Sequence[set[int]]) -> set[int]:
    reached, pending = {start}, [start]
    while pending:
        for other in towards[pending.pop()] - reached:
            reached.add(other)
            pending.append(other)
    return reached
