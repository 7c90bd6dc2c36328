"""Fills the tenant in bulk, with rows as the API would have written them, and checks that they are."""
# ruff: noqa: E501 - SQL

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from benchmarks.stage import Stage, connect
from crm_api.catalog import CATALOG
from crm_api.kernel.row import derived, row_parameters
from crm_api.kernel.schema import fold

BATCH = 100_000
PICKS = 5_000
HEADS = [
    *("Ba", "Be", "Bo", "Ca", "Ce", "Co", "Da", "De", "Do", "Fa", "Fe", "Fo", "Ga", "Ge", "Go", "Ha", "He", "Ho"),
    *("Ja", "Jo", "Ka", "Ke", "Ko", "La", "Le", "Lo", "Ma", "Me", "Mü", "Na", "Ne", "No", "Pa", "Pe", "Po", "Ra"),
    *("Re", "Ro", "Sa", "Se", "Sø", "Ta", "Te", "To", "Va", "Ve", "Vo", "Wa", "We", "Wo", "Ya", "Yo", "Za", "Ze"),
    *("Zo", "Åb", "Ér", "Is", "Ul", "Öl"),
]
MIDDLES = ["".join(pair) for pair in itertools.product("bdfglmnrst", ("a", "e", "i", "o"))]
TAILS = [
    *("bach", "berg", "bert", "burg", "dahl", "dorf", "eck", "feld", "furt", "gard", "hagen", "haus", "heim", "hoff"),
    *("holm", "horst", "kamp", "land", "lund", "mann", "mar", "mark", "mond", "moor", "nau", "ow", "ried", "rup"),
    *("sen", "sky", "son", "stadt", "stein", "strøm", "thal", "ville", "vik", "wald", "werk", "wood"),
]
TRADES = [
    *("Logistics", "Systems", "Foods", "Maschinenbau", "Textiles", "Energy", "Pharma", "Software", "Consulting"),
    *("Électronique", "Optik", "Chemicals", "Steel", "Media", "Design", "Health", "Travel", "Insurance", "Robotics"),
    *("Bau", "Handel", "Möbel", "Seafood", "Ceramics", "Motors", "Aviation", "Marine", "Paper", "Glass", "Tools"),
]
FORMS = ["GmbH", "AG", "Ltd", "Inc", "SA", "SARL", "BV", "AB", "Oy", "SpA"]
FIRST = [
    *("Anna", "Ben", "Clara", "David", "Élise", "Felix", "Greta", "Hugo", "Ida", "Jonas", "Karin", "Lukas", "Marie"),
    *("Nils", "Olga", "Paul", "Rosa", "Sven", "Tina", "Uwe", "Vera", "Wim", "Xenia", "Yann", "Zoë", "José", "Jürgen"),
]
TITLES = ["Buyer", "Head of IT", "CFO", "Plant manager", "Engineer", "Assistant", "CEO", "Quality manager"]
COUNTRIES = [
    *("DE", "DE", "DE", "DE", "FR", "FR", "US", "US", "US", "GB", "GB", "NL", "SE", "DK", "NO", "FI", "PL", "CZ"),
    *("AT", "CH", "IT", "ES", "PT", "BE", "IE", "CA", "JP", "AU", "BR", "MX"),
]
INDUSTRIES = ["manufacturing", "retail", "health", "finance", "public", "technology", "transport", "energy"]

COMMON = """
CREATE SCHEMA IF NOT EXISTS bench;
CREATE OR REPLACE FUNCTION bench.dice(seed bigint, i bigint, sides bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
  RETURN (hashint8extended(i, seed) & 4611686018427387903) % sides;
CREATE OR REPLACE FUNCTION bench.pick(seed bigint, i bigint, words text[]) RETURNS text LANGUAGE sql IMMUTABLE
  RETURN words[1 + (hashint8extended(i, seed) & 4611686018427387903) % cardinality(words)];
CREATE OR REPLACE FUNCTION bench.id(kind text, i bigint, at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE
  RETURN (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(kind || i), 1, 3)
          || 'a' || substr(md5(kind || i), 4, 15))::uuid;
CREATE OR REPLACE FUNCTION bench.at(i bigint, since timestamptz) RETURNS timestamptz LANGUAGE sql STABLE
  RETURN since + make_interval(secs => bench.dice(1, i, 94608000));
"""

