"""`GET /v1/search`: what is found, in which order, how it is marked; always under the caller's policy."""

from itertools import pairwise

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_api.domains.search import matches
from crm_api.domains.search.words import Query, segments
from crm_api.kernel import collections
from crm_api.kernel.schema import fold
from tests.support.asking import code, fault
from tests.support.org import Org
from tests.support.problems import problem


def found(person, q: str, **params) -> list[dict]:
    answer = person.get("/v1/search", params={"q": q, **params})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def ids(person, q: str, **params) -> list[str]:
    return [hit["id"] for hit in found(person, q, **params)]


@pytest.fixture(scope="module")
def northwind(server) -> Org:
    """Customers with the names of Northwind, and people who work there."""
    org = Org.create(server)
    for name in (
        *("Antonio Moreno Taquería", "Frankenversand", "Blondesddsl père et fils", "Bólido Comidas preparadas"),
        *("Berglunds snabbköp", "Familia Arquibaldo", "La maison d'Asie", "Königlich Essen", "Océano Atlántico Ltda."),
        *("Toms Spezialitäten", "Around the Horn", "Alfreds Futterkiste", "Alfreds", "Neue Alfreds Kiste"),
    ):
        org.rep.make("accounts", name=name)
    org.rep.make(
        "contacts",
        first_name="Peter",
        last_name="Franken",
        emails=[{"address": "peter@franken.example"}],
        title="Owner",
    )
    return org


@pytest.mark.parametrize(
    ("q", "name"),
    [
        ("taqueria", "Antonio Moreno Taquería"),
        ("TAQUERÍA", "Antonio Moreno Taquería"),
        ("taqeria", "Antonio Moreno Taquería"),
        ("moreno antonio", "Antonio Moreno Taquería"),
        ("morreno taqueria", "Antonio Moreno Taquería"),
        ("Frankenversnad", "Frankenversand"),
        ("frakenversand", "Frankenversand"),
        ("pere et", "Blondesddsl père et fils"),
        ("snabbkop", "Berglunds snabbköp"),
        ("bolido", "Bólido Comidas preparadas"),
        ("to", "Toms Spezialitäten"),
        ("d'asie", "La maison d'Asie"),
        ("essen koniglich", "Königlich Essen"),
        ("oceano", "Océano Atlántico Ltda."),
    ],
)
def test_a_name_is_found_without_accents_and_with_a_slip(northwind, q, name):
    hits = found(northwind.rep, q)
    assert hits[0]["title"] == name
    assert hits[0]["record"]["object"] == hits[0]["object"] == "account"
    marked = [item for item in hits[0]["highlights"] if item["field"] == "name"]
    assert "".join(piece["text"] for piece in marked[0]["segments"]) == name
    assert any(piece["match"] for piece in marked[0]["segments"])


