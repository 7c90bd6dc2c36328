"""Verbs: move an opportunity through its stages, win it, lose it, reopen it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import Field

from crm_api.domains.opportunities.placement import change
from crm_api.domains.opportunities.stage import STAGES
from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.external import is_external, own_id
from crm_api.kernel.obstacles import Blocks, by_permission, by_state, told
from crm_api.kernel.parts import items_of
from crm_api.kernel.problems import (
    CONFLICT,
    INVALID,
    TRANSITION_REFUSED,
    Fault,
    Problem,
    forbidden,
    invalid,
)
from crm_api.kernel.query import framed
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import Code, Id, Line, Name, Ref, Wire
from crm_api.kernel.spec_models import MOST_BLOCKS, TransitionBlock

_MOST_STAGES = 1_000
_SENT = {"lost_reason": "reason", "lost_to": "competitor"}
"""Fields that the verb itself sends, by another name."""
Confirmed = Annotated[
    list[Code], Field(max_length=20, description="Codes of the checks of the stage it leaves that are confirmed.")
]


class MoveRequest(Wire):
    """To which open stage of its pipeline."""

    stage_id: Ref
    confirmed: Confirmed = []


class WinRequest(Wire):
    """To which won stage; the first one of the pipeline, unless told."""

    stage_id: Ref | None = None
    confirmed: Confirmed = []


class LoseRequest(Wire):
    """Why, and to whom, which a lost stage may ask for; to which one: the first of the pipeline, unless told."""

    reason: Line | None = None
    stage_id: Ref | None = None
    competitor: Annotated[Name | None, Field(description="Who won it.")] = None


class ReopenRequest(Wire):
    """To which open stage; the one it was closed in, unless told, or the first."""

    stage_id: Ref | None = None


class OpportunityMove(Wire):
    """A stage that the opportunity could move to, whether the caller may move it there now, and if not, why."""

    stage_id: Id
    allowed: bool
    blocked_by: Annotated[list[TransitionBlock], Field(max_length=MOST_BLOCKS)]


class OpportunityMoves(Wire):
    """The other open stages of the pipeline, in order. What a body can bring counts as missing."""

    object: Literal["opportunity_moves"]
    data: Annotated[list[OpportunityMove], Field(max_length=_MOST_STAGES)]


def _stages(ctx: Context) -> Statement:
    """The stages of a pipeline that the caller sees, in order, and the one that an opportunity stands in."""
    table = STAGES.table
    gate = ctx.kernel.policy.gate(ctx.access, STAGES, "read", table)
    tenant = table.c.tenant_id == TENANT
    rows = sa.select(
        sa.cast(table.c.id, sa.Text()).label("id"),
        *(table.c[name] for name in ("kind", "position", "probability", "forecast_category")),
        *(table.c[name] for name in ("required_fields", "exit_checks", "deleted_at")),
    ).where(
        tenant,
        table.c.pipeline_id == sa.bindparam("pipeline", type_=sa.Uuid()),
        sa.or_(table.c.id == sa.bindparam("current", type_=sa.Uuid()), sa.and_(*gate)),
    )
    rows = rows.order_by(table.c.position, table.c.id).limit(sa.literal_column(str(_MOST_STAGES)))
    return framed(rows.lateral("page"))


async def _around(ctx: Context, row: Any) -> tuple[Row, list[Row]]:
    """The stage that the opportunity stands in, and those that it could go to."""
    asked = {"pipeline": row["pipeline_id"], "current": row["stage_id"]}
    _, rows = await settled(ctx, ("stages_around",), lambda: _stages(ctx), asked)
    current = next(stage for stage in rows if stage["id"] == row["stage_id"])
    return current, [stage for stage in rows if stage["deleted_at"] is None]


async def _target(ctx: Context, stages: list[Row], kind: str, wanted: str | None, usual: Any = None) -> Row:
    """The stage of this kind that was asked for, else the usual one, else the first.

    Raises:
        Problem: 422 when it is none of these stages, or of another kind; 409 when the pipeline has none.
    """
    suited = [stage for stage in stages if stage["kind"] == kind]
    if wanted is None:
        if not suited:
            raise Problem(CONFLICT, f"The pipeline has no stage that is {kind}.")
        return next((stage for stage in suited if stage["id"] == usual), suited[0])
    if is_external(wanted):
        ctx.access.through(STAGES)
    id_ = str(await own_id(ctx, STAGES, wanted)).lower()
    for stage in stages:
        if stage["id"] == id_:
            if stage["kind"] != kind:
                raise invalid("/stage_id", "wrong_kind", f"The stage is {stage['kind']}; it must be {kind}.")
            return stage
    raise invalid("/stage_id", "reference_not_found", "There is no such stage in the pipeline.")


def _refuse_unready(
    ctx: Context, resource: Resource, row: Mapping[str, Any], required: list[Any], checks: list[str]
) -> None:
    """422 for each required field that has no value, and for each check, which is not confirmed.

    Raises:
        Problem: 403, too, for a field that is hidden from the caller, who must not learn whether it has one.
    """
    if hidden := sorted(ctx.access.hides(resource.plural).intersection(required) - _SENT.keys()):
        raise forbidden(f"field {resource.plural}.{hidden[0]}")
    faults = [
        Fault("required", f"The stage asks for {name}.", pointer=f"/{_SENT.get(name, name)}")
        for name in required
        if row[name] is None or row[name] in ("[]", [])
    ]
    faults += [Fault("unconfirmed", f"{check} is not confirmed.", pointer="/confirmed") for check in checks]
    if faults:
        raise Problem(INVALID, "The opportunity is not ready to go there.", faults)


def _refuse_to_leave(ctx: Context, resource: Resource, row: Any, stage: Row, confirmed: list[str]) -> None:
    checks = [check["code"] for check in items_of(dict(stage), "exit_checks") if check["code"] not in confirmed]
    _refuse_unready(ctx, resource, row, items_of(dict(stage), "required_fields"), checks)


def _refuse_to_close(ctx: Context, resource: Resource, row: Any, stage: Row, values: Mapping[str, Any]) -> None:
    _refuse_unready(ctx, resource, {**row, **values}, items_of(dict(stage), "required_fields"), [])


def _arrived(ctx: Context, row: Any, stage: Row, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **values,
        **change(ctx, {**row, **values}, stage["id"], row),
        **{name: stage[name] for name in ("probability", "forecast_category")},
    }


async def move(ctx: Context, resource: Resource, row: Any, body: MoveRequest) -> dict[str, Any]:
    """To another open stage; forward only when the stage that it leaves has what it asks for."""
    if row["status"] != "open":
        extra = {"state": row["status"], "allowed_from": ["open"]}
        raise Problem(TRANSITION_REFUSED, f"An opportunity that is {row['status']} cannot be moved.", extra=extra)
    current, stages = await _around(ctx, row)
    target = await _target(ctx, stages, "open", body.stage_id)
    _refuse_move(ctx, resource, row, current, target, body.confirmed)
    return _arrived(ctx, row, target, {})


def _refuse_move(ctx: Context, resource: Resource, row: Any, current: Row, target: Row, confirmed: list[str]) -> None:
    if target["id"] == current["id"]:
        raise Problem(CONFLICT, "The opportunity stands in this stage already.")
    if (target["position"], target["id"]) > (current["position"], current["id"]):
        _refuse_to_leave(ctx, resource, row, current, confirmed)


async def list_moves(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Each open stage of the pipeline but the one it stands in, and what stands in the way to it."""
    del body
    everywhere = by_state(row["status"], ["open"]) + await by_permission(ctx, resource, row["id"], "move")
    current, stages = await _around(ctx, row)
    found = []
    for stage in stages:
        if stage["kind"] == "open" and stage["id"] != current["id"]:
            reasons = everywhere or _blocks_move(ctx, resource, row, current, stage)
            found.append({"stage_id": stage["id"], "allowed": not reasons, "blocked_by": reasons})
    return {"object": "opportunity_moves", "data": found}


