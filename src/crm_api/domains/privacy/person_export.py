"""Exports of a person: all that is known of a contact, a lead or a principal, as one JSON file that a job writes."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import IO, Annotated, Any, Literal
from uuid import UUID

import orjson
import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api import settings
from crm_api.adapters.storage import storage
from crm_api.domains.exchange.export import alive, digest
from crm_api.domains.exchange.job_file import JobFileView
from crm_api.domains.files.file import FILES
from crm_api.domains.files.lease import lease
from crm_api.domains.identity.audit import AUDIT_LOG
from crm_api.domains.privacy.person import PEOPLE, same_person, visible
from crm_api.domains.privacy.withdraw_exports import PERSON_EXPORT
from crm_api.kernel import feed
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement, bound
from crm_api.kernel.domain import Catalog, JobKind
from crm_api.kernel.external import own_id
from crm_api.kernel.jobs import Job, trusted
from crm_api.kernel.problems import Problem, invalid, not_found
from crm_api.kernel.projection import Projection, dumps
from crm_api.kernel.record import FeedEvent, Share, among, table_of
from crm_api.kernel.repository import find
from crm_api.kernel.resource import READS, Resource
from crm_api.kernel.running import Run, Step
from crm_api.kernel.schema import Ref, Wire, instant_text

PAGE = 500
WINDOW = 10_000
"""Events that one statement looks at."""
_OWNERSHIP = ("owner_id", "requested_by", "manager_id")
_IDS, _AFTER = sa.bindparam("ids", type_=ARRAY(sa.Uuid())), sa.bindparam("after", type_=sa.Uuid())
_FEED, _SHARES = table_of(FeedEvent), table_of(Share)
_Number = Annotated[int, Field(ge=0, le=9_007_199_254_740_991)]
_WHO = "Whose data; one of the three."


class PersonExportRequest(Wire):
    """Whose data is to be exported."""

    contact_id: Annotated[Ref | None, Field(description=_WHO)] = None
    lead_id: Annotated[Ref | None, Field(description=_WHO)] = None
    principal_id: Annotated[Ref | None, Field(description=_WHO)] = None


class PersonExportView(JobFileView):
    """A file with all that is known of a person, and the job that writes it: the job of the same id."""

    object: Literal["person_export"]
    parameters: Annotated[dict[str, Any] | None, Field(description="Whose data was asked for.")]
    result: Annotated[
        dict[str, Any] | None,
        Field(description="Null until it has succeeded; then `rows`, `size`, `sha256` and `expires_at`."),
    ]


async def checked(ctx: Context, body: PersonExportRequest) -> PersonExportRequest:
    """The request with an id of ours in it; 422 unless it names one person that the caller sees."""
    given = {name: value for name, value in body.model_dump().items() if value is not None}
    if len(given) != 1:
        raise invalid("/contact_id", "one_of", "Give one of contact_id, lead_id and principal_id.")
    ((name, value),) = given.items()
    resource = PEOPLE.get(name) or ctx.kernel.catalog.resources["principals"]
    id_ = str(await own_id(ctx, resource, value)).lower()
    seen = await visible(ctx, name, id_) if name in PEOPLE else await find(ctx, resource, id_) is not None
    if not seen:
        raise invalid(f"/{name}", "reference_not_found", f"There is no such {resource.singular}.")
    return PersonExportRequest(**{name: id_})


async def export_person(run: Run, body: PersonExportRequest) -> dict[str, Any]:
    """Writes section by section and page by page, whatever the originator sees of it: that is what is permitted.

    After an interruption it begins again. When the person is erased meanwhile, the job is cancelled.
    """
    ctx = await run.context()
    await _present(ctx, body)
    with tempfile.TemporaryDirectory(prefix="crm-export-") as folder:
        path = Path(folder) / "export"
        with path.open("wb") as file:
            rows = await _write(run, trusted(ctx), body, file)
        size, sha256 = await alive(run, asyncio.to_thread(digest, path))
        ctx = await run.context()
        time = timedelta(days=settings.load_settings().export_days)
        key = await lease(ctx, time)

        async def note(_: Context, __: Any) -> Step:
            return Step({"storage_key": key}, done=0)

        await run.step(note)  # before the bytes are there: who cancels it has them deleted
        with path.open("rb") as written:
            await alive(run, storage(settings.load_settings()).put(key, written))
    return {"rows": rows, "size": size, "sha256": sha256, "expires_at": instant_text(ctx.now + time)}


async def _present(ctx: Context, body: PersonExportRequest) -> None:
    try:
        await checked(ctx, body)
    except Problem as problem:
        raise not_found("person any more") from problem


async def _write(run: Run, ctx: Context, body: PersonExportRequest, file: IO[bytes]) -> int:
    person, sections = await _sections(ctx, body)
    ids = bound([UUID(one) for one in person])
    head = {"object": "person_export", "generated_at": ctx.now, "subject": body.model_dump(exclude_none=True)}
    file.write(dumps(head)[:-1] + b', "records": {')
    rows = 0
    for i, (name, pages) in enumerate(sections):
        file.write((b"," if i else b"") + orjson.dumps(name) + b": ")
        rows += await _array(run, file, pages(ctx, ids), rows)
    file.write(b"}")
    parts: list[tuple[str, AsyncIterator[list[Any]]]] = [
        ("shares", _shares(ctx, ids)),
        ("audit", _rows(ctx, AUDIT_LOG, ("object_id",), ids)),
        *([("actions", _actions(ctx, ids))] if body.principal_id else []),
        ("events", _events(ctx, person)),
    ]
    for name, part in parts:
        file.write(b", " + orjson.dumps(name) + b": ")
        rows += await _array(run, file, part, rows)
    file.write(b"}\n")
    return rows


async def _array(run: Run, file: IO[bytes], pages: AsyncIterator[list[Any]], before: int) -> int:
    """Writes a JSON array, a page at a time; gives its length."""
    count = 0
    file.write(b"[")
    async for page in pages:
        for item in page:
            file.write((b",\n" if count else b"\n") + dumps(item))
            count += 1
        await run.progress(before + count)
    file.write(b"]")
    return count


Section = tuple[str, Callable[[Context, Any], AsyncIterator[list[Any]]]]


async def _sections(ctx: Context, body: PersonExportRequest) -> tuple[list[str], list[Section]]:
    """The ids of the person's records, and what is read of them: those themselves, and what refers to them."""
    catalog = ctx.kernel.catalog
    if body.principal_id is not None:
        principals = catalog.resources["principals"]
        sections = (_section(principals, "id"), *_referring(catalog, {"principals"}), _section(FILES, "object_id"))
        return [body.principal_id], list(sections)
    column, id_ = next((name, getattr(body, name)) for name in PEOPLE if getattr(body, name) is not None)
    person = await same_person(ctx, column, id_)
    own = [_section(resource, "id") for resource in PEOPLE.values()]
    tables = {resource.table.name for resource in PEOPLE.values()}
    ids = [one for ids in person.values() for one in ids]
    return ids, [*own, *_referring(catalog, tables), _section(FILES, "object_id")]


