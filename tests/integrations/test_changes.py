"""The change feed over HTTP: what each reader is told, in which order, and how it is followed."""

import asyncio
import json
import threading
import time

import asyncpg
import pytest

from crm_api.kernel import feed
from tests.support.org import Org
from tests.support.problems import problem


def share(person, path: str, grantee: str, kind: str = "user") -> dict:
    answer = person.post(f"{path}/share", json={"grantee_type": kind, "grantee_id": grantee})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_change_is_told_as_a_get_shows_the_record(org, follow):
    mine = follow(org.rep)
    headers = {"Idempotency-Key": "first", "X-Request-ID": "request-0001"}
    answer = org.rep.post("/v1/accounts", json={"name": "Acme", "credit_limit": "12.50"}, headers=headers)
    account = answer.json()
    assert (
        org.rep.patch(f"/v1/accounts/{account['id']}", json={"credit_limit": "13.00", "tier": "A"}).status_code == 200
    )
    created, updated = mine.read()
    assert created["type"] == "account.created"
    assert created["data"] == account
    assert created["previous"] == {}
    assert created["object"] == {
        "type": "account",
        "id": account["id"],
        "version": 1,
        "url": f"/v1/accounts/{account['id']}",
        "merged_into": None,
    }
    assert created["actor"] == {"type": "user", "id": org.rep.id}
    assert created["origin"]["request_id"] == "request-0001"
    assert created["origin"]["idempotency_key"] == "first"
    assert updated["changed"] == ["credit_limit", "tier"]
    assert updated["previous"] == {"credit_limit": "12.50", "tier": None}
    assert updated["data"] == org.rep.get(f"/v1/accounts/{account['id']}").json()
    assert mine.read() == []


def test_nobody_is_told_of_what_they_may_not_see(org, follow):
    other = Org.create(org.server)
    readers = {name: follow(org.people[name]) for name in ("rep", "manager", "outsider", "admin", "reader")}
    stranger = follow(other.admin)
    account = org.rep.make("accounts", name="Mine")
    org.rep.make("contacts", last_name="Person", account_id=account["id"])
    told = {name: reader.types() for name, reader in readers.items()}
    expected = ["account.created", "contact.created"]
    assert told == {"rep": expected, "manager": expected, "admin": expected, "reader": expected, "outsider": []}
    assert stranger.read() == []


def test_a_hidden_field_is_neither_shown_nor_named(org, follow):
    rules = [{"resource": "accounts", "field": "credit_limit", "rule": "hidden"}]
    blind = org.person("blind", org.role("Blind", ("accounts:read", "all"), field_rules=rules))
    reader = follow(blind)
    account = org.rep.make("accounts", name="Acme", credit_limit="5.00")
    org.rep.patch(f"/v1/accounts/{account['id']}", json={"credit_limit": "6.00"})
    created, updated = reader.read()
    assert created["data"]["credit_limit"] is None
    assert created["data"]["redacted"] == ["credit_limit"]
    assert updated["changed"] == []
    assert updated["previous"] == {}
    assert "6.00" not in json.dumps(updated)


def test_a_key_is_told_within_its_scopes(org):
    made = org.admin.post(f"/v1/users/{org.admin.id}/issue_key", json={"name": "narrow", "scopes": ["contacts:read"]})
    headers = {"Authorization": f"Bearer {made.json()['key']}"}
    org.rep.make("accounts", name="Acme")
    org.rep.make("contacts", last_name="Person")
    org.server.run(feed.sequence(org.server.kernel))
    found = org.admin.get("/v1/changes", params={"limit": 200}, headers=headers).json()["data"]
    assert {event["object"]["type"] for event in found if event["access"] is None} == {"contact"}


def test_lost_and_gained_access_are_told(org, follow):
    account = org.rep.make("accounts", name="Handed over")
    path = f"/v1/accounts/{account['id']}"
    rep, outsider, manager = follow(org.rep), follow(org.outsider), follow(org.manager)
    assert org.admin.patch(path, json={"owner_id": org.outsider.id, "tier": "A"}).status_code == 200
    (lost,) = rep.read()
    assert (lost["type"], lost["access"], lost["data"]) == ("account.access_changed", "lost", None)
    assert lost["object"]["id"] == account["id"]
    assert lost["actor"] == {"type": None, "id": None}
    assert (lost["changed"], lost["previous"]) == ([], {})
    assert '"A"' not in json.dumps(lost)
    event, gained = outsider.read()
    assert (event["type"], event["data"]["tier"]) == ("account.updated", "A")
    assert (gained["type"], gained["access"]) == ("account.access_changed", "gained")
    assert [event["access"] for event in manager.read()] == ["lost"]
    assert org.admin.patch(path, json={"owner_id": org.rep.id}).status_code == 200
    assert [event["access"] for event in rep.read()] == [None, "gained"]


