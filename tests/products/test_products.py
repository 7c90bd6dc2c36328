"""Products, units and categories, as the people of a tenant use them."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.examples import attach
from tests.support.problems import problem


def faults(answer, status: int = 422) -> list[tuple[str, str]]:
    return [(fault["pointer"], fault["code"]) for fault in problem(answer, status)["errors"]]


def test_a_product_is_kept_as_it_was_sent(firm, units):
    category = firm.manager.make("product_categories", name="Screws", code="screws")
    sent = {
        "sku": "M8-40", "name": "Hexagon screw M8x40", "kind": "goods", "category_id": category["id"],
        "unit_id": units.pcs, "conversions": [{"unit_id": units.box.upper(), "factor": "0012.500"}], "tracking": "lot",
        "cost": "0.0312", "list_price": "0.10", "currency": "EUR", "tax_class": "reduced", "barcode": "4006381333931",
        "specification": "DIN 933 A2", "description": "Stainless.", "weight": "0.0195",
        "attributes": {"length": "40 mm"}, "tags": ["steel"],
    }  # fmt: skip
    made = firm.manager.make("products", **sent)
    expected = {**sent, "conversions": [{"unit_id": units.box, "factor": "12.5"}], "status": "active"}
    assert {name: made[name] for name in expected} == expected
    assert (made["variant_of_id"], made["replaced_by_id"]) == (None, None)
    for person in (firm.rep, firm.reader, firm.outsider):
        assert person.get(f"/v1/products/{made['id']}").json() == made, "everyone reads them"
    listed = firm.rep.all("/v1/products", sku="M8-40", weight_lt="0.02", list_price_gte="0.1", tags="steel")
    assert [row["id"] for row in listed] == [made["id"]]
    assert [row["id"] for row in firm.rep.all("/v1/products", q="din 933")] == [made["id"]]
    expanded = firm.rep.get(f"/v1/products/{made['id']}", params={"expand": "category,unit"}).json()
    assert (expanded["category"]["code"], expanded["unit"]["code"]) == ("screws", "pcs")


def test_who_sells_does_not_change_products(firm, units, product):
    made = product()
    path = f"/v1/products/{made['id']}"
    body = {"sku": "x", "name": "x", "unit_id": units.pcs}
    for person in (firm.rep, firm.reader):
        problem(person.post("/v1/products", json=body), 403)
        problem(person.patch(path, json={"name": "x"}), 403)
        problem(person.post(f"{path}/retire"), 403)
        problem(person.delete(path), 403)
        problem(person.post("/v1/units", json={"code": "x", "name": "x"}), 403)
        problem(person.post("/v1/product_categories", json={"name": "x"}), 403)
    assert firm.other_manager.patch(path, json={"name": "Bolt"}).status_code == 200, "managers share one range"


def test_a_product_is_retired_and_comes_back(firm, product):
    path = f"/v1/products/{product()['id']}"
    assert firm.manager.get(f"{path}/transitions").json()["data"][0]["action"] == "retire"
    assert firm.manager.post(f"{path}/retire").json()["status"] == "retired"
    problem(firm.manager.post(f"{path}/retire"), 409, code="transition_refused")
    assert firm.manager.post(f"{path}/reactivate").json()["status"] == "active"
    problem(firm.manager.patch(path, json={"status": "retired"}), 422)


@pytest.mark.parametrize("field", ["sku", "barcode"])
def test_what_is_printed_on_it_is_of_one_product(firm, product, units, field):
    text = f"one {uuid.uuid4()}"
    first = product(**{field: text})
    body = {"sku": str(uuid.uuid4()), "name": "Other", "unit_id": units.pcs, field: text}
    assert faults(firm.manager.post("/v1/products", json=body), 409) == [(f"/{field}", "duplicate")]
    assert firm.manager.delete(f"/v1/products/{first['id']}").status_code == 204
    assert firm.manager.post("/v1/products", json=body).status_code == 201, "free again"
    problem(firm.manager.post(f"/v1/products/{first['id']}/restore"), 409)


UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"unit_id": None}, None),
        ({"unit_id": UNKNOWN}, ("/unit_id", "reference_not_found")),
        ({"category_id": UNKNOWN}, ("/category_id", "reference_not_found")),
        ({"variant_of_id": UNKNOWN}, ("/variant_of_id", "reference_not_found")),
        ({"replaced_by_id": UNKNOWN}, ("/replaced_by_id", "reference_not_found")),
        ({"cost": "1"}, ("/currency", "required")),
        ({"list_price": "0"}, ("/currency", "required")),
        ({"cost": "1.00001", "currency": "EUR"}, ("/cost", "invalid_money")),
        ({"weight": "-1"}, ("/weight", "invalid_quantity")),
        ({"weight": 1}, ("/weight", "invalid_quantity")),
        ({"weight": "0.0000001"}, ("/weight", "invalid_quantity")),
        ({"kind": "thing"}, None),
        ({"sku": ""}, None),
        ({"sku": "x" * 65}, None),
        ({"sku": "a\x00"}, None),
        ({"attributes": {f"a{n}": "x" for n in range(21)}}, None),
        ({"attributes": {"a": {"b": "c"}}}, None),
        ({"attributes": {"": "x"}}, None),
        ({"attributes": {"a\x00": "x"}}, None),
        ({"attributes": {"a": "\x00"}}, None),
    ],
    ids=str,
)
def test_what_no_product_can_be_is_refused(firm, units, values, expected):
    body = {"sku": f"bad {uuid.uuid4()}", "name": "Bad", "unit_id": units.pcs, **values}
    found = faults(firm.manager.post("/v1/products", json=body))
    assert found
    assert expected is None or found == [expected]


@pytest.mark.parametrize("factor", ["0", "0.000000", "-1", "1e3", "1.0000001", "1234567890123", "", 12, None])
def test_a_factor_is_a_positive_decimal(firm, units, factor):
    body = {"sku": "f", "name": "F", "unit_id": units.pcs, "conversions": [{"unit_id": units.box, "factor": factor}]}
    ((pointer, _),) = faults(firm.manager.post("/v1/products", json=body))
    assert pointer == "/conversions/0/factor"


def test_conversions_are_from_other_units_each_told_once(firm, units, product):
    made = product()
    path = f"/v1/products/{made['id']}"
    firm.admin.make("sources", code="wms", name="WMS")
    firm.admin.post(f"/v1/units/{units.box}/link", json={"source": "wms", "external_id": "BX"})

    def change(*given: str, **values):
        return firm.manager.patch(
            path, json={"conversions": [{"unit_id": id_, "factor": "2"} for id_ in given], **values}
        )

    refused = [
        (change(units.box, UNKNOWN), ("/conversions/1/unit_id", "reference_not_found")),
        (change("ext:wms:BX", "ext:wms:none"), ("/conversions/1/unit_id", "reference_not_found")),
        (change(units.pcs), ("/conversions/0/unit_id", "base_unit")),
        (change(units.kg, units.box, "ext:wms:BX"), ("/conversions/2/unit_id", "repeated")),
        (change(units.box, unit_id=units.box), ("/conversions/0/unit_id", "base_unit")),
    ]
    assert [faults(answer) for answer, _ in refused] == [[expected] for _, expected in refused]
    assert change("ext:wms:BX").json()["conversions"] == [{"unit_id": units.box, "factor": "2"}]
    assert faults(firm.manager.patch(path, json={"unit_id": units.box})) == [("/unit_id", "base_unit")]
    assert firm.manager.patch(path, json={"unit_id": units.kg}).status_code == 200
    assert change(*([units.pcs] * 21)).status_code == 422, "at most twenty"


def test_a_unit_stays_while_products_use_it(firm, product):
    counted, listed = (firm.manager.make("units", code=code, name=code)["id"] for code in ("roll", "pallet"))
    made = product(unit_id=counted, conversions=[{"unit_id": listed, "factor": "40"}])
    for unit in (counted, listed):
        problem(firm.manager.delete(f"/v1/units/{unit}"), 409, code="conflict")
    assert faults(firm.manager.post("/v1/units", json={"code": "roll", "name": "x"}), 409) == [("/code", "duplicate")]
    assert firm.manager.delete(f"/v1/products/{made['id']}").status_code == 204
    for unit in (counted, listed):
        assert firm.manager.delete(f"/v1/units/{unit}").status_code == 204


@pytest.mark.parametrize("decimals", [-1, 7, 1.5, "2", None])
def test_a_unit_has_no_to_six_decimals(firm, decimals):
    assert faults(firm.manager.post("/v1/units", json={"code": "u", "name": "U", "decimals": decimals}))[0][0] == (
        "/decimals"
    )


def test_categories_are_a_tree(firm):
    top = firm.manager.make("product_categories", name="Food")
    below = firm.manager.make("product_categories", name="Fruit", parent_id=top["id"])
    path = f"/v1/product_categories/{top['id']}"
    assert faults(firm.manager.patch(path, json={"parent_id": below["id"]}), 409) == [("/parent_id", "cycle")]
    found = firm.rep.get(path, params={"expand": "children"}).json()
    assert [child["name"] for child in found["children"]["data"]] == ["Fruit"]


def test_the_kind_is_set_once(firm, product):
    path = f"/v1/products/{product(kind='service')['id']}"
    assert faults(firm.manager.patch(path, json={"kind": "goods"})) == [("/kind", "read_only_field")]


def test_a_price_keeps_its_currency(firm, product):
    path = f"/v1/products/{product(cost='5', currency='EUR')['id']}"
    assert faults(firm.manager.patch(path, json={"currency": None})) == [("/currency", "required")]
    assert firm.manager.patch(path, json={"currency": "USD"}).status_code == 200
    assert firm.manager.patch(path, json={"currency": None, "cost": None}).status_code == 200
    assert faults(firm.manager.patch(path, json={"list_price": "1"})) == [("/currency", "required")]
    assert firm.manager.patch(path, json={"list_price": "1", "currency": "EUR"}).status_code == 200


def test_variants_have_one_level(firm, product):
    shirt, other = product("Shirt"), product("Trousers")
    red = product("Shirt", variant_of_id=shirt["id"], attributes={"colour": "red"})
    path = f"/v1/products/{shirt['id']}"
    of = "/variant_of_id"
    assert faults(firm.manager.patch(path, json={"variant_of_id": shirt["id"].upper()})) == [(of, "itself")]
    assert faults(firm.manager.patch(path, json={"variant_of_id": other["id"]})) == [(of, "has_variants")]
    body = {"sku": "v", "name": "V", "unit_id": shirt["unit_id"], "variant_of_id": red["id"]}
    assert faults(firm.manager.post("/v1/products", json=body)) == [(of, "variant_of_variant")]
    found = firm.rep.get(path, params={"expand": "variants"}).json()
    assert [row["attributes"] for row in found["variants"]["data"]] == [{"colour": "red"}]
    assert firm.manager.delete(f"/v1/products/{red['id']}").status_code == 204
    assert firm.manager.patch(path, json={"variant_of_id": other["id"]}).status_code == 200
    assert faults(firm.manager.post(f"/v1/products/{red['id']}/restore")) == [(of, "variant_of_variant")]


def test_two_that_become_variants_at_once_do_not_become_a_chain(firm, product):
    a, b, c = product("A"), product("B"), product("C")
    steps = [(a, b), (b, c)]
    with ThreadPoolExecutor(2) as both:
        done = both.map(
            lambda pair: firm.manager.patch(f"/v1/products/{pair[0]['id']}", json={"variant_of_id": pair[1]["id"]}),
            steps,
        )
    assert sorted(answer.status_code for answer in done) == [200, 422]


def test_what_replaces_a_product_is_not_replaced_by_it(firm, product):
    old, new = product("Old"), product("New")
    assert firm.manager.patch(f"/v1/products/{old['id']}", json={"replaced_by_id": new["id"]}).status_code == 200
    answer = firm.manager.patch(f"/v1/products/{new['id']}", json={"replaced_by_id": old["id"]})
    assert faults(answer, 409) == [("/replaced_by_id", "cycle")]


def test_images_are_files_of_a_product(firm, product):
    made = product()
    png = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00"
    file = attach(firm.manager, "product", made["id"], "front.png", png)
    assert file["content_type"] == "image/png"
    assert firm.rep.get(f"/v1/files/{file['id']}/content").content == png
    found = firm.rep.all("/v1/files", object_type="product", object_id=made["id"])
    assert [row["name"] for row in found] == ["front.png"]


def test_products_that_may_be_the_same_are_found_and_merged(firm, units, product):
    kept = product("Ball bearing 6204", sku="BRG-6204", specification="20 x 47 x 14 mm")
    other = product(
        "Ballbearing 6204", sku="brg-6204", cost="2", currency="EUR", tags=["skf"], specification="20 X 47 x 14 MM"
    )
    apart = product("Deep freezer")
    bundle = product("Wheel set", kind="bundle")
    part = firm.manager.make("product_components", product_id=bundle["id"], component_id=other["id"], quantity="2")
    (found,) = firm.rep.get(f"/v1/products/{kept['id']}/duplicates").json()["data"]
    assert (found["record"]["id"], found["rules"]) == (other["id"], ["sku", "name", "specification"])
    draft = {"name": "Deep Freezers", "unit_id": units.pcs, "sku": "new"}
    (found,) = firm.rep.post("/v1/products/duplicates", json=draft).json()["data"]
    assert (found["record"]["id"], found["rules"]) == (apart["id"], ["name"])
    path = f"/v1/products/{kept['id']}"
    problem(firm.rep.post(f"{path}/merge", json={"other_id": other["id"]}), 403)
    merged = firm.manager.post(f"{path}/merge", json={"other_id": other["id"]})
    assert merged.status_code == 200, merged.text
    survivor = firm.manager.get(path).json()
    assert [survivor[name] for name in ("sku", "cost", "currency", "tags")] == ["BRG-6204", "2.00", "EUR", ["skf"]]
    assert firm.rep.get(f"/v1/product_components/{part['id']}").json()["component_id"] == kept["id"]
    assert firm.rep.get(f"/v1/products/{other['id']}").status_code == 308
    problem(firm.manager.post(f"/v1/products/{other['id']}/restore"), 409)
    assert firm.manager.post(f"{path}/unmerge", json={"other_id": other["id"]}).status_code == 200
    assert firm.rep.get(f"/v1/products/{other['id']}").json()["cost"] == "2.00"
    assert firm.rep.get(f"/v1/product_components/{part['id']}").json()["component_id"] == other["id"]


@pytest.mark.parametrize(
    "values",
    [{"kind": "service"}, {"unit_id": "kg"}, {"list_price": "1", "currency": "USD"}],
    ids=lambda item: next(iter(item)),
)
def test_what_is_counted_or_priced_otherwise_is_not_merged(firm, units, product, values):
    if "unit_id" in values:
        values = {"unit_id": getattr(units, values["unit_id"])}
    kept, other = product("Oil", list_price="2", currency="EUR"), product("Oil", **values)
    answer = firm.manager.post(f"/v1/products/{kept['id']}/merge", json={"other_id": other["id"]})
    assert faults(answer, 409) == [("/other_id", "different")]
    assert firm.rep.get(f"/v1/products/{other['id']}").json() == other


def test_sisters_of_one_product_are_not_told_as_the_same(firm, product):
    shirt = product("Polo")
    colours = [
        product("Polo", variant_of_id=shirt["id"], attributes={"colour": colour})
        for colour in ("burgundy", "ultramarine")
    ]
    found = firm.rep.get(f"/v1/products/{colours[0]['id']}/duplicates").json()["data"]
    assert colours[1]["id"] not in [item["record"]["id"] for item in found]
