"""Verbs: make a view the one that somebody begins with, end that, and tell for whom it is."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.identity.role import ROLES
from crm_api.domains.views.policy import MAKE_DEFAULT, PRESCRIBE
from crm_api.kernel.context import Context, new_id
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.external import is_external
from crm_api.kernel.ledger import NOW
from crm_api.kernel.policy import SELF
from crm_api.kernel.problems import CONFLICT, Problem, invalid, not_found
from crm_api.kernel.record import Record, readable, reference, sparse, table_of
from crm_api.kernel.repository import find, record
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import Code, Id, Instant, Ref, Wire

MOST = 1_000
Audience = Annotated[
    Literal["me", "role", "everyone"],
    Field(description="Who begins with it: the caller, who has a role, everyone in the tenant."),
]


class DefaultView(Record):
    """The view of a resource that a principal, the holders of a role, or everyone begins with."""

    __tablename__ = "default_views"
    __table_args__ = (
        reference("saved_view_id", "saved_views"),
        reference("principal_id", "principals"),
        reference("role_id", "roles"),
        sa.CheckConstraint(
            "audience = CASE WHEN principal_id IS NOT NULL THEN 'me' WHEN role_id IS NOT NULL THEN 'role' "
            "ELSE 'everyone' END AND (principal_id IS NULL OR role_id IS NULL)",
            name="audience",
        ),
        sa.Index(
            "uq_default_views_resource",
            *("tenant_id", "audience", "principal_id", "role_id", "resource"),
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
        sa.Index("ix_default_views_saved_view_id", "tenant_id", "saved_view_id", "id"),
        sparse("default_views", "principal_id"),
        sparse("default_views", "role_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    resource: Mapped[str]
    saved_view_id: Mapped[UUID]
    audience: Mapped[str]
    principal_id: Mapped[UUID | None]
    role_id: Mapped[UUID | None]
    set_at: Mapped[datetime]
    set_by: Mapped[UUID | None]


class DefaultFor(Wire):
    """Who begins with the view."""

    audience: Audience = "me"
    role_id: Annotated[Ref | None, Field(description="With the audience `role`.")] = None

    @model_validator(mode="after")
    def _whose(self) -> "DefaultFor":
        if (self.audience == "role") != (self.role_id is not None):
            raise PydanticCustomError("role", "The audience role names a role_id, and no other does.")
        return self


class DefaultViewView(Wire):
    """That somebody begins with a view."""

    object: Literal["default_view"]
    resource: Code
    saved_view_id: Id
    audience: Audience
    principal_id: Id | None
    role_id: Id | None
    set_at: Instant
    set_by: Id | None


class DefaultViewList(Wire):
    """For whom a view is the one they begin with: everyone, roles, and the caller."""

    data: Annotated[list[DefaultViewView], Field(max_length=MOST)]


DEFAULTS = table_of(DefaultView)
_NAMES = tuple(name for name in DefaultViewView.model_fields if name != "object")
_COLUMNS = [readable(DEFAULTS.c[name]).label(name) for name in _NAMES]
_WHOSE = ("audience", "principal_id", "role_id")


def _bind(name: str) -> Any:
    return sa.bindparam(name, type_=DEFAULTS.c[name].type)


_VALUES = {name: _bind(name) for name in ("id", "resource", "saved_view_id", "set_by", *_WHOSE)}
_INSERT = upsert(DEFAULTS).values(tenant_id=TENANT, set_at=NOW, **_VALUES)
_SET = Statement(
    _INSERT.on_conflict_do_update(
        index_elements=["tenant_id", *_WHOSE, "resource"],
        set_={name: _INSERT.excluded[name] for name in ("saved_view_id", "set_at", "set_by")},
    ).returning(*_COLUMNS)
)
_OF_VIEW = (DEFAULTS.c.tenant_id == TENANT, DEFAULTS.c.saved_view_id == _bind("saved_view_id"))
_END = Statement(
    sa.delete(DEFAULTS)
    .where(*_OF_VIEW, *(DEFAULTS.c[name].is_not_distinct_from(_bind(name)) for name in _WHOSE))
    .returning(*_COLUMNS)
)
_LIST = Statement(
    sa.select(*_COLUMNS)
    .where(*_OF_VIEW, sa.or_(DEFAULTS.c.principal_id.is_(None), DEFAULTS.c.principal_id == SELF))
    .order_by(DEFAULTS.c.audience, DEFAULTS.c.id)
    .limit(sa.literal_column(str(MOST)))
)


async def _whose(ctx: Context, resource: Resource, body: DefaultFor) -> dict[str, Any]:
    """The columns that say who begins with it.

    Raises:
        Problem: 403 for others without the permission to prescribe, 422 for a role that the caller does not see.
    """
    if body.audience == "me":
        return {"audience": "me", "principal_id": ctx.principal.id, "role_id": None}
    ctx.require(resource, PRESCRIBE)
    role = None
    if body.role_id is not None:
        if is_external(body.role_id):
            ctx.access.through(ROLES)
        role = await find(ctx, ROLES, body.role_id)
        if role is None:
            raise invalid("/role_id", "reference_not_found", "There is no such role.")
    return {"audience": body.audience, "principal_id": None, "role_id": role and role["id"]}


async def _make(ctx: Context, resource: Resource, row: Any, body: DefaultFor) -> dict[str, Any]:
    whose = await _whose(ctx, resource, body)
    if row["visibility"] == "private" and body.audience != "me":
        raise Problem(CONFLICT, "Nobody else sees a private view; show it to others first.")
    values = {"id": new_id(), "resource": row["resource"], "saved_view_id": row["id"], "set_by": ctx.principal.id}
    (made,) = await ctx.fetch(_SET, {**values, **whose, "now": ctx.now})
    await record(ctx, resource, row["id"], "make_default", "default_made", after={"default": dict(made)})
    return {"object": "default_view", **dict(made)}


async def _end(ctx: Context, resource: Resource, row: Any, body: DefaultFor) -> dict[str, Any]:
    found = await ctx.fetch(_END, {"saved_view_id": row["id"], **(await _whose(ctx, resource, body))})
    if not found:
        raise not_found("default")
    ended = dict(found[0])
    await record(ctx, resource, row["id"], "end_default", "default_ended", before={"default": ended})
    return {"object": "default_view", **ended}


async def _defaults(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    del resource, body
    found = await ctx.read(_LIST, {"saved_view_id": row["id"], "p_self": ctx.principal.id})
    return {"data": [{"object": "default_view", **dict(item)} for item in found]}


ACTIONS = (
    Action(
        MAKE_DEFAULT,
        "Begin with this view, or let others begin with it",
        _make,
        event="default_made",
        body=DefaultFor,
        reply=DefaultViewView,
    ),
    Action(
        "end_default",
        "Begin with this view no more",
        _end,
        event="default_ended",
        body=DefaultFor,
        reply=DefaultViewView,
        level=MAKE_DEFAULT,
    ),
    Action("defaults", "List who begins with the view", _defaults, reply=DefaultViewList, method="GET", level="read"),
)
