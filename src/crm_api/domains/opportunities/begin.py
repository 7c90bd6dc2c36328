"""Seed: a default pipeline with its stages, so that the first opportunity needs no configuration."""

from typing import Any

from crm_api.domains.opportunities.pipeline import PIPELINES
from crm_api.domains.opportunities.stage import STAGES
from crm_api.kernel.context import Context
from crm_api.kernel.domain import Seed
from crm_api.kernel.repository import create
from crm_api.kernel.seeds import ever_had

_STAGES: tuple[tuple[str, str, int, str], ...] = (
    ("qualification", "open", 10, "pipeline"),
    ("proposal", "open", 40, "pipeline"),
    ("negotiation", "open", 70, "best_case"),
    ("commitment", "open", 90, "commit"),
    ("won", "won", 100, "closed"),
    ("lost", "lost", 0, "omitted"),
)
"""Code, kind, probability in percent and forecast category, in order."""


async def _give_pipeline(ctx: Context) -> bool:
    if await ever_had(ctx, PIPELINES):
        return False
    values = {"name": "Standard", "position": 0, "is_active": True, "is_default": True}
    pipeline: Any = await create(ctx, PIPELINES, values)
    for position, (code, kind, probability, category) in enumerate(_STAGES):
        stage = {"pipeline_id": pipeline["id"], "name": code.title(), "code": code, "kind": kind, "position": position}
        terms = {"probability": probability, "forecast_category": category, "max_days": None}
        await create(ctx, STAGES, {**stage, **terms, "required_fields": [], "exit_checks": []})
    return True


SEED = Seed("default_pipeline", _give_pipeline)
