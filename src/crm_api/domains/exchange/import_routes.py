"""Below `/v1/imports/{id}`: the file goes in, the rows and the result come out."""

import asyncio
import csv
import io
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from crm_api import settings
from crm_api.adapters.storage import StoreError, storage
from crm_api.domains.customs.labels import names_of
from crm_api.domains.exchange import rows as kept
from crm_api.domains.exchange.importing import NONE, ROW_STATES, ImportView
from crm_api.domains.exchange.imports import IMPORTS, idle
from crm_api.domains.exchange.reading import MOST_COLUMNS, SAMPLE, Source
from crm_api.domains.exchange.subject import importable
from crm_api.domains.exchange.suggesting import suggested
from crm_api.domains.exchange.tables import cell
from crm_api.domains.files.contract import BYTES
from crm_api.domains.files.download import disposition
from crm_api.domains.files.lease import lease
from crm_api.domains.files.upload import Received, receive, uploading
from crm_api.kernel.collections import path_id
from crm_api.kernel.context import Context
from crm_api.kernel.headers import idempotency_key, query, single
from crm_api.kernel.idempotency import identify
from crm_api.kernel.jobs import trusted
from crm_api.kernel.problems import FORBIDDEN, INVALID_CURSOR, Problem, invalid_parameter, unavailable
from crm_api.kernel.projection import Json
from crm_api.kernel.repository import load, update
from crm_api.kernel.schema import Id
from crm_api.kernel.spec_style import parameter
from crm_api.kernel.unit_of_work import open_context, write

router = APIRouter()
_PATH = parameter("id", "The import.", required=True, place="path", maxLength=300)
_RECEIVING = ("created", "uploaded", "validated")
_PAGE = 1_000
_MOST = 500
_COLUMNS = ("row", "state", "id", "column", "code", "detail")
_CELL = 2_000


class ImportProblem(BaseModel):
    """What is wrong with a row, and in which column."""

    row: Annotated[int, Field(ge=1, le=3_000_000)]
    column: Annotated[str, Field(max_length=500)] | None
    code: Annotated[str, Field(max_length=63)]
    detail: Annotated[str, Field(max_length=2_000)]
    pointer: Annotated[str, Field(max_length=1_000, description="Into `values`.")] | None = None


class ImportRowView(BaseModel):
    """One row of the file: what it means, what would be or was done, what is wrong with it."""

    object: Literal["import_row"]
    row: Annotated[int, Field(ge=1, le=3_000_000, description="As a person counts who sees the file.")]
    state: Literal[ROW_STATES]  # type: ignore[valid-type]
    id: Annotated[Id | None, Field(description="The record that it is about, if there is one.")]
    values: dict[str, Any]
    external_ids: dict[str, Any]
    before: Annotated[
        dict[str, Any] | None, Field(description="Of an update, the values that the record had, or has, instead.")
    ]
    problems: Annotated[list[ImportProblem], Field(max_length=50)]


class ImportRowPage(BaseModel):
    """Rows in their order."""

    data: Annotated[list[ImportRowView], Field(max_length=_MOST)]
    has_more: bool
    next_cursor: Annotated[str, Field(max_length=20)] | None


