"""Aggregates at their edges: empty groups, groups without values."""


def _aggregate(person, **body):
    answer = person.post("/v1/accounts/aggregate", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_a_single_group_without_values_is_a_group(org):
    org.rep.make("accounts", name="No figures")
    total = {"op": "sum", "field": "annual_revenue"}
    assert _aggregate(org.rep, group_by=["country"], measures=[total]) == [
        {"group": {"country": None}, "measures": [None]}
    ]


def test_nothing_gives_no_groups_and_a_total_of_none(org):
    nothing = {"field": "name", "value": "nothing"}
    count, total = {"op": "count"}, {"op": "sum", "field": "annual_revenue"}
    assert _aggregate(org.rep, group_by=["country"], measures=[total], filter=nothing) == []
    assert _aggregate(org.rep, measures=[count, total], filter=nothing) == [{"group": {}, "measures": [0, None]}]
