"""A text query is refused for its breadth only to who may see all that it matches; nobody else's answer tells of it."""

import itertools

import pytest

from crm_api.kernel import collections, query
from tests.support.asking import code
from tests.support.org import Org

BROAD = 4
_numbers = itertools.count(1)


@pytest.fixture
def org(server, monkeypatch) -> Org:
    """A tenant of its own, in a server to which more than four matches are many and five open rows not few."""
    server.kernel.statements.clear()
    monkeypatch.setattr(query, "BROAD", BROAD)
    monkeypatch.setattr(collections, "BROAD", BROAD)
    monkeypatch.setattr(collections, "NARROW", BROAD + 1)
    yield Org.create(server)
    server.kernel.statements.clear()


def accounts(person, text: str, number: int) -> list[str]:
    return [person.make("accounts", name=f"{text} {next(_numbers):04}")["id"] for _ in range(number)]


def asked(person, sort: str, text: str = "acme") -> list:
    """What three ways of asking show, page by page."""
    listed, body = [], {"q": text, "sort": [sort], "limit": 2, "count": "exact"}
    while True:
        answer = person.post("/v1/accounts/search", json=body)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        listed += [(row["id"], page["count"]) for row in page["data"]]
        if not page["has_more"]:
            break
        body["cursor"] = page["next_cursor"]
    filtered = {"q": text, "sort": sort, "status": "prospect"}
    return [
        listed,
        [row["id"] for row in person.all("/v1/accounts", q=text, sort=sort, limit=1)],
        person.get("/v1/accounts", params=filtered | {"expand": "owner"}).json(),
        person.get("/v1/accounts", params={"q": text, "owner_id": person.id, "sort": sort}).json(),
    ]


@pytest.mark.parametrize("sort", ["-created_at", "name", "annual_revenue"])
@pytest.mark.parametrize(("own", "others"), [(3, 0), (3, 7), (0, 3)], ids=["narrow", "wide", "none"])
def test_no_answer_depends_on_matches_that_are_hidden(org, statements, sort, own, others):
    """Narrow: fewer rows are open than are found first; wide: the sort index is walked."""
    mine = accounts(org.rep, "acme", own)
    accounts(org.rep, "other", others)
    before = asked(org.rep, sort)
    first = org.rep.get("/v1/accounts", params={"q": "acme", "sort": sort, "limit": 2}).json()
    statements.clear()
    accounts(org.outsider, "acme", BROAD + 1)
    assert asked(org.rep, sort) == before
    assert {id_ for id_, _ in before[0]} == set(mine)
    fallback = [sql for sql, _ in statements if "CASE WHEN" in sql and "search_text LIKE" in sql]
    assert fallback
    assert {"AS open" in sql for sql in fallback if "owner_id = $" not in sql} <= {own + others <= BROAD}
    if own > 2:  # a cursor from before leads on into what is read in the other way
        rest = org.rep.get(
            "/v1/accounts", params={"q": "acme", "sort": sort, "limit": 2, "cursor": first["next_cursor"]}
        )
        assert {row["id"] for row in [*first["data"], *rest.json()["data"]]} == set(mine)
    assert code(org.admin.get("/v1/accounts", params={"q": "acme", "sort": sort})) == (422, "query_too_broad")


def test_who_sees_much_but_not_all_is_answered_above_the_bound(org):
    mine = accounts(org.rep, "acme", BROAD + 3)
    assert len(org.rep.all("/v1/accounts", q="acme", limit=3)) == len(mine)
    for word in ("acme", "acme 0"):
        assert [row["id"] for row in org.rep.all("/v1/accounts", q=word, sort="created_at")] == mine
    assert org.rep.get("/v1/accounts", params={"q": "acme zzz"}).json()["data"] == []


def test_what_matches_a_hidden_field_is_no_reason_to_refuse(org):
    role = org.role(
        "Blind",
        ("accounts:read", "all"),
        field_rules=[{"resource": "accounts", "field": "legal_name", "rule": "hidden"}],
    )
    blind = org.person("blind", role)
    shown = accounts(org.admin, "secretive", 1)
    for _ in range(BROAD + 1):
        org.admin.make("accounts", name=f"Plain {next(_numbers)}", legal_name="secretive")
    assert [row["id"] for row in blind.all("/v1/accounts", q="secretive")] == shown
    assert code(org.admin.get("/v1/accounts", params={"q": "secretive"})) == (422, "query_too_broad")


def test_rows_of_another_kind_in_the_same_table_are_no_reason_to_refuse(org):
    for _ in range(BROAD + 1):
        org.admin.make("service_accounts", name=f"Zebedee {next(_numbers)}")
    user = org.person("zebedee", "Reader")
    assert [row["id"] for row in org.admin.all("/v1/users", q="zebedee")] == [user.id]
