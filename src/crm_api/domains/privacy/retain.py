"""Applies retention policies: some records of each, again and again, as the schedule has it."""

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.privacy.erase import ask
from crm_api.domains.privacy.erasure import ERASURES, ErasureRequest
from crm_api.domains.privacy.obstacles import obstacles
from crm_api.domains.privacy.person import PEOPLE, same_person
from crm_api.domains.privacy.preview_retention import matching
from crm_api.domains.privacy.retention_policy import RETENTION_POLICIES
from crm_api.kernel.collections import run as page_of
from crm_api.kernel.context import Context, Kernel
from crm_api.kernel.database import TENANT, Statement, bound
from crm_api.kernel.everywhere import due, each
from crm_api.kernel.external import settle
from crm_api.kernel.jobs import trusted
from crm_api.kernel.record import among
from crm_api.kernel.repository import delete, load, update

AT_ONCE = 50
"""Records of a policy that one run deals with."""
_POLICIES, _PAGE, _PAGES = 200, 100, 20
_ACTIVE = due(sa.func.active_retention_policies(sa.literal_column(str(_POLICIES))))
_ERASURES = ERASURES.table
_ERASED = Statement(
    sa.select(sa.cast(_ERASURES.c.object_id, sa.Text()).label("id")).where(
        _ERASURES.c.tenant_id == TENANT,
        among(_ERASURES.c.object_id, sa.bindparam("ids", type_=ARRAY(sa.Uuid()))),
        among(_ERASURES.c.state, sa.literal_column("ARRAY['running', 'done']", ARRAY(sa.Text()))),
    )
)


async def apply_retention(kernel: Kernel) -> int:
    """Applies each active policy of every tenant to some records; gives to how many."""
    return await each(kernel, await kernel.database.fetch(None, _ACTIVE, {}), "retention", _apply)


async def _apply(ctx: Context, id_: str) -> int:
    ctx = trusted(ctx)
    policy = await load(ctx, RETENTION_POLICIES, id_, "update")
    if policy["state"] != "active":
        return 0
    column = next(name for name, resource in PEOPLE.items() if resource.plural == policy["resource"])
    done = 0
    for record in await _reached(ctx, policy, column):
        if policy["effect"] == "delete":
            await delete(ctx, PEOPLE[column], record)
        else:
            body: dict[str, Any] = {column: record, "basis": "no_longer_needed"}
            await ask(ctx, ErasureRequest.model_validate(body), policy_id=id_)
        done += 1
    await update(ctx, RETENTION_POLICIES, id_, {"ran_at": ctx.now}, by_verb=True, recorded="apply")
    return done


async def _reached(ctx: Context, policy: Any, column: str) -> list[str]:
    """The next records to deal with: none that was erased already, and none that something keeps."""
    found: list[str] = []
    cursor: str | None = None
    for _ in range(_PAGES):
        resource, filters, listing = matching(ctx, policy, _PAGE)
        await settle(ctx, filters)
        answer, cursor = await page_of(ctx, resource, listing, cursor)
        ids = [item["id"] for item in answer["data"]]
        erased = {row["id"] for row in await ctx.fetch(_ERASED, {"ids": bound([UUID(one) for one in ids])})}
        for one in ids:
            if one not in erased and not (await obstacles(ctx, await same_person(ctx, column, one)))[0]:
                found.append(one)
            if len(found) == AT_ONCE:
                return found
        if cursor is None:
            break
    return found
