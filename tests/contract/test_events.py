"""Events in the contract: each type has its webhook, its example and its message, and what is sent fits them."""

import asyncio
import json
import re
from functools import cache
from pathlib import Path

import asyncpg
import httpx2
import jsonschema
import orjson
import pytest

from crm_api.catalog import CATALOG
from crm_api.domains.approvals.remind import remind
from crm_api.domains.integrations.outcome import BREAKS_AT
from crm_api.kernel import feed
from crm_api.kernel.domain import JobKind
from crm_api.kernel.problems import invalid
from tests.integrations.test_webhooks import endpoint, hurry
from tests.laws.test_verbs import ACTIONS, EDGES, OUTCOMES, _ready, in_state, move
from tests.support.asking import RESOURCES
from tests.support.contract import ASYNCAPI, OPENAPI
from tests.support.examples import MADE, OTHERWISE, Examples, attach
from tests.support.imports import begin, run
from tests.support.jobs import Nothing, nothing, start, wait, working
from tests.support.org import Org
from tests.support.receiver import Receiver
from tests.support.webhooks import work

TYPES = sorted({*feed.event_types(CATALOG), feed.TEST})
MERGED = "019aa1d2-0000-7000-8000-0000000000e1"
COMMITTED = Path(__file__).parents[2] / "openapi" / "asyncapi.json"


def body_of(type_: str) -> dict:
    return OPENAPI["webhooks"][type_]["post"]["requestBody"]["content"]["application/json"]


