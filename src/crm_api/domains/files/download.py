"""The bytes of a file: always as an attachment, never as something a browser runs or shows."""

import re
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from crm_api import settings
from crm_api.adapters.storage import StoreError, storage
from crm_api.domains.files.content_type import TYPES, UNKNOWN
from crm_api.domains.files.contract import SENT, asked
from crm_api.domains.files.file import FILES
from crm_api.domains.files.link import LONGEST, link, reader
from crm_api.kernel.collections import path_id
from crm_api.kernel.headers import header, query, single
from crm_api.kernel.problems import unavailable
from crm_api.kernel.projection import Json
from crm_api.kernel.repository import load
from crm_api.kernel.spec_style import parameter
from crm_api.kernel.unit_of_work import permitted

router = APIRouter()
_RANGE = re.compile(r"^bytes=(?:([0-9]{1,15})-([0-9]{1,15})?|-([0-9]{1,15}))$")
_PLAIN = re.compile(r"[^A-Za-z0-9._ -]")
_POLICY = "sandbox; default-src 'none'"
_PATH = parameter("id", "The file.", required=True, place="path", maxLength=300)


class DownloadLink(BaseModel):
    """A place to get bytes from without a credential, for some minutes."""

    object: Literal["download_link"]
    url: Annotated[str, Field(max_length=3_000, description="Path and query, relative to the server.")]
    expires_in: Annotated[int, Field(ge=0, le=86_400, description="Seconds.")]


@router.post(
    "/v1/files/{id}/download_link",  # noqa: FAST003 - endpoints take the request, as derived ones do
    name="create_file_download_link",
    operation_id="create_file_download_link",
    summary="A link to the content of a file",
    status_code=201,
    response_model=DownloadLink,
    responses={403: {}, 404: {}},
    openapi_extra={"parameters": [_PATH]},
)
async def download_link(request: Request) -> Response:
    """It holds for five minutes, and gives what its maker may see when it is used."""
    ctx = await permitted(request, FILES, "read")
    query(request, ())
    row = await load(ctx, FILES, path_id(request, FILES), "read", lock=False)
    return Json(link(ctx, request, f"/v1/files/{row['id']}/content"), 201)


@router.get(
    "/v1/files/{id}/content",  # noqa: FAST003 - likewise
    name="get_file_content",
    operation_id="get_file_content",
    summary="The bytes of a file",
    response_model=None,
    response_class=StreamingResponse,
    responses=SENT,
    openapi_extra=asked(_PATH, LONGEST),
)
async def content(request: Request) -> Response:
    """Sent as an attachment. One range of bytes is taken; others are answered with the whole."""
    pairs = query(request, ("token",))
    ctx = await reader(request, single(pairs, "token"))
    ctx.require(FILES, "read")
    row = await load(ctx, FILES, path_id(request, FILES), "read", lock=False)
    return await send(request, row["storage_key"], row["name"], row["content_type"], row["size"], row["sha256"])


async def send(request: Request, key: str, name: str, type_: str, size: int, sha256: str) -> Response:
    """Streams bytes of the store, whole or in part."""
    headers = {
        "Content-Disposition": disposition(name),
        "Content-Security-Policy": _POLICY,
        "Cross-Origin-Resource-Policy": "same-origin",
        "ETag": f'"{sha256}"',
        "Accept-Ranges": "bytes",
    }
    if (header(request, b"if-none-match") or "").replace("W/", "") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    start, end = _range(header(request, b"range"), size, same=header(request, b"if-range") in (None, headers["ETag"]))
    whole = (start, end) == (0, size)
    headers["Content-Length"] = str(end - start)
    headers["Content-Type"] = type_ if type_ in TYPES else UNKNOWN
    if not whole:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    if not size or request.scope["crm.head"]:
        return Response(b"", 200 if whole else 206, headers)
    try:
        chunks: Any = await storage(settings.load_settings()).open(key, start, end)
    except StoreError as error:
        raise unavailable("The content cannot be read now.") from error
    return StreamingResponse(chunks, 200 if whole else 206, headers)


def disposition(name: str, way: str = "attachment") -> str:
    """`Content-Disposition` of a file that is called so (RFC 6266), without anything that could be a path."""
    safe = re.sub(r'[/\\:*?"<>|]', "_", name).strip(". ") or "file"
    plain = _PLAIN.sub("_", safe)
    return f"{way}; filename=\"{plain}\"; filename*=UTF-8''{quote(safe, safe='')}"


def _range(text: str | None, size: int, *, same: bool) -> tuple[int, int]:
    match = _RANGE.match(text) if text is not None and same else None
    if match is None:
        return 0, size
    first, last, suffix = match.groups()
    start = max(0, size - int(suffix)) if suffix is not None else int(first)
    end = size if last is None else min(size, int(last) + 1)
    return (start, end) if start < end else (0, size)
