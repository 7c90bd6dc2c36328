"""Stages of a pipeline: where an opportunity stands, how likely it is there, and what leaving takes."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.opportunities.standing import refuse_if_open
from crm_api.kernel.context import Context
from crm_api.kernel.joints import Build
from crm_api.kernel.record import Entity, one_of, reference, sortable, unique
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Code, Id, Input, Line, Name, Output, Ref, Wire

KINDS = ("open", "won", "lost")
CATEGORIES = ("pipeline", "best_case", "commit", "closed", "omitted")
Kind = Literal["open", "won", "lost"]
Category = Literal["pipeline", "best_case", "commit", "closed", "omitted"]
Percent = Annotated[int, Field(ge=0, le=100)]
Days = Annotated[int, Field(ge=1, le=3650)]
Position = Annotated[int, Field(ge=0, le=1_000_000)]
RequiredFields = Annotated[
    list[
        Literal[
            "contact_id",
            "owner_id",
            "amount",
            "currency",
            "close_date",
            "next_step",
            "next_step_on",
            "competitors",
            "source",
            "description",
            "score_card",
            "tags",
            "lost_reason",
            "lost_to",
        ]
    ],
    Field(
        max_length=14,
        description="Fields of an opportunity that must have a value before it moves on; before it comes to a stage "
        "that is won or lost.",
    ),
]
UNSAID: Any = None
"""The default of a field that always has a value, which is worked out when none is sent; null is none."""
_BY_KIND: Mapping[str, tuple[int, str]] = {"open": (0, "pipeline"), "won": (100, "closed"), "lost": (0, "omitted")}


class ExitCheck(Wire):
    """A fact to be confirmed before an opportunity moves on."""

    code: Code
    text: Line


ExitChecks = Annotated[list[ExitCheck], Field(max_length=20, description="What is confirmed when it moves on.")]


class Stage(Entity):
    """A step of a pipeline."""

    __tablename__ = "stages"
    __table_args__ = (
        reference("pipeline_id", "pipelines"),
        one_of("kind", KINDS),
        one_of("forecast_category", CATEGORIES),
        unique("uq_stages_code", "pipeline_id", "code"),
        *sortable("stages", "position", "created_at", "pipeline_id"),
    )

    pipeline_id: Mapped[UUID]
    name: Mapped[str]
    code: Mapped[str]
    position: Mapped[int] = mapped_column(server_default="0")
    kind: Mapped[str]
    probability: Mapped[int]
    forecast_category: Mapped[str]
    max_days: Mapped[int | None]
    required_fields: Mapped[list[Any]]
    exit_checks: Mapped[list[Any]]


class StageCreate(Input):
    """A step of a pipeline."""

    id: Id | None = None
    pipeline_id: Ref
    name: Name
    code: Code
    position: Position = 0
    kind: Kind = "open"
    probability: Percent = Field(default=UNSAID, description="In percent; by its kind, unless it is given.")
    forecast_category: Category = Field(default=UNSAID, description="By its kind, unless it is given.")
    max_days: Days | None = None
    required_fields: RequiredFields = []
    exit_checks: ExitChecks = []


class StageView(Output):
    """A step of a pipeline."""

    object: Literal["stage"]
    pipeline_id: Id
    name: Name
    code: Code
    position: Position
    kind: Kind
    probability: Annotated[Percent, Field(description="In percent.")]
    forecast_category: Category
    max_days: Annotated[Days | None, Field(description="How long an opportunity should stand here at most.")]
    required_fields: RequiredFields
    exit_checks: ExitChecks


async def _defaults(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Probability and category of the kind, where none is given."""
    del ctx, resource
    if before is not None:
        return {}
    usual = dict(zip(("probability", "forecast_category"), _BY_KIND[values["kind"]], strict=True))
    return {name: value for name, value in usual.items() if values.get(name) is None}


async def _deletable(ctx: Context, resource: Resource, values: Any, before: Any) -> None:
    """Refuses while open opportunities stand in it."""
    del resource, values
    await refuse_if_open(ctx, "stage_id", before["id"])


STAGES = Resource(
    singular="stage",
    plural="stages",
    model=Stage,
    output=StageView,
    create=StageCreate,
    default_access="read",
    once=frozenset({"pipeline_id", "kind"}),
    builds=(Build(frozenset(), _defaults),),
    deletable=_deletable,
    within={"pipeline_id": "stages"},
    filters=(
        Stage.pipeline_id,
        Stage.code,
        Stage.kind,
        Stage.probability,
        Stage.forecast_category,
        Stage.position,
        Stage.created_at,
    ),
    sorts=(Stage.position, Stage.created_at),
)
