"""Default views over HTTP: a person's own, a role's and everyone's, and which of them applies to whom."""

from uuid import uuid4

import pytest

from tests.integrations.conftest import Follower
from tests.support.asking import code, fault
from tests.support.problems import problem
from tests.views.test_saved_views import view


def begins_with(person, resource: str = "accounts") -> tuple | None:
    """(view, audience, role) that a person begins with."""
    answer = person.get("/v1/me/default_views", params={"resource": resource})
    assert answer.status_code == 200, answer.text
    found = answer.json()["data"]
    assert len(found) <= 1
    return (found[0]["saved_view_id"], found[0]["audience"], found[0]["role_id"]) if found else None


def make(person, found: dict, status: int = 200, **body) -> dict:
    answer = person.post(f"/v1/saved_views/{found['id']}/make_default", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def end(person, found: dict, status: int = 200, **body) -> dict:
    answer = person.post(f"/v1/saved_views/{found['id']}/end_default", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.fixture
def shown(org):
    """Three views of accounts that everyone sees."""
    org.views = [view(org.admin, visibility="everyone") for _ in range(3)]
    org.reps = org.roles["Sales representative"]
    return org


def test_ones_own_goes_before_a_roles_and_that_before_everyones(shown):
    mine, of_role, of_all = shown.views
    assert begins_with(shown.rep) is None
    told = make(shown.admin, of_all, audience="everyone")
    assert (told["object"], told["resource"], told["audience"]) == ("default_view", "accounts", "everyone")
    assert (told["principal_id"], told["role_id"], told["set_by"]) == (None, None, shown.admin.id)
    everyone = (of_all["id"], "everyone", None)
    assert [begins_with(person) for person in (shown.rep, shown.manager, shown.reader)] == [everyone] * 3
    make(shown.admin, of_role, audience="role", role_id=shown.reps)
    assert begins_with(shown.rep) == begins_with(shown.colleague) == (of_role["id"], "role", shown.reps)
    assert begins_with(shown.manager) == everyone
    make(shown.rep, mine)
    assert begins_with(shown.rep) == (mine["id"], "me", None)
    assert begins_with(shown.colleague) == (of_role["id"], "role", shown.reps)
    assert begins_with(shown.rep, "leads") is None
    end(shown.rep, mine)
    assert begins_with(shown.rep) == (of_role["id"], "role", shown.reps)
    end(shown.admin, of_role, audience="role", role_id=shown.reps)
    assert begins_with(shown.rep) == everyone
    end(shown.admin, of_all, audience="everyone")
    assert begins_with(shown.rep) is None
    end(shown.admin, of_all, 404, audience="everyone")


def test_another_choice_replaces_the_one_before(shown):
    first, second, _ = shown.views
    leads = view(shown.rep, resource="leads")
    make(shown.rep, first)
    make(shown.rep, first)
    make(shown.rep, second)
    make(shown.rep, leads)
    assert begins_with(shown.rep) == (second["id"], "me", None)
    end(shown.rep, first, 404)
    every = shown.rep.get("/v1/me/default_views").json()["data"]
    assert [(item["resource"], item["saved_view_id"], item["name"]) for item in every] == [
        ("accounts", second["id"], second["name"]),
        ("leads", leads["id"], leads["name"]),
    ]
    for audience in ({"audience": "everyone"}, {"audience": "role", "role_id": shown.reps}):
        for found in (first, second):
            make(shown.admin, found, **audience)
    assert begins_with(shown.manager) == (second["id"], "everyone", None)
    assert begins_with(shown.colleague) == (second["id"], "role", shown.reps)


def test_a_view_that_one_does_not_see_or_that_is_gone_does_not_apply(shown):
    first, second, third = shown.views
    make(shown.admin, third, audience="everyone")
    make(shown.rep, first)
    assert shown.admin.patch(f"/v1/saved_views/{first['id']}", json={"visibility": "private"}).status_code == 200
    assert begins_with(shown.rep) == (third["id"], "everyone", None)
    assert shown.admin.patch(f"/v1/saved_views/{first['id']}", json={"visibility": "everyone"}).status_code == 200
    assert begins_with(shown.rep) == (first["id"], "me", None)
    assert shown.admin.delete(f"/v1/saved_views/{first['id']}").status_code == 204
    assert begins_with(shown.rep) == (third["id"], "everyone", None)
    assert shown.admin.post(f"/v1/saved_views/{first['id']}/restore").status_code == 200
    assert begins_with(shown.rep) == (first["id"], "me", None)
    assert shown.admin.patch(f"/v1/saved_views/{first['id']}", json={"resource": "leads"}).status_code == 200
    assert begins_with(shown.rep) == (third["id"], "everyone", None), "it is a view of other records now"
    assert begins_with(shown.rep, "leads") is None
    team = shown.admin.make("teams", name="North")
    shown.admin.make("team_members", team_id=team["id"], principal_id=shown.rep.id)
    body = {"visibility": "team", "team_id": team["id"]}
    assert shown.admin.patch(f"/v1/saved_views/{second['id']}", json=body).status_code == 200
    make(shown.admin, second, audience="role", role_id=shown.reps)
    assert begins_with(shown.rep) == (second["id"], "role", shown.reps)
    assert begins_with(shown.colleague) == (third["id"], "everyone", None), "who is not in the team"
    narrow = shown.role("Narrow", ("saved_views:read", "own"), ("leads:read", "own"))
    nobody = shown.person("nobody", narrow)
    assert nobody.get("/v1/me/default_views").json() == {"data": []}, "of records that one may not read there is none"


def test_of_several_roles_the_view_that_stands_first(shown):
    _, second, third = shown.views
    other = shown.role("Second role", ("saved_views:read", "own"))
    shown.admin.make("role_assignments", principal_id=shown.rep.id, role_id=other)
    make(shown.admin, third, audience="role", role_id=shown.reps)
    make(shown.admin, second, audience="role", role_id=other)
    assert begins_with(shown.rep) == (second["id"], "role", other), "the older view"
    assert shown.admin.patch(f"/v1/saved_views/{second['id']}", json={"position": 5}).status_code == 200
    assert begins_with(shown.rep) == (third["id"], "role", shown.reps)
    (held,) = shown.admin.all("/v1/role_assignments", principal_id=shown.rep.id, role_id=shown.reps)
    assert shown.admin.delete(f"/v1/role_assignments/{held['id']}").status_code == 204
    assert begins_with(shown.rep) is None, "the other role does not open accounts"


def test_who_may_say_it_for_others(shown):
    (found, *_) = shown.views
    private = view(shown.rep)
    for person in (shown.rep, shown.manager, shown.reader):
        for body in ({"audience": "everyone"}, {"audience": "role", "role_id": shown.reps}):
            for verb in ("make_default", "end_default"):
                answer = person.post(f"/v1/saved_views/{found['id']}/{verb}", json=body)
                assert problem(answer, 403)["permission"] == "saved_views:prescribe"
        make(person, found)
        assert begins_with(person) == (found["id"], "me", None)
    for person, status in ((shown.rep, 200), (shown.admin, 200), (shown.manager, 404)):
        make(person, private, status)
    assert code(shown.admin.post(f"/v1/saved_views/{private['id']}/make_default", json={"audience": "everyone"})) == (
        409,
        "conflict",
    )
    blind = shown.person("blind", shown.role("Blind", ("accounts:read", "own")))
    assert problem(blind.get("/v1/me/default_views"), 403)["permission"] == "saved_views:read"
    seeing = shown.person("seeing", shown.role("Seeing", ("saved_views:read", "all")))
    answer = seeing.post(f"/v1/saved_views/{found['id']}/make_default", json={})
    assert problem(answer, 403)["permission"] == "saved_views:make_default"


def test_whose_default_a_view_is(shown):
    (found, *_) = shown.views
    feed = Follower(shown.server, shown.admin)
    make(shown.rep, found)
    make(shown.colleague, found)
    make(shown.admin, found, audience="role", role_id=shown.reps)
    make(shown.admin, found, audience="everyone")
    path = f"/v1/saved_views/{found['id']}/defaults"
    for person in (shown.rep, shown.colleague):
        told = person.get(path).json()["data"]
        assert [(item["audience"], item["role_id"], item["principal_id"]) for item in told] == [
            ("everyone", None, None),
            ("me", None, person.id),
            ("role", shown.reps, None),
        ]
    assert [item["audience"] for item in shown.reader.get(path).json()["data"]] == ["everyone", "role"]
    end(shown.rep, found)
    types = feed.types(types=["saved_view.default_made", "saved_view.default_ended"])
    assert types == ["saved_view.default_made"] * 4 + ["saved_view.default_ended"]
    entry = shown.admin.all("/v1/audit_log", object_id=found["id"])[0]
    assert (entry["action"], entry["before"]["default"]["principal_id"]) == ("end_default", shown.rep.id)


def test_what_is_no_default_is_refused(shared_org):
    found = view(shared_org.admin, visibility="everyone")
    path = f"/v1/saved_views/{found['id']}/make_default"
    for body, place in (
        ({"audience": "nobody"}, ("/audience", "literal_error")),
        ({"audience": "role"}, ("", "role")),
        ({"role_id": shared_org.roles["Reader"]}, ("", "role")),
        ({"audience": "role", "role_id": str(uuid4())}, ("/role_id", "reference_not_found")),
        ({"audience": "everyone", "resource": "accounts"}, ("/resource", "unknown_field")),
    ):
        assert fault(shared_org.admin.post(path, json=body)) == [place]
    for params in ({"resource": "nothing"}, {"resource": "saved_view"}, {"x": "1"}):
        problem(shared_org.rep.get("/v1/me/default_views", params=params), 422)
    problem(shared_org.rep.post(f"/v1/saved_views/{uuid4()}/make_default", json={}), 404)
