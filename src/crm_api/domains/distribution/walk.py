"""How a verb in bulk goes through its records: in steps of a job, or without a trace for a preview."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import create_model

from crm_api.domains.distribution.selection import MOST_REFUSED, BulkPreview, Selection, Tally, permitted
from crm_api.domains.distribution.undo import Undo, UndoableKind
from crm_api.domains.jobs.job import JobView
from crm_api.kernel.collections import tree_of
from crm_api.kernel.collective import Collective
from crm_api.kernel.collective_rows import Found, count, judged, named, next_ids
from crm_api.kernel.context import Context
from crm_api.kernel.domain import JobKind
from crm_api.kernel.problems import INVALID, Problem
from crm_api.kernel.query import COUNT_LIMITS
from crm_api.kernel.resource import Resource
from crm_api.kernel.running import Run, Step
from crm_api.kernel.schema import Code, Wire

STEP = 200
"""Records of a step."""
PREVIEW_STEP = 2_000
PREVIEW_ROWS = 10_000
"""Records that a preview looks at."""
Body = TypeVar("Body", bound=Selection)
State = dict[str, Any]


@dataclass(slots=True)
class Page:
    """Some records: id -> how the caller named it, where the next ones begin, and the filter that found them."""

    ids: dict[str, str]
    place: Any
    size: int
    chosen: Any = None


@dataclass(slots=True)
class Task(Generic[Body]):
    """What `act` is to do with the records of one step.

    Attributes:
        body: what was asked for.
        resource: of the records.
        rows: those that the caller may change so, in their order.
        tally: where it counts.
        state: what it keeps from step to step; JSON.
        cause: for the ledger; None for a preview, which writes nothing.
        at: where it stopped within these records, as it said.
    """

    body: Body
    resource: Resource
    rows: list[Found]
    tally: Tally
    state: State
    cause: Mapping[str, Any] | None
    at: Any = None


@dataclass(frozen=True)
class Bulk(Generic[Body]):
    """One verb in bulk.

    Attributes:
        kind: the verb, as the ledger calls it too.
        body: schema of the request.
        actions: what the caller must be permitted to do with each record.
        prepare: checks the request under the rights of now, and gives or renews the state.
        act: does it, or counts what it would do; gives None when it is done with these records, else where it stopped.
        owner: records get another owner.
        previewed: schema of a preview.
        moves: it tells which records go from which territory to which.
        undo: how it is taken back; `act` keeps what it changed then.
    """

    kind: str
    body: type[Body]
    actions: Callable[[Body], tuple[str, ...]]
    prepare: Callable[[Context, Resource, Body, State | None], Awaitable[State]]
    act: Callable[[Context, "Task[Body]"], Awaitable[Any]]
    owner: bool = False
    previewed: type[BulkPreview] = BulkPreview
    moves: bool = False
    undo: Undo | None = None

    def verb(self, permission: str, summary: str, applies: Callable[[Resource], bool]) -> Collective:
        """As the kernel offers it, with its job; what that needs depends on the resource, so each step asks for it."""
        base: type[Wire] = self.body
        model = create_model(f"{self.body.__name__}Job", __base__=base, resource=(Code, ...))

        async def run(run: Run, body: Any) -> dict[str, Any]:
            return await self.run(run, body, body.resource)

        name = f"{self.kind}_records"
        job = UndoableKind(name, model, run, undo=self.undo) if self.undo else JobKind(name, model, run)
        told = (JobView, self.previewed, applies)
        return Collective(self.kind, permission, summary, self.body, job, self.check, self.preview, *told)

    async def check(self, ctx: Context, resource: Resource, body: Body, state: State | None = None) -> State:
        """Refuses what the caller may not ask for at all, under the rights of now.

        Raises:
            Problem: 403 for a missing permission or a field that is not the caller's, 422 for what is wrong.
        """
        for action in self.actions(body):
            ctx.require(resource, action)
        ctx.require(resource, "read")
        if self.owner:
            ctx.kernel.policy.writable(ctx.access, resource, {"owner_id": None})
        if body.filter is not None:
            await tree_of(ctx, resource, body.filter)
        return await self.prepare(ctx, resource, body, state)

    async def preview(self, ctx: Context, resource: Resource, body: Body) -> dict[str, Any]:
        """What the job would do to the first records, had it run just now."""
        state, tally = await self.check(ctx, resource, body), Tally()
        place, examined = None, 0
        while examined < PREVIEW_ROWS:
            page = await _page(ctx, resource, body, place, PREVIEW_STEP)
            if page is None:
                break
            rows, refused = await self._judge(ctx, resource, body, page, lock=False)
            _count(page, refused, tally)
            await self.act(ctx, Task(body, resource, rows, tally, state, None))
            place, examined = page.place, examined + page.size
        matched = await _matched(ctx, resource, body)
        told = {**tally.told(state.get("loads"), moves=self.moves), "samples": tally.samples}
        return {"object": "bulk_preview", "matched": matched, "examined": examined, **told}

    async def run(self, run: Run, body: Body, plural: str) -> dict[str, Any]:
        """The whole job: its result. Each step is of `STEP` records, and is done once."""
        cause = {"kind": self.kind, "job_id": str(run.claim.id)}

        async def step(ctx: Context, position: Mapping[str, Any]) -> Step | None:
            resource = ctx.kernel.catalog.resources.get(plural)
            if resource is None:
                raise Problem(INVALID, "This version of the server does not know these records.")
            state = await self.check(ctx, resource, body, position.get("state"))
            waiting, place, tally = position.get("waiting"), position.get("place"), Tally.of(position.get("tally"))
            page = await (
                _page(ctx, resource, body, place, STEP) if waiting is None else _again(ctx, resource, body, waiting)
            )
            if page is None:
                return None
            expected = None
            if place is None and waiting is None:  # counted before the records change, since then they may not match
                expected = (await _matched(ctx, resource, body, known=True))["value"]
            rows, refused = await self._judge(ctx, resource, body, page, lock=True)
            at = waiting and waiting["at"]
            left = await self.act(ctx, Task(body, resource, rows, tally, state, cause, at))
            kept = {"state": state, "tally": vars(tally)}
            if left is not None:
                again = {"ids": page.ids, "place": page.place, "size": page.size, "at": left}
                return Step({**kept, "place": place, "waiting": again}, done=0, expected=expected)
            _count(page, refused, tally)
            kept["tally"] = vars(tally)
            return Step({**kept, "place": page.place}, done=page.size, expected=expected)

        await run.steps(step)
        tally = Tally.of(run.position.get("tally"))
        return tally.told((run.position.get("state") or {}).get("loads"), moves=self.moves)

    async def _judge(
        self, ctx: Context, resource: Resource, body: Body, page: Page, *, lock: bool
    ) -> tuple[list[Found], Tally]:
        """The rows that may be changed, in their order; the others are counted apart."""
        found = await judged(ctx, resource, sorted(page.ids), self.actions(body), page.chosen, lock=lock)
        rows, refused = [], Tally()
        for id_, name in page.ids.items():
            row = found.get(id_)
            if row is None:
                if page.chosen is None:  # what a filter found and does not find any more was changed meanwhile
                    refused.refuse(resource.singular, name, "not_found")
                else:
                    refused.skip("changed_meanwhile")
            elif permitted(resource.plural, resource.singular, row, name, refused, owner=self.owner):
                rows.append(row)
        return rows, refused


def _count(page: Page, refused: Tally, tally: Tally) -> None:
    """Adds what was refused of a page to what was refused before."""
    tally.refused += refused.refused[: MOST_REFUSED - len(tally.refused)]
    for code, number in refused.skipped.items():
        tally.skip(code, number)
    tally.skip("named_twice", page.size - len(page.ids))


async def _page(ctx: Context, resource: Resource, body: Selection, place: Any, most: int) -> Page | None:
    if body.filter is not None:
        chosen = await tree_of(ctx, resource, body.filter)
        ids = await next_ids(ctx, resource, *chosen, place, most)
        return Page(dict(zip(ids, ids, strict=True)), ids[-1], len(ids), chosen) if ids else None
    texts, begin = body.ids or [], place or 0
    some = texts[begin : begin + most]
    if not some:
        return None
    meant = await named(ctx, resource, texts[: begin + len(some)])
    before = set(meant[:begin])
    ids_: dict[str, str] = {}
    for id_, text in zip(meant[begin:], some, strict=True):
        if id_ not in before:
            ids_.setdefault(id_, text)
    return Page(ids_, begin + len(some), len(some))


async def _again(ctx: Context, resource: Resource, body: Selection, waiting: Mapping[str, Any]) -> Page:
    """The records of the last step, which was not done with them."""
    chosen = None if body.filter is None else await tree_of(ctx, resource, body.filter)
    return Page(dict(waiting["ids"]), waiting["place"], waiting["size"], chosen)


async def _matched(ctx: Context, resource: Resource, body: Selection, *, known: bool = False) -> dict[str, Any]:
    """How many records there are; with `known`, no value unless all were counted."""
    if body.filter is None:
        return {"value": len(body.ids or ()), "relation": "eq"}
    found, most = await count(ctx, resource, *(await tree_of(ctx, resource, body.filter))), COUNT_LIMITS["exact"]
    if found > most:
        return {"value": None if known else most, "relation": "gte"}
    return {"value": found, "relation": "eq"}
