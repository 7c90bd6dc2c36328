"""The same order written by hand: raw ASGI, asyncpg and two statements of plain SQL, with what the product does for it.

It prices each line by account, book, entry and list price, and writes order, lines, audit row and event; it knows no
permissions, row policies, field rules, custom fields, units, categories, currencies, idempotency or validation of the body.
`python -m benchmarks --only create_order` compares it with the product, the naive reference and plain SQL in one run.
"""
# ruff: noqa: E501 - SQL

import os
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import uuid_utils

# $1 tenant, $2 account, $3 products, $4 quantities in millionths, $5 day, $6 currency
_READ = """
SELECT a.owner_id, a.payment_terms, b.id AS book, t.id AS profile, p.id AS product, p.sku, p.name, p.unit_id, p.cost, p.list_price,
  e.id AS entry, coalesce(e.price, p.list_price) AS price
FROM accounts a
CROSS JOIN LATERAL (SELECT id FROM price_books WHERE tenant_id = $1 AND deleted_at IS NULL AND (id = a.price_book_id OR (is_default AND currency = $6))
  ORDER BY id = a.price_book_id DESC NULLS LAST LIMIT 1) b
CROSS JOIN LATERAL (SELECT id FROM tax_profiles WHERE tenant_id = $1 AND deleted_at IS NULL AND (id = a.tax_profile_id OR is_default)
  ORDER BY id = a.tax_profile_id DESC NULLS LAST LIMIT 1) t
CROSS JOIN unnest($3::uuid[], $4::bigint[]) WITH ORDINALITY lines (id, quantity, n)
JOIN products p ON p.tenant_id = $1 AND p.id = lines.id AND p.deleted_at IS NULL AND p.status <> 'retired'
LEFT JOIN LATERAL (SELECT id, price FROM price_entries WHERE tenant_id = $1 AND price_book_id = b.id AND product_id = p.id AND deleted_at IS NULL
  AND minimum_quantity <= lines.quantity AND (valid_from IS NULL OR valid_from <= $5) AND (valid_until IS NULL OR valid_until >= $5)
  ORDER BY minimum_quantity DESC LIMIT 1) e ON true
WHERE a.tenant_id = $1 AND a.id = $2 AND a.deleted_at IS NULL AND NOT a.is_blocked ORDER BY lines.n
"""
_LINE = """id uuid, position bigint, product_id uuid, sku text, description text, quantity bigint, unit_id uuid, unit_price bigint,
 price_source text, price_book_id uuid, price_entry_id uuid, found_price bigint, discount_percent bigint, discount bigint, tax_percent bigint,
 taxes jsonb, net_amount bigint, tax_amount bigint, gross_amount bigint, cost bigint, currency text"""
_NAMES = ", ".join(column.split()[0] for column in _LINE.split(","))
# $1 tenant, $2 order, $3 account, $4 reference, $5 its folded text, $6 day, $7 book, $8 profile, $9 terms, $10 lines as they are sent,
# $11 taxes, $12 discount, $13 net, $14 tax, $15 gross, $16 margin, $17 owner, $18 now, $19 line rows, $20 event, $21 request, $22 currency
_WRITE = f"""
WITH ordered AS (
  INSERT INTO orders AS o (tenant_id, id, account_id, state, client_reference, search_text, ordered_on, currency, prices, price_book_id, tax_profile_id,
    payment_terms, tags, lines, taxes, discount_total, net_total, tax_total, gross_total, payable_total, deepest_discount, margin, owner_id,
    created_at, created_by, updated_at, updated_by)
  VALUES ($1, $2, $3, 'draft', $4, $5, $6, $22, 'net', $7, $8, $9, '[]', $10, $11, $12, $13, $14, $15, $15, 10000000, $16, $17, $18, $17, $18, $17)
  RETURNING id, to_jsonb(o) - '{{tenant_id,search_text,deepest_discount,margin,known_margin,created_via,deleted_at}}'::text[] AS image
), written AS (
  INSERT INTO order_lines (tenant_id, order_id, created_at, updated_at, {_NAMES})
  SELECT $1, ordered.id, $18, $18, {_NAMES.replace("id,", "l.id,", 1)} FROM ordered, json_to_recordset($19::json) l ({_LINE})
), audited AS (
  INSERT INTO audit_entries (tenant_id, id, at, actor_id, request_id, object_type, object_id, version, action, before, after)
  SELECT $1, $20, $18, $17, $21, 'order', id, 1, 'create', '{{}}', image FROM ordered
), emitted AS (
  INSERT INTO outbox (tenant_id, event_id, at, transaction_id, type, object_type, object_id, version, previous, data, actor_id, origin)
  SELECT $1, $20, $18, $20, 'order.created', 'order', id, 1, '{{}}', image, $17, jsonb_build_object('request_id', $21::text) FROM ordered
) SELECT image FROM ordered
"""
_pool: list[asyncpg.Pool] = []
_tenant: list[UUID] = []


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Creates orders; anything else is the health probe."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    if scope["method"] == "GET":
        await _reply(send, 200, b"{}")
        return
    body = orjson.loads((await receive())["body"])
    await _reply(send, 201, await _create(body))


