"""Which form a document gets: the template that is named, else the tenant's own of the language, else the shipped."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.files.file import FILES
from crm_api.domains.printing.document_template import DOCUMENT_TEMPLATES
from crm_api.domains.printing.formats import locale_of
from crm_api.domains.printing.sheet import SHIPPED, Form, Logo
from crm_api.domains.printing.words import DEFAULT, LANGUAGES
from crm_api.kernel.collections import record_id
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.problems import Problem, invalid_parameter, not_found
from crm_api.kernel.record import Tenant, among, table_of
from crm_api.kernel.repository import find
from crm_api.kernel.resource import Resource

_NONE = UUID(int=0)
_LANGUAGES = sa.bindparam("languages", type_=ARRAY(sa.Text()))


async def choose(
    ctx: Context, resource: Resource, language: str | None, template_id: str | None, fallback: str | None
) -> tuple[str, Form]:
    """The tenant's name, and how a document of the resource looks.

    A tenant's default template serves whoever may read the document, whether or not he may read templates; to name one
    takes to read it.

    Args:
        ctx: the request.
        resource: what is printed.
        language: that was asked for.
        template_id: of the template that was asked for.
        fallback: the language of whom the document is for, if nothing was asked for.

    Raises:
        Problem: 422 for a template that is none of the caller's for such documents, or a language without a form.
    """
    if language is not None and locale_of(language) is None:
        raise invalid_parameter("language", "invalid_value", "A language is a tag such as `en` or `es-MX`.")
    if template_id is not None:
        return await _named(ctx, resource, language, template_id)
    tried = [] if language else [DEFAULT]
    wanted = language or (fallback if fallback and locale_of(fallback) else DEFAULT)
    languages = list(dict.fromkeys([wanted, wanted.partition("-")[0], *tried]))
    rows = await _read(ctx, resource.singular, languages, _NONE)
    own = {row["language"]: row for row in rows if row["source"] is not None}
    for one in languages:
        if one in own:
            return rows[0]["issuer"], _form(own[one], wanted if _same(wanted, one) else one)
        if one in LANGUAGES:
            return rows[0]["issuer"], _form({"source": SHIPPED}, wanted if _same(wanted, one) else one)
    raise invalid_parameter("language", "no_template", f"There is no form in it; without one: {', '.join(LANGUAGES)}.")


async def _named(ctx: Context, resource: Resource, language: str | None, template_id: str) -> tuple[str, Form]:
    found = await _seen(ctx, template_id)
    if found is not None and found["object_type"] == resource.singular:
        (row,) = await _read(ctx, resource.singular, [], UUID(found["id"]))
        if row["source"] is not None:  # else it was deleted between the two
            return row["issuer"], _form(row, language or row["language"])
    raise invalid_parameter("template_id", "reference_not_found", "There is no such template for this.")


async def _seen(ctx: Context, template_id: str) -> dict[str, Any] | None:
    """The template, by id or external id, if the caller may read it."""
    if not ctx.access.may(DOCUMENT_TEMPLATES.plural, "read"):
        return None
    try:
        return await find(ctx, DOCUMENT_TEMPLATES, record_id(template_id, DOCUMENT_TEMPLATES))
    except Problem as problem:
        if problem.kind.status != 404:
            raise
        return None


def _same(wanted: str, one: str) -> bool:
    """Whether the country of the language that is wanted says how amounts are written in a form of the other."""
    return wanted.partition("-")[0] == one.partition("-")[0]


async def _read(ctx: Context, object_type: str, languages: list[str], id_: UUID) -> list[Row]:
    statement = ctx.kernel.statement(("printing", "templates"), _statement)
    return await ctx.read(statement, {"object_type": object_type, "languages": languages, "id": id_})


def _statement() -> Statement:
    """The tenant's name, beside it the templates in question with their logos."""
    tenants, table, files = table_of(Tenant), DOCUMENT_TEMPLATES.table, FILES.table
    marked = sa.and_(table.c.is_default, among(table.c.language, _LANGUAGES))
    templates = sa.and_(
        table.c.tenant_id == TENANT,
        table.c.deleted_at.is_(None),
        table.c.object_type == sa.bindparam("object_type", type_=sa.Text()),
        sa.or_(marked, table.c.id == sa.bindparam("id", type_=sa.Uuid())),
    )
    logos = sa.and_(
        files.c.tenant_id == TENANT,
        files.c.id == table.c.logo_file_id,
        files.c.deleted_at.is_(None),
        files.c.purged_at.is_(None),
    )
    return Statement(
        sa.select(
            tenants.c.name.label("issuer"),
            *(table.c[name] for name in ("language", "source", "footer")),
            *(files.c[name] for name in ("storage_key", "size", "sha256", "content_type")),
        )
        .select_from(tenants.outerjoin(table, templates).outerjoin(files, logos))
        .where(tenants.c.tenant_id == TENANT)
    )


def _form(row: Mapping[str, Any] | Row, language: str) -> Form:
    locale = locale_of(language)
    assert locale is not None  # noqa: S101 - of templates and requests, both are checked
    logo = None
    if (key := row.get("storage_key")) is not None:
        logo = Logo(key, row["size"], row["sha256"], row["content_type"])
    return Form(row["source"], language, locale, row.get("footer"), logo)


async def form_of(ctx: Context, template: Mapping[str, Any]) -> tuple[str, Form]:
    """The tenant's name, and the form that a template gives, which the caller has read; 404 when it is gone by now."""
    (row,) = await _read(ctx, template["object_type"], [], UUID(template["id"]))
    if row["source"] is None:
        raise not_found(DOCUMENT_TEMPLATES.singular)
    return row["issuer"], _form(row, row["language"])