def test_shares_open_and_close(org, follow):
    account = org.outsider.make("accounts", name="Shared")
    path = f"/v1/accounts/{account['id']}"
    rep, colleague = follow(org.rep), follow(org.colleague)
    given = share(org.outsider, path, org.rep.id)
    assert [(event["type"], event["access"]) for event in rep.read()] == [
        ("account.shared", None),
        ("account.access_changed", "gained"),
    ]
    assert org.outsider.post(f"{path}/unshare", json={"share_id": given["id"]}).status_code == 200
    assert [(event["type"], event["access"]) for event in rep.read()] == [("account.access_changed", "lost")]
    assert colleague.read() == []


def test_deletions_and_restorations_are_told(org, follow):
    account = org.rep.make("accounts", name="Gone")
    path = f"/v1/accounts/{account['id']}"
    rep, outsider = follow(org.rep), follow(org.outsider)
    assert org.rep.delete(path).status_code == 204
    assert org.rep.post(f"{path}/restore").status_code == 200
    deleted, restored = rep.read()
    assert (deleted["type"], restored["type"]) == ("account.deleted", "account.restored")
    assert deleted["data"]["name"] == "Gone"
    assert restored["data"] == org.rep.get(path).json()
    assert outsider.read() == []


def test_changed_rights_are_told_to_whom_they_concern(org, follow):
    rep, colleague = follow(org.rep), follow(org.colleague)
    role = org.role("Wide", ("accounts:read", "all"))
    org.admin.make("role_assignments", role_id=role, principal_id=org.rep.id)
    assert [event["type"] for event in rep.read() if event["access"]] == ["access.changed"]
    assert [event["type"] for event in colleague.read() if event["access"]] == []


def test_types_choose(org, follow):
    reader = follow(org.admin)
    account = org.admin.make("accounts", name="Acme")
    org.admin.make("contacts", last_name="Person")
    org.admin.post(f"/v1/accounts/{account['id']}/activate")
    org.admin.delete(f"/v1/accounts/{account['id']}")
    start = reader.cursor
    for types, expected in {
        "account.created": ["account.created"],
        "account.*": ["account.created", "account.updated", "account.activated", "account.deleted"],
        "*.created": ["account.created", "contact.created"],
        "*": ["account.created", "contact.created", "account.updated", "account.activated", "account.deleted"],
    }.items():
        reader.cursor = start
        assert reader.types(types=types) == expected, types
    for wrong in ("account.exploded", "nothing.*", "", "account", "**"):
        problem(org.admin.get("/v1/changes", params={"types": wrong}), 422)


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("limit", "0", 422),
        ("limit", "10**9", 422),
        ("limit", "201", 422),
        ("wait", "31", 422),
        ("wait", "-1", 422),
        ("since", "nonsense", 400),
        ("since", "A" * 201, 422),
        ("since", "ä", 400),
        ("other", "1", 422),
    ],
)
def test_bad_questions(org, name, value, status):
    problem(org.rep.get("/v1/changes", params={name: value}), status)


def test_a_cursor_belongs_to_one_tenant(org, follow):
    other = Org.create(org.server)
    other.admin.make("accounts", name="Theirs")
    follow(other.admin)
    cursor = other.admin.get("/v1/changes/cursor").json()["cursor"]
    problem(org.admin.get("/v1/changes", params={"since": cursor}), 400)
    mine = org.admin.get("/v1/changes/cursor").json()["cursor"]
    altered = mine[:-1] + ("A" if mine[-1] != "A" else "B")
    problem(org.admin.get("/v1/changes", params={"since": altered}), 400)


def test_what_is_not_kept_any_more_is_410_and_a_new_epoch_409(server, database):
    org = Org.create(server)
    org.admin.make("accounts", name="Old")
    server.run(feed.sequence(server.kernel))
    first = org.admin.get("/v1/changes", params={"limit": 1}).json()["next_cursor"]

    async def set_(change: str) -> None:
        connection = await asyncpg.connect(database["admin"])
        await connection.execute(f"UPDATE feed_heads SET {change} WHERE tenant_id = $1", org.tenant_id)  # noqa: S608 - our own text
        await connection.close()

    asyncio.run(set_("floor = seq"))
    found = problem(org.admin.get("/v1/changes", params={"since": first}), 410)
    assert found["code"] == "cursor_expired"
    assert org.admin.get(found["bootstrap"]).status_code == 200
    problem(org.admin.get("/v1/changes/stream", headers={"Last-Event-ID": first}), 410)
    asyncio.run(set_("epoch = gen_random_uuid()"))
    found = problem(org.admin.get("/v1/changes", params={"since": first}), 409)
    assert found["code"] == "feed_restarted"
    assert org.admin.get("/v1/changes").json()["data"] == []


