"""Lists by custom fields: the same records in the same order whichever way they are found."""

import pytest

from crm_api.kernel.ways import FEW
from tests.support.org import Org

ROWS = FEW + 150
BATCH = 200
SORTS = ("-custom.score", "custom.grade,-custom.score", "custom.score", "name", "-created_at", "-id", "id")
FILTERS = (
    "custom.grade=gold",
    "custom.grade=rare",
    "custom.grade=rare&custom.score_lte=3",
    "custom.grade=gold&custom.score_gte=2&custom.score_lte=4",
    "custom.score_gte=2&custom.score_lte=4",
    "custom.score=5&custom.grade=gold",
    "custom.grade=gold&custom.grade=rare&custom.score_lte=0",
    "custom.grade=gold&custom.grade=rare&custom.score_gte=99",
    "custom.grade=gold&custom.score_is_null=true",
    "custom.score_is_null=true",
    "custom.grade=gold&custom.grade=rare&custom.score_is_null=false",
    "custom.grade=silver",
)


@pytest.fixture(scope="module")
def org(server):
    return Org.create(server)


@pytest.fixture(scope="module")
def seller(org):
    return org.person("seller", org.role("seller", ("accounts:read", "own"), ("accounts:create", "own")))


@pytest.fixture(scope="module")
def rows(org, seller, sql):
    """More records than are gathered, some without a value; every seventh is the seller's, as are two they refer to."""
    choices = [{"value": value} for value in ("gold", "rare", "silver")]
    org.admin.make("custom_fields", resource="accounts", key="grade", kind="choice", label="Grade", choices=choices)
    org.admin.make("custom_fields", resource="accounts", key="score", kind="number", label="Score")
    partner = {"kind": "reference", "target": "accounts"}
    org.admin.make("custom_fields", resource="accounts", key="partner", label="Partner", **partner)
    found = [org.admin.make("accounts", name=f"{name} partner", owner_id=seller.id) for name in ("Rare", "Common")]
    bodies = []
    for n in range(ROWS):
        values = {"grade": "rare" if n % 50 == 3 else "gold", "score": n % 11, "partner": found[n % 50 != 3]["id"]}
        kept = {key: value for key, value in values.items() if key == "partner" or n % (13 if key == "score" else 19)}
        owner = {"owner_id": seller.id} if n % 7 == 0 else {}
        bodies.append({"name": f"A{n * 7919 % ROWS:05}", "custom": kept, **owner})
    for start in range(0, ROWS, BATCH):
        items = [{"op": "create", "body": body} for body in bodies[start : start + BATCH]]
        answer = org.admin.post("/v1/accounts/batch", json={"items": items})
        assert answer.status_code == 200, answer.text
        found += [item["body"] for item in answer.json()["results"]]
    for table in (
        "accounts",
        "custom_values",
    ):  # as autovacuum does within a minute: plans of empty tables are quadratic
        sql(f"ANALYZE {table}")
    return found


def listed(person, query):
    """All pages of a list."""
    found, cursor = [], ""
    while True:
        answer = person.get(f"/v1/accounts?{query}&limit=200{cursor}")
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += [row["id"] for row in page["data"]]
        if not page["has_more"]:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def expected(rows, query, sort):
    for part in query.split("&"):
        name, _, text = part.partition("=")
        key = name.removeprefix("custom.").removesuffix("_gte").removesuffix("_lte").removesuffix("_is_null")
        values = {row["id"]: row["custom"].get(key) for row in rows}
        if name.endswith("_is_null"):
            rows = [row for row in rows if (values[row["id"]] is None) == (text == "true")]
        elif name.endswith(("_gte", "_lte")):
            sign = 1 if name.endswith("_gte") else -1
            rows = [
                row for row in rows if values[row["id"]] is not None and sign * (values[row["id"]] - int(text)) >= 0
            ]
        elif query.count(f"{name}=") > 1:
            rows = [row for row in rows if values[row["id"]] is not None]
        else:
            rows = [row for row in rows if str(values[row["id"]]) == text]
    keys = sort.split(",")
    rows = sorted(rows, key=lambda row: row["id"], reverse=keys[-1].startswith("-"))
    for key in reversed(keys):
        name = key.removeprefix("-")
        value = {row["id"]: row["custom"].get(name[7:]) if name.startswith("custom.") else row[name] for row in rows}
        known = [row for row in rows if value[row["id"]] is not None]
        known.sort(key=lambda row: value[row["id"]], reverse=key.startswith("-"))
        rows = known + [row for row in rows if value[row["id"]] is None]
    return [row["id"] for row in rows]