# $1 tenant, $2 first, $3 last, $4 owners, $5 since, then words in pairs (as written, folded)
_ACCOUNTS = """
INSERT INTO accounts (tenant_id, id, name, name_key, legal_name, tax_id, type, status, industry, website, domain,
  employees, annual_revenue, currency, credit_limit, payment_terms, source, tier, description, country, region, city,
  postal_code, addresses, emails, phones, tags, interests, search_text, owner_id, version, created_at, created_by,
  created_via, updated_at, updated_by)
SELECT $1::uuid, bench.id('account', i, at), name, key, name, tax, 'customer', (ARRAY['prospect','active','active','inactive'])[1 + bench.dice(9, i, 4)],
  bench.pick(10, i, $18::text[]), 'https://www.' || domain, domain, bench.dice(11, i, 5000),
  bench.dice(12, i, 1000000) * 1000000, 'EUR', bench.dice(13, i, 1000) * 10000000, 'net 30', 'import', 'B',
  repeat('Long-standing customer of the region. ', 3), country, NULL, city, postal,
  jsonb_build_array(jsonb_build_object('kind', 'billing', 'line1', 'Hauptstrasse ' || i % 100, 'line2', NULL, 'city', city,
    'region', NULL, 'postal_code', postal, 'country', country, 'is_primary', true, 'valid_from', NULL, 'valid_until', NULL)),
  jsonb_build_array(jsonb_build_object('address', email, 'kind', 'work', 'is_primary', true, 'opted_out', false)),
  '[]', '["key account", "europe"]', '[]',
  concat_ws(E'\\x1f', key, key, domain, lower(tax), email || ' work'),
  CASE WHEN i % $19::bigint = 0 AND i <= $19::bigint * 100 THEN $20::uuid ELSE owner END, 1, at, owner, 'import', at, owner
FROM (
  SELECT i, bench.at(i, $5::timestamptz) AS at,
    head || middle || tail || ' ' || bench.pick(5, i, $14::text[]) || ' ' || bench.pick(6, i, $16::text[]) AS name,
    key || ' ' || bench.pick(5, i, $15::text[]) || ' ' || bench.pick(6, i, $17::text[]) AS key,
    'TX' || i AS tax, regexp_replace(key, '[^a-z]', '', 'g') || '-' || i || '.example' AS domain,
    'info@' || regexp_replace(key, '[^a-z]', '', 'g') || '-' || i || '.example' AS email,
    bench.pick(7, i, $21::text[]) AS country, 'City ' || i % 500 AS city, lpad((i % 99999)::text, 5, '0') AS postal,
    ($4::uuid[])[1 + bench.dice(8, i, cardinality($4::uuid[]))] AS owner
  FROM (
    SELECT i, ($6::text[])[h] AS head, bench.pick(3, i, $8::text[]) || bench.pick(2, i, $8::text[]) AS middle, bench.pick(4, i, $10::text[]) AS tail,
      ($7::text[])[h] || bench.pick(3, i, $9::text[]) || bench.pick(2, i, $9::text[]) || bench.pick(4, i, $11::text[]) AS key
    FROM generate_series($2::bigint, $3::bigint) i,
      LATERAL (SELECT 1 + ((i - 1) / $12::bigint * 6 + bench.dice(2, i, 6)) % $13::bigint AS h) heads
  ) stems
) rows
"""