async def _live(receive: Any, send: Any) -> None:
    await receive()
    url = os.environ["NAIVE_DATABASE_URL"]
    _pool.append(
        await asyncpg.create_pool(
            url,
            min_size=4,
            max_size=8,
            reset=_kept,
            server_settings={"plan_cache_mode": "force_generic_plan", "jit": "off"},
        )
    )
    _tenant.append(await _pool[0].fetchval("SELECT tenant_id FROM tenants LIMIT 1"))
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await _pool[0].close()
    await send({"type": "lifespan.shutdown.complete"})


async def _kept(_: Any) -> None:
    """Nothing is left on a connection by single statements, so it is not reset."""


async def _reply(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _create(body: dict[str, Any]) -> bytes:
    now, lines = datetime.now(UTC), body["lines"]
    asked = [int(line["quantity"]) for line in lines]
    terms = (
        _tenant[0],
        body["account_id"],
        [line["product_id"] for line in lines],
        [quantity * 1_000_000 for quantity in asked],
    )
    async with _pool[0].acquire() as connection:
        rows = await connection.fetch(_READ, *terms, now.date(), body["currency"])
        if len(rows) != len(lines):
            raise ValueError("no such account or product")
        first, told, kept = rows[0], [], []
        sums = dict.fromkeys(("discount", "net", "tax", "gross", "cost"), 0)
        for position, (row, line, quantity) in enumerate(zip(rows, lines, asked, strict=True), 1):
            amounts = _amounts(row, quantity, int(line["discount_percent"]), int(line["tax_percent"]))
            sums = {name: sums[name] + amount for name, amount in amounts.items()}
            tax = {
                "name": "tax",
                "percent": line["tax_percent"],
                "is_compound": False,
                "net": _money(amounts["net"]),
                "amount": _money(amounts["tax"]),
            }
            same = {
                "id": str(uuid_utils.uuid7()),
                "position": position,
                "product_id": str(row["product"]),
                "sku": row["sku"],
                "description": row["name"],
                "unit_id": str(row["unit_id"]),
                "price_source": "list" if row["entry"] is None else "book",
                "price_book_id": None if row["entry"] is None else str(first["book"]),
                "price_entry_id": None if row["entry"] is None else str(row["entry"]),
                "taxes": [tax],
            }
            names = {"discount": "discount", "net_amount": "net", "tax_amount": "tax", "gross_amount": "gross"}
            numbers = {name: amounts[of] for name, of in names.items()} | {"unit_price": row["price"]}
            percents = {name: line[name] for name in ("discount_percent", "tax_percent")}
            told.append(
                {
                    **same,
                    **percents,
                    "quantity": line["quantity"],
                    **{name: _money(amount) for name, amount in numbers.items()},
                }
            )
            scaled = {name: int(percent) * 1_000_000 for name, percent in percents.items()}
            kept.append(
                {
                    **same,
                    **numbers,
                    **scaled,
                    "quantity": quantity * 1_000_000,
                    "found_price": row["price"],
                    "cost": amounts["cost"],
                    "currency": body["currency"],
                }
            )
        image = await connection.fetchval(
            _WRITE,
            *(
                _tenant[0],
                str(uuid_utils.uuid7()),
                body["account_id"],
                body["client_reference"],
                body["client_reference"].lower(),
                now.date(),
            ),
            *(
                first["book"],
                first["profile"],
                first["payment_terms"],
                orjson.dumps(told).decode(),
                orjson.dumps(_taxes(told)).decode(),
            ),
            *(
                sums["discount"],
                sums["net"],
                sums["tax"],
                sums["gross"],
                sums["net"] - sums["cost"],
                first["owner_id"],
                now,
            ),
            *(orjson.dumps(kept).decode(), str(uuid_utils.uuid7()), str(uuid_utils.uuid7()), body["currency"]),
        )
    order = orjson.loads(image)
    for name in ("discount_total", "net_total", "tax_total", "gross_total", "payable_total"):
        order[name] = _money(order[name])
    return orjson.dumps(order)


def _amounts(row: Any, quantity: int, discount: int, tax: int) -> dict[str, int]:
    """In ten-thousandths, rounded to cents half up."""
    whole = row["price"] * quantity
    off = (whole * discount + 5_000) // 10_000 * 100
    net = (whole + 50) // 100 * 100 - off
    taxes = (net * tax + 5_000) // 10_000 * 100
    return {"discount": off, "net": net, "tax": taxes, "gross": net + taxes, "cost": (row["cost"] or 0) * quantity}


def _taxes(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sum of each tax."""
    found: dict[str, dict[str, Any]] = {}
    for tax in (tax for line in lines for tax in line["taxes"]):
        sums = found.setdefault(tax["percent"], {**tax, "net": "0", "amount": "0"})
        sums |= {name: str(Decimal(sums[name]) + Decimal(tax[name])) for name in ("net", "amount")}
    return list(found.values())


def _money(amount: int) -> str:
    return f"{amount // 10_000}.{amount % 10_000 // 100:02d}"
