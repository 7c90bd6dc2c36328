"""Saved views and tags over HTTP: who sees which, and what they show to whom."""

import itertools

import pytest

from tests.support.asking import fault
from tests.support.problems import problem

_numbers = itertools.count(1)


def view(person, **values) -> dict:
    return person.make("saved_views", **{"name": f"View {next(_numbers)}", "resource": "accounts", **values})


def shown(person, found: dict, **params) -> dict:
    answer = person.get(f"/v1/saved_views/{found['id']}/records", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def noticed(page: dict) -> list[tuple[str, str, str]]:
    return [(item["part"], item["name"], item["code"]) for item in page["notices"]]


def hide(org, *rules: tuple[str, str]) -> None:
    """Field rules of the representatives' role, in place of those there were."""
    body = {"field_rules": [{"resource": "accounts", "field": field, "rule": rule} for field, rule in rules]}
    assert org.admin.patch(f"/v1/roles/{org.roles['Sales representative']}", json=body).status_code == 200


def test_a_view_shows_what_its_reader_may_see(org):
    org.admin.make("custom_fields", resource="accounts", key="grade", kind="number", label="Grade")
    for grade in (1, 2, 3):
        org.rep.make("accounts", name=f"Mine {grade}", industry="Mining", custom={"grade": grade})
    org.outsider.make("accounts", name="Theirs", industry="Mining", custom={"grade": 9})
    found = view(
        org.manager,
        filter={"and": [{"field": "industry", "value": "Mining"}, {"field": "custom.grade", "op": "gte", "value": 2}]},
        sort=["-custom.grade"],
        columns=["name", "custom.grade"],
        visibility="everyone",
    )
    page = shown(org.rep, found, limit=1, count="exact")
    assert (page["has_more"], page["count"]) == (True, {"value": 2, "relation": "eq"})
    assert page["data"][0].keys() == {"id", "object", "version", "name", "custom"}
    more = shown(org.rep, found, limit=1, cursor=page["next_cursor"])
    assert [item["name"] for item in (*page["data"], *more["data"])] == ["Mine 3", "Mine 2"]
    assert [item["name"] for item in shown(org.outsider, found)["data"]] == ["Theirs"]
    assert problem(
        org.outsider.get(f"/v1/saved_views/{found['id']}/records", params={"cursor": page["next_cursor"]}), 400
    )
    for bad in ({"limit": "0"}, {"limit": "²"}, {"limit": "201"}, {"count": "all"}, {"q": "x"}):
        problem(org.rep.get(f"/v1/saved_views/{found['id']}/records", params=bad), 422)


def test_a_retired_field_is_still_shown_and_filtered(org):
    field = org.admin.make("custom_fields", resource="accounts", key="grade", kind="text", label="Grade")
    org.rep.make("accounts", name="Old", custom={"grade": "gold"})
    found = view(
        org.rep,
        filter={"field": "custom.grade", "value": "gold"},
        sort=["custom.grade"],
        columns=["name", "custom.grade"],
    )
    assert org.admin.post(f"/v1/custom_fields/{field['id']}/retire").status_code == 200
    page = shown(org.rep, found)
    (item,) = page["data"]
    assert (item["name"], item["custom"]) == ("Old", {"grade": "gold"})
    assert noticed(page) == [
        ("filter", "custom.grade", "field_retired"),
        ("sort", "custom.grade", "field_retired"),
        ("columns", "custom.grade", "field_retired"),
    ]
    by_parent = view(org.rep, resource="contacts", filter={"field": "account.custom.grade", "value": "gold"})
    assert noticed(shown(org.rep, by_parent)) == [("filter", "account.custom.grade", "field_retired")]
    by_child = {"field": "children", "op": "any", "value": {"field": "custom.grade", "value": "gold"}}
    assert noticed(shown(org.rep, view(org.rep, filter=by_child))) == [
        ("filter", "children.custom.grade", "field_retired")
    ]
    assert org.rep.patch(f"/v1/saved_views/{found['id']}", json={"name": "Renamed"}).status_code == 200


def test_whose_a_view_is_and_who_shows_it_to_others(org):
    private = view(org.rep)
    for person in (org.colleague, org.manager):
        problem(person.get(f"/v1/saved_views/{private['id']}"), 404)
        problem(person.get(f"/v1/saved_views/{private['id']}/records"), 404)
        problem(person.patch(f"/v1/saved_views/{private['id']}", json={"name": "N"}), 404)
        assert person.all("/v1/saved_views") == []
    for body in ({"visibility": "everyone"}, {"visibility": "everyone", "name": "N"}):
        answer = org.rep.patch(f"/v1/saved_views/{private['id']}", json=body)
        assert problem(answer, 403)["permission"] == "saved_views:publish"
    team = org.admin.make("teams", name="North")
    org.admin.make("team_members", team_id=team["id"], principal_id=org.colleague.id)
    shared = view(org.manager, visibility="team", team_id=team["id"])
    assert org.colleague.get(f"/v1/saved_views/{shared['id']}").json()["visibility"] == "team"
    problem(org.rep.get(f"/v1/saved_views/{shared['id']}"), 404)
    assert problem(org.colleague.patch(f"/v1/saved_views/{shared['id']}", json={"name": "N"}), 403)
    assert problem(org.colleague.delete(f"/v1/saved_views/{shared['id']}"), 403)
    wide = org.manager.patch(f"/v1/saved_views/{shared['id']}", json={"visibility": "everyone", "team_id": None})
    assert wide.status_code == 200
    assert [item["id"] for item in org.reader.all("/v1/saved_views")] == [shared["id"]]
    answer = org.manager.patch(f"/v1/saved_views/{shared['id']}", json={"visibility": "team"})
    assert fault(answer) == [("/team_id", "required")]
    role = org.admin.get(f"/v1/roles/{org.roles['Sales manager']}").json()
    kept = [item for item in role["permissions"] if item["permission"] != "saved_views:publish"]
    assert org.admin.patch(f"/v1/roles/{role['id']}", json={"permissions": kept}).status_code == 200
    answer = org.manager.patch(f"/v1/saved_views/{shared['id']}", json={"name": "N"})
    assert problem(answer, 403)["permission"] == "saved_views:publish"


def test_a_shared_view_under_narrower_rights_says_why_not(org):
    org.rep.make("accounts", name="Rich", annual_revenue="900")
    by_revenue = {"field": "annual_revenue", "op": "gt", "value": "100"}
    filtered = view(org.manager, visibility="everyone", filter=by_revenue)
    sorted_ = view(org.manager, visibility="everyone", sort=["-annual_revenue"])
    columns = view(org.manager, visibility="everyone", columns=["name", "annual_revenue"])
    assert [item["name"] for item in shown(org.rep, filtered)["data"]] == ["Rich"]
    only = view(org.manager, visibility="everyone", columns=["annual_revenue"])
    hide(org, ("annual_revenue", "hidden"))
    answer = org.rep.get(f"/v1/saved_views/{filtered['id']}/records")
    assert problem(answer, 403)["permission"] == "field accounts.annual_revenue", "it would show other records without"
    for found, part in ((sorted_, "sort"), (columns, "columns"), (only, "columns")):
        page = shown(org.rep, found)
        assert noticed(page) == [(part, "annual_revenue", "field_hidden")]
        assert len(page["data"]) == 1
        assert noticed(shown(org.manager, found)) == []
    assert shown(org.rep, columns)["data"][0].keys() == {"id", "object", "version", "name"}
    assert shown(org.rep, only)["data"][0].keys() == {"id", "object", "version"}
    for body in ({"filter": by_revenue}, {"sort": ["annual_revenue"]}, {"columns": ["annual_revenue"]}):
        answer = org.rep.post("/v1/saved_views", json={"name": "N", "resource": "accounts", **body})
        assert problem(answer, 403)["permission"] == "field accounts.annual_revenue"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"resource": "nothing"}, "unknown_resource"),
        ({"filter": {"field": "nothing", "value": 1}}, "unknown_field"),
        ({"filter": {"field": "name", "op": "near", "value": "x"}}, "unknown_operator"),
        ({"filter": {}}, "invalid_filter"),
        ({"sort": ["nothing"]}, "unknown_sort"),
        ({"sort": ["name", "-name"]}, "invalid_sort"),
        ({"columns": ["nothing"]}, "unknown_field"),
        ({"columns": ["custom.nothing"]}, "unknown_field"),
        ({"filter": {"field": "name", "op": "in", "value": ["x" * 200] * 300}}, "too_long"),
        ({"q": "ab"}, "too_short"),
        ({"q": ""}, "string_too_short"),
        ({"q": "x" * 201}, "string_too_long"),
        ({"resource": "units", "q": "bolts"}, "not_searchable"),
        ({"expand": ["nothing"]}, "unknown_relation"),
        ({"expand": ["parent.parent.parent"]}, "too_deep"),
        ({"expand": ["owner", "team", "territory", "parent", "contacts", "children"]}, "too_long"),
    ],
)
def test_a_view_that_shows_nothing_is_refused(shared_org, body, found):
    answer = shared_org.rep.post("/v1/saved_views", json={"name": "N", "resource": "accounts", **body})
    assert [item[1] for item in fault(answer)] == [found]


