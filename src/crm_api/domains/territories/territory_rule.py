"""Rules that say which territory an account or a lead is in."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.identity.delegation import parsed
from crm_api.domains.identity.territory import TERRITORIES, open_territory
from crm_api.domains.territories.matching import scaled
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.locking import one_at_a_time
from crm_api.kernel.problems import LIMIT_REACHED, Problem, invalid
from crm_api.kernel.record import Entity, MoneyAmount, reference, sortable, table_of, unique
from crm_api.kernel.resource import Check, Resource
from crm_api.kernel.schema import Count, Country, Currency, Id, Input, Money, Name, Output, Ref, Wire
from crm_api.kernel.tree import ancestors

MOST_RULES = 2_000
"""Rules of a tenant: each process keeps them in memory."""
_PRIORITY = "The rule with the lowest number that fits wins; of two with the same number the older one."
_COUNTRIES = "The record's country is one of these."
_POSTAL = "The postal code begins with one of these, or with a text between `first` and `last`."
_INDUSTRIES = "The industry is one of these, whatever their capitals and accents."
_CURRENCY = "Of the revenue; a record in another currency does not fit."


class PostalRange(Wire):
    """Postal codes by how they begin; without `last`, just those that begin with `first`."""

    first: Annotated[str, Field(pattern="^[0-9A-Z]{1,10}$", max_length=10, examples=["80"])]
    last: Annotated[str, Field(pattern="^[0-9A-Z]{1,10}$", max_length=10, examples=["87"])] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "PostalRange":
        if self.last is not None and (len(self.last) != len(self.first) or self.last < self.first):
            raise PydanticCustomError("contradiction", "`last` is as long as `first` and not before it.")
        return self


class TerritoryRule(Entity):
    """A territory, and which records are in it."""

    __tablename__ = "territory_rules"
    __table_args__ = (
        reference("territory_id", "territories"),
        unique("uq_territory_rules_name", "name_key"),
        *sortable("territory_rules", "territory_id", "priority", "created_at"),
    )

    territory_id: Mapped[UUID]
    name: Mapped[str]
    name_key: Mapped[str]
    priority: Mapped[int]
    is_active: Mapped[bool] = mapped_column(server_default="true")
    countries: Mapped[list[Any]]
    postal_codes: Mapped[list[Any]]
    industries: Mapped[list[Any]]
    employees_min: Mapped[int | None]
    employees_max: Mapped[int | None]
    revenue_min: Mapped[int | None] = mapped_column(MoneyAmount)
    revenue_max: Mapped[int | None] = mapped_column(MoneyAmount)
    currency: Mapped[str | None]


Priority = Annotated[int, Field(ge=0, le=1_000_000, description=_PRIORITY)]
Countries = Annotated[list[Country], Field(max_length=300, description=_COUNTRIES)]
PostalCodes = Annotated[list[PostalRange], Field(max_length=500, description=_POSTAL)]
Industries = Annotated[list[Name], Field(max_length=200, description=_INDUSTRIES)]


class TerritoryRuleCreate(Input):
    """A territory, and which records are in it: those that fit all that is given; without any, every record."""

    id: Id | None = None
    territory_id: Ref
    name: Name
    priority: Priority
    is_active: bool = True
    countries: Countries = []
    postal_codes: PostalCodes = []
    industries: Industries = []
    employees_min: Count | None = None
    employees_max: Count | None = None
    revenue_min: Money | None = None
    revenue_max: Money | None = None
    currency: Annotated[Currency | None, Field(description=_CURRENCY)] = None


class TerritoryRuleView(Output):
    """A territory, and which records are in it."""

    object: Literal["territory_rule"]
    territory_id: Id
    name: Name
    priority: Priority
    is_active: bool
    countries: Countries
    postal_codes: PostalCodes
    industries: Industries
    employees_min: Count | None
    employees_max: Count | None
    revenue_min: Money | None
    revenue_max: Money | None
    currency: Annotated[Currency | None, Field(description=_CURRENCY)]


CONDITIONS = frozenset(
    {
        *("countries", "postal_codes", "industries", "employees_min", "employees_max"),
        *("revenue_min", "revenue_max", "currency"),
    }
)


async def _possible(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """422 for a rule that nothing fits, or whose meaning is open."""
    del ctx, resource
    row = {**(before or {}), **values}
    amounts = {name: scaled(row[name]) for name in ("revenue_min", "revenue_max")}
    for low, high in (("employees_min", "employees_max"), ("revenue_min", "revenue_max")):
        bounds = [amounts.get(name, row[name]) for name in (low, high)]
        if None not in bounds and bounds[0] > bounds[1]:
            place = low if low in values else high
            raise invalid(f"/{place}", "contradiction", f"{low} is greater than {high}, so that no record fits.")
    if (row["revenue_min"] is None and row["revenue_max"] is None) != (row["currency"] is None):
        raise invalid("/currency", "contradiction", "A revenue has a currency, and a currency needs a revenue.")
    if parsed(row["postal_codes"]) and not parsed(row["countries"]):
        raise invalid("/countries", "required", "Postal codes mean nothing without their countries.")


async def _opening(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """403 unless the caller holds what those who work there get to see; records of anybody may come."""
    del resource
    whole = {**(before or {}), **values}
    await open_territory(ctx, set(await ancestors(ctx, TERRITORIES, "parent_id", whole["territory_id"])), "all")


_RULES = table_of(TerritoryRule)
_NUMBER = Statement(
    sa.select(sa.func.count().label("number")).where(_RULES.c.tenant_id == TENANT, _RULES.c.deleted_at.is_(None))
)


async def _few(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """409 when there are as many as there may be."""
    if before is None:
        del values
        await one_at_a_time(ctx, resource.table.name)
        if (await ctx.fetch(_NUMBER, {}))[0]["number"] >= MOST_RULES:
            raise Problem(LIMIT_REACHED, f"A tenant has at most {MOST_RULES} rules.")


_DECIDING = CONDITIONS | {"territory_id", "priority", "is_active"}
TERRITORY_RULES = Resource(
    singular="territory_rule",
    plural="territory_rules",
    model=TerritoryRule,
    output=TerritoryRuleView,
    create=TerritoryRuleCreate,
    keys={"name": TerritoryRule.name_key},
    filters=(TerritoryRule.territory_id, TerritoryRule.name, TerritoryRule.priority, TerritoryRule.is_active),
    sorts=(TerritoryRule.priority, TerritoryRule.created_at),
    checks=(
        Check(CONDITIONS, _possible, cleared=CONDITIONS),
        Check(_DECIDING, _opening, cleared=CONDITIONS),
        Check(frozenset({"name"}), _few),
    ),
    access_fields=frozenset(_DECIDING),
)
"""Rules are known by access version: a change of one holds for the next write of any process, as one of a role does."""
