"""State graphs and actions: every pair of state and verb, permission, event, lock, retry, dry run."""

import asyncio
import itertools
import time
from dataclasses import replace

import asyncpg
import pytest

from crm_api.catalog import CATALOG
from crm_api.kernel.router import operations
from tests.laws.test_permission import asked_with, example_body
from tests.support.asking import RESOURCES, code, each
from tests.support.examples import MADE, OTHERWISE, READY
from tests.support.jobs import ended

_numbers = itertools.count(1)
EDGES = [
    pytest.param(item, edge, id=f"{item.plural}.{edge.verb}")
    for item in RESOURCES
    if item.lifecycle
    for edge in item.lifecycle.offered
]
OUTCOMES = [
    pytest.param(item, edge, state, id=f"{item.plural}.{edge.verb}.{state}")
    for item in RESOURCES
    if item.lifecycle
    for edge in item.lifecycle.offered
    for state in edge.otherwise
]
INTERNAL = [
    pytest.param(item, edge, id=f"{item.plural}.{edge.verb}")
    for item in RESOURCES
    if item.lifecycle
    for edge in item.lifecycle.edges
    if edge.internal
]
ACTIONS = [
    pytest.param(operation, id=operation.operation_id)
    for item in RESOURCES
    for operation in operations(item)
    if operation.kind == "action" and operation.method == "POST"
]


def path_to(lifecycle, state: str) -> list[tuple[str, str]]:
    """The verbs that lead from the initial state to a state, each with the state that it brings."""
    ways = {lifecycle.initial: []}
    while state not in ways:
        for edge in lifecycle.offered:
            for source in edge.sources & set(ways):
                for target in edge.targets:
                    ways.setdefault(target, [*ways[source], (edge.verb, target)])
    return ways[state]


def move(lab, resource, id_: str, verb: str, **options):
    """Asks for a move, with an example of what it takes."""
    body = asked_with(lab, resource.lifecycle.edge(verb))
    return lab.admin.post(f"/v1/{resource.plural}/{id_}/{verb}", json=body, **options)


def in_state(lab, resource, state: str) -> dict:
    row = lab.examples.make(resource, 1)
    for verb, target in path_to(resource.lifecycle, state):
        if target != resource.lifecycle.edge(verb).target:
            row = OTHERWISE[resource.plural, verb, target](lab.admin, row)
        row = move(lab, resource, row["id"], verb).json()
    assert row[resource.lifecycle.column] == state
    return row


@pytest.mark.parametrize(("resource", "edge"), EDGES)
def test_every_pair_of_state_and_verb_follows_the_graph(lab, resource, edge, ledger, unchanged):
    column = resource.lifecycle.column
    for state in resource.lifecycle.states:
        row = in_state(lab, resource, state)
        path = f"/v1/{resource.plural}/{row['id']}"
        offered = {item["action"]: item for item in lab.admin.get(f"{path}/transitions").json()["data"]}
        assert set(offered) == {item.verb for item in resource.lifecycle.offered}
        assert offered[edge.verb]["allowed"] == (state in edge.sources)
        assert bool(offered[edge.verb]["blocked_by"]) != offered[edge.verb]["allowed"]
        if state in edge.sources:
            with unchanged(lab):
                assert move(lab, resource, row["id"], edge.verb, params={"dry_run": "true"}).status_code == 200
                assert lab.admin.post(f"{path}/{edge.verb}", json={"x": 1}).status_code == 422
                stale = move(lab, resource, row["id"], edge.verb, headers={"If-Match": '"999"'})
                assert code(stale) == (412, "version_mismatch")
            moved = move(lab, resource, row["id"], edge.verb)
            assert moved.status_code == 200, moved.text
            assert (moved.json()[column], moved.json()["version"]) == (edge.target, row["version"] + 1)
            assert moved.headers["etag"] == f'"{row["version"] + 1}"'
            audits, events = ledger(lab, row["id"])
            new = [event["type"] for event in events if event["version"] == row["version"] + 1]
            assert sorted(new) == sorted([f"{resource.singular}.updated", f"{resource.singular}.{edge.event}"])
            assert len({event["transaction_id"] for event in events[-2:]}) == 1
            before, after = audits[-1]["before"], audits[-1]["after"]
            assert (audits[-1]["action"], before[column], after[column]) == (edge.verb, state, edge.target)
            assert edge.run or before.keys() == after.keys() == {column}
        else:
            with unchanged(lab):
                for options in ({}, {"params": {"dry_run": "true"}}):
                    refused = move(lab, resource, row["id"], edge.verb, **options)
                    assert code(refused) == (409, "transition_refused")
                    assert (refused.json()["state"], refused.json()["allowed_from"]) == (state, sorted(edge.sources))


