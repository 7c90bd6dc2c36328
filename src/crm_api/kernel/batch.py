"""Several writes of one request: all in one transaction, or each by itself with an answer of its own."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import structlog
from pydantic_core import to_json

from crm_api.kernel import idempotency
from crm_api.kernel.batch_references import replaced
from crm_api.kernel.context import Context, Idempotency, new_id
from crm_api.kernel.customs import veiled
from crm_api.kernel.domain import Catalog
from crm_api.kernel.external import is_external, own_id
from crm_api.kernel.headers import ANY
from crm_api.kernel.locking import in_order
from crm_api.kernel.merged import answered
from crm_api.kernel.problems import (
    DEPENDENCY_FAILED,
    IDEMPOTENCY_IN_FLIGHT,
    INTERNAL,
    AccessMoved,
    Problem,
    forbidden,
    from_database,
    invalid,
    unavailable,
)
from crm_api.kernel.projection import plain
from crm_api.kernel.repository import find
from crm_api.kernel.resource import Resource
from crm_api.kernel.unit_of_work import Outcome, Work, write
from crm_api.kernel.writes import Write, carry_out, writes_by_name

log = structlog.get_logger("crm_api.batch")
_TRIES = 4
_LOST_RACES = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)


@dataclass(slots=True)
class Step:
    """One write of a batch, as it was asked for; `linked` when anything in it refers to an earlier one."""

    write: Write
    place: str
    id: Any = None
    body: Any = None
    expected: Any = None
    name: str | None = None
    linked: bool = False


@dataclass(slots=True)
class Entry:
    """What became of a step: the status and wire object that it would have had alone, or its problem."""

    write: Write
    status: int
    id: str | None = None
    item: dict[str, Any] | None = None
    problem: Problem | None = None
    replayed: bool = False
    ignored: Mapping[str, str] = field(default_factory=dict)

    def image(self) -> dict[str, Any]:
        """As it is kept under an idempotency key."""
        told = {"status": self.status, "id": self.id, "item": self.item, "ignored": self.ignored}
        return {"operation": self.write.operation_id, **told}

    @classmethod
    def from_image(cls, catalog: Catalog, image: Mapping[str, Any]) -> "Entry":
        """The entry that was kept."""
        told = {name: image[name] for name in ("status", "id", "item", "ignored")}
        return cls(writes_by_name(catalog)[image["operation"]], **told)

    def wire(self, ctx: Context, path: str, *, minimal: bool) -> dict[str, Any]:
        """As it is sent."""
        if self.problem is not None:
            return {"status": self.status, "problem": self.problem.document(path, ctx.request_id)}
        status, whole = self.write.shown(self.status, ctx.access, minimal=minimal)
        found: dict[str, Any] = {"status": status, "id": self.id}
        if self.item and not self.write.replies:
            found["version"] = self.item["version"]
        if self.ignored:
            found["ignored"] = self.ignored
        if self.item and whole:
            found["body"] = self.item
        return found


class _Known:
    """What the named steps gave so far: the values of references."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._entries: dict[str, Entry] = {}

    def note(self, step: Step, entry: Entry) -> None:
        if step.name is not None:
            self._entries[step.name] = replace(entry, item=plain(entry.item))

    def value(self, name: str, field: str) -> Any:
        """The value of `{"$ref": "name.field"}`.

        Raises:
            Problem: 424 when that step failed, 403 for what the caller may not see, 422 when there is no such field.
        """
        entry, access = self._entries[name], self._ctx.access
        if entry.problem is not None:
            raise Problem(DEPENDENCY_FAILED, f"{name!r} failed, and this refers to it.")
        item, resource = entry.item or {}, entry.write.resource
        if not entry.write.replies and resource.plural in access.closed and field not in ("id", "version"):
            raise forbidden(f"scope {resource.domain}:read")
        if field in item.get("redacted", ()):
            raise forbidden(f"field {resource.plural}.{field}")
        if field == "id" and "id" not in item:
            return entry.id
        if field not in item:
            raise invalid("", "unknown_field", f"{name!r} gave no {field}.")
        return item[field]


