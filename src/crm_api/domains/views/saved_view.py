"""Saved views: a filter, a sort and columns under a name, for oneself, a team or everyone."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import Field
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.views.default_view import ACTIONS
from crm_api.domains.views.listing import read, shown_by
from crm_api.domains.views.policy import PRESCRIBE, PUBLISH, SHOWN
from crm_api.kernel.collections import MAX_PATHS, MAX_TEXT
from crm_api.kernel.context import Context
from crm_api.kernel.paging import MAX_SORT_KEYS
from crm_api.kernel.problems import invalid
from crm_api.kernel.record import Entity, one_of, reference, sortable
from crm_api.kernel.resource import Check, Resource
from crm_api.kernel.schema import Code, Count, Id, Input, Name, Output, Ref

_LONGEST_FILTER = 40_000


class SavedView(Entity):
    """How somebody looks at the records of a resource."""

    __tablename__ = "saved_views"
    __table_args__ = (
        reference("team_id", "teams"),
        one_of("visibility", ("private", "team", "everyone")),
        *sortable("saved_views", "created_at", "created_by", "position", "team_id"),
    )

    name: Mapped[str]
    resource: Mapped[str]
    filter: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    sort: Mapped[list[Any]]
    columns: Mapped[list[Any]]
    q: Mapped[str | None]
    expand: Mapped[list[Any]] = mapped_column(JSONB, server_default="[]")
    visibility: Mapped[str]
    team_id: Mapped[UUID | None]
    position: Mapped[int]


Filter = Annotated[dict[str, Any] | None, Field(description="A filter tree as of a search; null for all records.")]
Sort = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=70, examples=["-updated_at"])]],
    Field(max_length=MAX_SORT_KEYS, description="As of a search."),
]
Columns = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=70, examples=["name"])]],
    Field(
        max_length=100,
        description="Fields in their order, `custom.` and a key for custom ones; none for whole records.",
    ),
]
Text = Annotated[
    Annotated[str, Field(min_length=1, max_length=MAX_TEXT)] | None,
    Field(description="Words to search for, as of a search."),
]
Expand = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=127, examples=["parent"])]],
    Field(max_length=MAX_PATHS, description="As of a search: each row has these records with it."),
]
Visibility = Annotated[
    Literal["private", "team", "everyone"],
    Field(description="Who sees it beside its maker: nobody, the members of the team, everyone in the tenant."),
]


class SavedViewCreate(Input):
    """How somebody looks at the records of a resource."""

    id: Id | None = None
    name: Name
    resource: Annotated[Code, Field(description="Plural name, e.g. `accounts`.", examples=["accounts"])]
    filter: Filter = None
    sort: Sort = []
    columns: Columns = []
    q: Text = None
    expand: Expand = []
    visibility: Visibility = "private"
    team_id: Annotated[Ref | None, Field(description="With the visibility `team`, whose members see it.")] = None
    position: Annotated[Count, Field(description="Where it stands among others.")] = 0


class SavedViewView(Output):
    """How somebody looks at the records of a resource."""

    object: Literal["saved_view"]
    name: Name
    resource: Code
    filter: Filter
    sort: Sort
    columns: Columns
    q: Text
    expand: Expand
    visibility: Visibility
    team_id: Id | None
    position: Count


async def _sound(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """A view is one that its maker may look at."""
    del resource
    whole = {**(before or {}), **values}
    if len(orjson.dumps(read(whole["filter"]))) > _LONGEST_FILTER:
        raise invalid("/filter", "too_long", "A filter has at most 40000 bytes.")
    await shown_by(ctx, whole, strict=True)


async def _published(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """Who shows others a view, or changes one that others see, may do so; a team is named where it is for one."""
    whole = {**(before or {}), **values}
    if whole["visibility"] == "team" and whole["team_id"] is None:
        raise invalid("/team_id", "required", "A view that is for a team names it.")
    if whole["visibility"] != "private" or (before is not None and before["visibility"] != "private"):
        ctx.require(resource, PUBLISH)


_ALL = frozenset(SavedViewCreate.model_fields) - {"id"}
SAVED_VIEWS = Resource(
    singular="saved_view",
    plural="saved_views",
    model=SavedView,
    output=SavedViewView,
    create=SavedViewCreate,
    owner=SavedView.created_by,
    rows=(SHOWN,),
    filters=(
        SavedView.name,
        SavedView.resource,
        SavedView.visibility,
        SavedView.team_id,
        SavedView.created_by,
        SavedView.created_at,
    ),
    sorts=(SavedView.position, SavedView.created_at),
    checks=(
        Check(frozenset({"resource", "filter", "sort", "columns", "q", "expand"}), _sound, frozenset({"filter", "q"})),
        Check(_ALL, _published, _ALL),
    ),
    actions=ACTIONS,
    further=(PUBLISH, PRESCRIBE),
)
