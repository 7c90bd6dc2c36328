"""What is measured: the requests of each operation, the equivalent SQL, and the bars."""
# ruff: noqa: E501 - SQL

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNIQUE = "@" * 12
"""Stands in a request for a number that no other request of the run has."""

Pick = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """What is asked of an operation: the least ratio to the naive reference, the most CPU milliseconds, p95 alone.

    `of_hand` is the most of the CPU of `by_hand.py`, `of_naive` of the naive reference's.
    """

    ratio: float | None = None
    cpu: float | None = None
    p95: float | None = None
    of_hand: float | None = None
    of_naive: float | None = None


@dataclass(frozen=True)
class Operation:
    """One row of the table. The same requests go to the product and to the naive reference."""

    name: str
    title: str
    method: str
    path: Callable[[Pick], str]
    sql: str
    body: Callable[[Pick], dict[str, Any]] | None = None
    headers: tuple[str, ...] = ()
    bar: Bar | None = None
    user: str = "manager"
    once: bool = False
    """Each pick is good for one request until the stage is reset."""
    by_hand: bool = False
    """It is measured as `by_hand.py` does it, too."""

    @property
    def status(self) -> int:
        """The only right answer."""
        return 201 if self.method == "POST" and self.name.startswith("create") else 200

    def request(self, pick: Pick, key: str) -> bytes:
        """One HTTP/1.1 request, as bytes."""
        lines = [
            f"{self.method} {self.path(pick)} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Authorization: Bearer {key}",
            *self.headers,
        ]
        content = b""
        if self.body is not None:
            content = json.dumps(self.body(pick), separators=(",", ":")).encode()
            lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + content

    def write(self, path: Path, picks: list[Pick], key: str) -> Path:
        """The requests of the operation in one file, separated by NUL."""
        path.write_bytes(b"\0".join(self.request(pick, key) for pick in picks))
        return path


def _contact(pick: Pick) -> dict[str, Any]:
    return {
        "first_name": "Renée",
        "last_name": "Bergström",
        "title": "Buyer",
        "account_id": str(pick["account_id"]),
        "emails": [{"address": f"new.{UNIQUE}@mail.example", "is_primary": True}],
    }


def _order(pick: Pick) -> dict[str, Any]:
    line = {"discount_percent": "10", "tax_percent": "19"}
    return {
        "account_id": str(pick["account_id"]),
        "currency": "EUR",
        "client_reference": f"PO {UNIQUE}",
        "lines": [{**line, "product_id": str(id_), "quantity": str(i + 1)} for i, id_ in enumerate(pick["products"])],
    }


def _basket(pick: Pick) -> dict[str, Any]:
    lines = [{"product_id": str(id_), "quantity": str(i % 12 + 1)} for i, id_ in enumerate(pick["basket"])]
    return {"account_id": str(pick["account_id"]), "lines": lines}


def _of(column: str) -> str:
    return f"(SELECT {column} FROM bench.picks WHERE n = :n)"


_TENANT = "(SELECT tenant_id FROM tenants LIMIT 1)"
_INSERT = f"""INSERT INTO contacts (tenant_id, id, first_name, last_name, name_key, title, account_id, addresses, emails,
 phones, tags, consents, search_text, owner_id, created_at, updated_at)
 SELECT {_TENANT}, uuidv7(), 'Renée', 'Bergström', 'bergstrom', 'Buyer', account_id, '[]',
 jsonb_build_array(jsonb_build_object('address', 'new.' || :u || '@mail.example', 'kind', 'work', 'is_primary', true, 'opted_out', false)),
 '[]', '[]', '[]', concat_ws(E'\\x1f', 'bergstrom', 'renee', 'new.' || :u || '@mail.example work', 'buyer'), owner_id, now(), now()
 FROM bench.picks WHERE n = :n RETURNING *;"""
_UPDATE = "UPDATE {table} SET {column} = 'Value ' || :u, version = version + 1, updated_at = now() WHERE tenant_id = {tenant} AND id = {id} RETURNING *;"

