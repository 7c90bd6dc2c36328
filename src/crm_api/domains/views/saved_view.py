"""Saved views: a filter, a sort and columns under a name, for oneself, a team or everyone."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import Field
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.views.policy import PUBLISH, SHOWN
from crm_api.kernel.collections import tree_of
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM, PREFIX, fields_of
from crm_api.kernel.filters import Group
from crm_api.kernel.paging import MAX_SORT_KEYS, Key, parse_sort
from crm_api.kernel.problems import Fault, Problem, forbidden, invalid
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
    visibility: Visibility
    team_id: Id | None
    position: Count


def read(value: Any) -> Any:
    """A part of a view, which is text in a row and a value in a body."""
    return orjson.loads(value) if isinstance(value, str) else value


async def listing_of(
    ctx: Context, view: Mapping[str, Any]
) -> tuple[Resource, tuple[Group, dict[str, Any]], tuple[Key, ...], tuple[str, ...]]:
    """What a view shows, checked under the caller's rights of now: resource, filter, sort, columns.

    Raises:
        Problem: 403 without the permission to read the records, and for a hidden field that is filtered, sorted or,
            since whoever names it knows of it, shown; 422 for what does not exist.
    """
    target = ctx.kernel.catalog.resources.get(view["resource"])
    if target is None or "search" not in target.operations:
        raise invalid("/resource", "unknown_resource", "There are no such records to look at.")
    ctx.require(target, "read")
    tree = await tree_of(ctx, target, read(view["filter"]))
    try:
        sort = parse_sort(target, ctx.access, ",".join(read(view["sort"])))
    except Problem as problem:
        faults = [Fault(fault.code, fault.detail, pointer="/sort") for fault in problem.errors]
        raise Problem(problem.kind, problem.detail, faults, extra=problem.extra) from None
    columns = tuple(dict.fromkeys(read(view["columns"])))
    hidden, customs = ctx.access.hides(target.plural), fields_of(ctx.access, target)
    for i, name in enumerate(columns):
        known = name.removeprefix(PREFIX) in customs if name.startswith(PREFIX) else name in target.output.model_fields
        if not known:
            raise invalid(f"/columns/{i}", "unknown_field", f"{target.plural} have no field {name!r}.")
        if name in hidden:
            raise forbidden(f"field {target.plural}.{name}")
    return target, tree, sort, columns


def sparse(columns: tuple[str, ...]) -> tuple[str, ...] | None:
    """The fields of a row that has these columns; None for all of them."""
    return tuple(sorted({CUSTOM if name.startswith(PREFIX) else name for name in columns})) or None


async def _sound(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """A view is one that its maker may look at."""
    del resource
    whole = {**(before or {}), **values}
    if len(orjson.dumps(read(whole["filter"]))) > _LONGEST_FILTER:
        raise invalid("/filter", "too_long", "A filter has at most 40000 bytes.")
    await listing_of(ctx, whole)


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
        Check(frozenset({"resource", "filter", "sort", "columns"}), _sound, frozenset({"filter"})),
        Check(_ALL, _published, _ALL),
    ),
    further=(PUBLISH,),
)