def test_its_text_and_expansions_are_those_of_the_search(org):
    parent = org.rep.make("accounts", name="Holding")
    for name in ("Timber North", "Timber South"):
        org.rep.make("accounts", name=name, parent_id=parent["id"])
    org.outsider.make("accounts", name="Timber East")
    found = view(
        org.manager, q="timber", expand=["parent", "owner"], sort=["name"], columns=["name"], visibility="everyone"
    )
    assert (found["q"], found["expand"]) == ("timber", ["parent", "owner"])
    body = {"q": "timber", "expand": ["parent", "owner"], "sort": ["name"], "fields": ["name"]}
    for person in (org.rep, org.outsider, org.admin):
        searched = person.post("/v1/accounts/search", json={**body, "count": "exact"}).json()
        page = shown(person, found, count="exact")
        assert {name: page[name] for name in ("data", "count")} == {name: searched[name] for name in ("data", "count")}
    (first, _) = shown(org.rep, found)["data"]
    assert (first["parent"]["name"], first["owner"]["id"]) == ("Holding", org.rep.id)
    one = shown(org.rep, found, limit=1)
    assert [item["name"] for item in shown(org.rep, found, cursor=one["next_cursor"])["data"]] == ["Timber South"]
    assert org.manager.patch(f"/v1/saved_views/{found['id']}", json={"q": None, "expand": []}).status_code == 200
    assert "parent" not in shown(org.rep, found, count="exact")["data"][0]
    for body, place in (({"q": "ab"}, "/q"), ({"expand": ["no"]}, "/expand"), ({"sort": ["no"]}, "/sort")):
        assert fault(org.manager.patch(f"/v1/saved_views/{found['id']}", json=body))[0][0] == place


