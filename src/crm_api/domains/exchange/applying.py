"""Job: does what validation said of each row, with the checks, rights and events of single writes."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from crm_api.domains.exchange import rows as kept
from crm_api.domains.exchange.importing import ImportJob
from crm_api.domains.exchange.mapping import Draft
from crm_api.domains.exchange.matching import match, records, refer
from crm_api.domains.exchange.subject import Subject, note, subject
from crm_api.domains.exchange.validating import waiting
from crm_api.domains.exchange.walking import Refused, Settled, Walk, failed, imports_of, same, told
from crm_api.kernel.collective_creates import insert_all
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM, PREFIX, changed_keys
from crm_api.kernel.domain import JobKind
from crm_api.kernel.external_links import LinkRequest, link_actions
from crm_api.kernel.external_sources import EXTERNAL_IDS, contested, without_owned
from crm_api.kernel.problems import CONFLICT, Fault, Problem
from crm_api.kernel.projection import plain
from crm_api.kernel.repository import create, drafted, load, update
from crm_api.kernel.resource import Resource
from crm_api.kernel.running import Run, Step

_PASSES = 20
"""How deep rows of one file may refer to each other."""
_BREATH = 50
"""Rows after which others of this process have their turn."""
_OPEN = ("create", "update", "skip")


async def apply(run: Run, body: ImportJob) -> dict[str, Any]:
    """Goes through the rows until all are done; rows that refer to others of the file come after those."""
    ctx = await run.context()
    await (await subject(ctx, imports_of(ctx), body.import_id)).name(ctx)
    if "counts" not in run.position:
        counts = await kept.counted(ctx, body.import_id)
        await run.step(_begun(counts))
    walk = Walk("import", _OPEN, _act, "failed", _prepare)
    left = -1
    for number in range(_PASSES):
        await walk.go(run, body, f"pass{number}")
        counts = await kept.counted(await run.context(), body.import_id)
        now = sum(counts.get(state, 0) for state in _OPEN)
        if not now or now == left:
            break
        left = now
    await Walk("import", _OPEN, _lost, "failed").go(run, body, "lost")
    ctx = await run.context()
    counts = await kept.counted(ctx, body.import_id)
    await note(ctx, imports_of(ctx), body.import_id, {"state": "applied", "counts": counts}, "applied")
    return counts


def _begun(counts: Mapping[str, int]) -> Any:
    async def begin(ctx: Context, position: Mapping[str, Any]) -> Step:
        del ctx
        return Step({**position, "counts": {**counts}}, done=0, expected=counts["rows"])

    return begin


async def _act(ctx: Context, found: Subject, rows: Sequence[Any], prepared: Any) -> list[Settled]:
    ctx.allow_duplicate = bool(found.row["allow_duplicates"])
    drafts, bodies = prepared
    drafts = {number: replace(draft, faults=[], wanted=[*draft.wanted]) for number, draft in drafts.items()}
    asked = sorted({wanted.key for draft in drafts.values() for wanted in draft.wanted})
    there = await kept.keys(ctx, found.id, asked)
    own = found.plan.self_reference
    await refer(ctx, found.plan, [*drafts.values()], {} if own is None else {own.field: there})
    matched = await match(ctx, found.plan, found.rules, [*drafts.values()])
    settled: list[Settled] = []
    fresh: list[tuple[Any, Any]] = []
    seen: set[Any] = set()
    for row in rows:
        draft = drafts[row["row"]]
        if not draft.wanted and not draft.faults and (keys := _keys(found, draft)):
            if seen & keys:
                break  # an earlier row of this step may have made the record that this one is about
            seen |= keys
        if draft.faults:
            settled.append({**same(row), "state": "failed", "problems": told(draft.row, draft.faults)})
        elif draft.wanted:
            settled.append({"row": draft.row})
        elif (wanted := _wanted(found, draft, matched)) == "skip":
            settled.append({"row": draft.row, "state": "skipped", "object_id": matched.get(draft.row)})
        elif wanted == "failed":
            settled.append(failed(row, "failed", found, _there_already()))
        elif wanted == "update":
            settled.append(await _update(ctx, found, draft, matched[draft.row]))
        else:
            fresh.append((row, bodies.get(draft.row) or _body(found, draft)))
            settled.append({"row": draft.row, "state": "created"})
    made = await _create(ctx, found, drafts, fresh, alone=len(rows) == 1)
    return [{**item, **made.get(item["row"], {})} for item in settled]


def _draft(found: Subject, row: Any) -> Draft:
    data = orjson.loads(row["data"])
    return Draft(row["row"], data["values"], data["external"], waiting(found, data))


def _prepare(found: Subject, rows: Sequence[Any]) -> tuple[dict[int, Draft], dict[int, Any]]:
    """Rows as drafts, and the bodies of those that are to create records."""
    drafts = {row["row"]: _draft(found, row) for row in rows}
    fresh = [drafts[row["row"]] for row in rows if row["state"] == "create"]
    return drafts, {draft.row: _body(found, draft) for draft in fresh if not draft.wanted}


def _body(found: Subject, draft: Draft) -> tuple[dict[str, Any], frozenset[str]]:
    """The body of a create, typed, and the fields that the row gives; they were checked when they were validated."""
    assert found.resource.create is not None  # noqa: S101 - `importable` has looked
    body = found.resource.create.model_validate_json(orjson.dumps(draft.values))
    return body.model_dump(), frozenset(body.model_fields_set)


def _changes(found: Subject, draft: Draft) -> dict[str, Any]:
    """What a row sets in a record that is there."""
    assert found.resource.update is not None  # noqa: S101 - `importable` has looked
    values = {name: value for name, value in draft.values.items() if name not in ("id", *found.resource.once)}
    whole = found.resource.update.model_validate_json(orjson.dumps(values)).model_dump()
    return {name: whole[name] for name in values}


def _keys(found: Subject, draft: Draft) -> set[Any]:
    """What may make two rows of the file be about one record."""
    keys: set[Any] = {(source, text) for source, text in draft.external.items()}
    for rule in found.rules:
        if rule.by == "field" and (value := draft.value(rule.field or "")) is not None:
            field = rule.field or ""
            texts = found.resource.values[field](value) if field in found.resource.values else [value]
            keys |= {(field, str(text) if field.startswith(PREFIX) else str(text).casefold()) for text in texts}
        elif rule.by == "similarity":
            keys.add("similar")
    if (id_ := draft.values.get("id")) is not None:
        keys.add(("id", str(id_).lower()))
    return keys


def _wanted(found: Subject, draft: Draft, matched: Mapping[int, str]) -> str:
    if draft.row in matched:
        return {"create": "failed", "skip": "skip"}.get(found.mode, "update")
    return "skip" if found.mode == "update" else "create"


def _there_already() -> Problem:
    detail = "There is such a record already."
    return Problem(CONFLICT, detail, [Fault("already_there", detail, pointer="")])


async def _create(
    ctx: Context, found: Subject, drafts: Mapping[int, Draft], fresh: Sequence[tuple[Any, Any]], *, alone: bool
) -> dict[int, Settled]:
    made: dict[int, Settled] = {}
    rows = []
    for number, (row, (whole, given)) in enumerate(fresh):
        if not number % _BREATH:
            await asyncio.sleep(0)
        external = drafts[row["row"]].external
        try:
            for source in external:
                await _own(ctx, found, source, {name: whole[name] for name in given})
            if alone:
                item = await create(ctx, found.resource, whole, given=given)
                assert item is not None  # noqa: S101 - None is for keys, which jobs have none of
                await _renew(ctx)
                item = await _link(ctx, found.resource, plain(item), external)
                made[row["row"]] = {"object_id": item["id"], "version": item["version"], "before": {"before": {}}}
                continue
            record = await drafted(ctx, found.resource, {**whole, EXTERNAL_IDS: external}, given)
        except Problem as problem:
            if alone or problem.kind.status >= 500 or problem.kind.retryable:
                raise
            made[row["row"]] = failed(row, "failed", found, problem)
            continue
        rows.append(record)
        made[row["row"]] = {"object_id": str(record["id"]), "version": 1, "before": {"before": {}}}
    if rows and not await insert_all(ctx, found.resource, rows, ctx.cause or {}):
        raise Refused
    return made


async def _link(ctx: Context, resource: Resource, item: dict[str, Any], external: Mapping[str, str]) -> dict[str, Any]:
    """Gives a record the external ids that it does not have."""
    link = link_actions()[0]
    for source, text in external.items():
        if (item.get(EXTERNAL_IDS) or {}).get(source) != text:
            row = await load(ctx, resource, item["id"], "update")
            changed = await link.run(ctx, resource, row, LinkRequest(source=source, external_id=text))
            item = plain(await update(ctx, resource, item["id"], changed, by_verb=True, recorded="link"))
    return item


async def _renew(ctx: Context) -> None:
    """Reads the caller's rights again where a write of this transaction may have changed them."""
    if ctx.moved:
        ctx.access = await ctx.kernel.authenticator.access(ctx.principal, link=ctx.link)
        ctx.moved = False