@pytest.mark.parametrize(("resource", "edge", "state"), OUTCOMES)
def test_a_verb_that_needs_more_leads_elsewhere_with_an_event_of_its_own(lab, resource, edge, state, ledger, unchanged):
    column = resource.lifecycle.column
    for source in sorted(edge.sources):
        row = OTHERWISE[resource.plural, edge.verb, state](lab.admin, in_state(lab, resource, source))
        assert row[column] == source
        offered = lab.admin.get(f"/v1/{resource.plural}/{row['id']}/transitions").json()["data"]
        assert state in next(item for item in offered if item["action"] == edge.verb)["otherwise"]
        with unchanged(lab):
            dry = move(lab, resource, row["id"], edge.verb, params={"dry_run": "true"})
            assert (dry.status_code, dry.json()[column]) == (200, state), dry.text
        moved = move(lab, resource, row["id"], edge.verb)
        assert (moved.status_code, moved.json()[column]) == (200, state), moved.text
        audits, events = ledger(lab, row["id"])
        new = [event["type"] for event in events if event["version"] == row["version"] + 1]
        assert sorted(new) == sorted([f"{resource.singular}.updated", f"{resource.singular}.{edge.otherwise[state]}"])
        assert audits[-1]["action"] == edge.verb


@pytest.mark.parametrize(("resource", "edge"), INTERNAL)
def test_an_internal_edge_is_neither_offered_nor_permitted_nor_reached(lab, resource, edge):
    row = in_state(lab, resource, min(edge.sources))
    path = f"/v1/{resource.plural}/{row['id']}"
    assert lab.admin.post(f"{path}/{edge.verb}", json={}).status_code == 404
    assert edge.verb not in {item["action"] for item in lab.admin.get(f"{path}/transitions").json()["data"]}
    assert f"{resource.plural}:{edge.verb}" not in CATALOG.permissions
    assert lab.admin.get(path).json() == row


@each("create", where=lambda item: item.lifecycle)
def test_a_state_is_in_no_input_and_starts_at_the_beginning(lab, resource):
    column = resource.lifecycle.column
    assert column not in resource.create.model_fields
    assert resource.update is None or column not in resource.update.model_fields
    assert lab.examples.make(resource, 1)[column] == resource.lifecycle.initial


@each(where=lambda item: item.lifecycle)
def test_transitions_agree_with_what_the_caller_may_do(lab, resource):
    for edge in resource.lifecycle.offered:
        granted = [(f"{resource.plural}:read", "all"), (f"{resource.plural}:{edge.verb}", "all")]
        person = lab.person(f"mover{next(_numbers)}", lab.role(f"Mover {next(_numbers)}", *granted))
        row = in_state(lab, resource, next(iter(edge.sources)))
        path = f"/v1/{resource.plural}/{row['id']}"
        for item in person.get(f"{path}/transitions").json()["data"]:
            if item["action"] != edge.verb:
                assert not item["allowed"]
                body = asked_with(lab, resource.lifecycle.edge(item["action"]))
                assert code(person.post(f"{path}/{item['action']}", json=body))[0] in (403, 409)
        offered = {item["action"]: item for item in person.get(f"{path}/transitions").json()["data"]}[edge.verb]
        reasons = {reason["code"] for reason in offered["blocked_by"]}
        assert not reasons & {"state", "permission"}
        assert offered["allowed"] == (not reasons)
        assert edge.blocked or offered["allowed"]
        if reasons:
            refused = code(person.post(f"{path}/{edge.verb}", json=asked_with(lab, edge)))
            assert refused[0] in (403, 404, 409, 422)
            assert refused[1] != "transition_refused"
        if edge.run is None:  # else it may take further rights
            assert person.post(f"{path}/{edge.verb}").status_code == 200


def _ready(lab, operation):
    """A row on which the action works, and its body: tried, since only the verb knows its condition."""
    resource = operation.resource
    rows = lab.admin.get(f"/v1/{resource.plural}", params={"limit": 5}).json()["data"]
    if resource.plural == "jobs" and operation.action.verb == "retry":
        rows = [ended(lab.admin)]
    elif "create" in resource.operations or resource.plural in MADE:
        rows = [lab.examples.make(resource, 1)]
    elif lab.examples.creatable(resource):
        rows = [
            lab.admin.get(
                f"/v1/{resource.plural}/{lab.examples.make(lab.examples.creatable(resource), 1)['id']}"
            ).json()
        ]
    else:
        user = lab.person(f"keyed{next(_numbers)}", "Reader")
        rows = [row for row in lab.admin.all(f"/v1/{resource.plural}", limit=200) if user.id in row.values()]
    row = READY.get((resource.plural, operation.action.verb), lambda _, row: row)(lab.admin, rows[0])
    body = example_body(lab, operation.action.body) if operation.action.body else None
    path = f"/v1/{resource.plural}/{row['id']}"
    if operation.action.verb in ("link", "unlink") and not lab.admin.all("/v1/sources", code="erp"):
        lab.admin.make("sources", name="ERP", code="erp")
    if operation.action.verb == "link":
        body = {**body, "external_id": f"{next(_numbers)}"}
    elif operation.action.verb == "unlink":
        assert lab.admin.post(f"{path}/link", json={**body, "external_id": f"{next(_numbers)}"}).status_code == 200
    elif operation.action.verb.startswith("un") and operation.action.verb != "unmerge":
        back = next(
            other for other in operations(resource) if other.action and other.action.verb == operation.action.verb[2:]
        )
        done = lab.admin.post(f"{path}/{back.action.verb}", json=example_body(lab, back.action.body))
        if body is not None:
            body = {name: done.json()["id"] for name in body}
    if "other_id" in (body or {}):  # another record, which is merged into this one
        body = {"other_id": lab.examples.make(resource, 2)["id"]}
        if operation.action.verb == "unmerge":
            assert lab.admin.post(f"{path}/merge", json=body).status_code == 200
    if body and "delivery_id" in body:  # a part of the record that the body names
        body["delivery_id"] = lab.admin.get("/v1/webhook_deliveries", params={"endpoint_id": row["id"]}).json()["data"][
            0
        ]["id"]
    if operation.action.verb == "progress":
        line = lab.admin.get(f"/v1/{resource.plural}/{row['id']}").json()["lines"][0]
        body["lines"] = [{"id": line["id"], "shipped_quantity": "1"}]
    if body and "stage_id" in body:  # another one than it stands in
        stages = lab.admin.all("/v1/stages", pipeline_id=row["pipeline_id"], kind="open")
        body["stage_id"] = next(stage["id"] for stage in stages if stage["id"] != row["stage_id"])
    return row["id"], operation.path.replace("{id}", row["id"]), body