def test_an_expansion_that_is_not_for_the_caller_is_left_out(org):
    org.rep.make("accounts", name="Sub", parent_id=org.rep.make("accounts", name="Top")["id"])
    found = view(org.manager, expand=["parent", "owner"], visibility="everyone")
    hide(org, ("parent_id", "hidden"))
    page = shown(org.rep, found)
    assert noticed(page) == [("expand", "parent", "field_hidden")]
    assert all("owner" in item and "parent" not in item for item in page["data"])


def test_tags_in_use_with_how_many_records_of_ones_own(org):
    for tags in (["north", "key"], ["north"], ["no%"]):
        org.rep.make("accounts", name="A", tags=tags)
    org.outsider.make("accounts", name="B", tags=["north", "secret"])
    org.rep.make("leads", last_name="L", tags=["lead"])
    gone = org.rep.make("accounts", name="C", tags=["gone"])["id"]
    assert org.rep.delete(f"/v1/accounts/{gone}").status_code == 204

    def tags(person, **params) -> list[tuple[str, int]]:
        answer = person.get("/v1/tags", params={"resource": "accounts", **params})
        assert answer.status_code == 200, answer.text
        return [(item["tag"], item["number"]) for item in answer.json()["data"]]

    assert sorted(tags(org.rep)) == [("key", 1), ("no%", 1), ("north", 2)]
    assert sorted(tags(org.admin)) == [("key", 1), ("no%", 1), ("north", 3), ("secret", 1)]
    assert tags(org.rep, prefix="nor") == [("north", 2)]
    assert tags(org.rep, prefix="no%") == [("no%", 1)], "a prefix is text, not a pattern"
    one = org.rep.get("/v1/tags", params={"resource": "accounts", "limit": 1}).json()
    assert (len(one["data"]), one["has_more"]) == (1, True)
    for bad in ({"resource": "roles"}, {"resource": "accounts", "limit": 0}, {}, {"resource": "accounts", "x": 1}):
        problem(org.rep.get("/v1/tags", params=bad), 422)
    body = {"permissions": [{"permission": "leads:read", "reach": "own"}]}
    assert org.admin.patch(f"/v1/roles/{org.roles['Sales representative']}", json=body).status_code == 200
    answer = org.rep.get("/v1/tags", params={"resource": "accounts"})
    assert problem(answer, 403)["permission"] == "accounts:read"
