"""Kind of job: compare all records of a resource with each other, and tell the pairs that may mean the same."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from crm_api.kernel.collections import page_rows
from crm_api.kernel.context import Context
from crm_api.kernel.domain import JobKind
from crm_api.kernel.duplicates_search import candidates
from crm_api.kernel.filters import Group
from crm_api.kernel.paging import Key
from crm_api.kernel.problems import not_found
from crm_api.kernel.query import Listing
from crm_api.kernel.resource import Resource
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


async def scan_duplicates(run: Run, body: Scan) -> dict[str, Any]:
    """Goes through the records that the originator sees, in the order of their ids."""

    async def some(ctx: Context, position: Mapping[str, Any]) -> Step | None:
        resource = ctx.kernel.catalog.resources.get(body.resource)
        if resource is None or resource.duplicates is None:
            raise not_found("resource")
        ctx.require(resource, "read")
        pairs = list(position.get("pairs", ()))
        if len(pairs) >= MOST_PAIRS:
            return None
        records = await _records(ctx, resource, str(position.get("after", UUID(int=0))))
        if not records:
            return None
        done = 0
        for record in records:
            pairs += [
                {"ids": [record["id"], found["record"]["id"]], "score": found["score"], "rules": found["rules"]}
                for found in await candidates(ctx, resource, record, floor=body.score)
                if found["record"]["id"] > record["id"]  # the other half of a pair is found by the other record
            ]
            done += 1
            if len(pairs) >= MOST_PAIRS:
                break
        return Step({"after": records[done - 1]["id"], "pairs": pairs[:MOST_PAIRS]}, done)

    await run.steps(some)
    pairs = run.position.get("pairs", [])
    return {"pairs": pairs, "has_more": len(pairs) >= MOST_PAIRS}


async def _records(ctx: Context, resource: Resource, after: str) -> list[dict[str, Any]]:
    values = {"limit": STEP, "c0": after}
    listing = Listing(Group("and"), values, (Key("id", descending=False),), STEP, cursor=[after])
    plan, rows = await page_rows(ctx, resource, listing)
    return [plan.item(row) for row in rows if plan.present(row)]


SCAN = JobKind("scan_duplicates", Scan, scan_duplicates)
