"""Verb in bulk: deal records to users, in turn or to whoever has fewest."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from crm_api.domains.distribution.people import MOST_USERS, active, members
from crm_api.domains.distribution.selection import Selection
from crm_api.domains.distribution.transfer import ACTIONS, movable
from crm_api.domains.distribution.walk import Bulk, State, Task
from crm_api.kernel.collective_rows import Found, loads
from crm_api.kernel.collective_writes import assign
from crm_api.kernel.context import Context
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Ref


class BulkDistribute(Selection):
    """Among whom, and how."""

    users: Annotated[list[Ref], Field(min_length=1, max_length=MOST_USERS)] | None = None
    team_id: Annotated[Ref | None, Field(description="In place of users: the active members of a team.")] = None
    by: Annotated[
        Literal["round_robin", "load"],
        Field(
            description="`round_robin`: in turn, in the order of the users. `load`: each to whoever has the fewest "
            "open records of this kind, counted at the start."
        ),
    ] = "round_robin"

    @model_validator(mode="after")
    def _among(self) -> "BulkDistribute":
        if (self.users is None) == (self.team_id is None):
            raise PydanticCustomError("among", "Give either users or a team_id.")
        return self


async def _prepare(ctx: Context, resource: Resource, body: BulkDistribute, state: State | None) -> State:
    """Whom to deal to stays as it was at the start; who is not active any more ends the job."""
    if state is not None:
        await active(ctx, state["users"], [_pointer(body, i) for i in range(len(state["users"]))])
        return dict(state)
    if body.users is not None:
        users = await active(ctx, body.users, [_pointer(body, i) for i in range(len(body.users))])
    else:
        users = await members(ctx, body.team_id or "")
    found: State = {"users": users, "turn": 0}
    if body.by == "load":
        found["loads"] = await loads(ctx, resource, users)
    return found


def _pointer(body: BulkDistribute, number: int) -> str:
    return "/team_id" if body.users is None else f"/users/{number}"


def deal(rows: list[Found], state: State) -> dict[str, str]:
    """Row -> who gets it; counts on in the state.

    In turn, or to whoever has fewest: then a record that one of the users has already is taken from their number first,
    and stays where it is when that makes theirs the smallest.
    """
    users: list[str] = state["users"]
    dealt = {}
    for row in rows:
        if "loads" not in state:
            dealt[row.id] = users[state["turn"] % len(users)]
            state["turn"] += 1
            continue
        counts = state["loads"]
        if row.open and row.owner_id in counts:
            counts[row.owner_id] -= 1
        least = min(counts.values())
        chosen = row.owner_id if counts.get(row.owner_id) == least else next(u for u in users if counts[u] == least)
        counts[chosen] += 1
        dealt[row.id] = str(chosen)
    return dealt


async def _act(ctx: Context, task: Task[BulkDistribute]) -> None:
    task.state |= {name: dict(value) for name, value in task.state.items() if name == "loads"}
    dealt = deal(task.rows, task.state)
    owners = {row.id: row.owner_id for row in task.rows}
    wanted = {id_: user for id_, user in dealt.items() if owners[id_] != user}
    changed = len(wanted)
    if task.cause is not None and wanted:
        changed = len(await assign(ctx, task.resource, wanted, task.cause))
    for user in dealt.values():
        task.tally.give(user)
    task.tally.done += changed
    task.tally.skip("unchanged", len(dealt) - changed)


_BULK = Bulk("distribute", BulkDistribute, lambda _: ACTIONS, _prepare, _act, owner=True)
DISTRIBUTE = _BULK.verb("transfer", "Deal many {many} to users", movable)
