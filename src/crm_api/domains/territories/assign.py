"""Verbs: decide by hand which territory a record is in, or leave it to the rules; and why it is where it is."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from crm_api.domains.identity.territory import TERRITORIES
from crm_api.domains.territories.assignment import facts_of, given_by, rulebook
from crm_api.domains.territories.matching import FACTS
from crm_api.domains.territories.territory_rule import TERRITORY_RULES
from crm_api.kernel.context import Context
from crm_api.kernel.problems import forbidden, invalid
from crm_api.kernel.repository import find
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import Code, Id, Name, Ref, Wire

MOST_TOLD = 200


class TerritoryAssignment(Wire):
    """The territory; null takes the record out of its own."""

    territory_id: Ref | None


class RuledTerritoryAssignment(Wire):
    """The territory, decided by hand and left alone by rules from now on; or that the rules decide."""

    by: Annotated[
        Literal["hand", "rules"],
        Field(description="`rules` lets the rules decide, now and whenever the record changes."),
    ] = "hand"
    territory_id: Annotated[Ref | None, Field(description="With `hand`; null keeps the record out of all.")] = None

    @model_validator(mode="after")
    def _one_way(self) -> "RuledTerritoryAssignment":
        if self.by == "rules" and self.territory_id is not None:
            raise PydanticCustomError("contradiction", "Either the rules decide, or you name a territory.")
        return self


class RuleOutcome(Wire):
    """A rule that was asked."""

    rule_id: Id
    name: Name
    priority: Annotated[int, Field(ge=0, le=1_000_000)]
    territory_id: Id
    wins: bool
    unmet: Annotated[list[Code], Field(max_length=10, description="Conditions that the record does not meet.")]


class TerritoryExplanation(Wire):
    """Why a record is in its territory."""

    object: Literal["territory_explanation"]
    territory_id: Id | None
    decided_by: Literal["hand", "rule", "nobody"]
    rule_id: Annotated[Id | None, Field(description="The rule that gave it; it may have changed since.")]
    rules: Annotated[
        list[RuleOutcome],
        Field(max_length=MOST_TOLD, description="As they are now, in the order they are asked, down to the winner."),
    ]


async def _place(ctx: Context, ref: str | None) -> UUID | None:
    if ref is None:
        return None
    ctx.access.through(TERRITORIES)
    found = await find(ctx, TERRITORIES, ref)
    if found is None:
        raise invalid("/territory_id", "reference_not_found", "There is no such territory.")
    if not found["is_active"]:
        raise invalid("/territory_id", "inactive", "This territory takes nothing new.")
    return UUID(found["id"])


async def _assign(ctx: Context, resource: Resource, row: Any, body: TerritoryAssignment) -> dict[str, Any]:
    del resource, row
    return {"territory_id": await _place(ctx, body.territory_id)}


async def _assign_ruled(ctx: Context, resource: Resource, row: Any, body: RuledTerritoryAssignment) -> dict[str, Any]:
    del resource
    if body.by == "rules":
        return given_by((await rulebook(ctx)).winner(facts_of(row)))
    return {**given_by(None), "territory_id": await _place(ctx, body.territory_id), "territory_pinned": True}


async def _explain(ctx: Context, resource: Resource, row: Mapping[str, Any], body: None) -> dict[str, Any]:
    """Of what is hidden from the caller it would tell, so then it is refused."""
    del body
    ctx.require(TERRITORY_RULES, "read")
    for name in ctx.access.hides(resource.plural).intersection(FACTS):
        raise forbidden(f"field {resource.plural}.{name}")
    asked: list[dict[str, Any]] = []
    facts = facts_of(row)
    for rule in (await rulebook(ctx)).rules:
        unmet = list(rule.unmet(facts))
        told = {"rule_id": rule.id, "name": rule.name, "priority": rule.priority, "territory_id": rule.territory_id}
        asked.append({**told, "wins": not unmet, "unmet": unmet})
        if not unmet:
            break
    rule_id = row["territory_rule_id"]
    return {
        "object": "territory_explanation",
        "territory_id": row["territory_id"] and str(row["territory_id"]),
        "decided_by": "hand" if row["territory_pinned"] else "rule" if rule_id else "nobody",
        "rule_id": rule_id and str(rule_id),
        "rules": asked[-MOST_TOLD:],
    }


_SUMMARY = "Put the record into a territory"
ASSIGN_TERRITORY = Action("assign_territory", _SUMMARY, _assign, event="territory_assigned", body=TerritoryAssignment)
"""For a resource with an owner."""
BY_HAND = (
    Action(
        "assign_territory",
        f"{_SUMMARY}, or leave that to the rules",
        _assign_ruled,
        event="territory_assigned",
        body=RuledTerritoryAssignment,
    ),
    Action(
        "explain_territory",
        "Which rules were asked for the record's territory, and which one wins",
        _explain,
        reply=TerritoryExplanation,
        method="GET",
        level="read",
    ),
)
"""For one that rules apply to."""
