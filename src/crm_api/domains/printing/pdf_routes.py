"""`GET /v1/{collection}/{id}/pdf` of every resource that is printed, and the preview of a template."""

import dataclasses
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter
from sqlalchemy.dialects.postgresql import ARRAY
from starlette.requests import Request
from starlette.responses import Response

from crm_api import settings
from crm_api.adapters.storage import StoreError, storage
from crm_api.adapters.typesetting_child import LARGEST
from crm_api.domains.files.download import disposition
from crm_api.domains.printing.choosing import choose, form_of
from crm_api.domains.printing.document_template import DOCUMENT_TEMPLATES
from crm_api.domains.printing.press import press
from crm_api.domains.printing.samples import sample
from crm_api.domains.printing.sheet import Logo, Sheet
from crm_api.domains.products.unit import UNITS
from crm_api.kernel.collections import path_id
from crm_api.kernel.context import Context, settled
from crm_api.kernel.customs_expand import Path, steps
from crm_api.kernel.database import Statement, bound
from crm_api.kernel.domain import Catalog
from crm_api.kernel.headers import header, query, single
from crm_api.kernel.problems import unavailable
from crm_api.kernel.projection import plain
from crm_api.kernel.query import framed
from crm_api.kernel.record import among
from crm_api.kernel.repository import get
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import LONGEST_REF, REF_PATTERN
from crm_api.kernel.spec_style import parameter
from crm_api.kernel.unit_of_work import permitted

PDF = "application/pdf"
_BODY = {"schema": {"type": "string", "format": "binary", "maxLength": LARGEST}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The PDF.", "content": {PDF: _BODY}, "headers": {"ETag": {}}},
    304: {"description": "The caller has it.", "headers": {"ETag": {}}},
    403: {},
    404: {},
    422: {},
}
_LANGUAGE = parameter(
    "language", "Of the form, as `es` or `es-MX`; that of the contact, or English, unless given.", maxLength=6
)
_TEMPLATE = parameter(
    "template_id",
    "A document template; the default one of the language, unless given.",
    pattern=REF_PATTERN,
    minLength=7,
    maxLength=LONGEST_REF,
)
_MATCH = parameter("If-None-Match", "An ETag; 304 when the document still has it.", place="header", maxLength=8192)


def routes(catalog: Catalog) -> APIRouter:
    """The routes over the printed resources of a catalog."""
    router = APIRouter()
    for resource in catalog.resources.values():
        if resource.printed is not None:
            _add(router, resource)
    return router


def _add(router: APIRouter, resource: Resource) -> None:
    async def endpoint(request: Request) -> Response:
        ctx = await permitted(request, resource, "read")
        pairs = query(request, ("language", "template_id"))
        sheet = await _sheet(ctx, request, resource, single(pairs, "language"), single(pairs, "template_id"))
        name = sheet.record["number"] or f"{resource.singular}-{sheet.record['id']}"
        return await _reply(ctx, request, sheet, name)

    endpoint.__doc__ = (
        "In the language asked for, by the tenant's template or the shipped one. It shows what the caller may read of "
        f"the {resource.singular}, its account and its contact, and marks a draft. Needs the permission "
        f"`{resource.plural}:read`."
    )
    router.add_api_route(
        f"/v1/{resource.plural}/{{id}}/pdf",
        endpoint,
        methods=["GET"],
        name=f"print_{resource.singular}",
        operation_id=f"print_{resource.singular}",
        summary=f"{resource.singular.replace('_', ' ').capitalize()} as a PDF",
        response_model=None,
        response_class=Response,
        responses=_RESPONSES,
        openapi_extra={
            "parameters": [
                parameter("id", "The record.", required=True, place="path", maxLength=300),
                _LANGUAGE,
                _TEMPLATE,
                _MATCH,
            ]
        },
    )


