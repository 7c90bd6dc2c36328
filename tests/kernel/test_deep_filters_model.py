"""Filters over references and children against a model, as few and as many rows are open to their caller."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from crm_api.kernel import collections
from tests.support.org import Org, Person

pytestmark = pytest.mark.broad  # test_deep_filters has each kind once
INDUSTRIES, TITLES = ("retail", "mining", None), ("Dr", "Prof", None)
FIELDS = {"accounts": ("industry", INDUSTRIES), "contacts": ("title", TITLES)}
REFERENCES = {"accounts": ("parent", "parent_id"), "contacts": ("account", "account_id")}
CHILDREN = {"accounts": {"contacts": ("contacts", "account_id"), "children": ("accounts", "parent_id")}, "contacts": {}}


@dataclass
class World:
    """All rows that there are, and those that the caller sees, by resource and id."""

    org: Org
    clerk: Person
    rows: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    seen: dict[str, set[str]] = field(default_factory=dict)

    def reached(self, resource: str, row: dict[str, Any] | None, path: list[str]) -> dict[str, Any] | None:
        """The row at the end of a path, if the caller sees each on it."""
        for step in path:
            name, column = REFERENCES[resource]
            assert step == name
            resource = "accounts"
            row = self.rows[resource].get(row[column]) if row else None
            row = row if row and row["id"] in self.seen[resource] else None
        return row

    def passes(self, resource: str, row: dict[str, Any], node: dict[str, Any]) -> bool:
        """Whether a row passes a filter."""
        for op, combine in (("and", all), ("or", any)):
            if op in node:
                return combine(self.passes(resource, row, child) for child in node[op])
        *path, name = node["field"].split(".")
        end = self.reached(resource, row, path)
        if end is None:
            return False
        at = "accounts" if path else resource
        if name not in CHILDREN[at]:
            if node.get("op") == "is_null":
                return (end[name] is None) == node["value"]
            return (end[name] == node["value"]) == (node.get("op", "eq") == "eq")
        plural, column = CHILDREN[at][name]
        below = [self.rows[plural][id_] for id_ in self.seen[plural] if self.rows[plural][id_][column] == end["id"]]
        each = [self.passes(plural, child, node["value"]) for child in below]
        return {"any": any(each), "all": all(each), "none": not any(each)}[node["op"]]


@pytest.fixture(scope="module")
def world(server, sql) -> World:
    org, dice = Org.create(server), random.Random(7)  # noqa: S311 - a test
    clerk = org.person("clerk", org.role("Clerk", ("accounts:read", "own"), ("contacts:read", "own")))
    owners = (org.admin.id, org.admin.id, clerk.id)
    accounts: list[str] = []
    for n in range(30):
        values = {"industry": dice.choice(INDUSTRIES), "parent_id": dice.choice([None, *accounts, *accounts])}
        made = org.admin.make("accounts", name=f"Account {n}", owner_id=dice.choice(owners), **values)
        accounts.append(made["id"])
    for n in range(60):
        values = {"title": dice.choice(TITLES), "account_id": dice.choice([None, *accounts])}
        org.admin.make("contacts", last_name=f"Contact {n}", owner_id=dice.choice(owners), **values)
    for id_ in dice.sample(accounts, 4):
        to = {"grantee_type": "user", "grantee_id": clerk.id, "level": "read"}
        assert org.admin.post(f"/v1/accounts/{id_}/share", json=to).status_code == 201
    gone = org.admin.make("accounts", name="Gone", industry="retail", owner_id=clerk.id)["id"]
    org.admin.make("accounts", name="Below", parent_id=gone, owner_id=clerk.id)
    assert org.admin.delete(f"/v1/accounts/{gone}").status_code == 204
    for table in ("accounts", "contacts"):  # as autovacuum does within a minute
        sql(f"ANALYZE {table}")
    world = World(org, clerk)
    for plural in FIELDS:
        world.rows[plural] = {row["id"]: row for row in org.admin.all(f"/v1/{plural}")}
        world.seen[plural] = {row["id"] for row in clerk.all(f"/v1/{plural}")}
        assert 5 < len(world.seen[plural]) < len(world.rows[plural]) - 5
    by_account = [row for row in world.rows["contacts"].values() if row["owner_id"] != clerk.id]
    assert any(row["id"] in world.seen["contacts"] for row in by_account), "some are seen by their account alone"
    return world


def filters(dice: random.Random, resource: str, depth: int) -> dict[str, Any]:
    kind = dice.choice(["leaf", "leaf", "group", "many"]) if depth else "leaf"
    if kind == "group":
        parts = [filters(dice, resource, depth - 1) for _ in range(2)]
        return {dice.choice(["and", "or"]): parts}
    path, at = [], resource
    while len(path) < 2 and dice.random() < 0.6:
        path, at = [*path, REFERENCES[at][0]], "accounts"
    if kind == "many" and CHILDREN[at]:
        name = dice.choice(sorted(CHILDREN[at]))
        child = filters(dice, CHILDREN[at][name][0], depth - 1)
        return {"field": ".".join([*path, name]), "op": dice.choice(["any", "all", "none"]), "value": child}
    name, values = FIELDS[at]
    op = dice.choice(["eq", "eq", "ne", "is_null"])
    value = dice.choice([True, False]) if op == "is_null" else dice.choice(values[:2])
    return {"field": ".".join([*path, name]), "op": op, "value": value}


@pytest.mark.parametrize("few", [True, False], ids=["few", "many"])
def test_a_filter_finds_what_the_model_finds(world, monkeypatch, statements, few):
    world.org.server.kernel.statements.clear()
    if not few:
        monkeypatch.setattr(collections, "NARROW", 2)
    dice, found = random.Random(11), 0  # noqa: S311 - a test
    try:
        for _ in range(150):
            resource = dice.choice(["accounts", "contacts"])
            node = filters(dice, resource, 2)
            answer = world.clerk.post(f"/v1/{resource}/search", json={"filter": node, "limit": 200, "count": "exact"})
            assert answer.status_code == 200, (node, answer.text)
            seen = world.seen[resource]
            expected = {id_ for id_ in seen if world.passes(resource, world.rows[resource][id_], node)}
            assert {row["id"] for row in answer.json()["data"]} == expected, node
            assert answer.json()["count"]["value"] == len(expected)
            found += len(expected)
        assert found > 300, "most of them find something"
    finally:
        world.org.server.kernel.statements.clear()
    pages = [sql for sql, _ in statements if "total" in sql]
    assert all(("AS open" in sql) == few for sql in pages)
    assert len(pages) > 50