def _referring(catalog: Catalog, tables: set[str]) -> Iterable[Section]:
    for resource in catalog.resources.values():
        if resource.table.name not in tables:
            columns = [
                name for name, table in resource.references.items() if table in tables and name not in _OWNERSHIP
            ]
            if columns:
                yield _section(resource, *columns)


def _section(resource: Resource, *columns: str) -> Section:
    return resource.plural, lambda ctx, ids: _rows(ctx, resource, columns, ids)


async def _rows(ctx: Context, resource: Resource, columns: tuple[str, ...], ids: Any) -> AsyncIterator[list[Any]]:
    """Rows that name the person in one of the columns, deleted ones too, as the API shows them."""
    projection = Projection(resource, ctx.access)
    statement = ctx.kernel.statement(("person", resource.plural, columns), lambda: _reading(projection, columns))
    after = feed.NOWHERE
    while True:
        rows = await ctx.read(statement, {"ids": ids, "after": after})
        if rows:
            yield [projection.render(tuple(row)[1:]) for row in rows]
        if len(rows) < PAGE:
            return
        after = UUID(rows[-1][0])


def _reading(projection: Projection, columns: tuple[str, ...]) -> Statement:
    table = projection.resource.table
    named = sa.or_(*(among(table.c[column], _IDS) for column in columns))
    kind = [table.c[name] == sa.literal(value, sa.Text()) for name, value in projection.resource.fixed.items()]
    rows = sa.select(sa.cast(table.c.id, sa.Text()).label("place"), *projection.select(table)).where(
        table.c.tenant_id == TENANT, named, table.c.id > _AFTER, *kind
    )
    return Statement(rows.order_by(table.c.id).limit(sa.literal_column(str(PAGE))))


