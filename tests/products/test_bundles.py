"""What bundles consist of."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.problems import problem


def put(firm, bundle: dict, component: dict, **values):
    body = {"product_id": bundle["id"], "component_id": component["id"], "quantity": "1", **values}
    return firm.manager.post("/v1/product_components", json=body)


def test_a_bundle_lists_its_parts(firm, product):
    kit, drill, bits = product("Kit", kind="bundle"), product("Drill"), product("Bits")
    assert put(firm, kit, bits, quantity="0.5", position=2).status_code == 201
    assert put(firm, kit, drill, position=1).status_code == 201
    for path in (f"/v1/products/{kit['id']}/components", f"/v1/product_components?product_id={kit['id']}"):
        found = firm.rep.get(path, params={"sort": "position", "expand": "component"}).json()["data"]
        assert [(row["component"]["name"], row["quantity"]) for row in found] == [("Drill", "1"), ("Bits", "0.5")]
    shown = firm.rep.get(f"/v1/products/{kit['id']}", params={"expand": "components"}).json()
    assert [row["quantity"] for row in shown["components"]["data"]] == ["0.5", "1"]
    assert firm.admin.post("/v1/sources", json={"code": "plm", "name": "PLM"}).status_code == 201
    linked = {"source": "plm", "external_id": "K1"}
    assert firm.admin.post(f"/v1/products/{kit['id']}/link", json=linked).status_code == 200
    assert len(firm.rep.get("/v1/products/ext:plm:K1/components").json()["data"]) == 2
    problem(firm.rep.patch(f"/v1/product_components/{found[0]['id']}", json={"quantity": "9"}), 403)
    problem(firm.rep.post("/v1/product_components", json={"product_id": kit["id"]}), 403)


def test_only_bundles_have_parts(firm, product):
    screw, nut = product("Screw"), product("Nut")
    found = problem(put(firm, screw, nut), 422)
    assert [(fault["pointer"], fault["code"]) for fault in found["errors"]] == [("/product_id", "not_a_bundle")]


@pytest.mark.parametrize("quantity", ["0", "0.000", "-1", "1.0000001", "x", 1, None, "1234567890123"])
def test_the_quantity_is_positive(firm, product, quantity):
    found = problem(put(firm, product(kind="bundle"), product(), quantity=quantity), 422)
    assert found["errors"][0]["pointer"] == "/quantity"


def test_a_part_is_listed_once(firm, product):
    kit, part = product(kind="bundle"), product()
    made = put(firm, kit, part).json()
    assert problem(put(firm, kit, part), 409)["errors"][0]["code"] == "duplicate"
    assert firm.manager.patch(f"/v1/product_components/{made['id']}", json={"quantity": "3"}).json()["version"] == 2
    assert firm.manager.delete(f"/v1/product_components/{made['id']}").status_code == 204
    assert put(firm, kit, part).status_code == 201


def test_a_bundle_is_in_no_part_of_itself(firm, product):
    a, b, c = (product(name, kind="bundle") for name in "ABC")
    problem(put(firm, a, a), 409, code="cycle")
    last = put(firm, b, c).json()
    assert put(firm, a, b).status_code == 201
    assert problem(put(firm, c, a), 409, code="cycle")["errors"][0]["pointer"] == "/component_id"
    problem(
        firm.manager.patch(f"/v1/product_components/{last['id']}", json={"component_id": a["id"]}), 409, code="cycle"
    )
    assert firm.manager.delete(f"/v1/product_components/{last['id']}").status_code == 204
    assert put(firm, c, a).status_code == 201
    problem(firm.manager.post(f"/v1/product_components/{last['id']}/restore"), 409, code="cycle")


def test_two_at_once_do_not_close_a_circle(firm, product):
    a, b = product("A", kind="bundle"), product("B", kind="bundle")
    with ThreadPoolExecutor(2) as both:
        done = list(both.map(lambda pair: put(firm, *pair), [(a, b), (b, a)]))
    assert sorted(answer.status_code for answer in done) == [201, 409]


def test_a_bundle_that_would_be_in_itself_by_a_merge_is_not_merged(firm, product):
    a, b = product("Merged A", kind="bundle"), product("Merged B", kind="bundle")
    assert put(firm, a, b).status_code == 201
    problem(firm.manager.post(f"/v1/products/{a['id']}/merge", json={"other_id": b["id"]}), 409, code="cycle")
    assert firm.manager.get(f"/v1/products/{b['id']}").status_code == 200


PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(PAIRS)
def test_whatever_is_put_into_what_there_is_no_circle(firm, product, pairs):
    """What is taken is what keeps the graph free of circles, and all of that."""
    bundles = [product(f"Bundle {n}", kind="bundle") for n in range(5)]
    inside: dict[int, set[int]] = {n: set() for n in range(5)}

    def reaches(start: int, end: int) -> bool:
        return start == end or any(reaches(n, end) for n in inside[start])

    for outer, inner in pairs:
        status = 409 if inner in inside[outer] or reaches(inner, outer) else 201
        assert put(firm, bundles[outer], bundles[inner]).status_code == status
        if status == 201:
            inside[outer].add(inner)