def test_a_long_poll_answers_when_something_happens(org, follow):
    reader = follow(org.rep)
    seconds = []

    def later() -> None:
        time.sleep(0.3)
        org.colleague.make("accounts", name="Not theirs")
        reader.sequence()
        time.sleep(0.3)
        org.admin.make("accounts", name="Theirs", owner_id=org.rep.id)
        reader.sequence()

    began = time.monotonic()
    writer = threading.Thread(target=later)
    writer.start()
    answer = org.rep.get("/v1/changes", params={"since": reader.cursor, "wait": 10}).json()
    seconds.append(time.monotonic() - began)
    writer.join()
    assert [event["data"]["name"] for event in answer["data"]] == ["Theirs"]
    assert 0.5 < seconds[0] < 5
    began = time.monotonic()
    empty = org.rep.get("/v1/changes", params={"since": answer["next_cursor"], "wait": 1}).json()
    assert empty["data"] == []
    assert 0.9 < time.monotonic() - began < 3
    assert org.server.kernel.pulses == {}


def events_of(lines, count: int) -> list[dict[str, str]]:
    found, current = [], {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            current[name] = value
        elif "data" in current:
            found.append(current)
            current = {}
            if len(found) == count:
                return found
        else:
            current = {}
    return found


def test_a_stream_gives_events_and_goes_on_where_it_was(org, follow):
    reader = follow(org.rep)
    for n in range(3):
        org.rep.make("accounts", name=f"Streamed {n}")
    reader.sequence()
    with org.rep.stream("GET", "/v1/changes/stream", params={"since": reader.cursor}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        first = events_of(answer.iter_lines(), 2)
    assert [json.loads(event["data"])["data"]["name"] for event in first] == ["Streamed 0", "Streamed 1"]
    assert {event["event"] for event in first} == {"account.created"}
    with org.rep.stream("GET", "/v1/changes/stream", headers={"Last-Event-ID": first[0]["id"]}) as answer:
        rest = events_of(answer.iter_lines(), 2)
    assert [json.loads(event["data"])["data"]["name"] for event in rest] == ["Streamed 1", "Streamed 2"]


def test_nothing_is_skipped_doubled_or_out_of_order_while_many_write(server):
    """Eight writers, two sequencers, one reader who follows all the while."""
    org = Org.create(server)
    ids = [org.admin.make("accounts", name=f"Busy {n}")["id"] for n in range(4)]
    stop, found, cursor = threading.Event(), [], None

    def write(n: int) -> None:
        for i in range(15):
            answer = org.admin.patch(f"/v1/accounts/{ids[(n + i) % 4]}", json={"description": f"{n} {i}"})
            assert answer.status_code == 200, answer.text
            org.admin.make("contacts", last_name=f"{n} {i}")

    def move() -> None:
        while not stop.is_set():
            server.run(feed.sequence(server.kernel))
            time.sleep(0.005)

    def read() -> None:
        nonlocal cursor
        page = org.admin.get("/v1/changes", params={"since": cursor} if cursor else {}).json()
        found.extend(page["data"])
        cursor = page["next_cursor"]

    writers = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    movers = [threading.Thread(target=move) for _ in range(2)]
    for thread in (*movers, *writers):
        thread.start()
    while any(thread.is_alive() for thread in writers):
        read()
    stop.set()
    for thread in movers:
        thread.join()
    server.run(feed.sequence(server.kernel))
    for _ in range(10):
        read()
    assert len({event["id"] for event in found}) == len(found)
    assert sum(event["type"] == "contact.created" for event in found) == 120
    for id_ in ids:
        versions = [event["object"]["version"] for event in found if event["object"]["id"] == id_]
        assert versions == list(range(1, 31 + 1))


def test_partitions_are_made_ahead_and_dropped_behind(database):
    async def run() -> None:
        connection = await asyncpg.connect(database["admin"])
        count = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'feed'::regclass"
        try:
            before = await connection.fetchval(count)
            assert before >= 6
            await connection.execute("CREATE TABLE feed_20200106 (LIKE feed INCLUDING ALL)")
            await connection.execute("ALTER TABLE feed_20200106 OWNER TO crm_owner")
            await connection.execute(
                "ALTER TABLE feed ATTACH PARTITION feed_20200106 FOR VALUES FROM ('2020-01-06+00') TO ('2020-01-13+00')"
            )
            tenant = await connection.fetchval("SELECT tenant_id FROM tenants LIMIT 1")
            await connection.execute(
                "INSERT INTO feed VALUES ($1, 1, '2020-01-07+00', gen_random_uuid(), now(), gen_random_uuid(), "
                "'account.created', 'account', gen_random_uuid(), 1, '{}', '{}', NULL, '{}')",
                tenant,
            )
            assert await connection.fetchval("SELECT keep_feed(90)") == 1
            assert await connection.fetchval(count) == before
            assert await connection.fetchval("SELECT keep_feed(90)") == 0
        finally:
            await connection.close()

    asyncio.run(run())
