"""Whose doing a document is: who drafted it, and who changed what it is about."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.approvals.rule import approvable
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.record import AuditEntry, among, table_of
from crm_api.kernel.resource import Resource

_ENTRIES = table_of(AuditEntry)
_ID = sa.bindparam("id", type_=sa.Uuid())
_BY_OTHERS = sa.literal(["merge", "unmerge"], ARRAY(sa.Text()))
"""Actions of which a change of the document is but a consequence."""


def terms(resource: Resource) -> frozenset[str]:
    """What a document is about: what can be said of it and is locked once it is no draft, beside custom fields.

    Its number is not, which whoever agrees last may draw.
    """
    assert resource.create is not None  # noqa: S101 - of documents
    assert resource.lock is not None  # noqa: S101 - of documents
    return frozenset(resource.create.model_fields) - resource.lock.free - {"id", CUSTOM, resource.title}


async def authors_of(ctx: Context, document: Resource, id_: Any) -> Collection[str]:
    """The ids of who drafted a document or one that became it, and of who changed the terms of either."""

    def build() -> Statement:
        kinds = [ctx.kernel.catalog.by_type[name] for name in approvable(ctx.kernel.catalog)]
        own = sa.select(sa.literal(document.singular, sa.Text()).label("type"), _ID.label("id"))
        origin = own.cte("origin", recursive=True)
        earlier = sa.union_all(*_earlier(kinds, origin)).lateral("earlier")
        origin = origin.union(sa.select(earlier.c.type, earlier.c.id).select_from(sa.join(origin, earlier, sa.true())))
        said = [sa.and_(_ENTRIES.c.object_type == sa.literal(kind.singular, sa.Text()), _about(kind)) for kind in kinds]
        rows = (
            sa.select(sa.cast(_ENTRIES.c.actor_id, sa.Text()).label("id"))
            .distinct()
            .select_from(
                sa.join(
                    origin,
                    _ENTRIES,
                    sa.and_(_ENTRIES.c.object_id == origin.c.id, _ENTRIES.c.object_type == origin.c.type),
                )
            )
            .where(
                _ENTRIES.c.tenant_id == TENANT,
                _ENTRIES.c.actor_id.is_not(None),
                ~among(_ENTRIES.c.action, _BY_OTHERS),
                sa.or_(*said),
            )
        )
        return Statement(rows)

    statement = ctx.kernel.statement(("authors", document.singular), build)
    return frozenset(row["id"] for row in await ctx.fetch(statement, {"id": id_}))


def _about(kind: Resource) -> sa.ColumnElement[bool]:
    names = sa.literal(sorted(terms(kind)), ARRAY(sa.Text()))
    return sa.cast(_ENTRIES.c.after.has_any(names), sa.Boolean)


def _earlier(kinds: Collection[Resource], origin: Any) -> list[Any]:
    """The documents that name one as what became of them: the quote of an order, the revision before."""
    return [
        sa.select(sa.literal(kind.singular, sa.Text()).label("type"), kind.table.c.id).where(
            kind.table.c.tenant_id == TENANT,
            kind.table.c[column] == origin.c.id,
            origin.c.type == sa.literal(target.singular, sa.Text()),
        )
        for kind in kinds
        for column, name in kind.references.items()
        for target in kinds
        if target.table.name == name
    ]