async def _sheet(
    ctx: Context, request: Request, resource: Resource, language: str | None, template_id: str | None
) -> Sheet:
    item = await get(ctx, resource, path_id(request, resource), _open(ctx, resource))
    record = plain(item)
    contact = record.get("contact") or {}
    issuer, form = await choose(ctx, resource, language, template_id, contact.get("language"))
    ids = {line["unit_id"] for line in record["lines"]} - {None}
    return Sheet(resource, record, await _units(ctx, ids) if ids else {}, issuer, form)


def _open(ctx: Context, resource: Resource) -> tuple[Path, ...]:
    """Of account and contact those that the caller's rights lead to; what of them is shown, their own rules say."""
    known, hidden = steps(ctx.kernel.catalog, ctx.access, resource, first=False), ctx.access.hides(resource.plural)
    asked = [known[name] for name in ("account", "contact") if name in known]
    return tuple((step,) for step in asked if step.field not in hidden and step.target not in ctx.access.closed)


async def _units(ctx: Context, ids: set[str]) -> dict[str, str]:
    """What units are called, of those that the caller may read."""
    given = {"ids": bound([UUID(id_) for id_ in sorted(ids)])}
    _, rows = await settled(ctx, ("printing", "units"), lambda: _named_units(ctx), given)
    return {row["id"]: row["code"] for row in rows if row["id"] is not None}


def _named_units(ctx: Context) -> Statement:
    table = UNITS.table
    rows = sa.select(sa.cast(table.c.id, sa.Text()).label("id"), table.c.code).where(
        among(table.c.id, sa.bindparam("ids", type_=ARRAY(sa.Uuid()))),
        *ctx.kernel.policy.gate(ctx.access, UNITS, "read", table),
    )
    return framed(rows.lateral("page"))


async def _reply(ctx: Context, request: Request, sheet: Sheet, name: str) -> Response:
    headers = {  # no policy of content: a browser in its sandbox does not show the PDF
        "Content-Disposition": disposition(f"{name}.pdf", "inline"),
        "Cross-Origin-Resource-Policy": "same-origin",
        "ETag": sheet.tag,
    }
    known = (header(request, b"if-none-match") or "").replace("W/", "").replace(" ", "").split(",")
    if sheet.tag in known or known == ["*"]:
        return Response(status_code=304, headers=headers)
    if request.scope["crm.head"]:
        return Response(b"", 200, headers, PDF)
    logo = None if sheet.form.logo is None else await _bytes(sheet.form.logo)
    made = datetime.fromisoformat(sheet.record["updated_at"])
    pdf = await press().set(ctx.principal.tenant_id, lambda: sheet.files(logo), int(made.timestamp()))
    return Response(pdf, 200, headers, PDF)


async def _bytes(logo: Logo) -> bytes:
    try:
        chunks = await storage(settings.load_settings()).open(logo.key, 0, logo.size)
        return b"".join([chunk async for chunk in chunks])
    except StoreError as error:
        raise unavailable("The logo cannot be read now.") from error


router = APIRouter()


@router.get(
    "/v1/document_templates/{id}/preview",  # noqa: FAST003 - endpoints take the request, as derived ones do
    name="preview_document_template",
    operation_id="preview_document_template",
    summary="What a template makes of a sample",
    response_model=None,
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra={
        "parameters": [parameter("id", "The template.", required=True, place="path", maxLength=300), _MATCH]
    },
)
async def preview(request: Request) -> Response:
    """A made-up document as a PDF, with the logo and footer of the template and the tenant's name."""
    ctx = await permitted(request, DOCUMENT_TEMPLATES, "read")
    query(request, ())
    template = await get(ctx, DOCUMENT_TEMPLATES, path_id(request, DOCUMENT_TEMPLATES))
    issuer, form = await form_of(ctx, template)
    sheet = dataclasses.replace(sample(ctx.kernel.catalog.by_type[template["object_type"]], form), issuer=issuer)
    return await _reply(ctx, request, sheet, f"{template['name']} (preview)")
