"""What laws share: the operator's view by SQL, a tenant full of varied rows, counted statements."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.asking import RESOURCES
from tests.support.examples import MADE, SETTINGS, Examples
from tests.support.org import Org

FEW, MANY = 9, 30


@pytest.fixture(scope="session")
def ledger(sql) -> Callable[[Any], tuple[list[Any], list[Any]]]:
    """(audit rows, event rows) of a tenant, or of one object, in order."""

    def read(org: Org, id_: Any = None) -> tuple[list[Any], list[Any]]:
        where = "tenant_id = $1" + ("" if id_ is None else " AND object_id = $2")
        values = [org.tenant_id, *([] if id_ is None else [id_])]
        return (
            sql(f"SELECT * FROM audit_entries WHERE {where} ORDER BY id", *values),  # noqa: S608 - our own text
            sql(f"SELECT * FROM outbox WHERE {where} ORDER BY id", *values),  # noqa: S608 - our own text
        )

    return read


@pytest.fixture(scope="session")
def world(server) -> Org:
    """A tenant with varied rows of every resource, nulls included. Read only: a test that writes takes another."""
    org = Org.create(server)
    org.person("second_admin", "Administrator")
    examples = Examples(org.admin, customs=True)
    for resource in RESOURCES:
        if "create" in resource.operations:
            nullable = any(column.nullable for column in resource.sortable.values())
            few = 4 if resource.plural in SETTINGS else FEW
            for n in range(MANY if nullable else few):
                examples.sparse(resource, n)
        elif resource.plural in MADE:
            for n in range(FEW):
                examples.make(resource, n)
    return org


@pytest.fixture(scope="session")
def rows(world) -> Callable[[Any], list[dict[str, Any]]]:
    """Every row of a resource in `world`, as its administrator sees it; read anew while a worker may move one on."""
    known: dict[str, list[dict[str, Any]]] = {}

    def read(resource: Any) -> list[dict[str, Any]]:
        found = known.get(resource.plural)
        if found is None or any(row.get("state") in ("queued", "running") for row in found):
            found = known[resource.plural] = world.admin.all(f"/v1/{resource.plural}", limit=200)
        return found

    return read


@pytest.fixture(scope="module")
def lab(server) -> Org:
    """A tenant for tests of one module that write, with a maker of examples."""
    org = Org.create(server)
    org.examples = Examples(org.admin, customs=True)
    return org
