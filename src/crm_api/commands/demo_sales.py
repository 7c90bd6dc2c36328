"""What the demo tenant sells: products, opportunities, quotes and orders. The same each time."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa

from crm_api.commands.demo_data import SEED, START
from crm_api.domains.approvals.rule import APPROVAL_RULES
from crm_api.domains.opportunities.opportunity import OPPORTUNITIES
from crm_api.domains.opportunities.stage import STAGES
from crm_api.domains.orders.order import ORDERS
from crm_api.domains.products.product import PRODUCTS
from crm_api.domains.products.product_category import PRODUCT_CATEGORIES
from crm_api.domains.products.unit import UNITS
from crm_api.domains.quotes.quote import QUOTES
from crm_api.kernel import repository
from crm_api.kernel.context import Context, new_id
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.resource import Resource
from crm_api.kernel.unit_of_work import transact
from crm_api.kernel.writes import writes

OPEN, OFFERED, SOLD = 300, 80, 200
CURRENCY = "EUR"
_FATES = (("send", "accept", "convert"), ("send",), ("send", "decline"), ("submit",), ())
_GOODS = {
    "Sensors": ("Flow meter", "Level probe", "Pressure gauge", "Thermometer"),
    "Valves": ("Ball valve", "Check valve", "Gate valve", "Relief valve"),
    "Service": ("Calibration", "Installation", "Maintenance"),
}


class Sales:
    """Makes them with the rights of our own commands; `accounts` are (account, seller) ids."""

    def __init__(self, ctx: Context, accounts: Sequence[tuple[str, str]]) -> None:
        self._ctx = ctx
        self._random = random.Random(SEED)  # noqa: S311 - made-up data, the same on each run
        self._accounts = accounts

    async def load(self) -> None:
        """Everything, one after the other: it is little."""
        products = await self._products()
        for type_ in ("quote", "order"):
            rule = {"name": "Deep discounts", "object_type": type_, "discount_over": "15"}
            await self._make(APPROVAL_RULES, {**rule, "steps": [{"kind": "manager", "remind_after_hours": 48}]})
        stages = list((await self._given(STAGES)).values())
        for number in range(min(OPEN, len(self._accounts))):
            await self._opportunity(number, stages)
        for number in range(min(OFFERED, len(self._accounts))):
            await self._quote(number, products)
        for number in range(min(SOLD, len(self._accounts))):
            await self._order(number, products)

    async def _products(self) -> list[str]:
        piece = (await self._given(UNITS))["piece"]
        hour = await self._make(UNITS, {"code": "h", "name": "Hour", "decimals": 2})
        found = []
        for name, goods in _GOODS.items():
            service = name == "Service"
            category = await self._make(PRODUCT_CATEGORIES, {"name": name, "code": name.lower()})
            for i, title in enumerate(goods):
                price = self._random.randrange(40, 900)
                values = {
                    "sku": f"{name[:3].upper()}-{i + 1:03d}",
                    "name": title,
                    "kind": "service" if service else "goods",
                    "category_id": category,
                    "unit_id": hour if service else piece,
                    "list_price": f"{price}.00",
                    "cost": f"{price * 6 // 10}.00",
                    "currency": CURRENCY,
                }
                found.append(await self._make(PRODUCTS, values))
        return found

    async def _given(self, resource: Resource) -> dict[str, str]:
        """Ids by code of what every tenant begins with."""
        table = resource.table
        columns = (table.c.code, sa.cast(table.c.id, sa.Text()).label("id"))
        rows = await self._ctx.fetch(Statement(sa.select(*columns).where(table.c.tenant_id == TENANT)), {})
        return {row["code"]: row["id"] for row in rows}

    async def _opportunity(self, number: int, stages: Sequence[str]) -> None:
        account, seller = self._random.choice(self._accounts)
        at = self._moment()
        values = {
            "name": f"{self._random.choice(('Expansion', 'Renewal', 'Pilot', 'New plant'))} {number + 1}",
            "account_id": account,
            "stage_id": self._random.choice(stages),
            "amount": f"{self._random.randrange(1, 200) * 500}.00",
            "currency": CURRENCY,
            "close_date": (at + timedelta(days=self._random.randrange(30, 200))).date().isoformat(),
            "owner_id": seller,
        }
        await self._make(OPPORTUNITIES, values, self._at(seller, at))

    async def _quote(self, number: int, products: Sequence[str]) -> None:
        values, ctx = self._document(products)
        day = ctx.now.date()
        quote = await self._make(QUOTES, {**values, "quoted_on": day.isoformat()}, ctx)
        for verb in _FATES[number % len(_FATES)]:
            await self._act(QUOTES, quote, verb, ctx)

    async def _order(self, number: int, products: Sequence[str]) -> None:
        values, ctx = self._document(products)
        own = {"client_reference": f"PO-{number + 1:05d}", "ordered_on": ctx.now.date().isoformat()}
        order = await self._make(ORDERS, {**values, **own}, ctx)
        if number % 4:
            await self._act(ORDERS, order, "confirm", ctx)

    def _document(self, products: Sequence[str]) -> tuple[dict[str, Any], Context]:
        """What is offered or sold to some account, and a context of its seller then."""
        account, seller = self._random.choice(self._accounts)
        lines = [
            {
                "product_id": product,
                "quantity": str(self._random.randrange(1, 20)),
                "discount_percent": self._random.choice(("0", "0", "5", "10")),
                "tax_percent": "19",
            }
            for product in self._random.sample(products, self._random.randrange(1, 5))
        ]
        values = {"account_id": account, "currency": CURRENCY, "lines": lines, "owner_id": seller}
        return values, self._at(seller, self._moment())

    def _moment(self) -> datetime:
        return START + timedelta(days=self._random.randrange(660), seconds=self._random.randrange(36_000))

    def _at(self, seller: str, at: datetime) -> Context:
        """A context of the record's owner at its moment."""
        principal = replace(self._ctx.principal, id=UUID(seller))
        return replace(self._ctx, principal=principal, now=at, transaction_id=new_id())

    async def _make(self, resource: Resource, values: dict[str, Any], ctx: Context | None = None) -> str:
        """A record, checked as a request would be; its id."""
        assert resource.create is not None  # noqa: S101 - all of these can be created
        whole = resource.create.model_validate_json(orjson.dumps(values)).model_dump()
        made = await transact(ctx or self._ctx, lambda inner: repository.create(inner, resource, whole))
        return str(made["id"])

    async def _act(self, resource: Resource, id_: str, verb: str, ctx: Context) -> None:
        declared = next(way for way in writes(resource) if way.operation_id == f"{verb}_{resource.singular}")
        work, _ = declared.prepare(id_, declared.read(b"{}"), None, False)
        await transact(ctx, work)