@pytest.mark.parametrize("operation", ACTIONS)
def test_an_action_has_its_event_and_one_effect(lab, operation, ledger, unchanged):
    action, resource = operation.action, operation.resource
    id_, path, body = _ready(lab, operation)
    with unchanged(lab):
        assert lab.admin.post(path, json={**(body or {}), "nonsense": 1}).status_code == 422
        dry = lab.admin.post(path, json=body, params={"dry_run": "true"})
        assert dry.status_code == action.status, dry.text
        if resource.operations & {"get"} and action.reply is None:
            assert code(lab.admin.post(path, json=body, headers={"If-Match": '"999"'})) == (412, "version_mismatch")
    before = [len(part) for part in ledger(lab, id_)]
    headers = {"Idempotency-Key": f"action-{next(_numbers)}"}
    first = lab.admin.post(path, json=body, headers=headers)
    assert first.status_code == action.status, first.text
    audits, events = ledger(lab, id_)
    assert len(audits) == before[0] + 1
    assert (audits[-1]["action"], str(audits[-1]["actor_id"])) == (action.verb, lab.admin.id)
    emitted = {event["type"] for event in events[before[1] :]}
    assert f"{resource.singular}.{action.event or 'updated'}" in emitted
    assert emitted <= set(resource.events)
    with unchanged(lab):
        again = lab.admin.post(path, json=body, headers=headers)
        assert (again.status_code, again.headers.get("idempotency-replayed")) == (action.status, "true"), again.text
        kept = {name: value for name, value in first.json().items() if name not in action.private}
        assert {name: again.json().get(name) for name in kept} == kept
        if body:
            other = lab.admin.post(
                path,
                json={
                    **body,
                    **{name: value + "x" for name, value in body.items() if name in ("reason", "name")},
                    "nonsense": 1,
                },
                headers=headers,
            )
            assert other.status_code == 422


WAIT = 80
"""Milliseconds; how long a server waits unless told otherwise is in tests/faults/test_database.py."""


@pytest.fixture(scope="module")
def hurried(server):
    """The connections of the server wait for locks for so long that a test can see it, and no longer."""
    pool, usual = server.kernel.database, server.kernel.database.limits

    async def limit(limits) -> None:
        pool.limits = limits
        for link in pool._idle:
            await link.connection.execute(f"SET lock_timeout = {limits.lock}")

    server.run(limit(replace(usual, lock=WAIT)))
    yield
    server.run(limit(usual))


@pytest.mark.parametrize("operation", ACTIONS)
def test_an_action_locks_its_row(lab, database, hurried, operation):
    """While another transaction holds the row, the verb waits, and gives 409 `locked` after the lock timeout."""
    id_, path, body = _ready(lab, operation)

    async def held():
        connection = await asyncpg.connect(database["admin"])
        try:
            async with connection.transaction():
                await connection.execute(f"SELECT 1 FROM {operation.resource.table.name} WHERE id = $1 FOR UPDATE", id_)  # noqa: S608 - our own name
                started = time.monotonic()
                return await asyncio.to_thread(lab.admin.post, path, json=body), time.monotonic() - started
        finally:
            await connection.close()

    answer, seconds = asyncio.run(held())
    assert code(answer) == (409, "locked"), answer.text
    assert answer.headers["retry-after"]
    assert seconds >= 0.8 * WAIT / 1000
    assert lab.admin.post(path, json=body).status_code == operation.action.status


@pytest.mark.parametrize("resource", [item for item in RESOURCES if item.lifecycle], ids=lambda item: item.plural)
def test_a_graph_has_no_state_that_nothing_reaches(resource):
    for state in resource.lifecycle.states:
        assert isinstance(path_to(resource.lifecycle, state), list)
    assert resource.table.c[resource.lifecycle.column].nullable is False
