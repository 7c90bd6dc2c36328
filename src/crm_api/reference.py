"""Serves the contract: /openapi.json, /asyncapi.json, the reference pages from assets, the problem catalogue."""

from functools import cache
from html import escape
from importlib.resources import files
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from crm_api.catalog import CATALOG
from crm_api.domains.oauth.access_token import tokens_of
from crm_api.domains.oauth.explorer import RETURN, own_client
from crm_api.domains.sign_in.browser import sign_in_address, signed_in
from crm_api.excerpt import excerpt
from crm_api.kernel.problems import CATALOGUE, Kind, not_found
from crm_api.kernel.spec import shared_document
from crm_api.kernel.spec_asyncapi import asyncapi
from crm_api.remedies import REMEDIES

router = APIRouter(include_in_schema=False)
_ASSETS = {
    "redoc.standalone.js": "text/javascript",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
_NOTHING = b"data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
_HEADERS = {"Content-Security-Policy": _CSP, "X-Frame-Options": "DENY", "Cache-Control": "no-cache"}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="icon" href="data:,">
{head}
</head>
<body>
{content}
</body>
</html>
"""
_STYLE = "<style>body{font:1rem/1.5 sans-serif;max-width:60rem;margin:2rem auto}td,th{text-align:left}</style>"
_SCRIPTS = frozenset({"redoc.js", "try.js", "return.js"})


def _page(*scripts: str, head: str = "", content: str = '<div id="page"></div>') -> Response:
    tags = "\n".join(f'<script src="/docs/assets/{name}"></script>' for name in scripts)
    page = _PAGE.format(title="CRM API", head=head, content=f"{content}\n{tags}")
    return Response(page, media_type="text/html", headers=_HEADERS)


@cache
def openapi_bytes(tag: str | None = None) -> bytes:
    """The document as it is served, or the part of one tag."""
    return orjson.dumps(shared_document(CATALOG) if tag is None else excerpt(shared_document(CATALOG), tag))


def _known(tag: str) -> None:
    if tag not in {each["name"] for each in shared_document(CATALOG)["tags"]}:
        raise not_found("tag")


@router.get("/openapi.json")
async def openapi(tag: Annotated[str | None, Query(max_length=60)] = None) -> Response:
    """The OpenAPI document, or the part of it that one tag has."""
    if tag is not None:
        _known(tag)
    return _document(openapi_bytes(tag))


def _document(content: bytes) -> Response:
    headers = {"Cache-Control": "no-cache", "Access-Control-Allow-Origin": "*"}
    return Response(content, media_type="application/json", headers=headers)


@cache
def asyncapi_bytes() -> bytes:
    """The document of events as it is served."""
    return orjson.dumps(asyncapi(CATALOG))


@router.get("/asyncapi.json")
async def events() -> Response:
    """The AsyncAPI document."""
    return _document(asyncapi_bytes())


@router.get("/docs")
async def overview() -> Response:
    """The parts of the reference: as one page, a browser would lay it out for a minute."""
    rows = "".join(
        f"<tr><td><a href=/docs/{each['name']}>{each['name']}</a><td>{escape(each['description'])}"
        for each in shared_document(CATALOG)["tags"]
    )
    links = "<p><a href=/docs/try>Call it</a> · <a href=/openapi.json>OpenAPI</a> · <a href=/problems>Problems</a>"
    return _article("CRM API", f"{links}<table>{rows}</table>")


@router.get("/docs/try")
async def call(request: Request) -> Response:
    """The reference, to call: as who is signed in with this browser, or with an API key."""
    session = await signed_in(request)
    client = None if session is None else await own_client(request, session)
    issuer = tokens_of(request.scope["crm.kernel"]).issuer
    if session is None:
        place = sign_in_address(f"{request.url.path}?{request.url.query}".rstrip("?"))
        note = f'<a href="{escape(place)}">Sign in</a> to call the API as yourself, or paste an API key at Authorize.'
    elif client is None:
        note = "Your organisation has switched off the client of this page. Paste an API key at Authorize."
    else:
        note = (
            "You are signed in. Choose Authorize, then what calls from here may do.<span id=elsewhere hidden> "
            f"That works at <a href={escape(issuer)}/docs/try>{escape(issuer)}</a> alone.</span>"
        )
    known = "" if client is None else f' data-client="{client}" data-issuer="{escape(issuer)}"'
    answer = _page(
        "swagger-ui-bundle.js",
        "try.js",
        head='<link rel="stylesheet" href="/docs/assets/swagger-ui.css">',
        content=f'<p id="note">{note}</p>\n<div id="page"{known}></div>',
    )
    answer.headers.update({"Cache-Control": "no-store", "Vary": "Cookie"})
    return answer


@router.get(RETURN)
async def returned() -> Response:
    """Where a browser comes back to with a code, for the page that asked."""
    answer = _page("return.js", content="<p>This window may be closed.</p>")
    answer.headers.update({"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
    return answer


@router.get("/docs/{tag}")
async def read(tag: Annotated[str, Path(max_length=60)]) -> Response:
    """A part of the reference, to read."""
    _known(tag)
    return _page("redoc.standalone.js", "redoc.js")


@router.get("/docs/assets/{name}")
async def asset(name: Annotated[str, Path(max_length=60)]) -> Response:
    """A script or style sheet of the reference pages."""
    headers = {**_HEADERS, "Cache-Control": "public, max-age=3600"}
    if name in _SCRIPTS:
        return Response(_script(name), media_type="text/javascript", headers=headers)
    if name not in _ASSETS:
        raise not_found("asset")
    return Response(_asset(name), media_type=_ASSETS[name], headers=headers)


@cache
def _script(name: str) -> bytes:
    return files("crm_api").joinpath("scripts", name).read_bytes()


@cache
def _asset(name: str) -> bytes:
    return files("fastapi_offline").joinpath("static", name).read_bytes().replace(_LOGO, _NOTHING)


@router.get("/problems")
async def problems(request: Request) -> Response:
    """Every problem code; as a page for a browser."""
    if not _browser(request):
        return _told({"data": [_entry(kind) for kind in CATALOGUE.values()]})
    rows = "".join(
        f"<tr><td>{kind.status}<td><a href=/problems/{kind.code}>{kind.code}</a><td>{escape(kind.title)}"
        for kind in sorted(CATALOGUE.values(), key=lambda kind: kind.status)
    )
    return _article("Problems", f"<table><tr><th>Status<th>Code<th>Meaning{rows}</table>")


@router.get("/problems/{code}")
async def problem(request: Request, code: Annotated[str, Path(max_length=60)]) -> Response:
    """One problem code, which `type` of a problem leads to; as a page for a browser."""
    kind = CATALOGUE.get(code)
    if kind is None:
        raise not_found("problem code")
    if not _browser(request):
        return _told(_entry(kind))
    again = "The same request may succeed later." if kind.retryable else "The same request will fail again."
    text = "".join(f"<p>{escape(part)}" for part in (f"{kind.title}.", REMEDIES[code], again))
    return _article(f"{kind.status} {code}", f"{text}<p><a href=/problems>All problems</a>")


def _browser(request: Request) -> bool:
    """Whether the caller would rather have a page (RFC 9110, 12.5.1); programs ask for no HTML."""
    return "text/html" in request.headers.get("accept", "")


def _entry(kind: Kind) -> dict[str, Any]:
    return {
        "code": kind.code,
        "status": kind.status,
        "title": kind.title,
        "retryable": kind.retryable,
        "remedy": REMEDIES[kind.code],
    }


def _told(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), media_type="application/json", headers={"Vary": "Accept"})


def _article(title: str, content: str) -> Response:
    page = _PAGE.format(title=title, head=_STYLE, content=f"<h1>{title}</h1>\n{content}")
    return Response(page, media_type="text/html", headers={**_HEADERS, "Vary": "Accept"})


@router.get("/.well-known/webhooks-jwks.json")
async def webhook_keys(request: Request) -> Response:
    """The keys that webhooks are signed with (RFC 7517), for receivers."""
    keys = orjson.dumps(request.scope["crm.kernel"].signer.jwks)
    return Response(keys, media_type="application/jwk-set+json", headers={"Cache-Control": "public, max-age=300"})