def _blocks_move(ctx: Context, resource: Resource, row: Any, current: Row, stage: Row) -> Blocks:
    try:
        _refuse_move(ctx, resource, row, current, stage, [])
    except Problem as problem:
        return told(problem)
    return []


async def win(ctx: Context, resource: Resource, row: Any, body: WinRequest) -> dict[str, Any]:
    """To a won stage, when the stage that it leaves has what it asks for; its date is today if it had none."""
    current, stages = await _around(ctx, row)
    target = await _target(ctx, stages, "won", body.stage_id)
    values = _closed(ctx, row)
    _refuse_to_leave(ctx, resource, row, current, body.confirmed)
    _refuse_to_close(ctx, resource, row, target, values)
    return _arrived(ctx, row, target, values)


async def lose(ctx: Context, resource: Resource, row: Any, body: LoseRequest) -> dict[str, Any]:
    """To a lost stage, from any open one; its date is today if it had none."""
    _, stages = await _around(ctx, row)
    target = await _target(ctx, stages, "lost", body.stage_id)
    values = {**_closed(ctx, row), "lost_reason": body.reason, "lost_to": body.competitor}
    _refuse_to_close(ctx, resource, row, target, values)
    return _arrived(ctx, row, target, values)


async def reopen(ctx: Context, resource: Resource, row: Any, body: ReopenRequest) -> dict[str, Any]:
    """To an open stage."""
    del resource
    _, stages = await _around(ctx, row)
    (latest,) = items_of(dict(row), "latest_change")
    target = await _target(ctx, stages, "open", body.stage_id, latest["from_stage_id"])
    return _arrived(ctx, row, target, {"closed_at": None, "lost_reason": None, "lost_to": None})


def _closed(ctx: Context, row: Any) -> dict[str, Any]:
    dated = {} if row["close_date"] is not None else {"close_date": ctx.now.date()}
    return {"closed_at": ctx.now, **dated}


MOVE = Action("move", "Move the opportunity to another open stage", move, event="moved", body=MoveRequest)
LIST_MOVES = Action(
    "list_moves",
    "List the stages that the opportunity could move to",
    list_moves,
    reply=OpportunityMoves,
    method="GET",
    level="read",
    path="moves",
)