_ORDER = f"""WITH picked AS (SELECT * FROM bench.picks WHERE n = :n), priced AS (
  SELECT p.id, p.sku, p.name, p.list_price, ord, round(p.list_price * ord * 0.9 / 100) * 100 AS net
  FROM picked, unnest(picked.products) WITH ORDINALITY AS wanted (id, ord) JOIN products p ON p.tenant_id = {_TENANT} AND p.id = wanted.id
), ordered AS (
  INSERT INTO orders (tenant_id, id, account_id, state, client_reference, ordered_on, currency, prices, tags, lines, taxes, discount_total,
    deepest_discount, net_total, tax_total, gross_total, payable_total, search_text, owner_id, created_at, updated_at)
  SELECT {_TENANT}, uuidv7(), account_id, 'draft', 'PO ' || :u, current_date, 'EUR', 'net', '[]', '[]', '[]', 0, 0,
    (SELECT sum(net) FROM priced), (SELECT sum(net) * 19 / 100 FROM priced), (SELECT sum(net) * 119 / 100 FROM priced), (SELECT sum(net) * 119 / 100 FROM priced), 'po ' || :u, owner_id, now(), now()
  FROM picked RETURNING *
), written AS (
  INSERT INTO order_lines (tenant_id, id, order_id, position, product_id, sku, description, quantity, found_price, unit_price, price_source, discount, taxes,
    discount_percent, tax_percent, net_amount, tax_amount, gross_amount, currency, created_at, updated_at)
  SELECT {_TENANT}, uuidv7(), ordered.id, ord, priced.id, sku, name, ord * 1000000, list_price, list_price, 'list', list_price * ord - net, '[]', 10000000, 19000000,
    net, net * 19 / 100, net * 119 / 100, 'EUR', now(), now() FROM ordered, priced RETURNING 1
) SELECT ordered.* FROM ordered, (SELECT count(*) FROM written) w;"""

_CONFIRM = f"""WITH drawn AS (
  INSERT INTO number_counters (tenant_id, document, period, value) SELECT {_TENANT}, 'order', '', 1
  ON CONFLICT (tenant_id, document, period) DO UPDATE SET value = number_counters.value + 1 RETURNING value
) UPDATE orders o SET state = 'confirmed', number = 'SO-' || lpad(drawn.value::text, 6, '0'), confirmed_at = now(), version = version + 1, updated_at = now()
  FROM drawn WHERE o.tenant_id = {_TENANT} AND o.id = (SELECT order_id FROM bench.orders WHERE n = :n) RETURNING o.*;"""

_QUOTE = f"""SELECT p.*, coalesce(e.price, p.list_price) AS price, r.percent
  FROM bench.picks k, unnest(k.basket) WITH ORDINALITY AS wanted (id, ord)
  JOIN products p ON p.tenant_id = {_TENANT} AND p.id = wanted.id
  LEFT JOIN LATERAL (SELECT e.price FROM price_entries e JOIN price_books b ON b.tenant_id = {_TENANT} AND b.id = e.price_book_id AND b.is_default
    WHERE e.tenant_id = {_TENANT} AND e.product_id = p.id AND e.minimum_quantity <= ((ord - 1) % 12 + 1) * 1000000
    ORDER BY e.minimum_quantity DESC LIMIT 1) e ON true
  LEFT JOIN tax_rates r ON r.tenant_id = {_TENANT} AND r.tax_class = p.tax_class
  WHERE k.n = :n;"""

