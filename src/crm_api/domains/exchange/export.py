"""Exports: the rows of a search, all of them, as a file. A job writes it with the rights that its originator has."""

import asyncio
import hashlib
import tempfile
from collections.abc import Awaitable, Collection
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from crm_api import settings
from crm_api.adapters.storage import storage
from crm_api.domains.exchange.job_file import JobFileView
from crm_api.domains.exchange.rights import rights
from crm_api.domains.exchange.tables import TABLES, Table
from crm_api.domains.files.lease import lease
from crm_api.kernel import feed
from crm_api.kernel.collections import run as page_of
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM, PREFIX, fields_of
from crm_api.kernel.domain import JobKind
from crm_api.kernel.external import settle
from crm_api.kernel.filters import Filters, Group
from crm_api.kernel.jobs import Job
from crm_api.kernel.paging import MAX_SORT_KEYS, parse_sort
from crm_api.kernel.problems import AccessMoved, forbidden, invalid, meant, unavailable
from crm_api.kernel.projection import plain
from crm_api.kernel.query import Listing
from crm_api.kernel.resource import READS, Resource
from crm_api.kernel.running import Run, Step
from crm_api.kernel.schema import Wire, instant_text

T = TypeVar("T")
PAGE = 1_000
_BEAT = 5.0
"""Seconds between two signs of life while something takes long."""
_NOT_CELLS = ("object", "redacted")
_Number = Annotated[int, Field(ge=0, le=9_007_199_254_740_991)]


class ExportRequest(Wire):
    """Which rows of which resource, in which form."""

    resource: Annotated[str, Field(min_length=1, max_length=63, description="Plural name, e.g. `accounts`.")]
    filter: Annotated[dict[str, Any], Field(description="As in a search of the resource.")] = {}
    sort: Annotated[list[Annotated[str, Field(max_length=71)]], Field(max_length=MAX_SORT_KEYS)] = []
    fields: (
        Annotated[
            list[Annotated[str, Field(max_length=70)]],
            Field(min_length=1, max_length=300, description="Also custom fields, such as `custom.grade`."),
        ]
        | None
    ) = None
    format: Literal["csv", "xlsx", "ndjson"] = "csv"


class ExportView(JobFileView):
    """A file of rows, and the job that writes it: the job of the same id."""

    object: Literal["export"]
    parameters: Annotated[dict[str, Any] | None, Field(description="What was asked for.")]
    result: Annotated[
        dict[str, Any] | None,
        Field(
            description="Null until it has succeeded; then `rows`, `fields`, `size`, `sha256`, `content_type`, "
            "`expires_at` and `cursor`, where to follow the change feed from so that nothing is missed."
        ),
    ]


def listing_of(ctx: Context, body: ExportRequest) -> tuple[Resource, Filters, Listing, tuple[str, ...]]:
    """What the caller asks for, checked against their rights of now; the fields are those that they may see.

    Raises:
        Problem: 403 without the permission to read the resource, or for a hidden field that is asked for, filtered or
            sorted by; 422 for what does not exist.
    """
    resource = ctx.kernel.catalog.resources.get(body.resource)
    if resource is None or "search" not in resource.operations:
        raise invalid(
            "/resource",
            "invalid_value",
            f"There are no such records to export.{meant(body.resource, ctx.kernel.catalog.resources)}",
        )
    ctx.require(resource, "read")
    hidden = ctx.access.hides(resource.plural)
    customs = {custom.name for custom in fields_of(ctx.access, resource).values()}
    for i, name in enumerate(body.fields or ()):
        if name not in resource.output.model_fields and name not in customs:
            raise invalid(f"/fields/{i}", "unknown_field", f"{resource.plural} have no field {name!r}.")
        if name in hidden:
            raise forbidden(f"field {resource.plural}.{name}")
    names = body.fields or [name for name in resource.output.model_fields if name not in hidden]
    if body.fields is None and body.format != "ndjson":
        names = [name for name in names if name not in _NOT_CELLS]
        if CUSTOM in names and customs:
            names.remove(CUSTOM)
            names += sorted(customs - hidden)
    filters = Filters(ctx.kernel.catalog, resource, ctx.access)
    tree = filters.tree(body.filter) if body.filter else Group("and")
    listing = Listing(
        tree if isinstance(tree, Group) else Group("and", (tree,)),
        filters.values,
        parse_sort(resource, ctx.access, ",".join(body.sort)),
        PAGE,
        fields=tuple(sorted({CUSTOM if name.startswith(PREFIX) else name for name in names})),
    )
    return resource, filters, listing, tuple(dict.fromkeys(names))


