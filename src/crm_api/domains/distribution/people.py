"""To whom records are given: users that the caller may see and that are active, or the members of a team."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.identity.principal import PRINCIPALS
from crm_api.domains.identity.team import TEAM_MEMBERS, TEAMS
from crm_api.kernel.collective_rows import named
from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import Statement
from crm_api.kernel.external import is_external
from crm_api.kernel.problems import INVALID, Fault, Problem, invalid
from crm_api.kernel.query import framed
from crm_api.kernel.record import among
from crm_api.kernel.repository import find

MOST_USERS = 200
_IDS = sa.bindparam("ids", type_=ARRAY(sa.Uuid()))
_TEAM = sa.bindparam("team", type_=sa.Uuid())


async def active(ctx: Context, texts: Sequence[str], pointers: Sequence[str]) -> list[str]:
    """The ids of principals by id or external id, each once.

    Raises:
        Problem: 422 for each that is hidden, absent, or not active.
    """
    if any(is_external(text) for text in texts):
        ctx.access.through(PRINCIPALS)
    ids = await named(ctx, PRINCIPALS, texts)
    known = await _known(ctx, ids)
    faults = []
    for id_, pointer in zip(ids, pointers, strict=True):
        if id_ not in known:
            faults.append(Fault("reference_not_found", "There is no such principal.", pointer=pointer))
        elif not known[id_]:
            faults.append(Fault("inactive", "This principal is not active.", pointer=pointer))
    if faults:
        raise Problem(INVALID, "Not everybody can be given records.", faults)
    return list(dict.fromkeys(ids))


async def _known(ctx: Context, ids: Sequence[str]) -> dict[str, bool]:
    """Whether each is active, of the principals that the caller may see; by id."""

    def build() -> Statement:
        table = PRINCIPALS.table
        gate = ctx.kernel.policy.gate(ctx.access, PRINCIPALS, "read", table)
        rows = sa.select(sa.cast(table.c.id, sa.Text()).label("id"), table.c.is_active)
        return framed(rows.where(among(table.c.id, _IDS), *gate).lateral("page"))

    _, rows = await settled(ctx, ("active",), build, {"ids": list(ids)})
    return {row["id"]: row["is_active"] for row in rows if row["id"] is not None}


async def members(ctx: Context, team: str) -> list[str]:
    """The active members of a team that the caller may see, in the order of their ids.

    Raises:
        Problem: 422 when there is no such team, or nobody or too many in it.
    """
    if is_external(team):
        ctx.access.through(TEAMS)
    ctx.access.through(TEAM_MEMBERS)
    found = await find(ctx, TEAMS, team)
    if found is None:
        raise invalid("/team_id", "reference_not_found", "There is no such team.")

    def build() -> Statement:
        people, links = PRINCIPALS.table, TEAM_MEMBERS.table
        policy = ctx.kernel.policy
        rows = (
            sa.select(sa.cast(people.c.id, sa.Text()).label("id"))
            .select_from(sa.join(links, people, people.c.id == links.c.principal_id))
            .where(
                links.c.team_id == _TEAM,
                people.c.is_active,
                *policy.gate(ctx.access, TEAM_MEMBERS, "read", links),
                *policy.gate(ctx.access, PRINCIPALS, "read", people),
            )
            .order_by(people.c.id)
            .limit(sa.literal_column(str(MOST_USERS + 1)))
        )
        return framed(rows.lateral("page"))

    _, rows = await settled(ctx, ("members",), build, {"team": found["id"]})
    ids = [row["id"] for row in rows if row["id"] is not None]
    if not ids:
        raise invalid("/team_id", "empty", "Nobody in this team is active.")
    if len(ids) > MOST_USERS:
        raise invalid("/team_id", "too_many", f"Records are dealt to at most {MOST_USERS} users.")
    return ids
