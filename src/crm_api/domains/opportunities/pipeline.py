"""Pipelines: the ways that opportunities go, each with its stages."""

from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.opportunities.make_default import MAKE_DEFAULT
from crm_api.domains.opportunities.standing import refuse_if_open
from crm_api.kernel.record import Entity, sortable, unique
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Count, Id, Input, Name, Output


class Pipeline(Entity):
    """A way that opportunities go. `default_mark` is true for one of them, and null for the rest."""

    __tablename__ = "pipelines"
    __table_args__ = (
        unique("uq_pipelines_name_key", "name_key"),
        unique("uq_pipelines_default_mark", "default_mark"),
        *sortable("pipelines", "position", "created_at"),
    )

    name: Mapped[str]
    name_key: Mapped[str]
    is_default: Mapped[bool] = mapped_column(server_default="false")
    default_mark: Mapped[bool | None]
    position: Mapped[int] = mapped_column(server_default="0")
    is_active: Mapped[bool] = mapped_column(server_default="true")


class PipelineCreate(Input):
    """A way that opportunities go; `make_default` makes it the one of those that name none."""

    id: Id | None = None
    name: Name
    position: Count = 0
    is_active: bool = True


class PipelineView(Output):
    """A way that opportunities go."""

    object: Literal["pipeline"]
    name: Name
    is_default: Annotated[
        bool, Field(description="Opportunities that name no pipeline begin here; without one, in the first.")
    ]
    position: Count
    is_active: Annotated[bool, Field(description="Opportunities may begin here.")]


async def _deletable(ctx: Any, resource: Resource, values: Any, before: Any) -> None:
    """Refuses while open opportunities are in it."""
    del resource, values
    await refuse_if_open(ctx, "pipeline_id", before["id"])


PIPELINES = Resource(
    singular="pipeline",
    plural="pipelines",
    model=Pipeline,
    output=PipelineView,
    create=PipelineCreate,
    keys={"name": Pipeline.name_key},
    derive={"is_default": lambda value: {"default_mark": value or None}},
    default_access="read",
    deletable=_deletable,
    actions=(MAKE_DEFAULT,),
    filters=(Pipeline.name, Pipeline.is_default, Pipeline.is_active, Pipeline.position, Pipeline.created_at),
    sorts=(Pipeline.position, Pipeline.created_at),
)
