"""What reaches the database: how many statements, prepared once, and cursors as index conditions."""

import asyncio
import itertools
from typing import Any

import asyncpg
import orjson
import pytest

from crm_api.catalog import CATALOG
from crm_api.kernel import database
from crm_api.kernel.customs import CUSTOM
from crm_api.kernel.database import Link
from tests.laws.test_writes import change
from tests.support.asking import each
from tests.support.customs import customs, references, sortable, value_of


def plain(resource, values) -> bool:
    """Whether a write of these fields asks no check, so that it is one statement."""
    return not (resource.touched(values) or resource.reads_first(values))


@each("get")
def test_a_get_is_one_statement_whatever_is_expanded(world, rows, resource, statements):
    row = rows(resource)[0]
    names = [*references(resource), *resource.many]
    deep = [f"{one}.{two}" for one, (_, target) in references(resource).items() for two in references(target)]
    for expand in [[], *([name] for name in names), names[:5], deep[:5]]:
        params = {"expand": ",".join(expand)} if expand else {}
        assert world.admin.get(f"/v1/{resource.plural}/{row['id']}", params=params).status_code == 200
        statements.clear()
        assert world.admin.get(f"/v1/{resource.plural}/{row['id']}", params=params).status_code == 200
        assert len(statements) == 1, expand


@each("list")
def test_a_list_is_one_statement_whatever_is_expanded(world, resource, statements):
    """Also for a caller who does not see everything; how many rows are open to them is counted once per access."""
    names = [*references(resource), *resource.many]
    for person in (world.admin, world.rep):
        for expand in ([], names[:5]):
            params = {"limit": 5, "count": "exact", **({"expand": ",".join(expand)} if expand else {})}
            if person.get(f"/v1/{resource.plural}", params=params).status_code == 403:
                continue  # the role does not read this, or what it refers to
            statements.clear()
            assert person.get(f"/v1/{resource.plural}", params=params).status_code == 200
            assert len(statements) == 1, [text for text, _ in statements]
    if "search" in resource.operations:
        statements.clear()
        assert world.admin.post(f"/v1/{resource.plural}/search", json={"count": "exact"}).status_code == 200
        assert len(statements) == 1
    if resource.search:
        statements.clear()
        assert world.admin.get(f"/v1/{resource.plural}", params={"q": "zebra"}).status_code == 200
        assert len(statements) == 1
    if "aggregate" in resource.operations:
        statements.clear()
        assert (
            world.admin.post(f"/v1/{resource.plural}/aggregate", json={"measures": [{"op": "count"}]}).status_code
            == 200
        )
        assert len(statements) == 1


@each("list", where=lambda item: item.plural != "files")
def test_what_is_open_to_who_sees_little_is_gathered(world, resource, statements):
    """From what is theirs to what it opens: nothing is asked row by row of a table of which most is not theirs.

    Files are left out: those of records that all may see are, too, unless the record is gone.
    """
    for person in (world.rep, world.manager):
        statements.clear()
        if person.get(f"/v1/{resource.plural}").status_code == 200:
            for text, _ in statements:
                assert "AS open" not in text or "EXISTS" not in text, text


@each("get")
def test_what_is_at_hand_is_not_looked_for_among_all_that_is_open(world, rows, resource, statements):
    """One record, what it expands and what a change checks: each is asked for what opens it, however much else is open.

    Else a record costs as much as all that its reader sees, and a hidden one takes longer to refuse than none.
    """
    names = [*references(resource), *resource.many]
    path = f"/v1/{resource.plural}/{rows(resource)[0]['id']}"
    for person in (world.rep, world.manager):
        statements.clear()
        for expand in ("", ",".join(names[:5])):
            person.get(path, params={"expand": expand} if expand else {})
        if resource.update and resource.title:
            person.patch(path, json={resource.title: "at hand"})
        gathered = [text for text, _ in statements if "array((SELECT" in text]
        assert not gathered, gathered