_CONTACTS = """
INSERT INTO contacts (tenant_id, id, first_name, last_name, name_key, title, department, account_id, language, source,
  country, city, postal_code, addresses, emails, phones, tags, consents, search_text, owner_id, version, created_at,
  created_by, created_via, updated_at, updated_by)
SELECT $1::uuid, bench.id('contact', j, at), first, last, key, title, 'Sales', bench.id('account', i, bench.at(i, $5::timestamptz)), 'en', 'import',
  country, city, postal,
  jsonb_build_array(jsonb_build_object('kind', 'billing', 'line1', NULL, 'line2', NULL, 'city', city,
    'region', NULL, 'postal_code', postal, 'country', country, 'is_primary', true, 'valid_from', NULL, 'valid_until', NULL)),
  jsonb_build_array(jsonb_build_object('address', email, 'kind', 'work', 'is_primary', true, 'opted_out', false)),
  '[]', '["newsletter"]', '[]', concat_ws(E'\\x1f', key, first_key, email || ' work', lower(title)),
  owner, 1, at, owner, 'import', at, owner
FROM (
  SELECT j, i, bench.at(-j, $5::timestamptz) AS at, bench.pick(20, j, $12::text[]) AS first, bench.pick(20, j, $13::text[]) AS first_key,
    bench.pick(21, j, $6::text[]) || bench.pick(22, j, $8::text[]) || bench.pick(23, j, $10::text[]) AS last,
    bench.pick(21, j, $7::text[]) || bench.pick(22, j, $9::text[]) || bench.pick(23, j, $11::text[]) AS key,
    bench.pick(24, j, $14::text[]) AS title, bench.pick(7, i, $15::text[]) AS country, 'City ' || i % 500 AS city,
    lpad((i % 99999)::text, 5, '0') AS postal, 'person.' || j || '@mail.example' AS email,
    ($4::uuid[])[1 + CASE WHEN bench.dice(25, j, 5) = 0 THEN bench.dice(26, j, cardinality($4::uuid[])) ELSE bench.dice(8, i, cardinality($4::uuid[])) END] AS owner
  FROM generate_series($2::bigint, $3::bigint) j, LATERAL (SELECT (j + 1) / 2 AS i) accounts
) rows
"""

# $1 tenant, $2 number
_PRODUCTS = """
WITH unit AS (
  INSERT INTO units (tenant_id, id, code, name, name_key, decimals, created_at, updated_at)
  VALUES ($1, uuidv7(), 'pcs', 'Pieces', 'pieces', 0, now(), now()) RETURNING id
)
INSERT INTO products (tenant_id, id, sku, name, name_key, kind, unit_id, conversions, tracking, list_price, currency, tax_class,
  attributes, tags, search_text, status, created_at, updated_at)
SELECT $1, bench.id('product', i, now()), 'SKU-' || i, 'Product ' || i, 'product ' || i, 'goods', unit.id, '[]', 'none',
  (bench.dice(30, i, 10000) + 100) * 100, 'EUR', 'standard', '{}', '[]', 'product ' || i, 'active', now(), now()
FROM unit, generate_series(1, $2::bigint) i
"""
PRODUCTS = 10_000

_LOADED = ("accounts", "contacts")


