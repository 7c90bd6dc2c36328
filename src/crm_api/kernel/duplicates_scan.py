"""Kind of job: compare all records of a resource with each other, and tell the pairs that may mean the same."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field

from crm_api.kernel.context import Context
from crm_api.kernel.database import Row, Statement
from crm_api.kernel.duplicates_search import candidates
from crm_api.kernel.problems import not_found
from crm_api.kernel.projection import Projection
from crm_api.kernel.resource import JobKind, Resource
from crm_api.kernel.running import Run, Step
from crm_api.kernel.schema import Code, Wire

MOST_PAIRS = 1_000
STEP = 100
"""Records of a step."""


class ScanRequest(Wire):
    """From which score on a pair is told."""

    score: Annotated[int, Field(ge=1, le=100)] = 70


class Scan(ScanRequest):
    """The parameters of the job."""

    resource: Code


def _page(ctx: Context, resource: Resource) -> tuple[Projection, Statement]:
    table, projection = resource.table, Projection(resource, ctx.access)
    gate = ctx.kernel.policy.gate(ctx.access, resource, "read", table)
    rows = sa.select(*projection.select(table)).where(*gate, table.c.id > sa.bindparam("after", type_=sa.Uuid()))
    return projection, Statement(rows.order_by(table.c.id).limit(sa.literal_column(str(STEP))))


async def scan_duplicates(run: Run, body: Scan) -> dict[str, Any]:
    """Goes through the records that the originator sees, in the order of their ids."""

    async def some(ctx: Context, position: Mapping[str, Any]) -> Step | None:
        resource = ctx.kernel.catalog.resources.get(body.resource)
        if resource is None or resource.duplicates is None:
            raise not_found("resource")
        ctx.kernel.policy.require(ctx.access, ctx.principal.scopes, resource, "read")
        pairs = list(position.get("pairs", ()))
        if len(pairs) >= MOST_PAIRS:
            return None
        rows, projection = await _rows(ctx, resource, str(position.get("after", UUID(int=0))))
        if not rows:
            return None
        done = 0
        for row in rows:
            record = projection.render([row[name] for name in projection.columns])
            pairs += [
                {"ids": [record["id"], found["record"]["id"]], "score": found["score"], "rules": found["rules"]}
                for found in await candidates(ctx, resource, record, floor=body.score)
                if found["record"]["id"] > record["id"]  # the other half of a pair is found by the other record
            ]
            done += 1
            if len(pairs) >= MOST_PAIRS:
                break
        return Step({"after": rows[done - 1]["id"], "pairs": pairs[:MOST_PAIRS]}, done)

    await run.steps(some)
    pairs = run.position.get("pairs", [])
    return {"pairs": pairs, "has_more": len(pairs) >= MOST_PAIRS}


async def _rows(ctx: Context, resource: Resource, after: str) -> tuple[list[Row], Projection]:
    key = ("scan", resource.plural, ctx.access.shape)
    projection, statement = ctx.kernel.statement(key, lambda: _page(ctx, resource))
    return await ctx.fetch(statement, {**ctx.access.values, "after": after}), projection


SCAN = JobKind("scan_duplicates", Scan, scan_duplicates)
