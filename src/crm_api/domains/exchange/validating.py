"""Job: reads the file of an import, and says of each row what would be done and all that is wrong with it."""

import asyncio
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import orjson
from pydantic import ValidationError

from crm_api.domains.exchange import rows as kept
from crm_api.domains.exchange.importing import ImportJob
from crm_api.domains.exchange.mapping import Draft, Wanted
from crm_api.domains.exchange.matching import match, records, refer
from crm_api.domains.exchange.reading import Row
from crm_api.domains.exchange.subject import Subject, file_of, note, subject
from crm_api.domains.exchange.walking import MOST, Walk, imports_of, pace, told
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM, read_values
from crm_api.kernel.domain import JobKind
from crm_api.kernel.problems import Fault, Problem, from_validation
from crm_api.kernel.projection import plain
from crm_api.kernel.running import Run, Step
from crm_api.kernel.schema import external_key

_CLEARED = 20_000
"""Rows of an earlier validation that are deleted in a step."""
_NUL = b"\\u0000"


class _Anything(Container[str]):
    """Every key: which of them rows of the file have is known when all were read."""

    def __contains__(self, key: object) -> bool:
        return True


async def validate(run: Run, body: ImportJob) -> dict[str, Any]:
    """Writes a row of the import for each row of the file; nothing else is changed."""

    async def clear(ctx: Context, position: Mapping[str, Any]) -> Step | None:
        gone = await kept.clear(ctx, body.import_id, _CLEARED)
        return Step({**position, "cleared": gone < _CLEARED}, done=0) if gone else None

    if not run.position.get("cleared"):
        await run.steps(clear)
    ctx = await run.context()
    found = await subject(ctx, imports_of(ctx), body.import_id)
    await found.name(ctx)
    async with file_of(found) as source:
        lines = await asyncio.to_thread(lambda: source.found().rows())
        after = int(run.position.get("after", 0))
        while drafts := await asyncio.to_thread(_drafts, found, lines, after):
            began = time.monotonic()
            await run.step(_keep(body, drafts))
            await pace(run, began, len(drafts))
    if found.plan.self_reference is not None:
        await Walk("import", ("create", "update"), _lead_somewhere, "invalid", silent=True).go(run, body, "led")
    ctx = await run.context()
    counts = await kept.counted(ctx, body.import_id)
    done = {"state": "validated", "counts": counts, "validated": found.digest}
    await note(ctx, imports_of(ctx), body.import_id, done, "validated")
    return counts


def _drafts(found: Subject, lines: Iterator[Row], after: int) -> list[Draft]:
    """The next rows of the file after a number, read."""
    fresh = (line for line in lines if line[0] > after)
    return [found.plan.draft(number, cells) for number, cells in islice(fresh, MOST)]


def _keep(body: ImportJob, drafts: Sequence[Draft]) -> Any:
    async def some(ctx: Context, position: Mapping[str, Any]) -> Step:
        found = await subject(ctx, imports_of(ctx), body.import_id)
        fresh = [_copy(draft) for draft in drafts]  # the step may be done again
        await kept.write(ctx, body.import_id, await judged(ctx, found, fresh))
        return Step(
            {**position, "cleared": True, "after": drafts[-1].row, "pace": found.row["rows_per_second"]},
            done=len(drafts),
        )

    return some


def _copy(draft: Draft) -> Draft:
    return Draft(draft.row, dict(draft.values), dict(draft.external), list(draft.wanted), list(draft.faults))


async def judged(ctx: Context, found: Subject, drafts: Sequence[Draft]) -> list[dict[str, Any]]:
    """What is kept of rows: what would be done, with which values, and what is wrong."""
    for draft in drafts:
        _plain(draft)
        _customs(found, draft)
    ready = [draft for draft in drafts if not draft.faults]
    own = found.plan.self_reference
    await refer(ctx, found.plan, ready, {} if own is None else {own.field: _Anything()})
    matched = await match(ctx, found.plan, found.rules, [draft for draft in ready if not draft.faults])
    states = {draft.row: _state(found, draft, matched) for draft in drafts}
    for draft in drafts:
        _check(found, draft, ctx.access.sources, update=states[draft.row] == "update")
    current = {item["id"]: item for item in await records(ctx, found.resource, "id", matched.values())}
    return [_record(found, draft, states[draft.row], current.get(matched.get(draft.row, ""))) for draft in drafts]


def _plain(draft: Draft) -> None:
    """Refuses what JSON may say and text in the database may not."""
    if _NUL in orjson.dumps([draft.values, draft.external, [wanted.text for wanted in draft.wanted]]):
        draft.values, draft.external, draft.wanted = {}, {}, []
        draft.fault(None, "bad_value", "A value contains a character that text cannot hold.")