@pytest.mark.parametrize("sort", [*SORTS[:2], *(pytest.param(sort, marks=pytest.mark.broad) for sort in SORTS[2:])])
@pytest.mark.parametrize("query", FILTERS)
def test_every_page_is_in_order(org, rows, seller, query, sort):
    mine = [row for row in rows if row["owner_id"] == seller.id]
    assert listed(org.admin, f"{query}&sort={sort}") == expected(rows, query, sort)
    assert listed(seller, f"{query}&sort={sort}") == expected(mine, query, sort)
    # a filter by the owner is answered like the list of somebody who sees much
    assert listed(seller, f"{query}&sort={sort}&owner_id={seller.id}") == expected(mine, query, sort)


@pytest.mark.parametrize("sort", ["name", "-custom.other_score", "-id"])
def test_the_few_that_pass_one_of_several_filters_are_found_first(org, rows, sql, statements, sort):
    """However many pass another one: nearly all have the grade, which no walk along the sort is to ask of each."""
    if sort == "-custom.other_score":
        org.admin.make("custom_fields", resource="accounts", key="other_score", kind="number", label="Another")
    query = "custom.grade=gold&custom.grade=rare&custom.score_gte=99"
    statements.clear()
    assert org.admin.get(f"/v1/accounts?{query}&sort={sort}").json()["data"] == []
    ((text, arguments),) = statements
    plan = [row[0] for row in sql(f"EXPLAIN (ANALYZE, TIMING OFF) {text}", *arguments)]
    walked = [int(line.split(":")[1]) for line in plan if "Rows Removed by Filter" in line]
    assert sum(walked) < ROWS / 10, "\n".join(plan)


@pytest.mark.parametrize(
    ("query", "is_gathered"),
    [
        ("owner_id={owner}&sort=name", True),
        ("industry=Mining&sort=-annual_revenue", True),
        ("owner_id={owner}&sort=-created_at", False),  # an index has them in this order
        ("country=DE&sort=name", False),  # without an index all would be read
        ("owner_id_is_null=true&sort=name", False),
    ],
)
def test_declared_fields_are_gathered_where_that_is_worth_it(org, rows, statements, query, is_gathered):
    """A small table does not show it in the plan."""
    statements.clear()
    assert org.admin.get(f"/v1/accounts?{query.format(owner=org.rep.id)}").json()["data"] == []
    assert [("hits_" in text) for text, _ in statements] == [is_gathered]


def test_what_an_index_finds_is_tried_before_what_is_read_whole(org, rows, statements):
    body = {"filter": {"and": [{"field": f"parent.{name}", "value": "x"} for name in ("city", "industry")]}}
    statements.clear()
    assert org.admin.post("/v1/accounts/search", json=body).json()["data"] == []
    ((text, _),) = statements
    assert text.index(".industry = $") < text.index(".city = $"), text


def searched(person, node, sort):
    """All pages of a search."""
    found, body = [], {"filter": node, "sort": sort.split(","), "limit": 200}
    while True:
        answer = person.post("/v1/accounts/search", json=body)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += [row["id"] for row in page["data"]]
        if not page["has_more"]:
            return found
        body["cursor"] = page["next_cursor"]


@pytest.mark.parametrize("sort", ["name", "-custom.score", pytest.param("id", marks=pytest.mark.broad)])
@pytest.mark.parametrize("which", ["Rare", "Common"])
def test_records_are_found_through_a_custom_reference(org, rows, seller, which, sort):
    """The few that are gathered back along it, and the many among which a list is walked."""
    (target,) = (row["id"] for row in rows if row["name"] == f"{which} partner")
    query = f"custom.partner={target}"
    mine = [row for row in rows if row["owner_id"] == seller.id]
    node = {"field": "custom.partner.name", "value": f"{which} partner"}
    assert searched(org.admin, node, sort) == expected(rows, query, sort)
    assert searched(seller, node, sort) == expected(mine, query, sort)
    both = {"and": [node, {"field": "custom.grade", "value": "gold"}]}
    asked = f"{query}&custom.grade=gold"
    assert searched(org.admin, both, sort) == expected(rows, asked, sort)
    assert (len(expected(rows, query, sort)) > FEW) == (which == "Common")


def test_fields_of_one_kind_do_not_stand_for_each_other(org, rows):
    """Statements are shared by fields of a kind, but not by a list that is filtered and sorted by one field alone."""
    org.admin.make("custom_fields", resource="accounts", key="other", kind="number", label="Other")
    made = [org.admin.make("accounts", name="x", custom={"score": 100 - n, "other": n})["id"] for n in range(3)]
    by_one = listed(org.admin, "custom.score_gte=50&sort=custom.score")
    by_two = listed(org.admin, "custom.score_gte=50&sort=custom.other")
    assert (by_one, by_two) == (made[::-1], made)
    assert listed(org.admin, "custom.score_gte=50&custom.other_lte=1&sort=custom.other") == made[:2]
    rows += [org.admin.get(f"/v1/accounts/{id_}").json() for id_ in made]