async def _prepared(ctx: Context, step: Step, known: _Known) -> tuple[Work, bool, str]:
    """The work of a step, whether it is one statement, and the id; refuses what a request of its own would."""
    declared = step.write
    declared.permit(ctx)
    id_, body, expected = step.id, step.body, step.expected
    if step.linked:
        id_, body, expected = (replaced(part, known.value) for part in (id_, body, expected))
        if expected not in (None, ANY) and (not isinstance(expected, int) or isinstance(expected, bool)):
            raise _at(step, "if_match", "int_type", "A version is a whole number.")
        if not declared.creates and not isinstance(id_, str):
            raise _at(step, "id", "string_type", "An id is a string.")
    id_ = "" if declared.creates else declared.address(id_)
    matched = declared.matches and expected is not None
    declared.check(given=matched)
    parsed = None
    if declared.model is not None:
        parsed = declared.read(b"" if body is None else to_json(body))
    if is_external(id_) and declared.kind != "upsert":
        id_ = str(await own_id(ctx, declared.resource, id_, deleted=declared.kind == "restore"))
    return *declared.prepare(id_, parsed, None if expected == ANY else expected, matched), id_


def _at(step: Step, member: str, code: str, detail: str) -> Problem:
    problem = invalid(f"{step.place}/{member}", code, detail)
    problem.placed = True
    return problem


async def _early(ctx: Context, steps: Sequence[Step]) -> dict[int, tuple[Work, bool, str]]:
    """Works that need not wait: what is wrong with them is said before anything is written."""
    found = {}
    for i, step in enumerate(steps):
        if not step.linked and not is_external(step.id):  # one before it may give it its external id
            try:
                found[i] = await _prepared(ctx, step, _Known(ctx))
            except Problem as problem:
                raise problem.located(step.place, i) from None
        if step.write.resource.access_fields:
            break  # it may change what the caller may do
    return found


def _targets(steps: Iterable[Step]) -> list[tuple[Resource, list[UUID]]]:
    """The rows that a batch will lock, when there are several, in the order in which every batch locks them."""
    found: dict[str, tuple[Resource, set[UUID]]] = {}
    for step in steps:
        if isinstance(step.id, str):
            try:
                id_ = UUID(step.id)
            except ValueError:
                continue
            found.setdefault(step.write.resource.plural, (step.write.resource, set()))[1].add(id_)
    if sum(len(ids) for _, ids in found.values()) < 2:
        return []
    return [(resource, sorted(ids)) for _, (resource, ids) in sorted(found.items(), key=lambda item: item[0])]


async def atomic(ctx: Context, steps: Sequence[Step]) -> Outcome:
    """All steps in one transaction, or none: the first that is refused ends it.

    The outcome's item has the transaction's id and the images of the entries.

    Raises:
        Problem: that of the step, with its place in the batch.
    """
    rights, early, targets = ctx.access, await _early(ctx, steps), _targets(steps)

    async def work(inner: Context) -> dict[str, Any]:
        inner.access = rights
        for resource, ids in targets:
            await in_order(inner, resource, ids)
        entries = await perform(inner, steps, early)
        inner.status, inner.ignored = None, {}
        return {"transaction_id": str(inner.transaction_id), "entries": [entry.image() for entry in entries]}

    def kept(item: dict[str, Any]) -> dict[str, Any]:
        images = [
            {**image, "item": image["item"] and step.write.kept(image["item"])}
            for step, image in zip(steps, item["entries"], strict=True)
        ]
        return {**item, "entries": images}

    return await write(ctx, work, 200, single=False, kept=kept, patient=True)


async def perform(
    ctx: Context, steps: Sequence[Step], early: Mapping[int, tuple[Work, bool, str]] | None = None
) -> list[Entry]:
    """What becomes of the steps in the open transaction; each is under the rights that those before it left.

    Raises:
        Problem: that of the first step that is refused, with its place in the batch.
    """
    known, entries = _Known(ctx), []
    for i, step in enumerate(steps):
        if ctx.moved:
            ctx.access = await ctx.kernel.authenticator.access(ctx.principal, link=ctx.link)
            ctx.moved = False
        entry = await _within(ctx, step, i, (early or {}).get(i), known)
        known.note(step, entry)
        entries.append(entry)
    return entries


async def _within(ctx: Context, step: Step, index: int, ready: tuple[Work, bool, str] | None, known: _Known) -> Entry:
    try:
        ctx.status, ctx.ignored = None, {}
        work, _, id_ = ready or await _prepared(ctx, step, known)
        item = await work(ctx)
    except _LOST_RACES:
        raise
    except Problem as problem:
        raise problem.located(step.place, index) from None
    except asyncpg.PostgresError as error:
        found = from_database(error, ctx.kernel.catalog.constraints)
        if found is None or found.kind.status >= 500:
            raise
        raise found.located(step.place, index) from error
    return _entry(step, Outcome(item or {}, ctx.status or step.write.status, ignored=ctx.ignored), id_)


