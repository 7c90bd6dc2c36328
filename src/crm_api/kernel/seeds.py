"""What domains give a tenant to begin with, each seed once, whatever becomes of it."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.domain import Catalog, Seed
from crm_api.kernel.locking import one_at_a_time
from crm_api.kernel.record import Record, table_of
from crm_api.kernel.resource import Resource
from crm_api.kernel.unit_of_work import transact


class TenantSeed(Record):
    """A seed that the tenant got, or that came too late to be given; append-only for the server's role."""

    __tablename__ = "tenant_seeds"

    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


_SEEDS = table_of(TenantSeed)
_SOWN = Statement(sa.select(_SEEDS.c.name).where(_SEEDS.c.tenant_id == TENANT))
_NOTE = Statement(
    sa.insert(_SEEDS)
    .values(
        tenant_id=TENANT,
        name=sa.bindparam("seed", type_=sa.Text()),
        at=sa.bindparam("at", type_=sa.DateTime(timezone=True)),
    )
    .returning(_SEEDS.c.name)
)


def seeds(catalog: Catalog) -> tuple[Seed, ...]:
    """Every seed, those of earlier domains first."""
    return tuple(seed for domain in catalog.domains for seed in domain.seeds)


async def sow(ctx: Context) -> list[str]:
    """Gives the tenant each seed that was never given to it; the names of those that made something.

    All in one transaction, together with the note of it: nothing is given twice, and what was deleted stays away.
    """

    async def work(inner: Context) -> list[str]:
        await one_at_a_time(inner, "seeds")
        sown = {row["name"] for row in await inner.fetch(_SOWN, {})}
        made = []
        for seed in seeds(inner.kernel.catalog):
            if seed.name not in sown:
                if await seed.run(inner):
                    made.append(seed.name)
                await inner.fetch(_NOTE, {"seed": seed.name, "at": inner.now})
        return made

    result: list[str] = await transact(ctx, work)
    return result


async def ever_had(ctx: Context, resource: Resource) -> bool:
    """Whether the tenant has such records or had some: then it knows its way, and a seed keeps out of it."""
    one: Any = sa.literal_column("1")
    first = sa.select(one).where(resource.table.c.tenant_id == TENANT).limit(one)
    return bool(await ctx.fetch(ctx.kernel.statement(("ever had", resource.plural), lambda: Statement(first)), {}))