def test_the_closer_answer_comes_first(northwind):
    titles = [hit["title"] for hit in found(northwind.rep, "alfreds")]
    assert titles == ["Alfreds", "Alfreds Futterkiste", "Neue Alfreds Kiste"]
    hits = found(northwind.rep, "franken")
    assert [(hit["object"], hit["title"]) for hit in hits[:2]] == [
        ("contact", "Peter Franken"),
        ("account", "Frankenversand"),
    ]
    scores = [hit["score"] for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[-1] <= scores[0] <= 1
    assert found(northwind.rep, "peter franken")[0]["score"] == 1


def test_a_whole_address_is_a_whole_value(org):
    account = org.admin.make(
        "accounts", name="Nandu", emails=[{"address": "hello@nandu.example"}, {"address": "x@y.example"}]
    )
    (hit,) = found(org.admin, "hello@nandu.example")
    assert (hit["record"]["id"], hit["score"]) == (account["id"], 0.95)
    assert hit["highlights"] == [{"field": "emails", "segments": [{"text": "hello@nandu.example", "match": True}]}]


def test_newer_comes_first_among_equals(org):
    made = [org.rep.make("accounts", name="Twin")["id"] for _ in range(3)]
    assert ids(org.rep, "twin") == made[::-1]
    page = org.rep.get("/v1/search", params={"q": "twin", "limit": 2}).json()
    assert ([hit["id"] for hit in page["data"]], page["has_more"]) == (made[:0:-1], True)


def test_a_write_is_found_at_once_and_a_deletion_is_not(org):
    path = f"/v1/accounts/{org.rep.make('accounts', name='Zephyr')['id']}"
    assert ids(org.rep, "zephyr", types="account") == [path.rsplit("/", 1)[1]]
    assert org.rep.patch(path, json={"name": "Borealis"}).status_code == 200
    assert ids(org.rep, "zephyr") == []
    assert len(ids(org.rep, "boralis")) == 1
    assert org.admin.delete(path).status_code == 204
    assert ids(org.rep, "borealis") == []
    assert org.admin.post(f"{path}/restore").status_code == 200
    assert len(ids(org.rep, "borealis")) == 1


WAYS = ["found first", "by index", "newest"]


@pytest.fixture(params=WAYS)
def way(request, server, monkeypatch) -> str:
    """Each way of finding rows, whatever the planner and the number of rows would choose."""
    server.kernel.statements.clear()
    monkeypatch.setattr(collections, "NARROW", 1000 if request.param == "found first" else 0)
    if request.param == "newest":
        monkeypatch.setattr(matches, "BROAD", -1)
        monkeypatch.setattr(matches, "BROAD_ALIKE", -1)
    yield request.param
    server.kernel.statements.clear()


@pytest.mark.parametrize("q", ["tresure", *(pytest.param(q, marks=pytest.mark.broad) for q in ("treasure", "tr"))])
def test_who_may_not_see_a_row_does_not_find_it(org, server, way, q):
    treasure = org.outsider.make("accounts", name="Treasure")
    path = f"/v1/accounts/{treasure['id']}"
    stranger = Org.create(server)
    assert ids(org.outsider, q) == ids(org.other_manager, q) == ids(org.admin, q) == [treasure["id"]]
    for person in (org.rep, org.manager, stranger.admin):
        assert ids(person, q) == []
    body = {"grantee_type": "user", "grantee_id": org.rep.id, "level": "read"}
    assert org.outsider.post(f"{path}/share", json=body).status_code == 201
    assert ids(org.rep, q) == [treasure["id"]]
    assert ids(org.colleague, q) == []
    team = org.admin.make("teams", name="Hunters")["id"]
    hunter = org.person("hunter", org.role("Hunter", ("accounts:read", "team")))
    org.admin.make("team_members", team_id=team, principal_id=hunter.id)
    assert ids(hunter, q) == []
    assert org.admin.patch(path, json={"team_id": team}).status_code == 200
    assert ids(hunter, q) == [treasure["id"]]


@pytest.mark.parametrize("q", ["de811", "de81122233", "de8112233"])
def test_a_hidden_field_is_neither_matched_nor_ranked_nor_shown(org, way, q):
    first = org.admin.make("accounts", name="Blind", legal_name="Other")["id"]
    last = org.admin.make("accounts", name="Blind", tax_id="DE8112233")["id"]
    rules = [{"resource": "accounts", "field": "tax_id", "rule": "hidden"}]
    role = org.role("Blinkered", ("accounts:read", "all"), field_rules=rules)
    person = org.person("blinkered", role)
    assert ids(org.admin, q, types="account") == [last]
    assert ids(person, q) == []
    assert ids(person, "blind", types="account") == [last, first]
    answer = person.get("/v1/search", params={"q": "blind de8112233", "types": "account"})
    assert answer.json()["data"] == []
    (hit,) = [hit for hit in found(person, "blind", types="account") if hit["id"] == last]
    assert "tax_id" not in hit["record"]
    assert {item["field"] for item in hit["highlights"]} == {"name"}


def test_types_bound_the_search_and_need_their_permission(northwind):
    assert {hit["object"] for hit in found(northwind.rep, "franken", types="contact")} == {"contact"}
    both = northwind.rep.get("/v1/search", params=[("q", "franken"), ("types", "contact"), ("types", "account")])
    assert {hit["object"] for hit in both.json()["data"]} == {"account", "contact"}
    only = northwind.person("only", northwind.role("Only accounts", ("accounts:read", "all")))
    assert {hit["object"] for hit in found(only, "franken")} == {"account"}
    denied = problem(only.get("/v1/search", params={"q": "franken", "types": "contact"}), 403)
    assert denied["permission"] == "contacts:read"
    answer = northwind.rep.get("/v1/search", params={"q": "franken", "types": "unicorn"})
    assert fault(answer) == [("types", "unknown_type")]
    assert found(northwind.rep, "outsider")[0]["object"] == "principal"
    assert found(northwind.rep, "outsider", types="user")[0]["object"] == "user"


@pytest.mark.parametrize(
    ("params", "place"),
    [
        ({}, "q"),
        ({"q": "a"}, "q"),
        ({"q": "  a "}, "q"),
        ({"q": "́́́"}, "q"),
        ({"q": "x" * 201}, "q"),
        ({"q": "a\x00b"}, "q"),
        ({"q": "acme", "limit": "51"}, "limit"),
        ({"q": "acme", "limit": "0"}, "limit"),
        ({"q": "acme", "sort": "name"}, "sort"),
    ],
)
def test_a_wrong_question_is_told_so(org, params, place):
    answer = org.rep.get("/v1/search", params=params)
    assert answer.status_code == 422, answer.text
    assert [item for item, _ in fault(answer)] == [place]


def test_who_is_nobody_is_401(org):
    assert code(httpx2.get(f"{org.server.base_url}/v1/search?q=acme")) == (401, "unauthenticated")


@pytest.mark.parametrize(
    "q",
    [
        *("%%%", "___", "\\\\\\", "' OR 1=1 --", "a & b | !c:*", '"quoted"', "((((", "*:*", "$$;drop table accounts"),
        *("🙂🙂🙂", "שלום עולם", "مرحبا", "東京", "\u202eabc", "<b>bold</b>", "a b c d e f g h i j", "gmbh " * 40),
        *("ﷺﷺ", "İİİ", "ßß", "\t\n", "x" * 200, "%taq%", "t_qu", "{1,2}", "[a-z]+", "NaN", "null"),
    ],
)
def test_odd_text_is_only_text(northwind, q):
    answer = northwind.rep.get("/v1/search", params={"q": q})
    assert answer.status_code == (200 if len(fold(q)) > 1 else 422), answer.text
    if answer.status_code == 200 and len(q) < 100:
        assert not any(hit["title"].startswith("Around") for hit in answer.json()["data"])
    raw = northwind.rep.get("/v1/search?q=%ED%A0%80abc")
    assert raw.status_code == 422


def test_what_is_marked_is_data(org):
    name = "<b>Tom</b> & 'Jerry' <script>"
    org.rep.make("accounts", name=name)
    (hit,) = found(org.rep, "jerry", types="account")
    assert hit["title"] == name
    assert hit["highlights"][0] == {
        "field": "name",
        "segments": [
            {"text": "<b>Tom</b> & '", "match": False},
            {"text": "Jerry", "match": True},
            {"text": "' <script>", "match": False},
        ],
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(q=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_no_text_breaks_the_search(northwind, q):
    answer = northwind.rep.get("/v1/search", params={"q": q})
    assert answer.status_code in (200, 422), answer.text


@given(text=st.text(min_size=1, max_size=60), data=st.data())
def test_pieces_are_the_text_and_mark_what_was_searched(text, data):
    start = data.draw(st.integers(0, len(text) - 1))
    part = fold(text[start : start + 5])
    if not part or " " in part:
        return
    found = segments(text, Query(part), fuzzy=False)
    if found is not None:
        assert "".join(piece["text"] for piece in found) == text
        assert any(piece["match"] for piece in found)
        assert all(left["match"] != right["match"] for left, right in pairwise(found))