def _entry(step: Step, outcome: Outcome, id_: str) -> Entry:
    item = outcome.item
    id_ = item["id"] if item and not step.write.replies else id_
    return Entry(step.write, outcome.status, id_, item or None, replayed=outcome.replayed, ignored=outcome.ignored)


async def entries_of(ctx: Context, outcome: Outcome) -> list[Entry]:
    """The entries of an atomic batch; of a replayed one without what the caller may not see by now."""
    entries = [Entry.from_image(ctx.kernel.catalog, image) for image in outcome.item["entries"]]
    if outcome.replayed:
        for entry in entries:
            entry.item = await _still_shown(ctx, entry.item)
    return entries


async def _still_shown(ctx: Context, item: dict[str, Any] | None) -> dict[str, Any] | None:
    resource = ctx.kernel.catalog.by_type.get(item.get("object", "")) if item else None
    if item is None or resource is None:
        return item
    if await find(ctx, resource, item["id"]) is None:
        return None
    return veiled(item, ctx.access.hides(resource.plural))


async def partial(ctx: Context, steps: Sequence[Step]) -> list[Entry]:
    """Each step as a request of its own, with its own transaction and its own part of the idempotency key.

    When one fails for a reason of ours, or time is up, those after it are not tried.

    Raises:
        Problem: 409 while a twin of the request runs, 422 when its key came with another body before.
    """
    key = ctx.idempotency
    if key is not None and not ctx.dry_run:
        await idempotency.bind(ctx)
    until = time.monotonic() + ctx.kernel.database.limits.transaction / 1000
    known, entries, stop = _Known(ctx), [], None
    for i, step in enumerate(steps):
        if stop is None and time.monotonic() > until:
            stop = unavailable("Not tried: the batch took too long.")
        if stop is not None:
            entry = Entry(step.write, stop.kind.status, problem=stop.located(step.place))
        else:
            entry = await _alone(ctx, step, key and idempotency.part(key, i), known)
        if entry.problem is not None:
            if entry.problem.kind is IDEMPOTENCY_IN_FLIGHT:
                raise entry.problem
            if stop is None and entry.status >= 500:
                stop = unavailable("Not tried: one before it could not be answered.")
        known.note(step, entry)
        entries.append(entry)
    return entries


async def _alone(ctx: Context, step: Step, key: Idempotency | None, known: _Known) -> Entry:
    declared = step.write
    for _ in range(_TRIES):
        inner = replace(
            ctx, transaction_id=new_id(), now=datetime.now(UTC), idempotency=key, nets={}, ignored={}, rings=set()
        )
        try:
            try:
                work, single, id_ = await _prepared(inner, step, known)
                single = single and (key is None or declared.keyed)
                outcome = await carry_out(inner, declared, work, single=single)
                if outcome.replayed and declared.kind == "delete" and is_external(step.id):
                    id_ = str(await own_id(ctx, declared.resource, step.id, deleted=True))
                return _entry(step, outcome, id_)
            except AccessMoved:
                await _read_rights(ctx)
            except Problem as denied:
                if denied.kind.status != 403 or not await _read_rights(ctx):
                    raise
        except Problem as refused:
            problem = answered(refused, declared.method)
            replayed = "Idempotency-Replayed" in refused.headers
            return Entry(declared, problem.kind.status, problem=problem.located(step.place), replayed=replayed)
        except Exception as error:
            found = from_database(error, ctx.kernel.catalog.constraints)
            if found is None:
                log.exception("item_failed", request_id=ctx.request_id, operation=declared.operation_id)
                found = Problem(INTERNAL, "The server failed. Report the request id.")
            return Entry(declared, found.kind.status, problem=found.located(step.place))
    moving = unavailable("Permissions are changing; try again.")
    return Entry(declared, moving.kind.status, problem=moving.located(step.place))


async def _read_rights(ctx: Context) -> bool:
    """Reads the caller's rights again; whether they have changed."""
    before = ctx.access.version
    ctx.access = await ctx.kernel.authenticator.access(ctx.principal, at_least=before + 1)
    return ctx.access.version != before
