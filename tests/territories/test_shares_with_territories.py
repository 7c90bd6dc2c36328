"""Records shared with a territory: who works there, or above it, sees them, on every way, and nobody else does."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from tests.distribution.test_bulk import preview, run
from tests.identity.test_holders import holders
from tests.identity.test_simulation import records, simulate
from tests.integrations.conftest import Follower
from tests.support.asking import code, fault
from tests.territories.test_territories import account, territory

PLACES = ("world", "europe", "germany")
WRITING = tuple((f"accounts:{action}", "own") for action in ("read", "update"))


@pytest.fixture
def land(org):
    """World over Europe over Germany; whoever works in one sees his own accounts, and no other's by reach."""
    role = org.role("Worker", *WRITING, ("contacts:read", "own"))
    org.places, above = {}, None
    for name in PLACES:
        org.places[name] = above = territory(org.admin, above)
        person = org.person(name, role)
        org.admin.make("territory_members", territory_id=above, principal_id=person.id)
    org.person("idle", role)
    return org


def share(land, id_: str, place: str = "europe", status: int = 201, **values) -> dict:
    body = {"grantee_type": "territory", "grantee_id": land.places.get(place, place), **values}
    answer = land.admin.post(f"/v1/accounts/{id_}/share", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def those_who_see(land, id_: str) -> list[str]:
    found = {name: land.people[name].get(f"/v1/accounts/{id_}").status_code for name in (*PLACES, "idle")}
    assert set(found.values()) <= {200, 404}
    listed = [name for name in found if id_ in {row["id"] for row in land.people[name].all("/v1/accounts")}]
    assert listed == [name for name, status in found.items() if status == 200]
    return listed


def test_it_is_open_to_who_works_there_and_above_at_its_level(land):
    made = account(land.rep)
    contact = land.rep.make("contacts", last_name="Zuse", account_id=made["id"])
    path = f"/v1/accounts/{made['id']}"
    assert those_who_see(land, made["id"]) == []
    given = share(land, made["id"])
    assert (given["grantee_type"], given["grantee_id"]) == ("territory", land.places["europe"])
    assert land.admin.get(f"{path}/shares").json()["data"] == [given]
    assert those_who_see(land, made["id"]) == ["world", "europe"]
    assert land.world.get(f"/v1/contacts/{contact['id']}").status_code == 200
    assert land.germany.get(f"/v1/contacts/{contact['id']}").status_code == 404
    assert code(land.world.patch(path, json={"industry": "Wood"})) == (403, "forbidden")
    share(land, made["id"], level="write")
    assert land.world.patch(path, json={"industry": "Wood"}).status_code == 200
    moved = land.admin.patch(f"/v1/territories/{land.places['europe']}", json={"parent_id": None})
    assert moved.status_code == 200
    assert those_who_see(land, made["id"]) == ["europe"], "holds with the next request"
    (link,) = land.admin.all("/v1/territory_members", principal_id=land.europe.id)
    assert land.admin.delete(f"/v1/territory_members/{link['id']}").status_code == 204
    assert those_who_see(land, made["id"]) == []


def test_it_ends(land):
    made = account(land.rep)
    given = share(land, made["id"])
    answer = land.admin.post(f"/v1/accounts/{made['id']}/unshare", json={"share_id": given["id"]})
    assert (answer.status_code, answer.json()["grantee_type"]) == (200, "territory")
    assert those_who_see(land, made["id"]) == []
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    share(land, made["id"], expires_at=soon.isoformat())
    assert those_who_see(land, made["id"]) == ["world", "europe"]
    while datetime.now(UTC) <= soon:
        land.europe.get("/v1/accounts")
    assert those_who_see(land, made["id"]) == []
    share(land, made["id"], "germany")
    assert land.admin.delete(f"/v1/territories/{land.places['germany']}").status_code == 204
    assert those_who_see(land, made["id"]) == [], "a deleted territory opens nothing"


def test_a_team_and_a_territory_of_one_id_are_not_taken_for_each_other(land):
    id_ = land.places["europe"]
    land.admin.make("teams", id=id_, name="Namesakes")
    land.admin.make("team_members", team_id=id_, principal_id=land.idle.id)
    of_team, of_place = account(land.rep), account(land.rep)
    body = {"grantee_type": "team", "grantee_id": id_}
    assert land.admin.post(f"/v1/accounts/{of_team['id']}/share", json=body).status_code == 201
    share(land, of_place["id"])
    assert those_who_see(land, of_team["id"]) == ["idle"]
    assert those_who_see(land, of_place["id"]) == ["world", "europe"]
    assert land.idle.id not in holders(land.admin, "account", of_place["id"])
    assert land.europe.id not in holders(land.admin, "account", of_team["id"])


def test_questions_about_access_know_it(land):
    made = account(land.rep)
    given = share(land, made["id"], level="write")
    for action in ("read", "update"):
        found = holders(land.admin, "account", made["id"], action=action)
        for name in ("world", "europe"):
            (grant,) = found[land.people[name].id]
            assert (grant["rule"], grant["shares"]) == ("share", [given])
        assert not {land.germany.id, land.idle.id} & found.keys()
    (link,) = land.admin.all("/v1/territory_members", principal_id=land.europe.id)
    told = simulate(land.admin, {"operation": "delete_territory_member", "id": link["id"]}, resources=["accounts"])
    assert records(told[land.europe.id]) == {("accounts", "read"): (0, 1)}
    change = {"territory_id": land.places["world"], "principal_id": land.idle.id}
    told = simulate(land.admin, {"operation": "create_territory_member", "body": change}, resources=["accounts"])
    assert records(told[land.idle.id]) == {("accounts", "read"): (1, 0)}


def test_the_feed_tells_those_it_is_for(land):
    made = account(land.rep)
    feeds = {name: Follower(land.server, land.people[name]) for name in (*PLACES, "idle")}
    given = share(land, made["id"])
    told = {name: [(event["type"], event["access"]) for event in feed.read()] for name, feed in feeds.items()}
    gained = [("account.shared", None), ("account.access_changed", "gained")]
    assert told == {"world": gained, "europe": gained, "germany": [], "idle": []}
    assert land.rep.patch(f"/v1/accounts/{made['id']}", json={"industry": "Wood"}).status_code == 200
    assert {name: feed.types() for name, feed in feeds.items()} == {
        "world": ["account.updated"], "europe": ["account.updated"], "germany": [], "idle": [],
    }  # fmt: skip
    ended = land.admin.post(f"/v1/accounts/{made['id']}/unshare", json={"share_id": given["id"]})
    assert ended.status_code == 200
    told = {name: [(event["type"], event["access"]) for event in feed.read()] for name, feed in feeds.items()}
    lost = [("account.access_changed", "lost")]
    assert told == {"world": lost, "europe": lost, "germany": [], "idle": []}


def test_many_at_once(land):
    ids = [account(land.rep, industry="Ships")["id"] for _ in range(2)]
    chosen = {"filter": {"field": "industry", "value": "Ships"}}
    to = {"grantee_type": "territory", "grantee_id": land.places["germany"]}
    assert preview(land.rep, "accounts/share", **chosen, **to)["done"] == 2
    assert run(land.rep, "accounts/share", **chosen, **to)["done"] == 2
    assert all(those_who_see(land, id_) == list(PLACES) for id_ in ids)
    assert run(land.rep, "accounts/unshare", **chosen, **to)["done"] == 2
    assert all(those_who_see(land, id_) == [] for id_ in ids)


def test_nobody_joins_or_moves_a_territory_to_see_what_is_shared_with_it(land):
    made = account(land.rep)
    share(land, made["id"])
    grants = [("territory_members:create", "all"), ("territories:update", "all"), ("accounts:read", "own")]
    clerk = land.person("clerk", land.role("Clerk", *grants))
    for place in ("europe", "world"):
        join = {"territory_id": land.places[place], "principal_id": clerk.id}
        answer = clerk.post("/v1/territory_members", json=join)
        assert (answer.status_code, answer.json().get("permission")) == (403, "accounts:read"), place
    join = {"territory_id": land.places["germany"], "principal_id": clerk.id}
    assert clerk.post("/v1/territory_members", json=join).status_code == 201, "nothing is shared with it"
    mine = territory(land.admin)
    land.admin.make("territory_members", territory_id=mine, principal_id=clerk.id)
    path, below = f"/v1/territories/{land.places['europe']}", {"parent_id": mine}
    answer = clerk.patch(path, json=below)
    assert (answer.status_code, answer.json().get("permission")) == (403, "accounts:read")
    assert clerk.get(f"/v1/accounts/{made['id']}").status_code == 404
    assert land.admin.patch(path, json=below).status_code == 200
    assert clerk.get(f"/v1/accounts/{made['id']}").status_code == 200


def test_whom_it_cannot_be_for_is_refused(land):
    made = account(land.rep)
    closed = territory(land.admin, is_active=False)
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    for body, found in (
        ({"grantee_type": "territory", "grantee_id": str(uuid4())}, ("/grantee_id", "reference_not_found")),
        ({"grantee_type": "territory", "grantee_id": land.idle.id}, ("/grantee_id", "reference_not_found")),
        ({"grantee_type": "territory", "grantee_id": closed}, ("/grantee_id", "inactive")),
        ({"grantee_type": "territory", "grantee_id": land.places["world"], "expires_at": yesterday},
         ("/expires_at", "in_the_past")),
        ({"grantee_type": "continent", "grantee_id": land.places["world"]}, ("/grantee_type", "literal_error")),
    ):  # fmt: skip
        assert fault(land.rep.post(f"/v1/accounts/{made['id']}/share", json=body)) == [found]
        assert fault(land.rep.post("/v1/accounts/share", json={"ids": [made["id"]], **body})) == [found]
    blind = land.role("Blind", ("accounts:*", "all"))
    nobody = land.person("nobody", blind)
    land.admin.make("access_defaults", resource="territories", level="private")
    body = {"grantee_type": "territory", "grantee_id": land.places["world"]}
    answer = nobody.post(f"/v1/accounts/{made['id']}/share", json=body)
    assert fault(answer) == [("/grantee_id", "reference_not_found")], "one that is hidden is as one that never was"
