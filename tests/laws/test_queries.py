"""Filters, sorts, pages, counts and figures give what Python gives over the same rows."""

import itertools
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from crm_api.catalog import CATALOG
from crm_api.kernel.filter_values import OPERATORS
from crm_api.kernel.schema import fold
from tests.support.asking import BEHIND, code, each, fault
from tests.support.customs import (
    customs,
    filterable,
    flat,
    listed,
    references,
    sortable,
    value_of,
    vocabularies,
)
from tests.support.examples import SETTINGS, Examples
from tests.support.org import Org

PARSERS: dict[str, Any] = {
    "money": Decimal,
    "ratio": Decimal,
    "date": date.fromisoformat,
    "instant": datetime.fromisoformat,
}


def typed(kind: str, value: Any) -> Any:
    return None if value is None else PARSERS.get(kind, lambda same: same)(value)


def holds(resource, name: str, op: str, row: dict[str, Any], wanted: Any) -> bool:
    """One comparison, as the contract words it."""
    kind = filterable(resource)[name]
    if kind == "values":
        found, given = listed(resource, name, row), {fold(value) for value in wanted}
        return given <= found if op == "all" else bool(given & found)
    value = typed(kind, value_of(row, name))
    if op == "is_null":
        return (value is None) == wanted
    if op in ("in", "nin"):
        inside = value in [typed(kind, item) for item in wanted]
        return inside if op == "in" else not inside
    if op in ("contains", "starts_with"):
        change = fold if name in resource.keys else str.lower
        if value is None:
            return False
        return change(value).startswith(change(wanted)) if op == "starts_with" else change(wanted) in change(value)
    other = typed(kind, wanted)
    if op == "ne":
        return value != other
    if value is None:
        return False
    return {
        "eq": value == other,
        "gt": kind != "boolean" and value > other,
        "gte": kind != "boolean" and value >= other,
        "lt": kind != "boolean" and value < other,
        "lte": kind != "boolean" and value <= other,
    }[op]


def present(resource, name: str, rows: Iterable[dict[str, Any]]) -> list[Any]:
    """Up to three values that occur, ordinary and odd ones."""
    found: dict[Any, None] = {}
    for row in rows:
        value = value_of(row, name)
        if filterable(resource)[name] == "values":
            found.update(dict.fromkeys(sorted(listed(resource, name, row))))
        elif value is not None:
            found[value] = None
    values = list(found)
    return values[:2] + values[-1:] if len(values) > 2 else values


def pieces(text: str) -> list[str]:
    return [part for part in {text[:3], text[1:4], text[-4:], text.upper(), "%", "_"} if part.strip()]


def ids(rows: Iterable[dict[str, Any]]) -> list[str]:
    return sorted(row["id"] for row in rows)


@each("list")
def test_each_flat_filter_gives_what_python_gives(world, rows, resource):
    every = rows(resource)
    for parameter, (name, op, kind) in flat(resource).items():
        if op == "is_null":
            tries: list[Any] = [True, False]
        else:
            tries = present(resource, name, every)
            if op in ("contains", "starts_with"):
                tries = [part for value in tries[:2] for part in pieces(value)]
        for value in tries:
            sent = str(value).lower() if isinstance(value, bool) else value
            params = {parameter: sent, "limit": 200, "count": "exact"}
            page = world.admin.get(f"/v1/{resource.plural}", params=params)
            assert page.status_code == 200, (parameter, value, page.text)
            wanted = [value] if op == "any" else value
            expected = ids(row for row in every if holds(resource, name, op, row, wanted))
            found = page.json()["data"]
            if page.json()["has_more"]:
                found = world.admin.all(f"/v1/{resource.plural}", **{parameter: sent, "limit": 200})
            assert ids(found) == expected, value
            assert page.json()["count"] == {"value": len(expected), "relation": "eq"}
        if tries:
            short = world.admin.get(f"/v1/{resource.plural}", params={**params, "limit": 1}).json()
            assert short["count"] == page.json()["count"], "a count is not bounded by its page"
        if op in ("eq", "any") and kind != "boolean" and len(tries) > 1:
            found = world.admin.all(f"/v1/{resource.plural}", **{parameter: tries, "limit": 200})
            expected = ids(row for row in every if holds(resource, name, "any" if op == "any" else "in", row, tries))
            assert ids(found) == expected, parameter


