"""Goes through the rows of an import in steps; a step that a row refuses is done again with fewer, down to that row."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import orjson

from crm_api.domains.exchange import rows as kept
from crm_api.domains.exchange.importing import Import, ImportJob
from crm_api.domains.exchange.subject import Subject, note, subject
from crm_api.kernel.collective_creates import collectable
from crm_api.kernel.context import Context
from crm_api.kernel.problems import CONFLICT, Fault, Problem, from_database
from crm_api.kernel.record import table_of
from crm_api.kernel.resource import Resource
from crm_api.kernel.running import Run, Step

MOST = 500
"""Rows of a step."""
_FEWER = 5
_TOLD_SECONDS = 2.0
"""Between two events that say how far an import is."""
_FIRST, _LAST = 0, 2**62

Settled = dict[str, Any]
"""A row as it is noted afterwards: `row`, `state`, and what else changed."""
Act = Callable[[Context, Subject, Sequence[Any], Any], Awaitable[list[Settled]]]
"""(context in a transaction, import, rows, what `prepare` made of them) -> what became of the rows, or of the first."""
Prepare = Callable[[Subject, Sequence[Any]], Any]
"""What can be made of rows without asking anybody; it runs in a thread."""


class Refused(Problem):
    """A row was refused, so the step must be undone; why is known when it was one row alone."""

    def __init__(self, problem: Problem | None = None) -> None:
        super().__init__(CONFLICT, problem.detail if problem else "A row was refused.")
        self.problem = problem


def imports_of(ctx: Context) -> Resource:
    """Imports as the API shows them."""
    return ctx.kernel.catalog.by_table[table_of(Import).name]


@dataclass(frozen=True)
class Walk:
    """One way through the rows.

    Attributes:
        kind: what the ledger calls it.
        states: of the rows that it is about.
        act: does it.
        problem_state: of a row that was refused.
        prepare: done for the rows of the next step while those of this one are written.
        backwards: the last row first.
        silent: it only looks again, and does not count as done.
    """

    kind: str
    states: tuple[str, ...]
    act: Act
    problem_state: str
    prepare: Prepare = lambda *_: None
    backwards: bool = False
    silent: bool = False

    async def go(self, run: Run, body: ImportJob, name: str = "rows") -> None:
        """All of them; after an interruption it goes on where it was. `name` tells several walks of a job apart."""
        ctx = await run.context()
        largest = MOST if collectable((await subject(ctx, imports_of(ctx), body.import_id)).resource) else 1
        most, told, ahead = largest, 0.0, _Ahead(self, body)
        while True:
            began, done = time.monotonic(), run.done
            try:
                if not await run.step(self._step(run, ahead, name, most)):
                    return
            except Refused as refused:
                if most > 1:
                    most = max(1, most // _FEWER)
                    continue
                await run.step(self._failed(body, name, refused.problem))
            most = min(largest, most * _FEWER)
            if time.monotonic() - told > _TOLD_SECONDS:
                told = time.monotonic()
                ctx = await run.context()
                await note(ctx, imports_of(ctx), body.import_id, {"counts": run.position["counts"]})
            await pace(run, began, run.done - done)

    def _step(self, run: Run, ahead: "_Ahead", name: str, most: int) -> Any:
        body = ahead.body

        async def some(ctx: Context, position: Mapping[str, Any]) -> Step | None:
            ctx.cause = {"kind": self.kind, "job_id": str(run.claim.id), "import_id": body.import_id}
            ctx.via = "import"
            found = await subject(ctx, imports_of(ctx), body.import_id)
            place = self._place(position, name)
            rows, prepared = await ahead.take(ctx, found, place, most)
            if not rows:
                return None
            try:
                settled = await self.act(ctx, found, rows, prepared)
            except Refused:
                raise
            except Problem as problem:
                if problem.kind.status >= 500 or problem.kind.retryable:
                    raise
                raise Refused(problem) from None
            except asyncpg.PostgresError as error:
                found_ = from_database(error, ctx.kernel.catalog.constraints)
                if found_ is None or found_.kind.status >= 500 or found_.kind.retryable:
                    raise
                raise Refused(found_) from error
            await kept.settle(ctx, body.import_id, [item for item in settled if "state" in item])
            return self._after(position, name, rows, settled, found)

        return some

    def _failed(self, body: ImportJob, name: str, problem: Problem | None) -> Any:
        async def one(ctx: Context, position: Mapping[str, Any]) -> Step | None:
            found = await subject(ctx, imports_of(ctx), body.import_id)
            place = self._place(position, name)
            rows = await kept.following(ctx, body.import_id, place, 1, self.states, backwards=self.backwards)
            if not rows:
                return None
            settled = [failed(rows[0], self.problem_state, found, problem)]
            await kept.settle(ctx, body.import_id, settled)
            return self._after(position, name, rows, settled, found)

        return one

    def _place(self, position: Mapping[str, Any], name: str) -> int:
        return int(position.get(name, _LAST if self.backwards else _FIRST))

    def _after(
        self,
        position: Mapping[str, Any],
        name: str,
        rows: Sequence[Any],
        settled: Sequence[Settled],
        found: Subject,
    ) -> Step:
        counts = Counter(position.get("counts") or orjson.loads(found.row["counts"]))
        before = {row["row"]: row["state"] for row in rows}
        for item in settled:
            if "state" in item:
                counts[before[item["row"]]] -= 1
                counts[item["state"]] += 1
        return Step(
            {**position, name: settled[-1]["row"], "counts": {**counts}, "pace": found.row["rows_per_second"]},
            done=0 if self.silent else sum("state" in item for item in settled),
            expected=None if self.silent else counts["rows"],
        )


class _Ahead:
    """Reads and prepares the rows of the next step meanwhile; only this job changes them."""

    def __init__(self, walk: Walk, body: ImportJob) -> None:
        self.body = body
        self._walk = walk
        self._next: asyncio.Task[tuple[Any, Any]] | None = None
        self._key: tuple[int, int] | None = None

    async def take(self, ctx: Context, found: Subject, place: int, most: int) -> tuple[Any, Any]:
        """The rows from a place on, and what was prepared of them; those after them are begun."""
        waiting, self._next = self._next, None
        rows: Any = None
        if waiting is not None and self._key == (place, most):
            with suppress(Exception):  # then they are read here, and an error is this step's
                rows, prepared = await waiting
        elif waiting is not None:
            waiting.cancel()
        if rows is None:
            rows, prepared = await self._read(ctx, found, place, most)
        if len(rows) == most and most > 1:
            self._key = (rows[-1]["row"], most)
            self._next = asyncio.create_task(self._read(replace(ctx, link=None), found, *self._key))
        return rows, prepared

    async def _read(self, ctx: Context, found: Subject, place: int, most: int) -> tuple[Any, Any]:
        walk = self._walk
        rows = await kept.following(ctx, found.id, place, most, walk.states, backwards=walk.backwards)
        return rows, await asyncio.to_thread(walk.prepare, found, rows)


def failed(row: Any, state: str, found: Subject, problem: Problem | None) -> Settled:
    """A row that was refused, with why."""
    faults = [(found.plan.column(fault.pointer), fault) for fault in (problem.errors if problem else ())]
    if problem is not None and not faults:
        faults = [(None, Fault(problem.kind.code, problem.detail, pointer=""))]
    return {**same(row), "state": state, "problems": told(row["row"], faults)}


def same(row: Any) -> Settled:
    """What is known of a row, as it is."""
    before = row["before"]
    return {
        "row": row["row"],
        "object_id": row["object_id"],
        "version": row["version"],
        "before": None if before is None else orjson.loads(before),
    }


def told(row: int, faults: Sequence[tuple[str | None, Fault]]) -> list[dict[str, Any]]:
    """Faults as they are kept and sent: with row and column."""
    return [{"row": row, "column": column, **fault.wire()} for column, fault in faults[:50]]


async def pace(run: Run, began: float, rows: int) -> None:
    """Waits until as much time has gone since `began` as so many rows are to take at least."""
    asked = run.position.get("pace")
    if not asked:
        return
    until = began + rows / asked
    while (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(left, 5.0))
        await run.progress(run.done)