@cache
def validator(schema: str, components: str = "openapi") -> jsonschema.Draft202012Validator:
    whole = OPENAPI if components == "openapi" else ASYNCAPI
    return jsonschema.Draft202012Validator(
        {"$ref": schema, "components": whole["components"]},
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = node.values()
    for part in node if not isinstance(node, str | int | float | None) else ():
        yield from references(part)


def resolved(whole, reference: str):
    for step in reference.removeprefix("#/").split("/"):
        whole = whole[step]
    return whole


def test_every_type_has_its_webhook():
    assert sorted(OPENAPI["webhooks"]) == TYPES
    for type_, methods in OPENAPI["webhooks"].items():
        (item,) = methods.values()
        assert item["summary"]
        assert set(item["tags"]) <= {tag["name"] for tag in OPENAPI["tags"]}
        headers = [resolved(OPENAPI, parameter["$ref"]) for parameter in item["parameters"]]
        assert {header["name"] for header in headers} == {"webhook-id", "webhook-timestamp", "webhook-signature"}
        assert all(header["in"] == "header" and header["required"] and header["description"] for header in headers)
        assert set(item["responses"]) == {"2XX", "410", "default"}
        assert type_ in resolved(OPENAPI, body_of(type_)["schema"]["$ref"])["properties"]["type"]["enum"]


@pytest.mark.parametrize("type_", TYPES)
def test_the_example_of_a_type_is_valid(type_):
    (shown,) = body_of(type_)["examples"].values()
    example = resolved(OPENAPI, shown["$ref"])["value"]
    assert example["type"] == type_
    validator(body_of(type_)["schema"]["$ref"]).validate(example)
    with pytest.raises(jsonschema.ValidationError):
        validator(body_of(type_)["schema"]["$ref"]).validate({**example, "type": "account.exploded"})


async def broken(run, body) -> None:
    del run, body
    raise invalid("/name", "unfit", "Such work fails.")


def what_workers_find_out(server, database) -> Org:
    """A tenant of which workers have told everything that no request does: of its jobs and of its webhooks."""
    org = Org.create(server)
    with Receiver(status=500) as receiver, working(server), pytest.MonkeyPatch.context() as patch:
        for kind in (JobKind("test_ends_well", Nothing, nothing), JobKind("test_ends_badly", Nothing, broken)):
            patch.setitem(server.kernel.catalog.jobs, kind.name, kind)
            wait(org.admin, start(org.admin, kind, Nothing()))
        made = begin(org.admin, "name\nOne\n", resource="accounts")
        for verb in ("validate", "apply", "revert"):
            run(org.admin, made, verb)
        contact = org.admin.make("contacts", last_name="Forgotten")["id"]
        org.admin.make("consents", contact_id=contact, purpose="letters", status="granted", at="2026-01-02T03:04:05Z")
        lead = org.admin.make("leads", last_name="Forgotten")["id"]
        user = org.admin.make("users", name="Forgotten", email="forgotten@example.com", is_active=False)["id"]
        for person in ({"contact_id": contact}, {"lead_id": lead}, {"principal_id": user}):
            answer = org.admin.post("/v1/erasures", json={**person, "basis": "request"})
            assert answer.status_code == 202, answer.text
            wait(org.admin, answer.json())
        endpoint(org, receiver, event_types=["account.*"])
        for n in range(BREAKS_AT):
            org.admin.make("accounts", name=f"Acme {n}")
        server.run(work(server))
        receiver.status = 200
        hurry(org, database, "closed_until = now()")
        server.run(work(server))
    return org


def _decide_a_quote(lab, database) -> None:
    """A quote waits for its approval until somebody is reminded, and is refused."""
    account = lab.rep.make("accounts", name="Asks for a quote")["id"]
    steps = [{"kind": "manager", "remind_after_hours": 1}]
    lab.admin.make("approval_rules", name="Quotes", object_type="quote", account_id=account, steps=steps)
    line = {"description": "Tea", "unit_price": "5.00"}
    quote = lab.rep.make("quotes", account_id=account, currency="EUR", lines=[line])
    assert lab.rep.post(f"/v1/quotes/{quote['id']}/submit").json()["state"] == "pending_approval"
    (asked,) = lab.manager.all("/v1/approvals", object_id=quote["id"])

    async def wait_an_hour() -> None:
        connection = await asyncpg.connect(database["admin"])
        await connection.execute("UPDATE approvals SET remind_at = now() WHERE id = $1", asked["id"])
        await connection.close()

    asyncio.run(wait_an_hour())
    lab.server.run(remind(lab.server.kernel))
    assert lab.manager.post(f"/v1/approvals/{asked['id']}/reject", json={"comment": "No."}).status_code == 200


@pytest.fixture(scope="module")
def told(server, database) -> list[dict]:
    """The whole feed of two tenants, in which everything was done to everything, as several people read it."""
    watched = what_workers_find_out(server, database)
    lab = Org.create(server)
    lab.examples = Examples(lab.admin)
    for resource in RESOURCES:
        if "create" not in resource.operations and resource.plural not in MADE:
            continue
        made = lab.examples.make(resource, 1)
        path = f"/v1/{resource.plural}/{made['id']}"
        if resource.update:
            changed = lab.examples.body(resource, 2, given=tuple(resource.references))
            values = {name: value for name, value in changed.items() if name in resource.update.model_fields}
            match = {"If-Match": f'"{made["version"]}"'}
            assert lab.admin.patch(path, json=values, headers=match).status_code == 200, resource.plural
        if "delete" in resource.operations:
            assert lab.admin.delete(path, headers={"If-Match": "*"}).status_code == 204
        if "restore" in resource.operations:
            assert lab.admin.post(f"{path}/restore").status_code == 200
    for resource, edge in (parameter.values for parameter in EDGES):
        row = in_state(lab, resource, min(edge.sources))
        assert move(lab, resource, row["id"], edge.verb).status_code == 200
    for resource, edge, state in (parameter.values for parameter in OUTCOMES):
        row = OTHERWISE[resource.plural, edge.verb, state](lab.admin, in_state(lab, resource, min(edge.sources)))
        assert move(lab, resource, row["id"], edge.verb).json()[resource.lifecycle.column] == state
    _decide_a_quote(lab, database)
    for (operation,) in (parameter.values for parameter in ACTIONS):
        _, path, body = _ready(lab, operation)
        assert lab.admin.post(path, json=body).status_code == operation.action.status
    account = lab.rep.make("accounts", name="Handed over")
    assert lab.admin.patch(f"/v1/accounts/{account['id']}", json={"owner_id": lab.outsider.id}).status_code == 200
    attach(lab.admin, "account", lab.admin.make("accounts", id=MERGED, name="Merged")["id"], "x.txt", b"x")
    assert lab.admin.post(f"/v1/accounts/{account['id']}/merge", json={"other_id": MERGED}).status_code == 200
    while any(server.run(feed.sequence(server.kernel))):
        pass
    found = []
    for person in (lab.admin, lab.rep, lab.outsider, watched.admin):
        cursor = None
        while True:
            page = person.get("/v1/changes", params={"limit": 200, **({"since": cursor} if cursor else {})}).json()
            validator("#/components/schemas/EventList").validate(page)
            found += page["data"]
            cursor = page["next_cursor"]
            if not page["has_more"]:
                break
    return found


@pytest.mark.broad
def test_whatever_a_live_server_tells_fits_the_schema_of_its_webhook(told):
    for event in told:
        validator(body_of(event["type"])["schema"]["$ref"]).validate(event)
        thin = {**event, "data": None, "previous": {}}
        validator(body_of(event["type"])["schema"]["$ref"]).validate(thin)
        schema = ASYNCAPI["components"]["messages"][event["type"]]["payload"]["$ref"]
        validator(schema, "asyncapi").validate(event)


@pytest.mark.broad
def test_every_type_was_looked_at(told):
    seen = {event["type"] for event in told}
    expected = {name for name in feed.event_types(CATALOG) if not name.endswith(".access_changed")}
    assert expected <= seen
    assert {"account.access_changed", feed.RIGHTS} <= seen


@pytest.mark.parametrize("payload", ["full", "thin"])
def test_what_is_sent_fits_the_schema_of_its_webhook(org, payload):
    with Receiver() as receiver:
        made = org.admin.make("webhook_endpoints", url=receiver.url, principal_id=org.admin.id, payload=payload)
        org.admin.make("accounts", name="Acme", credit_limit="12.50", emails=[])
        assert org.admin.post(f"/v1/webhook_endpoints/{made['id']}/test").status_code == 201
        org.server.run(work(org.server))
    assert {"webhook.test", "account.created"} <= set(receiver.types)
    for message in receiver.messages:
        body = body_of(message.event["type"])
        validator(body["schema"]["$ref"]).validate(message.event)
        headers = ASYNCAPI["components"]["messages"][message.event["type"]]["headers"]["$ref"]
        validator(headers, "asyncapi").validate(message.headers)


def test_the_async_document_is_whole():
    """Every reference leads somewhere inside it, nothing in it is unused, and names are those that AsyncAPI allows."""
    assert ASYNCAPI["asyncapi"] == "3.0.0"
    assert set(ASYNCAPI) == {
        "asyncapi", "info", "defaultContentType", "servers", "channels", "operations", "components",
    }  # fmt: skip
    used = set(references(ASYNCAPI))
    for reference in used:
        assert resolved(ASYNCAPI, reference) is not None
    for kind, parts in ASYNCAPI["components"].items():
        assert {f"#/components/{kind}/{name}" for name in parts} <= used
        assert [name for name in parts if not re.fullmatch(r"[\w.-]+", name)] == []
    for operation in ASYNCAPI["operations"].values():
        assert operation["action"] == "send"
        assert resolved(ASYNCAPI, operation["channel"]["$ref"])["messages"]
    for server in ASYNCAPI["servers"].values():
        for part in server["security"]:
            assert resolved(ASYNCAPI, part["$ref"])["type"] in ("http", "httpApiKey")
    assert sorted(ASYNCAPI["channels"]["webhooks"]["messages"]) == TYPES
    assert ASYNCAPI["channels"]["changes"]["address"] in OPENAPI["paths"]


@pytest.mark.parametrize("name", sorted(ASYNCAPI["components"]["messages"]))
def test_a_message_has_a_payload_and_a_valid_example(name):
    """AsyncAPI reads schemas as draft 7, so an example is held against them by that and by the draft of OpenAPI."""
    message = ASYNCAPI["components"]["messages"][name]
    schema = message["payload"]["$ref"]
    jsonschema.Draft7Validator.check_schema(resolved(ASYNCAPI, schema))
    assert message["name"] == name
    for example in message["examples"]:
        validator(schema, "asyncapi").validate(example["payload"])
        jsonschema.Draft7Validator({"$ref": schema, "components": ASYNCAPI["components"]}).validate(example["payload"])


def test_records_in_messages_have_nothing_that_only_expand_brings():
    for resource in CATALOG.resources.values():
        schema = ASYNCAPI["components"]["schemas"].get(resource.output.__name__.removesuffix("View"))
        if schema is not None:
            assert set(schema["properties"]) == set(resource.output.model_fields)


def test_the_async_document_is_served_and_committed(server):
    answer = httpx2.get(f"{server.base_url}/asyncapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == json.loads(orjson.dumps(ASYNCAPI)) == json.loads(COMMITTED.read_text())