@each("list")
def test_values_of_the_wrong_kind_are_refused_with_their_parameter(world, resource):
    for parameter, (name, _, kind) in flat(resource).items():
        if kind in ("text", "values") and name not in vocabularies(resource):
            continue
        for odd in ("nonsense", "", "1e400", "NaN", "' OR 1=1"):
            answer = world.admin.get(f"/v1/{resource.plural}", params={parameter: odd})
            assert code(answer) == (422, "invalid"), (parameter, odd)
            assert fault(answer)[0][0] == parameter


@each("search")
def test_each_operator_in_the_tree_gives_what_python_gives(world, rows, resource):
    every = rows(resource)
    for name, kind in filterable(resource).items():
        values = present(resource, name, every)
        for op in OPERATORS[kind]:
            if op == "is_null":
                tries: list[Any] = [True, False]
            elif op in ("in", "nin", "any", "all"):
                tries = [values[:1], values] if values else []
            elif op in ("contains", "starts_with"):
                tries = (
                    [] if name in vocabularies(resource) else [part for value in values[:1] for part in pieces(value)]
                )
            else:
                tries = values[:2]
            for value in tries:
                body = {"filter": {"field": name, "op": op, "value": value}, "limit": 200, "fields": ["id"]}
                found = world.admin.post(f"/v1/{resource.plural}/search", json=body)
                assert found.status_code == 200, (body, found.text)
                expected = ids(row for row in every if holds(resource, name, op, row, value))
                assert ids(found.json()["data"]) == expected, body


@each("search")
def test_trees_of_and_and_or_give_what_python_gives(world, rows, resource):
    every = rows(resource)
    leaves = [
        (name, "eq", value)
        for name, kind in resource.filterable.items()
        if kind != "values"
        for value in present(resource, name, every)[:1]
    ][:6]
    own = [
        (name, "eq", value)
        for name in customs(resource)
        if filterable(resource).get(name, "values") != "values"
        for value in present(resource, name, every)[:1]
    ]

    def leaf(item):
        return dict(zip(("field", "op", "value"), item, strict=True))

    triples = [*itertools.islice(itertools.permutations(leaves, 3), 0, 40, 7)]
    triples += [(one, leaves[i % len(leaves)], own[i - 1]) for i, one in enumerate(own)]
    for a, b, c in triples:
        tree = {"or": [{"and": [leaf(a), leaf(b)]}, {"and": [leaf(c), {"or": [leaf(a), leaf(b)]}]}]}
        found = world.admin.post(
            f"/v1/{resource.plural}/search", json={"filter": tree, "limit": 200, "fields": ["id"]}
        ).json()["data"]

        def match(row, a=a, b=b, c=c):
            one, two, three = (holds(resource, name, op, row, value) for name, op, value in (a, b, c))
            return (one and two) or (three and (one or two))

        assert ids(found) == ids(row for row in every if match(row)), tree


@each("search", where=CATALOG.to_one)
def test_a_filter_through_one_reference_gives_what_python_gives(world, rows, resource):
    for hop, (column, target) in references(resource).items():
        related = {row["id"]: row for row in rows(target)}
        own = {name: kind for name, kind in filterable(target).items() if name in customs(target)}
        for name, kind in [*list(target.filterable.items())[:6], *own.items()]:
            for value in present(target, name, related.values())[:2]:
                op, wanted = ("any", [value]) if kind == "values" else ("eq", value)
                body = {"filter": {"field": f"{hop}.{name}", "op": op, "value": wanted}, "limit": 200, "fields": ["id"]}
                found = world.admin.post(f"/v1/{resource.plural}/search", json=body)
                assert found.status_code == 200, (body, found.text)
                expected = ids(
                    row
                    for row in rows(resource)
                    if (to := value_of(row, column)) in related and holds(target, name, op, related[to], wanted)
                )
                assert ids(found.json()["data"]) == expected, body


def in_order(resource, rows, keys: list[tuple[str, bool]]) -> list[str]:
    """Ids as a sort must give them: nulls last, id as the tie-breaker in the direction of the last key."""
    keys = keys if "id" in [name for name, _ in keys] else [*keys, ("id", keys[-1][1])]
    found = list(rows)
    for name, descending in reversed(keys):
        kind, _ = sortable(resource)[name]
        folded = name in resource.keys

        def value(row, name=name, kind=kind, folded=folded):
            found = value_of(row, name)
            return fold(found) if folded and found is not None else typed(kind, found)

        known = sorted((row for row in found if value_of(row, name) is not None), key=value, reverse=descending)
        found = known + [row for row in found if value_of(row, name) is None]
    return [row["id"] for row in found]


