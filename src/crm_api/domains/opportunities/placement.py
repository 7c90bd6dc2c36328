"""Where a new opportunity stands: its pipeline and stage, and what follows from them."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from crm_api.domains.accounts.account import ACCOUNTS
from crm_api.domains.opportunities.pipeline import PIPELINES
from crm_api.domains.opportunities.stage import STAGES
from crm_api.kernel.context import Context, new_id, settled
from crm_api.kernel.database import Row, Statement
from crm_api.kernel.problems import CONFLICT, Fault, Problem, invalid
from crm_api.kernel.query import framed
from crm_api.kernel.repository import check_references
from crm_api.kernel.resource import Resource

_VERBS = {"won": "win", "lost": "lose"}
_NEXT = timedelta(microseconds=1)


def change(ctx: Context, row: Mapping[str, Any], to_stage_id: Any, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """What an opportunity gets when it comes to a stage: the stage, the time, and the entry in its history.

    Args:
        ctx: the request.
        row: amount, currency and date that it has there.
        to_stage_id: the stage.
        before: the row as it stood in the stage it leaves; None when it begins.
    """
    # Who waited for the row began before the one who had it, and came to its stage after.
    at = ctx.now if before is None else max(ctx.now, before["stage_entered_at"] + _NEXT)
    days = None if before is None else (at - before["stage_entered_at"]).days
    entry = {
        "id": str(new_id()),
        "from_stage_id": None if before is None else before["stage_id"],
        "to_stage_id": to_stage_id,
        "at": at,
        **{name: row.get(name) for name in ("amount", "currency", "close_date")},
        "days_in_stage": days,
    }
    return {"stage_id": to_stage_id, "stage_entered_at": at, "latest_change": [entry]}


def _blocked(ctx: Context) -> Any:
    table = ACCOUNTS.table.alias("blocked_account")
    gate = ctx.kernel.policy.gate(ctx.access, ACCOUNTS, "read", table)
    found: Any = sa.select(sa.literal_column("1")).where(
        table.c.id == sa.bindparam("account", type_=sa.Uuid()), table.c.is_blocked, *gate
    )
    return sa.exists(found)


def _begins(ctx: Context) -> Statement:
    """The stage that was named, else the first open one of the pipeline, and whether the account is blocked."""
    stages, pipelines = STAGES.table.alias("s"), PIPELINES.table.alias("p")
    policy = ctx.kernel.policy
    stage, pipeline = (sa.bindparam(name, type_=sa.Uuid()) for name in ("stage", "pipeline"))
    rows = (
        sa.select(
            *(sa.cast(stages.c[name], sa.Text()).label(name) for name in ("id", "pipeline_id")),
            *(stages.c[name] for name in ("kind", "probability", "forecast_category")),
            _blocked(ctx).label("blocked"),
        )
        .select_from(
            sa.join(
                stages,
                pipelines,
                sa.and_(pipelines.c.tenant_id == stages.c.tenant_id, pipelines.c.id == stages.c.pipeline_id),
            )
        )
        .where(
            *policy.gate(ctx.access, STAGES, "read", stages),
            *policy.gate(ctx.access, PIPELINES, "read", pipelines),
            sa.or_(pipeline.is_(None), pipelines.c.id == pipeline),
            sa.or_(
                stages.c.id == stage,
                sa.and_(stage.is_(None), stages.c.kind == sa.literal("open", sa.Text()), pipelines.c.is_active),
            ),
        )
        .order_by(pipelines.c.is_default.desc(), pipelines.c.position, pipelines.c.id, stages.c.position, stages.c.id)
        .limit(sa.literal_column("1"))
    )
    return framed(rows.lateral("page"))


async def _beginning(ctx: Context, resource: Resource, values: Mapping[str, Any]) -> Row:
    asked = {name: values.get(f"{name}_id") for name in ("stage", "pipeline", "account")}
    _, rows = await settled(ctx, ("opportunity_begins",), lambda: _begins(ctx), asked)
    if (found := rows[0])["id"] is not None:
        return found
    named = [name for name in ("stage_id", "pipeline_id") if values.get(name) is not None]
    await check_references(ctx, resource, {name: values[name] for name in named})
    if "stage_id" in named:
        raise invalid("/stage_id", "other_pipeline", "The stage is not one of this pipeline.")
    detail = "No active pipeline with an open stage is there to begin in."
    raise invalid("/pipeline_id", "no_stage", detail)


def _refuse_blocked() -> None:
    detail = "The account is blocked from further business."
    raise Problem(CONFLICT, detail, [Fault("account_blocked", detail, pointer="/account_id")])


async def place(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Pipeline, stage and what the stage gives, of a new opportunity; refuses a blocked account for any.

    One may begin in a stage that is won or lost, as history that moves in does, with the permission of the verb.
    """
    if before is not None:
        if str(values["account_id"]).lower() != str(before["account_id"]):
            key = ("blocked_account",)
            _, rows = await settled(
                ctx,
                key,
                lambda: framed(sa.select(_blocked(ctx).label("blocked")).lateral("page")),
                {"account": values["account_id"]},
            )
            if rows[0]["blocked"]:
                _refuse_blocked()
        return {}
    found = await _beginning(ctx, resource, values)
    if found["blocked"]:
        _refuse_blocked()
    status = found["kind"]
    if status in _VERBS:
        ctx.require(resource, _VERBS[status])
    given = {name: found[name] for name in ("probability", "forecast_category") if values.get(name) is None}
    return {
        **given,
        **change(ctx, values, found["id"], None),
        "pipeline_id": found["pipeline_id"],
        "status": status,
        "closed_at": ctx.now if status in _VERBS else None,
    }
