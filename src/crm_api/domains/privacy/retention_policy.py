"""Retention policies: which records are erased or deleted when nothing has touched them for so long."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.privacy.preview_retention import PREVIEW, ActivateRequest, activate, matching
from crm_api.kernel.context import Context
from crm_api.kernel.jobs import trusted
from crm_api.kernel.joints import Build, Lock
from crm_api.kernel.lifecycle import Lifecycle, edge
from crm_api.kernel.record import Entity, one_of, sortable
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Id, Input, Instant, Name, Output

LIFECYCLE = Lifecycle(
    "state",
    "draft",
    (
        edge("activate", ("draft", "paused"), "active", event="activated", run=activate, body=ActivateRequest),
        edge("pause", ("active",), "paused", event="paused"),
    ),
)
Months = Annotated[int, Field(ge=1, le=1200)]
_FILTER = "As in a search of the resource; null for all records."


class RetentionPolicy(Entity):
    """What is not kept for ever."""

    __tablename__ = "retention_policies"
    __table_args__ = (
        one_of("resource", ("contacts", "leads")),
        one_of("effect", ("erase", "delete")),
        one_of("state", LIFECYCLE.states),
        *sortable("retention_policies", "name", "created_at"),
    )

    name: Mapped[str]
    resource: Mapped[str]
    filter: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    untouched_months: Mapped[int]
    effect: Mapped[str]
    state: Mapped[str]
    ran_at: Mapped[datetime | None]


class RetentionPolicyCreate(Input):
    """Which records, and what becomes of them."""

    id: Id | None = None
    name: Name
    resource: Literal["contacts", "leads"]
    filter: Annotated[dict[str, Any] | None, Field(description=_FILTER)] = None
    untouched_months: Annotated[Months, Field(description="Months since the record was changed last.")]
    effect: Annotated[
        Literal["erase", "delete"],
        Field(description="`erase` takes all that tells of the person; `delete` is what `DELETE` does."),
    ]


class RetentionPolicyView(Output):
    """Which records are erased or deleted when nothing has touched them for so long."""

    object: Literal["retention_policy"]
    name: Name
    resource: Literal["contacts", "leads"]
    filter: dict[str, Any] | None
    untouched_months: Months
    effect: Literal["erase", "delete"]
    state: Literal["draft", "active", "paused"]
    ran_at: Annotated[Instant | None, Field(description="When it was applied last.")]


async def _fit(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """Refuses a filter that the resource does not take; nothing follows from it."""
    del resource
    matching(trusted(ctx), {**(before or {}), **values}, limit=1)
    return {}


RETENTION_POLICIES = Resource(
    singular="retention_policy",
    plural="retention_policies",
    model=RetentionPolicy,
    output=RetentionPolicyView,
    create=RetentionPolicyCreate,
    lifecycle=LIFECYCLE,
    lock=Lock(frozenset({"draft", "paused"}), free=frozenset({"name"})),
    builds=(Build(frozenset({"resource", "filter"}), _fit),),
    actions=(PREVIEW,),
    filters=(
        RetentionPolicy.name,
        RetentionPolicy.resource,
        RetentionPolicy.effect,
        RetentionPolicy.state,
        RetentionPolicy.created_at,
    ),
    sorts=(RetentionPolicy.name, RetentionPolicy.created_at),
)
