"""Gives records the territory that the rules say: when they are made, and when what a rule reads of them changes."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.identity.territory import TERRITORIES
from crm_api.domains.territories.matching import FACTS, Rule, Rulebook, scaled
from crm_api.domains.territories.territory_rule import TERRITORY_RULES
from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.joints import Build
from crm_api.kernel.query import framed
from crm_api.kernel.record import reference, sparse
from crm_api.kernel.resource import Resource
from crm_api.kernel.row import derived
from crm_api.kernel.schema import fold

MOST_REMEMBERED = 1_000
_REMEMBERED: dict[UUID, tuple[int, Rulebook]] = {}
"""Tenant -> access version and rules: a write under another version is refused and run again, so none is stale."""
VOUCHED = frozenset({"territory_id", "territory_rule_id"})


class Ruled:
    """Adds which rule gave a record its territory, and whether rules leave that alone."""

    territory_rule_id: Mapped[UUID | None]
    territory_pinned: Mapped[bool] = mapped_column(server_default="false")


def ruled(table: str) -> tuple[Any, ...]:
    """Foreign key and index of a `Ruled` table."""
    return (reference("territory_rule_id", "territory_rules"), sparse(table, "territory_rule_id"))


async def rulebook(ctx: Context) -> Rulebook:
    """The rules that hold under the access version of the request."""
    tenant, version = ctx.principal.tenant_id, ctx.access.version
    known = _REMEMBERED.get(tenant)
    if known is not None and known[0] == version:
        return known[1]
    _, rows = await settled(ctx, ("rulebook",), _compile, {})
    book = Rulebook([_rule(row) for row in rows if row["id"] is not None])
    if not ctx.nets:  # else they may be those of a transaction that is undone, whose version another one gets
        if len(_REMEMBERED) >= MOST_REMEMBERED:
            _REMEMBERED.clear()
        _REMEMBERED[tenant] = (ctx.access.version, book)
    return book


def _compile() -> Statement:
    rules, places = TERRITORY_RULES.table, TERRITORIES.table
    found = (
        sa.select(*rules.c)
        .select_from(sa.join(rules, places, places.c.id == rules.c.territory_id))
        .where(
            rules.c.tenant_id == TENANT,
            places.c.tenant_id == TENANT,
            rules.c.is_active,
            places.c.is_active,
            rules.c.deleted_at.is_(None),
            places.c.deleted_at.is_(None),
        )
        .order_by(rules.c.priority, rules.c.id)
    )
    return framed(found.lateral("page"))


def _rule(row: Row) -> Rule:
    ranges = [(item["first"], item.get("last") or item["first"]) for item in orjson.loads(row["postal_codes"])]
    return Rule(
        id=str(row["id"]),
        name=row["name"],
        territory_id=str(row["territory_id"]),
        priority=row["priority"],
        countries=frozenset(orjson.loads(row["countries"])),
        postal_codes=tuple(ranges),
        industries=frozenset(fold(text) for text in orjson.loads(row["industries"])),
        employees=(row["employees_min"], row["employees_max"]),
        revenue=(row["revenue_min"], row["revenue_max"]),
        currency=row["currency"],
    )


def facts_of(row: Any) -> dict[str, Any]:
    """What rules read of a row, stored or about to be; amounts in ten-thousandths."""
    found = {name: row[name] for name in FACTS if name in row}
    if "annual_revenue" in found:
        found["annual_revenue"] = scaled(found["annual_revenue"])
    return found


def given_by(rule: Rule | None) -> dict[str, Any]:
    """The columns of a record that a rule won."""
    return {
        "territory_id": rule and UUID(rule.territory_id),
        "territory_rule_id": rule and UUID(rule.id),
        "territory_pinned": False,
    }


async def assigned(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """The territory that the rules say, unless somebody decided by hand; the columns that differ."""
    if before is not None and before["territory_pinned"]:
        return {}
    row = {**(before or {}), **derived(resource, values)}
    given = given_by((await rulebook(ctx)).winner(facts_of(row)))
    old = before or {"territory_pinned": False}
    return {name: value for name, value in given.items() if str(old.get(name)) != str(value)}


def by_rules(*fields: str) -> Build:
    """What a `Ruled` resource declares; `fields` are those of a body that tell what rules read."""
    return Build(frozenset(fields), assigned)