OPERATIONS = (
    Operation(
        "get",
        "get one account",
        "GET",
        lambda pick: f"/v1/accounts/{pick['account_id']}",
        f"SELECT * FROM accounts WHERE tenant_id = {_TENANT} AND id = {_of('account_id')} AND deleted_at IS NULL;",
        bar=Bar(4, 0.30),
    ),
    Operation(
        "list",
        "list 50 contacts of an owner, newest first",
        "GET",
        lambda pick: f"/v1/contacts?owner_id={pick['owner_id']}&sort=-created_at&limit=50",
        f"SELECT * FROM contacts WHERE tenant_id = {_TENANT} AND owner_id = {_of('owner_id')} AND deleted_at IS NULL "
        "ORDER BY created_at DESC, id DESC LIMIT 51;",
        bar=Bar(3, 0.8),
    ),
    Operation(
        "list_country",
        "list 50 contacts of a country, by name",
        "GET",
        lambda pick: f"/v1/contacts?country={pick['country']}&sort=last_name&limit=50",
        f"SELECT * FROM contacts WHERE tenant_id = {_TENANT} AND country = {_of('country')} AND deleted_at IS NULL "
        "ORDER BY name_key, id LIMIT 51;",
        bar=Bar(3, 0.8),
    ),
    Operation(
        "search",
        "search accounts by name fragment",
        "GET",
        lambda pick: f"/v1/accounts?q={pick['needle']}",
        f"SELECT * FROM accounts WHERE tenant_id = {_TENANT} AND search_text LIKE '%' || {_of('needle')} || '%' "
        "AND deleted_at IS NULL ORDER BY id DESC LIMIT 51;",
        bar=Bar(1.5, 2.0),
    ),
    Operation("create", "create a contact", "POST", lambda _: "/v1/contacts", _INSERT, body=_contact, bar=Bar(3, 0.9)),
    Operation(
        "create_key",
        "create a contact, Idempotency-Key",
        "POST",
        lambda _: "/v1/contacts",
        _INSERT,
        body=_contact,
        headers=(f"Idempotency-Key: load-{UNIQUE}",),
        bar=Bar(3, 0.9),
    ),
    Operation(
        "create_order",
        "create an order with 3 lines",
        "POST",
        lambda _: "/v1/orders",
        _ORDER,
        body=_order,
        bar=Bar(cpu=2.8, of_hand=2.3, of_naive=0.6),
        by_hand=True,
    ),
    Operation(
        "confirm_order",
        "confirm an order with 3 lines",
        "POST",
        lambda pick: f"/v1/orders/{pick['order_id']}/confirm",
        _CONFIRM,
        once=True,
    ),
    Operation(
        "quote_prices",
        "price 20 lines",
        "POST",
        lambda _: "/v1/prices/quote",
        _QUOTE,
        body=_basket,
        bar=Bar(p95=15),
    ),
    Operation(
        "update",
        "update one field of an account",
        "PATCH",
        lambda pick: f"/v1/accounts/{pick['account_id']}",
        _UPDATE.format(table="accounts", column="description", tenant=_TENANT, id=_of("account_id")),
        body=lambda _: {"description": f"Value {UNIQUE}"},
        bar=Bar(2.7, 0.8),
    ),
    Operation(
        "update_searched",
        "update a searched field of a contact",
        "PATCH",
        lambda pick: f"/v1/contacts/{pick['contact_id']}",
        _UPDATE.format(
            table="contacts",
            column="search_text = split_part(search_text, E'\\x1f', 1) || E'\\x1f' || split_part(search_text, E'\\x1f', 2) || E'\\x1f' "
            "|| split_part(search_text, E'\\x1f', 3) || E'\\x1f' || 'value ' || :u, title",
            tenant=_TENANT,
            id=_of("contact_id"),
        ),
        body=lambda _: {"title": f"Value {UNIQUE}"},
        bar=Bar(2.7, 0.8),
    ),
    Operation(
        "aggregate",
        "count accounts by country",
        "POST",
        lambda _: "/v1/accounts/aggregate",
        f"SELECT country, count(*) FROM accounts WHERE tenant_id = {_TENANT} AND deleted_at IS NULL AND owner_id = ANY(:tree) "
        "GROUP BY country ORDER BY country;",
        body=lambda _: {"group_by": ["country"], "measures": [{"op": "count"}]},
    ),
)


def _newest(plural: str) -> Callable[[Pick], str]:
    return lambda _: f"/v1/{plural}?sort=-created_at&limit=50"


BREADTH = tuple(
    Operation(
        f"breadth_{user}_{plural}",
        f"list 50 {plural}, newest first, for a user who sees {sees}",
        "GET",
        _newest(plural),
        "",
        user=user,
    )
    for plural in ("accounts", "contacts")
    for user, sees in (("reader", "all"), ("narrow", "100 accounts"))
)