def _customs(found: Subject, draft: Draft) -> None:
    """Custom fields in the form in which they are kept, so that records are found by them; else what is wrong."""
    known = {fault.pointer for _, fault in draft.faults}
    try:
        if draft.custom:
            draft.values[CUSTOM] = read_values(found.plan.customs, draft.custom, new=False, complete=False)
    except Problem as problem:
        draft.faults += [
            (found.plan.column(fault.pointer), fault) for fault in problem.errors if fault.pointer not in known
        ]


def _required(found: Subject, draft: Draft) -> None:
    """Custom fields that a new record must have."""
    known = {fault.pointer for _, fault in draft.faults} | {wanted.pointer for wanted in draft.wanted}
    try:
        read_values(found.plan.customs, draft.custom, new=True, complete=True)
    except Problem as problem:
        lost = [fault for fault in problem.errors if fault.pointer not in known and fault.code == "required"]
        draft.faults += [(found.plan.column(fault.pointer), fault) for fault in lost]


def _state(found: Subject, draft: Draft, matched: Mapping[int, str]) -> str:
    if draft.row not in matched:
        return "skip" if found.mode == "update" else "create"
    if found.mode == "create":
        draft.fault(None, "already_there", "There is such a record already.")
    return {"skip": "skip"}.get(found.mode, "update")


def _check(found: Subject, draft: Draft, sources: Container[str], *, update: bool) -> None:
    """The body against its schema, as a request's is checked."""
    values = draft.values
    if update:
        values = {name: value for name, value in values.items() if name not in ("id", *found.resource.once)}
    model = found.resource.update if update else found.resource.create
    assert model is not None  # noqa: S101 - `importable` has looked
    for source, text in draft.external.items():
        if source not in sources:
            draft.fault(found.plan.column(f"/external_ids/{source}"), "unknown_source", "There is no such source.")
        if external_key(f"ext:{source}:{text}") is None:
            draft.fault(found.plan.column(f"/external_ids/{source}"), "invalid_value", "This can be no external id.")
    if draft.faults and not draft.values:
        return
    if not update:
        _required(found, draft)
    try:
        model.model_validate_json(orjson.dumps(values))
    except ValidationError as error:
        known = {fault.pointer for _, fault in draft.faults}
        waiting = {wanted.pointer for wanted in draft.wanted}
        for fault in from_validation(error, found.resource.read_only).errors:
            if fault.pointer not in known | waiting:
                draft.faults.append((found.plan.column(fault.pointer), fault))


def _record(found: Subject, draft: Draft, state: str, current: Mapping[str, Any] | None) -> dict[str, Any]:
    data: dict[str, Any] = {"values": draft.values, "external": draft.external}
    if draft.wanted:
        data["later"] = [[wanted.column, wanted.text] for wanted in draft.wanted]
    before = None
    if state == "update" and current is not None:
        told_before = {name: current.get(name) for name in draft.values if _differs(draft, name, current)}
        if CUSTOM in told_before:
            told_before[CUSTOM] = {key: current[CUSTOM].get(key) for key in draft.custom}
        before = {"before": told_before}
    return {
        "row": draft.row,
        "state": "invalid" if draft.faults else state,
        "object_id": None if current is None else current["id"],
        "key": found.plan.own_key(draft),
        "data": data,
        "before": before,
        "problems": told(draft.row, draft.faults) or None,
    }


def _differs(draft: Draft, name: str, current: Mapping[str, Any]) -> bool:
    if name == CUSTOM:
        return any(current[CUSTOM].get(key) != value for key, value in draft.custom.items())
    return bool(plain(draft.values[name]) != current.get(name))


def waiting(found: Subject, data: Mapping[str, Any]) -> list[Wanted]:
    """The references of a kept row that lead to records of rows of the same file."""
    entries = {way.entry.column: way.entry for way in found.plan.ways if way.entry.by != "id"}
    return [
        Wanted(entries[column].field, column, entries[column], text)
        for column, text in data.get("later", ())
        if column in entries
    ]


async def _lead_somewhere(ctx: Context, found: Subject, rows: Sequence[Any], prepared: Any) -> list[dict[str, Any]]:
    """Finds the rows whose references no row of the file answers."""
    del prepared
    asked = {row["row"]: waiting(found, orjson.loads(row["data"])) for row in rows}
    there = await kept.keys(ctx, found.id, sorted({wanted.key for some in asked.values() for wanted in some}))
    settled: list[dict[str, Any]] = []
    for row in rows:
        lost = [wanted for wanted in asked[row["row"]] if wanted.key not in there]
        if lost:
            faults = [
                (wanted.column, Fault("reference_not_found", "There is no such record.", pointer=wanted.pointer))
                for wanted in lost
            ]
            settled.append({"row": row["row"], "state": "invalid", "problems": told(row["row"], faults)})
        elif row is rows[-1]:
            settled.append({"row": row["row"]})
    return settled


VALIDATE_ROWS = JobKind("validate_import", ImportJob, validate, permission="imports:validate")