async def export(run: Run, body: ExportRequest) -> dict[str, Any]:
    """Writes the rows page by page, each page under the rights of then; after an interruption it begins again.

    The cursor is taken before the first page. A row that changes while the pages are read may be told as it was or as
    it is, or be missed where the change moves it to a page that was read; the feed from the cursor on tells it anyhow.
    """
    ctx = await run.context()
    now, began = await feed.head(ctx), rights(ctx.access)
    cursor, hidden = feed.cursor(ctx, now.epoch, now.seq), sorted(ctx.access.hides(body.resource))
    with tempfile.TemporaryDirectory(prefix="crm-export-") as folder:
        path = Path(folder) / "export"
        names = listing_of(ctx, body)[3]
        table, rows = await _write(run, body, path, names)
        await alive(run, asyncio.to_thread(table.close))
        size, sha256 = await alive(run, asyncio.to_thread(digest, path))
        ctx = await run.context()
        time = timedelta(days=settings.load_settings().export_days)
        key = await lease(ctx, time)

        async def note(_: Context, __: Any) -> Step:
            return Step({"storage_key": key, "rights": began, "hidden": hidden}, done=0)

        await run.step(note)  # before the bytes are there: who cancels it has them deleted
        with path.open("rb") as file:
            await alive(run, storage(settings.load_settings()).put(key, file))
    return {
        "rows": rows,
        "fields": list(names),
        "size": size,
        "sha256": sha256,
        "content_type": TABLES[body.format][1],
        "cursor": cursor,
        "expires_at": instant_text(ctx.now + time),
    }


async def _write(run: Run, body: ExportRequest, path: Path, names: tuple[str, ...]) -> tuple[Table, int]:
    table: Table = await asyncio.to_thread(TABLES[body.format][0], path, names)
    following: str | None = None
    rows = 0
    while True:
        page, following = await _page(run, body, following)
        if page and not page[0].keys() >= set(names):
            raise AccessMoved(0)  # a field was closed meanwhile: it begins again without it
        await asyncio.to_thread(table.add, page)
        rows += len(page)
        await run.progress(rows)
        if following is None:
            return table, rows


async def _page(run: Run, body: ExportRequest, cursor: str | None) -> tuple[list[dict[str, Any]], str | None]:
    for _ in range(4):
        try:
            ctx = await run.context()
            resource, filters, listing, names = listing_of(ctx, body)
            await settle(ctx, filters)
            answer, following = await page_of(ctx, resource, listing, cursor)
        except AccessMoved:
            continue
        return [_flat(item, names) for item in answer["data"]], following
    raise unavailable("Permissions are changing; try again.")


def _flat(item: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """A record with those of its custom fields that are asked for beside its fields."""
    asked = [name for name in names if name.startswith(PREFIX)]
    if not asked:
        return item
    custom = plain(item[CUSTOM] or {})
    return {**item, **{name: custom.get(name.removeprefix(PREFIX)) for name in asked}}


async def alive(run: Run, work: Awaitable[T]) -> T:
    """Waits for work that takes long, and says meanwhile that the job is not dead."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=_BEAT))[0]:
            await run.progress(run.done)
    except BaseException:
        task.cancel()
        raise
    return task.result()


def digest(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


EXPORT = JobKind("export_records", ExportRequest, export, permission="exports:create")
EXPORTS = Resource(
    singular="export",
    plural="exports",
    model=Job,
    output=ExportView,
    title="kind",
    fixed={"kind": EXPORT.name},
    owner=Job.created_by,
    filters=(Job.state, Job.created_by, Job.created_at),
    sorts=(Job.created_at,),
    operations=READS,
    further=("create",),
)
