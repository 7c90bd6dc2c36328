"""The opportunity of a sales document is one of the document's account."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.joints import Build
from crm_api.kernel.problems import invalid
from crm_api.kernel.repository import find
from crm_api.kernel.resource import Resource

_OTHER = "other_account"
_DOCUMENTS = ("quotes", "orders")


async def _same_account(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> dict[str, Any]:
    """422 for an opportunity of another account; one that the caller does not see is for the check of references."""
    row = {**(before or {}), **values}
    if row["opportunity_id"] is None:
        return {}
    if "opportunity_id" in values:
        found = await of_caller(ctx, resource, row["opportunity_id"])
        whose = None if found is None else found["account_id"]
        pointer = "/opportunity_id"
    else:
        whose, pointer = await _account_of(ctx, row["opportunity_id"]), "/account_id"
    if whose is not None and whose != str(row["account_id"]).lower():
        raise invalid(pointer, _OTHER, "The opportunity is of another account.")
    return {}


async def of_caller(ctx: Context, resource: Resource, id_: Any) -> dict[str, Any] | None:
    """The opportunity of a document, if the caller sees it."""
    opportunities = ctx.kernel.catalog.target(resource, "opportunity_id")
    return None if opportunities is None else await find(ctx, opportunities, id_)


async def _account_of(ctx: Context, id_: Any) -> str | None:
    """Whose an opportunity is that the document has already, whoever may see it."""

    def build() -> Statement:
        table = ctx.kernel.catalog.resources["opportunities"].table
        whose = sa.cast(table.c.account_id, sa.Text()).label("account_id")
        return Statement(
            sa.select(whose).where(table.c.tenant_id == TENANT, table.c.id == sa.bindparam("id", type_=sa.Uuid()))
        )

    rows = await ctx.read(ctx.kernel.statement(("account of an opportunity",), build), {"id": id_})
    return rows[0]["account_id"] if rows else None


async def unsold(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> dict[str, Any]:
    """422 for an opportunity that goes to another account than that of its quotes and orders, deleted ones too."""
    del resource
    if before is None or str(values["account_id"]).lower() == str(before["account_id"]):
        return {}

    def build() -> Statement:
        found = []
        for plural in _DOCUMENTS:
            table = ctx.kernel.catalog.resources[plural].table
            of = table.c.opportunity_id == sa.bindparam("id", type_=sa.Uuid())
            other = table.c.account_id != sa.bindparam("account_id", type_=sa.Uuid())
            one: sa.ColumnElement[int] = sa.literal_column("1")
            found.append(sa.select(one).where(table.c.tenant_id == TENANT, of, other))
        return Statement(sa.union_all(*found))

    sent = {"id": before["id"], "account_id": values["account_id"]}
    if await ctx.read(ctx.kernel.statement(("documents of an opportunity",), build), sent):
        raise invalid("/account_id", _OTHER, "There are quotes or orders of it for the present account.")
    return {}


SAME_ACCOUNT = Build(frozenset({"account_id", "opportunity_id"}), _same_account)
