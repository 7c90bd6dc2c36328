"""Endpoints of batches: `POST /v1/batch` for any writes, `POST /v1/{collection}/batch` for many of one resource."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from crm_api.kernel.batch import Entry, Step, atomic, entries_of, partial
from crm_api.kernel.batch_references import NAME_PATTERN, SIGN, Part, check
from crm_api.kernel.context import Context
from crm_api.kernel.duplicates_requests import read_flags
from crm_api.kernel.headers import ANY, idempotency_key, minimal, parse, read_body
from crm_api.kernel.idempotency import identify
from crm_api.kernel.problems import Fault, meant, wrong
from crm_api.kernel.projection import Json
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import LONGEST_REF, Wire
from crm_api.kernel.unit_of_work import open_context
from crm_api.kernel.writes import Write, writes, writes_by_name

Endpoint = Callable[[Request], Awaitable[Response]]
MAX_OPERATIONS = 25
MAX_ITEMS = 200
MAX_ID = LONGEST_REF
KINDS = ("create", "update", "upsert", "delete")
"""The writes that `POST /v1/{collection}/batch` knows."""

Mode = Literal["atomic", "partial"]
MAX_VERSION = 9_007_199_254_740_991
Version = Annotated[int, Field(ge=1, le=MAX_VERSION)]


class OperationFrame(Wire):
    """One operation of a batch. Its id and version may be references; its body is checked when its turn comes."""

    ref: Annotated[str, Field(pattern=NAME_PATTERN, max_length=40)] | None = None
    operation: Annotated[str, Field(max_length=130)]
    id: Any = None
    if_match: Any = None
    body: dict[str, Any] | None = None


class BatchFrame(Wire):
    """Operations on any records."""

    mode: Mode = "atomic"
    operations: Annotated[list[OperationFrame], Field(min_length=1, max_length=MAX_OPERATIONS)]


class ItemFrame(Wire):
    """One write of a batch of one collection."""

    op: Literal["create", "update", "upsert", "delete"]
    id: Annotated[str, Field(max_length=MAX_ID)] | None = None
    if_match: Version | Literal["*"] | None = None
    body: dict[str, Any] | None = None


class CollectionFrame(Wire):
    """Writes of records of one collection."""

    mode: Mode = "atomic"
    items: Annotated[list[ItemFrame], Field(min_length=1, max_length=MAX_ITEMS)]


def batched(resource: Resource) -> dict[str, Write]:
    """The writes of a resource that its own batch knows, by kind; none where there is nothing to batch."""
    return {write.kind: write for write in writes(resource) if write.kind in KINDS}


def batch_endpoint() -> Endpoint:
    """`POST /v1/batch`."""

    async def endpoint(request: Request) -> Response:
        ctx = await _opened(request)
        frame = parse(await read_body(request), BatchFrame)
        return await _answer(request, ctx, frame.mode, steps_of(writes_by_name(ctx.kernel.catalog), frame.operations))

    return endpoint


def steps_of(known: Mapping[str, Write], operations: Sequence[OperationFrame]) -> list[Step]:
    """The steps that operations by name ask for.

    Raises:
        Problem: 422 for an operation that is not known, or that has too little, too much or a wrong reference.
    """
    faults, steps = [], []
    for i, item in enumerate(operations):
        place = f"/operations/{i}"
        write = known.get(item.operation)
        if write is None:
            detail = f"There is no such write.{meant(item.operation, known)}"
            faults.append(Fault("unknown_operation", detail, pointer=f"{place}/operation"))
            continue
        faults += _misfit(write, item, place)
        steps.append(Step(write, place, item.id, item.body, item.if_match, item.ref))
    _refuse(faults)
    for step, linked in zip(steps, check([_part(step) for step in steps]), strict=True):
        step.linked = linked
    return steps


def collection_endpoint(resource: Resource) -> Endpoint:
    """`POST /v1/{collection}/batch`."""
    known = batched(resource)

    async def endpoint(request: Request) -> Response:
        ctx = await _opened(request, suspects=resource.duplicates)
        frame = parse(await read_body(request), CollectionFrame)
        faults, steps = [], []
        for i, item in enumerate(frame.items):
            place = f"/items/{i}"
            write = known.get(item.op)
            if write is None:
                faults.append(Fault("unknown_operation", f"One of {', '.join(known)}.", pointer=f"{place}/op"))
                continue
            faults += _misfit(write, item, place)
            steps.append(Step(write, place, item.id, item.body, item.if_match))
        _refuse(faults)
        return await _answer(request, ctx, frame.mode, steps)

    return endpoint


async def _opened(request: Request, *, suspects: Any = True) -> Context:
    ctx = await open_context(request)
    read_flags(ctx, request, suspects=suspects)
    return ctx


def _misfit(write: Write, item: OperationFrame | ItemFrame, place: str) -> list[Fault]:
    """What the frame of an operation lacks or has too much."""
    faults = []
    needs_body = write.model is not None and not write.optional
    for member, needed, taken in (
        ("id", not write.creates, not write.creates),
        ("body", needs_body, write.model is not None),
        ("if_match", False, write.matches),
    ):
        given = getattr(item, member) is not None
        if needed and not given:
            faults.append(Fault("required", f"{write.operation_id} needs it.", pointer=f"{place}/{member}"))
        if given and not taken:
            faults.append(Fault("unknown_field", f"{write.operation_id} takes none.", pointer=f"{place}/{member}"))
    if not (item.id is None or _is_reference(item.id) or (isinstance(item.id, str) and len(item.id) <= MAX_ID)):
        faults.append(Fault("invalid_value", "An id, or a reference to one.", pointer=f"{place}/id"))
    version = item.if_match
    given = version in (None, ANY) or (type(version) is int and 1 <= version <= MAX_VERSION)
    if not (given or _is_reference(version)):
        faults.append(Fault("invalid_value", "A version, a reference to one, or *.", pointer=f"{place}/if_match"))
    return faults


def _is_reference(value: Any) -> bool:
    return isinstance(value, dict) and SIGN in value


def _refuse(faults: list[Fault]) -> None:
    if faults:
        raise wrong(faults)


def _part(step: Step) -> Part:
    write, place = step.write, step.place
    trees = {f"{place}/id": step.id, f"{place}/if_match": step.expected, f"{place}/body": step.body}
    return Part(place, step.name, frozenset(fields_of(write)), trees)


def fields_of(write: Write) -> list[str]:
    """The fields of what a write gives that others may refer to."""
    if write.kind == "delete":
        return ["id"]
    if write.action is not None and write.action.reply is not None:
        return [name for name in write.action.reply.model_fields if name not in write.action.private]
    return list(write.resource.output.model_fields)


async def _answer(request: Request, ctx: Context, mode: Mode, steps: list[Step]) -> Response:
    path = request.scope["path"]
    ctx.kernel.limiter.charge(ctx.principal, len(steps) - 1)
    if key := idempotency_key(request):
        ctx.idempotency = identify(ctx, key, "POST", path, await read_body(request))
    found: dict[str, Any] = {}
    if mode == "atomic":
        outcome = await atomic(ctx, steps)
        entries, replayed = await entries_of(ctx, outcome), outcome.replayed
        if not ctx.dry_run:
            found["transaction_id"] = outcome.item["transaction_id"]
    else:
        entries = await partial(ctx, steps)
        replayed = all(entry.replayed for entry in entries)
    short = minimal(request)
    found["results"] = [
        _result(ctx, step, entry, path, short=short) for step, entry in zip(steps, entries, strict=True)
    ]
    headers = {"Preference-Applied": "return=minimal"} if short else {}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return Json(found, 207 if any(entry.problem for entry in entries) else 200, headers)


def _result(ctx: Context, step: Step, entry: Entry, path: str, *, short: bool) -> dict[str, Any]:
    named = {"ref": step.name} if step.name is not None else {}
    return {**named, **entry.wire(ctx, path, minimal=short)}