async def _actions(ctx: Context, ids: Any) -> AsyncIterator[list[Any]]:
    """What a principal did: where and when, and not what it was about."""
    told = ("id", "at", "request_id", "object_type", "object_id", "version", "action")
    async for page in _rows(ctx, AUDIT_LOG, ("actor_id",), ids):
        yield [{name: item[name] for name in told} for item in page]


@cache
def _sharing() -> Statement:
    columns: list[Any] = [
        sa.cast(_SHARES.c[name], sa.Text()).label(name) for name in ("id", "object_id", "grantee_id", "granted_by")
    ]
    columns += [
        _SHARES.c[name] for name in ("object_type", "grantee_type", "level", "cause", "created_at", "expires_at")
    ]
    either = sa.or_(among(_SHARES.c.object_id, _IDS), among(_SHARES.c.grantee_id, _IDS))
    rows = sa.select(*columns).where(_SHARES.c.tenant_id == TENANT, either, _SHARES.c.id > _AFTER)
    return Statement(rows.order_by(_SHARES.c.id).limit(sa.literal_column(str(PAGE))))


async def _shares(ctx: Context, ids: Any) -> AsyncIterator[list[Any]]:
    after = feed.NOWHERE
    while rows := await ctx.read(_sharing(), {"ids": ids, "after": after}):
        yield [dict(row) for row in rows]
        after = UUID(rows[-1]["id"])


_TOLD = (
    "seq",
    "event_id",
    "at",
    "type",
    "object_type",
    "object_id",
    "version",
    "previous",
    "data",
    "actor_id",
    "origin",
)
_WINDOW = Statement(
    sa.select(
        *(
            sa.cast(_FEED.c[n], sa.Text()).label(n) if isinstance(_FEED.c[n].type, sa.Uuid) else _FEED.c[n]
            for n in _TOLD
        )
    )
    .where(
        _FEED.c.tenant_id == TENANT,
        _FEED.c.seq > sa.bindparam("since", type_=sa.BigInteger()),
        _FEED.c.seq <= sa.bindparam("until", type_=sa.BigInteger()),
        among(_FEED.c.object_id, _IDS),
    )
    .order_by(_FEED.c.seq)
)


async def _events(ctx: Context, person: list[str]) -> AsyncIterator[list[Any]]:
    head = await feed.head(ctx)
    ids = bound([UUID(one) for one in person])
    for since in range(head.floor, head.seq, WINDOW):
        rows = await ctx.read(_WINDOW, {"ids": ids, "since": since, "until": min(since + WINDOW, head.seq)})
        yield [
            {**dict(row), **{name: orjson.Fragment(row[name]) for name in ("previous", "data", "origin")}}
            for row in rows
        ]


EXPORT_PERSON = JobKind(PERSON_EXPORT, PersonExportRequest, export_person, permission="person_exports:create")
PERSON_EXPORTS = Resource(
    singular="person_export",
    plural="person_exports",
    model=Job,
    output=PersonExportView,
    title="kind",
    fixed={"kind": PERSON_EXPORT},
    owner=Job.created_by,
    filters=(Job.state, Job.created_by, Job.created_at),
    sorts=(Job.created_at,),
    operations=READS,
    further=("create",),
)