@each("create")
def test_a_plain_write_is_one_statement(lab, resource, statements):
    """With its ledger and, on create, its idempotency key; where a custom reference leads is looked up before."""
    key = itertools.count()
    for headers in ({}, {"Idempotency-Key": f"one-{resource.plural}-{next(key)}"}):
        body = lab.examples.body(resource, 1)
        lab.admin.get("/v1/me")  # rights that the example's making has moved are read again
        statements.clear()
        answer = lab.admin.post(f"/v1/{resource.plural}", json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        if plain(resource, resource.create.model_validate_json(orjson.dumps(body)).model_dump()):
            assert len(statements) == 1, [text for text, _ in statements]
        row = answer.json()
    if own := [item.key for item in customs(resource).values() if item.target is None]:
        bare = lab.examples.body(resource, 1, bare=True) | {CUSTOM: {key: body[CUSTOM][key] for key in own}}
        lab.admin.get("/v1/me")
        statements.clear()
        assert lab.admin.post(f"/v1/{resource.plural}", json=bare).json()[CUSTOM] == bare[CUSTOM]
        assert len(statements) == 1, [text for text, _ in statements]
    if resource.update:
        patch = change(lab, resource, row)
        if own:
            patch[CUSTOM] = {key: value for key, value in patch[CUSTOM].items() if key in own}
            assert patch[CUSTOM].keys() == {*own}
        lab.admin.get("/v1/me")
        statements.clear()
        assert lab.admin.patch(f"/v1/{resource.plural}/{row['id']}", json=patch).status_code == 200
        if plain(resource, patch):
            assert len(statements) == 1, [text for text, _ in statements]
    if "delete" in resource.operations and not resource.guarded:
        lab.admin.get("/v1/me")
        statements.clear()
        assert lab.admin.delete(f"/v1/{resource.plural}/{row['id']}").status_code == 204
        assert len(statements) == 1, [text for text, _ in statements]


def test_a_statement_is_prepared_once_per_connection(world, monkeypatch):
    prepared: list[tuple[int, str]] = []
    prepare = asyncpg.Connection.prepare

    async def noted(self, query, **options):
        assert options.get("name"), "an unnamed statement would be planned at each call"
        prepared.append((id(self), query))
        return await prepare(self, query, **options)

    monkeypatch.setattr(asyncpg.Connection, "prepare", noted)
    monkeypatch.setattr(database, "_MOST_PREPARED", 100_000)  # other tests may have brought a connection near to it
    for _ in range(20):
        for params in ({"limit": 1}, {"sort": "name", "limit": 2}, {"name": "x"}):
            assert world.admin.get("/v1/accounts", params=params).status_code == 200
    assert len(prepared) == len(set(prepared))


def test_links_do_not_grow_without_bound():
    assert 0 < database._MOST_PREPARED <= 1000
    assert Link.__slots__


@each("list")
def test_what_a_list_expands_is_looked_up_by_its_id(world, explain, resource, statements):
    """Row by row of the page: no plan reads the table that it leads to whole, however many rows it takes a page for."""
    every = list(references(resource))
    for names in (every[first : first + 5] for first in range(0, len(every), 5)):
        statements.clear()
        answer = world.admin.get(f"/v1/{resource.plural}", params={"limit": 5, "expand": ",".join(names)})
        assert answer.status_code == 200, answer.text
        ((text, arguments),) = statements
        plan = explain(world.tenant_id, text, arguments, loops=False)
        for number in range(len(names)):
            (scan,) = [i for i, line in enumerate(plan) if f" to_x{number} " in line]
            assert any("(id = (" in line for line in plan[scan + 1 : scan + 3]), "\n".join(plan)


SORTS = [
    pytest.param(item, direction + name, id=f"{item.plural}-{direction}{name}")
    for item in CATALOG.resources.values()
    if "list" in item.operations
    for name in sortable(item)
    for direction in ("", "-")
]


@pytest.mark.parametrize(("resource", "sort"), SORTS)
def test_a_cursor_is_an_index_condition_under_the_servers_role(world, rows, explain, resource, sort, statements):
    name = sort.lstrip("-")
    column = customs(resource)[name].kind.column if name in customs(resource) else resource.sortable[name].name
    some = [row for row in rows(resource) if value_of(row, name) is not None]
    assert len(some) > 1
    first = world.admin.get(f"/v1/{resource.plural}", params={"sort": sort, "limit": 1}).json()
    statements.clear()
    second = world.admin.get(
        f"/v1/{resource.plural}", params={"sort": sort, "limit": 1, "cursor": first["next_cursor"]}
    )
    assert second.status_code == 200
    ((text, arguments),) = statements
    plan = explain(world.tenant_id, text, arguments)
    conditions = [line.replace('"', "") for line in plan if "Index Cond" in line]
    bound = [line for line in conditions if f"{column} " in line or f"({column}," in line or f"ROW({column}" in line]
    assert any("<" in line or ">" in line for line in bound), "\n".join(plan)


@pytest.fixture(scope="module")
def explain(database) -> Any:
    """`explain(tenant, statement, arguments)` gives the lines of the plan that has to do without other ways.

    Without `loops` it joins by looking up each row only where the statement leaves no choice.
    """
    settings = {
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
        "enable_sort": "off",
        "plan_cache_mode": "force_generic_plan",
    }
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(database["app"], server_settings=settings, statement_cache_size=0))

        async def work(tenant: Any, text: str, arguments: list[Any], loops: bool = True) -> list[str]:
            await connection.execute("SELECT set_config('crm.tenant', $1, false)", str(tenant))
            await connection.execute("SELECT set_config('enable_nestloop', $1, false)", "on" if loops else "off")
            return [row[0] for row in await connection.fetch(f"EXPLAIN {text}", *arguments)]

        yield lambda *asked, **more: runner.run(work(*asked, **more))
        runner.run(connection.close())


def test_an_order_takes_few_statements(lab, statements):
    """Created by two: terms with products and prices, the write; confirmed by seven in a transaction."""
    lab.admin.make("base_currencies", currency="EUR", valid_from="2026-01-01")  # a rate of another is one more
    account = lab.admin.make("accounts", name="Few", currency="EUR", credit_limit="1000.00")
    products = [lab.examples.make(CATALOG.resources["products"], n) for n in range(2)]
    lines = [
        {"product_id": item["id"], "unit_price": "1.00", "quantity": "1", "tax_percent": "19"} for item in products
    ]
    body = {"account_id": account["id"], "currency": "EUR", "lines": lines}
    lab.admin.make("orders", **body)
    statements.clear()
    made = lab.admin.make("orders", **body)
    assert len(statements) == 2, [text for text, _ in statements]
    statements.clear()
    assert lab.admin.post(f"/v1/orders/{made['id']}/confirm").status_code == 200
    written = [text for text, _ in statements if text not in ("BEGIN", "COMMIT")]
    assert len(written) == 7, written
