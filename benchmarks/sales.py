"""What the sales operations need: a price book and taxes, and drafts of orders that wait for their confirmation."""
# ruff: noqa: E501 - SQL

import json
from typing import Any
from uuid import UUID

from benchmarks.stage import Stage, connect
from crm_api.app import build_kernel
from crm_api.domains.orders.order import ORDERS
from crm_api.domains.pricing.price_book import PRICE_BOOKS
from crm_api.domains.pricing.tax_profile import TAX_PROFILES
from crm_api.domains.pricing.tax_rate import TAX_RATES
from crm_api.kernel.context import Context
from crm_api.kernel.repository import create
from crm_api.kernel.resource import Resource
from crm_api.kernel.unit_of_work import system, transact
from crm_api.settings import load_settings

DRAFTS = 24_000
"""More than any run confirms: each is confirmed once."""
_TEMPLATES = 200
QUOTED = 20

# $1 tenant, $2 book: a price and one for larger quantities, of every second product
_ENTRIES = """
INSERT INTO price_entries (tenant_id, id, price_book_id, product_id, minimum_quantity, price, created_at, updated_at)
SELECT $1::uuid, uuidv7(), $2::uuid, p.id, least, p.list_price * share / 10000 * 100, now(), now()
FROM (SELECT *, row_number() OVER (ORDER BY id) AS n FROM products WHERE tenant_id = $1) p,
  (VALUES (0, 95), (10000000, 85)) prices (least, share) WHERE p.n % 2 = 0
"""
# copies have ids and accounts of their own; a table is not made with parameters
_COPIES = """
CREATE TABLE bench.orders AS
SELECT i AS n, md5('order' || i)::uuid AS order_id, t.id AS template, a.id AS account_id, a.owner_id
FROM generate_series(1, {count}) i
JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n FROM orders WHERE tenant_id = '{tenant}') t ON t.n = i % {templates}
JOIN (SELECT id, owner_id, row_number() OVER (ORDER BY md5(id::text)) - 1 AS n, count(*) OVER () AS most FROM accounts
      WHERE tenant_id = '{tenant}' AND owner_id = ANY('{tree}') AND credit_limit >= 1000000000 AND NOT is_blocked) a ON a.n = i % a.most;
ALTER TABLE bench.orders ADD PRIMARY KEY (n);
"""
_COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped"
_RESET = """
UPDATE orders o SET state = 'draft', number = NULL, confirmed_at = NULL, version = 1
FROM bench.orders b WHERE o.id = b.order_id AND o.state <> 'draft';
"""


async def furnish(stage: Stage) -> None:
    """A default book with prices of half of the products, a default tax profile with one rate, and drafts."""
    kernel = build_kernel(load_settings(), stage.app_url)
    connection = await connect(stage)
    try:
        ctx = system(kernel, stage.tenant, "benchmark")
        book = await _make(ctx, PRICE_BOOKS, name="Standard", code="standard", currency="EUR", is_default=True)
        await connection.execute(_ENTRIES, stage.tenant, UUID(book))
        profile = await _make(ctx, TAX_PROFILES, name="Domestic", code="domestic", is_default=True)
        await _make(ctx, TAX_RATES, tax_profile_id=profile, name="VAT", percent="19", valid_from="2020-01-01")
        products = await connection.fetch("SELECT id FROM products ORDER BY md5(id::text) LIMIT $1", _TEMPLATES * 3)
        account = await connection.fetchval("SELECT account_id FROM bench.picks WHERE n = 1")
        for i in range(_TEMPLATES):
            lines = [{"product_id": str(products[i * 3 + j]["id"]), "quantity": str(j + 1)} for j in range(3)]
            await _make(ctx, ORDERS, account_id=str(account), currency="EUR", lines=lines)
        await _copy(stage, connection)
        await connection.execute("VACUUM (ANALYZE)")
    finally:
        await connection.close()
        await kernel.database.close()


async def _make(ctx: Context, resource: Resource, **given: Any) -> str:
    assert resource.create is not None  # noqa: S101 - of all of them
    values = resource.create.model_validate_json(json.dumps(given)).model_dump()
    made = await transact(ctx, lambda inner: create(inner, resource, values))
    assert made is not None  # noqa: S101 - no key is taken by it
    return str(made["id"])


async def _copy(stage: Stage, connection: Any) -> None:
    """Copies the drafts, for it would take minutes to make so many one by one."""
    tree = "{" + ",".join(map(str, stage.tree)) + "}"
    names = {"count": DRAFTS, "tenant": stage.tenant, "templates": _TEMPLATES, "tree": tree}
    await connection.execute("SET session_replication_role = replica")  # foreign keys hold by construction
    await connection.execute(_COPIES.format(**names))
    kept = {}
    for table in ("orders", "order_lines"):
        columns = [row["attname"] for row in await connection.fetch(_COLUMNS, table)]
        kept[table] = [
            f'"{name}"' for name in columns if name not in ("id", "order_id", "account_id", "owner_id", "lines")
        ]
    heads, lines = (", ".join(kept[table]) for table in ("orders", "order_lines"))
    await connection.execute(
        f"""INSERT INTO orders (id, account_id, owner_id, lines, {heads})
            SELECT b.order_id, b.account_id, b.owner_id,
              (SELECT jsonb_agg(e || jsonb_build_object('id', md5('line' || b.n || ':' || k)::uuid) ORDER BY k)
               FROM jsonb_array_elements(o.lines) WITH ORDINALITY AS every (e, k)), {", ".join("o." + name for name in kept["orders"])}
            FROM bench.orders b JOIN orders o ON o.id = b.template"""
    )
    await connection.execute(
        f"""INSERT INTO order_lines (id, order_id, {lines})
            SELECT md5('line' || b.n || ':' || l.position)::uuid, b.order_id, {", ".join("l." + name for name in kept["order_lines"])}
            FROM bench.orders b JOIN order_lines l ON l.order_id = b.template"""
    )
    await connection.execute("RESET session_replication_role")


async def drafts(stage: Stage) -> list[dict[str, Any]]:
    """The drafts to confirm."""
    connection = await connect(stage)
    try:
        return [dict(row) for row in await connection.fetch("SELECT n, order_id FROM bench.orders ORDER BY n")]
    finally:
        await connection.close()


async def reset(stage: Stage) -> None:
    """Makes drafts again of what was confirmed."""
    connection = await connect(stage)
    try:
        await connection.execute(_RESET)
        await connection.execute("VACUUM orders")
    finally:
        await connection.close()