@router.put(
    "/v1/imports/{id}/content",  # noqa: FAST003 - endpoints take the request, as derived ones do
    name="put_import_content",
    operation_id="put_import_content",
    summary="Send the file of an import",
    response_model=ImportView,
    responses={403: {}, 404: {}, 409: {}, 413: {}, 422: {}},
    openapi_extra={
        "parameters": [_PATH],
        "requestBody": {
            "required": True,
            "description": "The bytes of the file.",
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary", "maxLength": 536_870_912}}
            },
        },
    },
)
async def put_content(request: Request) -> Response:
    """Looks at the first rows and suggests a mapping. Until rows were applied, another file takes its place."""
    ctx = await open_context(request)
    query(request, ())
    ctx.kernel.policy.require(ctx.access, ctx.principal.scopes, IMPORTS, "update")
    id_ = path_id(request, IMPORTS)
    row = await _mine(ctx, id_)
    await idle(ctx, row, _RECEIVING)
    with uploading(ctx.principal.tenant_id):
        received = await receive(request, settings.load_settings().max_import)
    customs = await names_of(ctx, importable(ctx, row["resource"]))
    found = await asyncio.to_thread(_looked, ctx, row, received, customs)
    if key := idempotency_key(request):
        ctx.idempotency = identify(ctx, key, "PUT", request.scope["path"], received.sha256.encode())
    stored = await lease(ctx, timedelta(days=settings.load_settings().import_days))
    try:
        await storage(settings.load_settings()).put(stored, received.file)
    except StoreError as error:
        raise unavailable("The file cannot be kept now.") from error
    changes = {**found, "storage_key": stored, "size": received.size, "sha256": received.sha256, "state": "uploaded"}

    async def keep(inner: Context) -> dict[str, Any]:
        await idle(inner, await load(inner, IMPORTS, id_, "update"), _RECEIVING)
        return await update(trusted(inner), IMPORTS, id_, changes, by_verb=True, recorded="upload")

    outcome = await write(ctx, keep, 200, single=False)
    headers = {"ETag": f'"{outcome.item["version"]}"'}
    if outcome.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Json(outcome.item, outcome.status, headers)


def _looked(ctx: Context, row: Any, received: Received, customs: Mapping[str, list[str]]) -> dict[str, Any]:
    """What the first rows of a file tell."""
    with tempfile.TemporaryDirectory(prefix="crm-import-") as folder:
        path = Path(folder) / "import"
        received.file.seek(0)
        with path.open("wb") as file:
            shutil.copyfileobj(received.file, file)
        source = Source(path, row["format"], row["encoding"], row["delimiter"], row["sheet"]).found()
        columns = source.columns()
        first = [cells for _, cells in islice(source.rows(), SAMPLE) if isinstance(cells, dict)]
    resource = importable(ctx, row["resource"])
    return {
        "columns": [column[:500] for column in columns],
        "sample": [{name[:500]: _short(value) for name, value in cells.items()} for cells in first],
        "suggestions": suggested(resource, customs, columns),
        "counts": NONE,
        "validated": None,
    }


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text.replace("\x00", "\ufffd")[:_CELL]


class ImportSample(BaseModel):
    """The first rows of a file, as texts by column; a long one is cut."""

    object: Literal["import_sample"]
    data: Annotated[
        list[Annotated[dict[str, Annotated[str, Field(max_length=_CELL)]], Field(max_length=MOST_COLUMNS)]],
        Field(max_length=SAMPLE),
    ]


@router.get(
    "/v1/imports/{id}/sample",  # noqa: FAST003 - likewise
    name="get_import_sample",
    operation_id="get_import_sample",
    summary="The first rows of the file of an import",
    response_model=ImportSample,
    responses={403: {}, 404: {}, 422: {}},
    openapi_extra={"parameters": [_PATH]},
)
async def get_sample(request: Request) -> Response:
    """For who made the import, to choose a mapping by."""
    ctx = await open_context(request)
    query(request, ())
    ctx.kernel.policy.require(ctx.access, ctx.principal.scopes, IMPORTS, "read")
    row = await _mine(ctx, path_id(request, IMPORTS), "read")
    return Json({"object": "import_sample", "data": orjson.loads(row["sample"])}, 200)


