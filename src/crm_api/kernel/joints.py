"""What a resource declares of documents: what is worked out, when locked, which lists are rows, how it is printed."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crm_api.kernel.record import Record
from crm_api.kernel.schema import Wire

if TYPE_CHECKING:
    from crm_api.kernel.context import Context
    from crm_api.kernel.resource import Resource

BuildFunction = Callable[
    ["Context", "Resource", Mapping[str, Any], Mapping[str, Any] | None], Awaitable[Mapping[str, Any]]
]
"""(context, resource, values that were sent, row before or None) -> further columns to write, or raises a Problem."""


ERASED = "Erased"
"""What stands in place of a name after its erasure, where something has to."""


@dataclass(frozen=True)
class Build:
    """What follows from the whole record, worked out before it is written: the prices and totals of an order.

    Asked of every create, and of an update by a body that gives one of `fields`, null too, with the locked row; not of
    a verb, which says itself what it changes. It reads, and writes nothing.
    """

    fields: frozenset[str]
    run: BuildFunction


@dataclass(frozen=True)
class Lock:
    """What makes an issued document immutable: outside of `states` a body may change nothing but the fields `free`."""

    states: frozenset[str]
    free: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Parts:
    """A list of a record whose items are rows of a resource of their own as well, so that others can refer to them.

    A build gives the items with all columns of that resource; the list keeps the fields of `item`. They are written
    with the record and by nobody else. `column` is their reference to the record. A `journal` is only added to: its
    rows stay as they are, whatever becomes of the list, which has the newest. The items tell the fields `tells` of the
    record, so the list is hidden with each of them; and its rows with the list.
    """

    plural: str
    model: type[Record]
    column: str
    item: type[Wire]
    journal: bool = False
    tells: frozenset[str] = frozenset()


def telling(parts: Mapping[str, Parts], fields: frozenset[str]) -> set[str]:
    """The lists whose items tell one of these fields."""
    return {name for name, part in parts.items() if part.tells & fields}


@dataclass(frozen=True)
class Printed:
    """That records are printed, as sales documents are: with lines, taxes and totals, for an account.

    `dates` are the columns of the days that stand on it, the day it is of first. It is marked as a draft in `drafts`.
    """

    dates: tuple[str, ...]
    drafts: frozenset[str] = frozenset({"draft", "pending_approval"})