async def load(stage: Stage, first: int, last: int, base: int) -> None:
    """Adds accounts `first` to `last`, two contacts each, what indexes their values, and their audit entries.

    Args:
        stage: where.
        first: number of the first account.
        last: number of the last account.
        base: size of the first load; each further batch of it has words of its own, so that a search finds as
            many rows in a large tenant as in a small one.
    """
    connection = await connect(stage)
    try:
        await connection.execute(COMMON)
        await connection.execute("SET session_replication_role = replica")  # foreign keys hold by construction
        await connection.execute("SET maintenance_work_mem = '1GB'; SET jit = off")
        indexes = await _drop_indexes(connection)
        since = await _since(connection)
        folded = [[*map(fold, words)] for words in (HEADS, MIDDLES, TAILS, TRADES, FORMS, FIRST)]
        heads, middles, tails, trades, forms, firsts = folded
        size = max(base // 100, 1)
        words = (HEADS, heads, MIDDLES, middles, TAILS, tails)
        for start in range(first, last + 1, BATCH):
            end = min(start + BATCH - 1, last)
            common = (stage.tenant, start, end, stage.owners, since, *words)
            narrow = (size, stage.narrow, COUNTRIES)
            await connection.execute(
                _ACCOUNTS, *common, base, len(HEADS), TRADES, trades, FORMS, forms, INDUSTRIES, *narrow
            )
            common = (stage.tenant, start * 2 - 1, end * 2, stage.owners, since, *words)
            await connection.execute(_CONTACTS, *common, FIRST, firsts, TITLES, COUNTRIES)
        for table in _LOADED:
            await _companions(connection, stage, table)
        if first == 1:
            await _openings(connection, stage)
            await connection.execute(_PRODUCTS, stage.tenant, PRODUCTS)
        for definition in indexes:
            await connection.execute(definition)
        await connection.execute("RESET session_replication_role")
        await connection.execute("VACUUM (ANALYZE, FREEZE)")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def _since(connection: asyncpg.Connection) -> datetime:
    await connection.execute("CREATE TABLE IF NOT EXISTS bench.since (at timestamptz)")
    known = await connection.fetchval("SELECT at FROM bench.since")
    if known is None:
        known = (datetime.now(UTC) - timedelta(days=1096)).replace(microsecond=0)
        await connection.execute("INSERT INTO bench.since VALUES ($1)", known)
    return known


async def _drop_indexes(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch(
        """SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
           AND tablename IN ('accounts', 'contacts', 'field_values', 'audit_entries')
           AND indexname NOT IN (SELECT conname FROM pg_constraint)"""
    )
    for row in rows:
        await connection.execute(f'DROP INDEX "{row["indexname"]}"')
    return [row["indexdef"] for row in rows]


async def _companions(connection: asyncpg.Connection, stage: Stage, table: str) -> None:
    """Index values and the audit entry of each new row."""
    singular = table.removesuffix("s")
    fresh = (
        "r.tenant_id = $1 AND r.created_via = 'import' "
        "AND NOT EXISTS (SELECT 1 FROM audit_entries a WHERE a.tenant_id = $1 AND a.id = r.id)"
    )
    for field, value in (("emails", "x->>'address'"), ("tags", "x#>>'{}'")):
        await connection.execute(
            f"INSERT INTO field_values (tenant_id, field, value, object_id) "
            f"SELECT r.tenant_id, '{table}.{field}', {value}, r.id FROM {table} r, jsonb_array_elements(r.{field}) x WHERE {fresh}",
            stage.tenant,
        )
    await connection.execute(
        f"INSERT INTO audit_entries (tenant_id, id, at, actor_id, request_id, object_type, object_id, version, action, before, after) "
        f"SELECT r.tenant_id, r.id, r.created_at, r.created_by, 'import', '{singular}', r.id, 1, 'create', '{{}}', "
        f"jsonb_build_object('name_key', r.name_key) FROM {table} r WHERE {fresh}",
        stage.tenant,
    )


async def _openings(connection: asyncpg.Connection, stage: Stage) -> None:
    """Shares, account teams and links, so that no branch of a row policy is empty."""
    others = "tenant_id = $1 AND NOT owner_id = ANY($2)"
    await connection.execute(
        f"""INSERT INTO shares (tenant_id, id, object_type, object_id, grantee_type, grantee_id, level, cause, granted_by, created_at)
            SELECT $1, uuidv7(), 'account', id, 'user', $3, 'read', 'manual', owner_id, now() FROM accounts WHERE {others} ORDER BY id LIMIT 200""",
        stage.tenant,
        stage.tree,
        stage.manager,
    )
    await connection.execute(
        f"""INSERT INTO account_team_members (tenant_id, id, account_id, principal_id, level, created_at, updated_at)
            SELECT $1, uuidv7(), id, $3, 'read', now(), now() FROM accounts WHERE {others} ORDER BY id DESC LIMIT 100""",
        stage.tenant,
        stage.tree,
        stage.manager,
    )
    await connection.execute(
        """INSERT INTO account_contacts (tenant_id, id, account_id, contact_id, created_at, updated_at)
           SELECT $1, uuidv7(), a.id, c.id, now(), now()
           FROM (SELECT id, row_number() OVER (ORDER BY created_at) AS n FROM accounts WHERE tenant_id = $1 LIMIT 5000) a
           JOIN (SELECT id, row_number() OVER (ORDER BY created_at) AS n FROM contacts WHERE tenant_id = $1 LIMIT 5000) c USING (n)""",
        stage.tenant,
    )


async def choose(stage: Stage) -> list[dict[str, Any]]:
    """Rows the measured user may see, for the clients to ask for; pgbench reads the same from `bench.picks`."""
    connection = await connect(stage)
    try:
        await connection.execute("DROP TABLE IF EXISTS bench.picks")
        await connection.execute(
            """CREATE TABLE bench.picks AS
               SELECT row_number() OVER ()::bigint AS n, a.id AS account_id, c.id AS contact_id, a.owner_id,
                 left(a.name_key, 6) AS needle, a.country, goods.products, baskets.basket
               FROM (SELECT *, row_number() OVER (ORDER BY md5(id::text)) AS n FROM accounts
                     WHERE owner_id = ANY($1) AND created_via = 'import' LIMIT $2) a
               JOIN (SELECT id, row_number() OVER (ORDER BY md5(id::text)) AS n FROM contacts
                     WHERE owner_id = ANY($1) AND created_via = 'import' LIMIT $2) c USING (n)
               JOIN (SELECT n % (SELECT count(*) / 3 FROM products) AS third, array_agg(id) AS products FROM
                     (SELECT id, row_number() OVER (ORDER BY md5(id::text)) AS n FROM products) p
                     GROUP BY third HAVING count(*) = 3) goods ON goods.third = n % 3000
               JOIN (SELECT n % (SELECT count(*) / 20 FROM products) AS part, array_agg(id) AS basket FROM
                     (SELECT id, row_number() OVER (ORDER BY md5(id::text)) AS n FROM products) p
                     GROUP BY part HAVING count(*) = 20) baskets ON baskets.part = n % 400""",
            stage.tree,
            PICKS,
        )
        await connection.execute("ALTER TABLE bench.picks ADD PRIMARY KEY (n)")
        await connection.execute("VACUUM ANALYZE bench.picks")
        return [dict(row) for row in await connection.fetch("SELECT * FROM bench.picks ORDER BY n")]
    finally:
        await connection.close()


async def verify(stage: Stage, most: int = 100) -> None:
    """Checks on a sample of what was loaded that derived columns are what the kernel would derive.

    Raises:
        SystemExit: names the first row that differs; its figures would not be those of the product.
    """
    connection = await connect(stage)
    try:
        for plural in _LOADED:
            resource = CATALOG.resources[plural]
            for row in await connection.fetch(
                f"SELECT * FROM {plural} WHERE created_via = 'import' ORDER BY md5(id::text) LIMIT {most}"
            ):
                stored = dict(row)
                values = {
                    name: json.loads(value) if isinstance(value, str) and value[:1] in "[{" and value else value
                    for name, value in stored.items()
                }
                # jsonb keeps no order of keys; a body has the order of its schema
                values["emails"] = [{"address": item["address"], "kind": item["kind"]} for item in values["emails"]]
                right = derived(resource, values)
                bound = row_parameters(resource, values)
                right["search_text"] = "\x1f".join(bound[f"s_{i}"] for i in range(len(resource.search)))
                for name in (*(str(key.key) for key in resource.keys.values()), "search_text", "country", "city"):
                    if right[name] != stored[name]:
                        raise SystemExit(f"{plural}.{name} of {stored['id']}: {stored[name]!r}, not {right[name]!r}")
                found = await connection.fetch(
                    "SELECT field, value FROM field_values WHERE tenant_id = $1 AND object_id = $2",
                    stage.tenant,
                    stored["id"],
                )
                indexed = zip(bound["x_fields"], bound["x_values"], strict=True)
                if sorted(tuple(item) for item in found) != sorted(indexed):
                    raise SystemExit(f"field_values of {plural} {stored['id']} differ")
    finally:
        await connection.close()