def paged(person, path, limit, **params) -> list[str]:
    found, cursor = [], None
    while True:
        page = person.get(path, params={**params, "limit": limit, **({"cursor": cursor} if cursor else {})})
        assert page.status_code == 200, page.text
        body = page.json()
        assert len(body["data"]) <= limit
        assert body["has_more"] == (body["next_cursor"] is not None) == ("link" in page.headers)
        found += [row["id"] for row in body["data"]]
        cursor = body["next_cursor"]
        if cursor is None:
            return found


@pytest.mark.parametrize("direction", ["", "-"])
@each("list")
def test_each_sort_pages_completely_and_in_order(world, rows, resource, direction):
    every = rows(resource)
    nullable = [name for name, (_, may_be) in sortable(resource).items() if may_be and name not in customs(resource)]
    valued = [row for row in every if nullable and all(row[name] is not None for name in nullable)][:10]
    rest = [row for row in every if row not in valued]
    some = valued + rest[:: max(1, len(rest) // 30)][: 30 - len(valued)]
    chosen = [row["id"] for row in some]
    path = f"/v1/{resource.plural}"
    for name, (_, may_be_null) in sortable(resource).items():
        expected = in_order(resource, some, [(name, direction == "-")])
        if may_be_null:
            assert len(expected) == 30
            nulls = sum(value_of(row, name) is None for row in some)
            assert 0 < nulls < 30, "the example rows must have nulls and values"
        for limit in (1, 2, 3) if name in nullable else (4,) if may_be_null else (3,):
            assert paged(world.admin, path, limit, sort=direction + name, id=chosen) == expected, (name, limit)
    assert paged(world.admin, path, 4, id=chosen) == in_order(resource, some, [("id", True)])


@each("list", where=lambda item: len(item.sortable) > 2)
def test_sorts_by_several_keys_page_completely_and_in_order(world, rows, resource):
    some = rows(resource)[:30]
    chosen = [row["id"] for row in some]
    names = [name for name in resource.sortable if name != "id"]
    pairs = list(itertools.permutations(names, 2))[:6]
    triples = list(itertools.permutations(names, 3))[:4]
    own = [name for name in sortable(resource) if name in customs(resource)]
    pairs += [(name, other) for i, name in enumerate(own) for other in (own[i - 1], names[i % len(names)])]
    for n, keys in enumerate([*pairs, *triples]):
        signed = [(name, (n + i) % 2 == 0) for i, name in enumerate(keys)]
        text = ",".join(("-" if down else "") + name for name, down in signed)
        expected = in_order(resource, some, signed)
        assert paged(world.admin, f"/v1/{resource.plural}", 4, sort=text, id=chosen) == expected, text


@each("list", "create")
def test_pages_stay_complete_while_rows_are_inserted(lab, resource):
    names = list(sortable(resource))
    for name, direction in itertools.product(names, ("", "-")):
        if resource.plural in SETTINGS and name != "id":
            continue
        old = {row["id"] for row in lab.admin.all(f"/v1/{resource.plural}", limit=200)}
        while len(old) < 3:
            old.add(lab.examples.make(resource, len(old))["id"])
        found, cursor = [], None
        for n in itertools.count():
            params = {"sort": direction + name, "limit": 2 + len(old) // 4, **({"cursor": cursor} if cursor else {})}
            page = lab.admin.get(f"/v1/{resource.plural}", params=params).json()
            found += [row["id"] for row in page["data"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
            if n < 3 and resource.plural not in SETTINGS:
                lab.examples.make(resource, n, bare=n % 2 == 0)
        assert len(found) == len(set(found)), name
        assert old <= set(found), name


@each("list")
def test_limits_outside_the_bounds_are_refused(world, resource):
    for limit in ("0", "201", str(10**9), "-1", "x", "", "1.5", "٣"):
        answer = world.admin.get(f"/v1/{resource.plural}", params={"limit": limit})
        assert code(answer) == (422, "invalid"), limit
        assert fault(answer) == [("limit", "out_of_range")]
        if "search" in resource.operations and limit.lstrip("-").isascii() and limit.lstrip("-").isdigit():
            assert world.admin.post(f"/v1/{resource.plural}/search", json={"limit": int(limit)}).status_code == 422


@each("list")
def test_a_cursor_is_good_for_one_query_of_one_caller(world, rows, resource):
    path, chosen = f"/v1/{resource.plural}", [row["id"] for row in rows(resource)[:3]]
    page = world.admin.get(path, params={"limit": 1, "id": chosen}).json()
    cursor = page["next_cursor"]
    assert cursor
    reader = world.second_admin
    flipped = cursor[:5] + ("A" if cursor[5] != "A" else "B") + cursor[6:]
    for person, params in (
        (world.admin, {"id": chosen, "cursor": flipped}),
        (world.admin, {"id": chosen, "cursor": cursor[:-2]}),
        (world.admin, {"id": chosen, "cursor": "x"}),
        (world.admin, {"id": chosen, "cursor": "é"}),
        (world.admin, {"id": chosen, "cursor": ""}),
        (world.admin, {"id": chosen[:2], "cursor": cursor}),
        (world.admin, {"cursor": cursor}),
        (world.admin, {"id": chosen, "cursor": cursor, "sort": "id"}),
        (reader, {"id": chosen, "cursor": cursor}),
    ):
        assert code(person.get(path, params={"limit": 1, **params})) == (400, "invalid_cursor"), params
    assert world.admin.get(path, params={"limit": 2, "id": chosen, "cursor": cursor}).status_code == 200


@each("aggregate")
def test_figures_are_what_python_gives(world, rows, resource):
    every = rows(resource)
    groupable = [name for name, kind in filterable(resource).items() if kind != "values"]
    measured = [name for name, kind in filterable(resource).items() if kind in ("money", "ratio", "integer")]
    for group in [None, *groupable]:
        expected: dict[Any, list[dict[str, Any]]] = {}
        for row in every:
            expected.setdefault(value_of(row, group) if group else None, []).append(row)
        measures = [{"op": "count"}, *({"op": op, "field": name} for name in measured for op in ("sum", "min", "max"))]
        for first in range(0, len(measures), 10):  # at most ten are taken at once
            check_figures(world, resource, group, measures[first : first + 10], expected)
        for name in measured:
            check_figures(world, resource, group, [{"op": "sum", "field": name}], expected)
            for key in list(expected)[:3]:  # one group alone, also where its figure is null
                if group and key is not None and filterable(resource)[group] != "instant":
                    tree = {"field": group, "op": "eq", "value": key}
                    check_figures(world, resource, group, [{"op": "max", "field": name}], {key: expected[key]}, tree)


def check_figures(world, resource, group, measures, expected, tree=None):
    body = {"group_by": [group] if group else [], "measures": measures, **({"filter": tree} if tree else {})}
    answer = world.admin.post(f"/v1/{resource.plural}/aggregate", json=body)
    assert answer.status_code == 200, (body, answer.text)
    found = {(item["group"][group] if group else None): item["measures"] for item in answer.json()["data"]}
    assert set(found) == set(expected), body
    for key, rows in expected.items():
        for measure, figure in zip(measures, found[key], strict=True):
            if measure["op"] == "count":
                assert figure == len(rows)
                continue
            name = measure["field"]
            found_ = [value_of(row, name) for row in rows]
            values = [typed(filterable(resource)[name], value) for value in found_ if value is not None]
            wanted = {"sum": sum, "min": min, "max": max}[measure["op"]](values) if values else None
            assert (None if figure is None else type(wanted)(figure)) == wanted, (body, key)


@each("search")
def test_sparse_rows_have_what_was_asked_for(world, resource):
    by_id = {row["id"]: row for row in world.admin.all(f"/v1/{resource.plural}", limit=200)}  # as of now: jobs move on
    for name in resource.output.model_fields.keys() - BEHIND:
        found = world.admin.post(f"/v1/{resource.plural}/search", json={"fields": [name], "limit": 3}).json()["data"]
        for row in found:
            assert set(row) == {"id", "object", "version", name}
            assert row[name] == by_id[row["id"]][name]


def test_the_exact_count_of_an_empty_tenant_is_nought(server):
    org = Org.create(server)
    assert Examples(org.admin) is not None
    page = org.admin.get("/v1/accounts", params={"count": "exact"}).json()
    assert page == {"data": [], "has_more": False, "next_cursor": None, "count": {"value": 0, "relation": "eq"}}
