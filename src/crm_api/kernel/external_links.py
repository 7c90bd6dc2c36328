"""Verbs of every resource that can be changed: tie a record to what another system calls it, and untie it."""

from functools import cache
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert

from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.external import EXTERNAL_ID, IDS, SOURCE, kind_of
from crm_api.kernel.external_sources import EXTERNAL_IDS, known, may_name
from crm_api.kernel.problems import CONFLICT, EXTERNAL_ID_TAKEN, LIMIT_REACHED, Fault, Problem, invalid
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import MOST_SOURCES, Code, ExternalIdText, Wire


class LinkRequest(Wire):
    """What a source calls the record."""

    source: Code
    external_id: ExternalIdText


class UnlinkRequest(Wire):
    """The source that knows the record no longer."""

    source: Code


_KIND = sa.bindparam("x_kind", type_=sa.Text())
_OBJECT = sa.bindparam("object_id", type_=sa.Uuid())
_LINK = Statement(
    upsert(IDS)
    .values(tenant_id=TENANT, source=SOURCE, object_type=_KIND, external_id=EXTERNAL_ID, object_id=_OBJECT)
    .on_conflict_do_nothing()
    .returning(IDS.c.source)
)
_UNLINK = Statement(
    sa.delete(IDS)
    .where(IDS.c.tenant_id == TENANT, IDS.c.object_type == _KIND, IDS.c.object_id == _OBJECT, IDS.c.source == SOURCE)
    .returning(IDS.c.source)
)


async def _link(ctx: Context, resource: Resource, row: Any, body: LinkRequest) -> dict[str, Any]:
    """The record is found by `ext:{source}:{external_id}` from now on; other live records must not have that id."""
    await known(ctx, body.source, invalid("/source", "unknown_source", "There is no such source."))
    present = await _free(ctx, resource, row, body.source)
    if present.get(body.source) == body.external_id:
        return {EXTERNAL_IDS: present}
    if body.source in present:
        detail = f"The record has another external id of {body.source}; unlink it first."
        raise Problem(CONFLICT, detail, [Fault("linked_already", detail, pointer="/source")])
    if len(present) >= MOST_SOURCES:
        raise Problem(LIMIT_REACHED, f"A record has external ids of at most {MOST_SOURCES} sources.")
    values = {**_of(ctx, resource, row, body.source), "x_external_id": body.external_id}
    if not await ctx.fetch(_LINK, values):
        detail = "Another record has this external id."
        raise Problem(EXTERNAL_ID_TAKEN, detail, [Fault("external_id_taken", detail, pointer="/external_id")])
    return {EXTERNAL_IDS: {**present, body.source: body.external_id}}


async def _unlink(ctx: Context, resource: Resource, row: Any, body: UnlinkRequest) -> dict[str, Any]:
    """The external id is free for another record."""
    present = await _free(ctx, resource, row, body.source)
    if body.source not in present:
        detail = f"The record has no external id of {body.source}."
        raise Problem(CONFLICT, detail, [Fault("not_linked", detail, pointer="/source")])
    await ctx.fetch(_UNLINK, _of(ctx, resource, row, body.source))
    return {EXTERNAL_IDS: {source: id_ for source, id_ in present.items() if source != body.source}}


async def _free(ctx: Context, resource: Resource, row: Any, source: str) -> dict[str, str]:
    """The record's external ids; refuses who may not change that of the source."""
    await may_name(ctx, resource, source)
    present: dict[str, str] = orjson.loads(row[EXTERNAL_IDS])
    return present


def _of(ctx: Context, resource: Resource, row: Any, source: str) -> dict[str, Any]:
    return {"x_kind": kind_of(ctx.kernel.catalog, resource), "object_id": row["id"], "x_source": source}


@cache
def link_actions() -> tuple[Action, ...]:
    """They take the permission to update, and change nothing but `external_ids`."""
    return (
        Action("link", "Give the record an external id", _link, body=LinkRequest, level="update"),
        Action("unlink", "Take an external id from the record", _unlink, body=UnlinkRequest, level="update"),
    )
