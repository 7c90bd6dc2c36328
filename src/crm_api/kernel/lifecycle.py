"""State graphs as data; the only code that says which state follows which."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from crm_api.kernel.schema import Wire

Move = Callable[[Any, Any, Any, Any], Awaitable[Mapping[str, Any]]]
"""(context, resource, locked row, body) -> further columns to write, or raises a Problem."""
Obstacle = Callable[[Any, Any, Any, Any], Awaitable[object]]
"""(context, resource, row, body) -> nothing that counts, or raises a Problem; it changes nothing."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A verb that moves a record from any of `sources` to `target`; `event` is its past tense.

    `run` is what the move takes and brings beside the state, with the `body` that was sent; nothing of it is required.
    It may bring one of the states in `otherwise`, too, each with the past tense that stands for it.

    `blocked` are asked before the move, and when somebody only wants to know what stands in its way: then of a row that
    is not locked, and with a body in which nothing was sent. A `run` that changes nothing itself may be one of them.

    Nobody asks for an `internal` one: it is what something else does to the record, such as a decision.
    """

    verb: str
    sources: frozenset[str]
    target: str
    event: str
    run: Move | None = None
    body: type[Wire] | None = None
    otherwise: Mapping[str, str] = field(default_factory=dict, hash=False)
    blocked: tuple[Obstacle, ...] = ()
    internal: bool = False

    def __post_init__(self) -> None:
        """Refuses obstacles that cannot be asked without a body."""
        if self.blocked and self.body and any(info.is_required() for info in self.body.model_fields.values()):
            raise ValueError(f"{self.verb}: what blocks it cannot be told without what {self.body.__name__} requires")

    @property
    def targets(self) -> tuple[str, ...]:
        """The states that it may lead to."""
        return (self.target, *self.otherwise)


@dataclass(frozen=True)
class Lifecycle:
    """The graph of one state column. A column of this kind is never in a create or update schema."""

    column: str
    initial: str
    edges: tuple[Edge, ...]

    def __post_init__(self) -> None:
        """Refuses a graph with an unreachable state or two edges of one name."""
        verbs = [edge.verb for edge in self.edges]
        if len(verbs) != len(set(verbs)):
            raise ValueError(f"{self.column}: two edges share a verb")
        reached = set(self.states)
        if stray := {state for edge in self.edges for state in edge.sources} - reached:
            raise ValueError(f"{self.column}: nothing leads to {sorted(stray)}")

    @property
    def states(self) -> tuple[str, ...]:
        """Every state, the initial one first."""
        return tuple(dict.fromkeys([self.initial, *(state for edge in self.edges for state in edge.targets)]))

    @property
    def offered(self) -> tuple[Edge, ...]:
        """The edges that somebody may ask for."""
        return tuple(edge for edge in self.edges if not edge.internal)

    def edge(self, verb: str) -> Edge | None:
        """The edge of a verb."""
        return next((edge for edge in self.edges if edge.verb == verb), None)


def edge(
    verb: str,
    sources: tuple[str, ...],
    target: str,
    *,
    event: str,
    run: Move | None = None,
    body: type[Wire] | None = None,
    otherwise: Mapping[str, str] | None = None,
    blocked: tuple[Obstacle, ...] = (),
    internal: bool = False,
) -> Edge:
    """`edge("activate", ("prospect",), "active", event="activated")`."""
    return Edge(verb, frozenset(sources), target, event, run, body, otherwise or {}, blocked, internal)