@router.get(
    "/v1/imports/{id}/rows",  # noqa: FAST003 - likewise
    name="list_import_rows",
    operation_id="list_import_rows",
    summary="The rows of an import",
    response_model=ImportRowPage,
    responses={400: {}, 403: {}, 404: {}, 422: {}},
    openapi_extra={
        "parameters": [
            _PATH,
            {
                "name": "state",
                "in": "query",
                "description": "Only rows in this state, or in one of several.",
                "schema": {"type": "array", "maxItems": 20, "items": {"type": "string", "enum": [*ROW_STATES]}},
            },
            {
                "name": "limit",
                "in": "query",
                "description": "Rows of a page.",
                "schema": {"type": "integer", "minimum": 1, "maximum": _MOST, "default": 50},
            },
            parameter("cursor", "`next_cursor` of the page before.", maxLength=20),
        ]
    },
)
async def list_rows(request: Request) -> Response:
    """For who made the import, in the order of the file. After validation each says what would be done."""
    ctx = await open_context(request)
    pairs = query(request, ("state", "limit", "cursor"))
    states = tuple(pairs.get("state", ROW_STATES))
    if unknown := sorted(set(states) - set(ROW_STATES)):
        raise invalid_parameter("state", "invalid_value", f"{unknown[0]!r} is no state of a row.")
    limit = _number(single(pairs, "limit"), 50, 1, _MOST)
    if limit is None:
        raise invalid_parameter("limit", "out_of_range", f"1 to {_MOST}.")
    after = _number(single(pairs, "cursor"), 0, 0, 10**9)
    if after is None:
        raise Problem(INVALID_CURSOR, "This is no cursor of rows.")
    ctx.kernel.policy.require(ctx.access, ctx.principal.scopes, IMPORTS, "read")
    row = await _mine(ctx, path_id(request, IMPORTS), "read")
    hidden = _hidden(ctx, row)
    found = await kept.following(ctx, row["id"], after, limit + 1, states)
    more = len(found) > limit
    page = {
        "data": [kept.told(item, hidden) for item in found[:limit]],
        "has_more": more,
        "next_cursor": str(found[limit - 1]["row"]) if more else None,
    }
    return Json(page, 200)


def _number(text: str | None, default: int, least: int, most: int) -> int | None:
    if text is None:
        return default
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most else None


@router.get(
    "/v1/imports/{id}/result",  # noqa: FAST003 - likewise
    name="get_import_result",
    operation_id="get_import_result",
    summary="What became of each row, as CSV",
    response_model=None,
    response_class=StreamingResponse,
    responses={
        200: {"description": "CSV.", **BYTES},
        403: {},
        404: {},
        422: {},
    },
    openapi_extra={"parameters": [_PATH]},
)
async def result(request: Request) -> Response:
    """A line for each row: its number, state, record, and the column, code and detail of its first problem."""
    ctx = await open_context(request)
    query(request, ())
    ctx.kernel.policy.require(ctx.access, ctx.principal.scopes, IMPORTS, "read")
    row = await _mine(ctx, path_id(request, IMPORTS), "read")
    headers = {"Content-Disposition": disposition(f"{row['name']} result.csv"), "X-Content-Type-Options": "nosniff"}
    return StreamingResponse(_lines(ctx, row["id"], _hidden(ctx, row)), 200, headers, "text/csv; charset=utf-8")


async def _lines(ctx: Context, id_: str, hidden: frozenset[str]) -> AsyncIterator[bytes]:
    after, first = 0, True
    while True:
        found = await kept.following(ctx, id_, after, _PAGE, ROW_STATES)
        text = io.StringIO()
        writer = csv.writer(text)
        if first:
            writer.writerow(_COLUMNS)
            first = False
        for item in found:
            shown = kept.told(item, hidden)
            problem = (shown["problems"] or [{}])[0]
            told = (problem.get("column"), problem.get("code"), problem.get("detail"))
            writer.writerow([cell(value) for value in (shown["row"], shown["state"], shown["id"], *told)])
        yield text.getvalue().encode()
        if len(found) < _PAGE:
            return
        after = found[-1]["row"]


def _hidden(ctx: Context, row: Any) -> frozenset[str]:
    return frozenset(ctx.access.hides(row["resource"]))


async def _mine(ctx: Context, id_: str, action: str = "update") -> Any:
    """An import as it is stored; 404 for one that is not to be seen, 403 for somebody else's."""
    row = await load(ctx, IMPORTS, id_, action, lock=False)
    if row["created_by"] != str(ctx.principal.id):
        raise Problem(FORBIDDEN, "The file and the rows of an import are for who made it.")
    return row
