"""One generic event for each object and transaction: a later change is merged into the event of the first.

The event says what the transaction as a whole did to the object:

| before | after | event | `previous` |
|---|---|---|---|
| nothing | live | `created` | empty |
| live | live | `updated` | what any change touched, as it was before the first |
| live | deleted | `deleted` | the whole record, as it was before the first |
| deleted | live | `restored` | empty |
| nothing or deleted | deleted | none: nobody could see anything of it | |

`data` and `version` are those after the last change. A deletion that is taken back counts as an update whose
`previous` is what differs in the end. The event keeps the place of the first change in the order of the outbox: its id
was drawn after the object was locked, and the lock is held to the end. Business events are not merged, each stays. Nor
are audit rows: the audit log is the history of every version, the outbox is what others are promised.

Only transactions of ours coalesce (`Context.link` is set); a write that is one statement has one event anyway.
Who rolls back to a savepoint puts `Context.nets` back, too, as `attempt` of `running.py` does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from crm_api.kernel.context import Context, Net
from crm_api.kernel.database import Row
from crm_api.kernel.resource import Resource

Mode = Literal["apart", "first", "again"]
"""How a statement emits: all events by themselves; so, giving the outbox id of the generic one; or merging that one."""

_BEFORE = {"created": "nothing", "updated": "live", "deleted": "live", "restored": "deleted"}
_AS_A_WHOLE = {
    ("nothing", True): "created",
    ("live", True): "updated",
    ("live", False): "deleted",
    ("deleted", True): "restored",
}


@dataclass(slots=True)
class Emission:
    """What a write emits beside what its transaction has emitted before.

    `events` are past tenses to insert; `values` the parameters of `ledger.entries` in this mode.
    """

    mode: Mode
    events: tuple[str, ...]
    values: dict[str, Any] = field(default_factory=dict)
    _remember: Callable[[int | None], None] | None = None

    def done(self, row: Row) -> None:
        """Remembers where the event of a write is; `row` is what the statement that wrote gave."""
        if self._remember is not None:
            self._remember(row[-1])


def emission(ctx: Context, resource: Resource, id_: str | UUID, events: tuple[str, ...]) -> Emission:
    """How a write of an object emits its events, of which the generic one comes first."""
    if ctx.link is None or events[0] not in _BEFORE:
        return Emission("apart", events)
    key = (resource.singular, UUID(str(id_)))
    net = ctx.nets.get(key) or Net(_BEFORE[events[0]])

    def remember(place: int | None) -> None:
        ctx.nets[key] = net
        ctx.moved |= bool(resource.access_fields)
        net.place = place

    kind = _AS_A_WHOLE.get((net.before, events[0] != "deleted"))
    if net.place is None:
        return Emission("first", (kind or events[0], *events[1:]), _remember=remember)
    return Emission("again", events[1:], {"place": net.place, "kind": kind}, remember)