async def _own(ctx: Context, found: Subject, source: str, given: Mapping[str, Any]) -> None:
    """A record with an external id has fields of its source that only the source sets."""
    known = ctx.access.sources.get(source)
    owners = {
        name: (known,) for name, all_ in contested(ctx.access, found.resource, given).items() if known in all_ and known
    }
    await without_owned(ctx, given, owners, whole=True)


async def _update(ctx: Context, found: Subject, draft: Draft, id_: str) -> Settled:
    """Merges a row into its record; what it was before is kept for the way back."""
    resource, values = found.resource, _changes(found, draft)
    old = next(iter(await records(ctx, resource, "id", [id_])), None)
    if old is None:
        raise Refused
    new = old
    if values:
        new = plain(await update(ctx, resource, id_, values))
    await _renew(ctx)
    new = await _link(ctx, resource, new, draft.external)
    names = [name for name in (*values, *([EXTERNAL_IDS] if draft.external else [])) if new.get(name) != old.get(name)]
    before, after = ({name: item[name] for name in names} for item in (old, new))
    if CUSTOM in names:  # fields that the row does not touch are no matter of its way back
        before[CUSTOM] = changed_keys(old[CUSTOM], new[CUSTOM])
        after[CUSTOM] = changed_keys(new[CUSTOM], old[CUSTOM])
    return {
        "row": draft.row,
        "state": "updated" if names else "unchanged",
        "object_id": id_,
        "version": new["version"],
        "before": {"before": before, "after": after},
    }


async def _lost(ctx: Context, found: Subject, rows: Sequence[Any], prepared: Any) -> list[Settled]:
    """Rows whose references lead to rows that were not created, or round in a circle."""
    del ctx, prepared
    settled = []
    for row in rows:
        faults = [
            (wanted.column, Fault("reference_not_found", "There is no such record.", pointer=wanted.pointer))
            for wanted in waiting(found, orjson.loads(row["data"]))
        ]
        settled.append({**same(row), "state": "failed", "problems": told(row["row"], faults)})
    return settled


APPLY_ROWS = JobKind("apply_import", ImportJob, apply, permission="imports:apply")
