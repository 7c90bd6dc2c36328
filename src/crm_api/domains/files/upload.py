"""`POST /v1/files`: takes the bytes of a file, looks at them, and attaches them to a record."""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import IO, Any
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api import settings
from crm_api.adapters.storage import StoreError, storage
from crm_api.domains.files.content_type import HEAD, content_type
from crm_api.domains.files.file import FILES
from crm_api.domains.files.lease import claim, lease
from crm_api.domains.files.policy import attachable
from crm_api.kernel.collections import record_id
from crm_api.kernel.context import Context
from crm_api.kernel.external import own_id
from crm_api.kernel.headers import header, idempotency_key, query, single
from crm_api.kernel.idempotency import identify
from crm_api.kernel.jobs import trusted
from crm_api.kernel.problems import TOO_LARGE, Problem, forbidden, invalid_parameter, meant, unavailable
from crm_api.kernel.projection import Json
from crm_api.kernel.repository import create, find, load
from crm_api.kernel.resource import Resource
from crm_api.kernel.spec_style import parameter, ref
from crm_api.kernel.unit_of_work import permitted, write

router = APIRouter()
_IN_MEMORY = 1_048_576
AT_ONCE, OF_TENANT = 100, 20
"""Uploads that a process takes at the same time: in all, and of one tenant. Each may hold a file and take minutes."""
_running: Counter[UUID] = Counter()
_TO_COMMIT = timedelta(hours=1)
_LONGEST_NAME = 200
_PARAMETERS = ("object_type", "object_id", "name")


@dataclass(frozen=True, slots=True)
class Received:
    """A body that came whole: beside a megabyte in a temporary file, which goes with the object."""

    file: IO[bytes]
    size: int
    sha256: str
    content_type: str


@router.post(
    "/v1/files",
    name="create_file",
    operation_id="create_file",
    summary="Attach a file to a record",
    status_code=201,
    response_model=None,
    responses={
        201: {"description": "The file.", "content": {"application/json": {"schema": ref("File")}}},
        403: {},
        404: {},
        409: {},
        413: {},
        422: {},
    },
    openapi_extra={
        "parameters": [
            parameter("object_type", "What the record is, e.g. `account`.", maxLength=63, required=True),
            parameter("object_id", "The record, by id or external id.", maxLength=300, required=True),
            parameter("name", "What the file is called.", maxLength=_LONGEST_NAME, required=True),
        ],
        "requestBody": {
            "required": True,
            "description": "The bytes of the file. Its type is found by its content.",
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary", "maxLength": 26_214_400}}
            },
        },
    },
)
async def create_file(request: Request) -> Response:
    """Takes the permission to update the record. The same bytes may be attached several times."""
    ctx = await permitted(request, FILES, "create")
    pairs = query(request, _PARAMETERS)
    type_, id_, name = (single(pairs, parameter_) for parameter_ in _PARAMETERS)
    target = _target(ctx, type_)
    ctx.require(target, "update")
    values = {"object_type": target.singular, "object_id": await _record(ctx, target, id_), "name": _name(name)}
    ctx.kernel.policy.writable(ctx.access, FILES, values)
    with uploading(ctx.principal.tenant_id):
        return await _take(request, ctx, target, values)


@contextmanager
def uploading(tenant_id: UUID) -> Iterator[None]:
    """503 when too many are under way already."""
    if _running[tenant_id] >= OF_TENANT or _running.total() >= AT_ONCE:
        problem = unavailable("Too many files are being uploaded; try again.")
        problem.headers["Connection"] = "close"
        raise problem
    _running[tenant_id] += 1
    try:
        yield
    finally:
        _running[tenant_id] -= 1
        if not _running[tenant_id]:
            del _running[tenant_id]


async def _take(request: Request, ctx: Context, target: Resource, values: dict[str, Any]) -> Response:
    received = await receive(request, settings.load_settings().max_file)
    if key := idempotency_key(request):
        raw = "\n".join((received.sha256, *map(str, values.values())))
        ctx.idempotency = identify(ctx, key, "POST", "/v1/files", raw.encode())
    stored = await lease(ctx, _TO_COMMIT)
    try:
        await storage(settings.load_settings()).put(stored, received.file)
    except StoreError as error:
        raise unavailable("The content cannot be stored now.") from error

    async def attach(inner: Context) -> dict[str, Any] | None:
        await load(inner, target, values["object_id"], "update")  # it stays as it is, and the rights are those of now
        await claim(inner, stored)
        details = {"content_type": received.content_type, "size": received.size, "sha256": received.sha256}
        return await create(trusted(inner), FILES, {**values, **details, "storage_key": stored})

    outcome = await write(ctx, attach, 201, single=False)
    headers = {"ETag": f'"{outcome.item["version"]}"', "Location": f"/v1/files/{outcome.item['id']}"}
    if outcome.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Json(outcome.item, outcome.status, headers)


def _target(ctx: Context, type_: str | None) -> Resource:
    found = ctx.kernel.catalog.by_type.get(type_ or "")
    if found is None or not attachable(found):
        raise invalid_parameter(
            "object_type",
            "invalid_value",
            f"There are no such records to attach files to.{meant(type_ or '', ctx.kernel.catalog.by_type)}",
        )
    return found


async def _record(ctx: Context, target: Resource, text: str | None) -> str:
    """The id of a record that the caller may see and change."""
    try:
        id_ = str(await own_id(ctx, target, record_id(text or "", target)))
        may = await find(ctx, target, id_, action="update") is not None
        seen = may or await find(ctx, target, id_) is not None  # asked last: it may be deleted between the two
    except Problem as problem:
        if problem.kind.status != 404:
            raise
        seen = may = False
    if not seen:
        raise invalid_parameter("object_id", "reference_not_found", f"There is no such {target.singular}.")
    if not may:
        raise forbidden(f"{target.plural}:update")
    return id_.lower()


def _name(text: str | None) -> str:
    if text is None or not 1 <= len(text) <= _LONGEST_NAME:
        raise invalid_parameter("name", "bad_length", f"1 to {_LONGEST_NAME} characters.")
    if not text.isprintable():
        raise invalid_parameter("name", "bad_value", "A name has printable characters only.")
    return text


async def receive(request: Request, limit: int) -> Received:
    """The body, counted while it comes; 413 for one that is longer than `limit` bytes."""
    if (known := request.scope.get("crm.received")) is not None:
        return known  # type: ignore[no-any-return] # the request is read a second time, under new rights
    length = header(request, b"content-length")
    if length is not None and length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - it is closed with the request
    digest, size, head = hashlib.sha256(), 0, b""
    async for part in request.stream():
        size += len(part)
        if size > limit:
            file.close()
            raise _too_large(limit)
        if len(head) < HEAD:
            head += part[: HEAD - len(head)]
        digest.update(part)
        file.write(part)
    found = Received(file, size, digest.hexdigest(), content_type(head, whole=size <= HEAD))
    request.scope["crm.received"] = found
    return found


def _too_large(limit: int) -> Problem:
    return Problem(TOO_LARGE, f"A file has at most {limit} bytes.", headers={"Connection": "close"})
