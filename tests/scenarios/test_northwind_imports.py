"""Northwind Traders moves in by imports of its own files: people, customers, suppliers and whom to ask for there."""

import csv
from decimal import Decimal

import pytest

from tests.scenarios.northwind import COUNTRIES, FOLDER, Northwind
from tests.support.imports import begin, done, rows, run, table
from tests.support.jobs import working
from tests.support.org import Org

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the Northwind files are not in {FOLDER}")
NULLS = {"nulls": ["NULL"]}
ADDRESS = [
    {"column": "address", "field": "addresses.0.line1"},
    {"column": "city", "field": "addresses.0.city"},
    {"column": "region", "field": "addresses.0.region"},
    {"column": "postalCode", "field": "addresses.0.postal_code"},
    {"column": "country", "field": "addresses.0.country"},
]


@pytest.fixture(scope="module")
def admin(server):
    with working(server):
        admin = Org.create(server).admin
        admin.make("sources", code="northwind", name="Northwind")
        yield admin


@pytest.fixture(scope="module")
def people(admin):
    """The nine employees, each under who they report to, whatever the order of the rows."""
    with (FOLDER / "employees.csv").open(encoding="utf-8", newline="") as file:
        lines = [{**line, "mail": f"{line['firstName']}@northwind.example"} for line in csv.DictReader(file)]
    mapping = [
        {"column": "employeeID", "field": "external_ids.northwind"},
        {"column": "lastName", "field": "name"},
        {"column": "title", "field": "title"},
        {"column": "mail", "field": "email"},
        {"column": "reportsTo", "field": "manager_id", "by": "external_id", "source": "northwind"},
    ]
    made = done(admin, table(lines), resource="users", mapping=mapping, **NULLS)
    assert (made["counts"]["created"], made["counts"]["rows"]) == (9, 9), rows(admin, made, state="failed")
    users = [user for user in admin.all("/v1/users", limit=200) if user["external_ids"]]
    return {int(user["external_ids"]["northwind"]): user for user in users}


def test_people_are_under_their_managers(people):
    files = Northwind()
    ids = {user["id"]: number for number, user in people.items()}
    assert {n: ids.get(user["manager_id"]) for n, user in people.items()} == {
        n: employee.reports_to for n, employee in files.employees.items()
    }


def test_customers_come_as_they_are_and_those_with_a_fault_are_named(admin, people):
    files = Northwind()
    mapping = [
        {"column": "customerID", "field": "external_ids.northwind"},
        {"column": "companyName", "field": "name"},
        *ADDRESS,
    ]
    body = {"resource": "accounts", "mapping": mapping, "defaults": {"type": "customer"}, **NULLS}
    made = run(admin, begin(admin, (FOLDER / "customers.csv").read_bytes(), **body), "validate")
    wrong = rows(admin, made, state="invalid")
    assert len(wrong) == made["counts"]["invalid"] == 24, "their streets have commas that the file does not quote"
    assert {problem["code"] for row in wrong for problem in row["problems"]} == {"too_many_cells"}
    run(admin, made, "apply")
    lines = [
        {
            "customerID": customer.code,
            "companyName": customer.company,
            "address": customer.street,
            "city": customer.city,
            "region": customer.region,
            "postalCode": customer.postal_code,
            "country": customer.country,
            "owner": files.owners[customer.code],
        }
        for customer in files.customers.values()
    ]
    match_on = [{"by": "external_id", "source": "northwind"}]
    owner = {"column": "owner", "field": "owner_id", "by": "external_id", "source": "northwind"}
    made = done(admin, table(lines), **{**body, "mapping": [*mapping, owner]}, match_on=match_on, mode="upsert")
    assert (made["counts"]["created"], made["counts"]["updated"]) == (24, 67)
    accounts = {account["external_ids"]["northwind"]: account for account in admin.all("/v1/accounts", limit=200)}
    assert accounts.keys() == files.customers.keys()
    for code, customer in files.customers.items():
        found = accounts[code]
        assert (found["name"], found["city"], found["country"]) == (customer.company, customer.city, customer.country)
        assert found["owner_id"] == people[files.owners[code]]["id"]

    lines = [{"code": c.code, "contact": c.contact, "title": c.contact_title} for c in files.customers.values()]
    mapping = [
        {"column": "contact", "field": "first_name", "take": "first_word"},
        {"column": "contact", "field": "last_name", "take": "other_words"},
        {"column": "title", "field": "title"},
        {"column": "code", "field": "account_id", "by": "external_id", "source": "northwind"},
    ]
    made = done(admin, table(lines), resource="contacts", mapping=mapping)
    assert made["counts"]["created"] == 91
    contacts = {contact["account_id"]: contact for contact in admin.all("/v1/contacts", limit=200)}
    for code, customer in files.customers.items():
        found = contacts[accounts[code]["id"]]
        assert f"{found['first_name']} {found['last_name']}" == customer.contact
    back = run(admin, made, "revert")
    assert (back["counts"]["reverted"], admin.all("/v1/contacts")) == (91, [])


def test_suppliers_come_too(admin):
    with (FOLDER / "suppliers.csv").open(encoding="utf-8", newline="") as file:
        expected = {line[0]: line for line in csv.reader(file) if len(line) == 12 and line[0] != "supplierID"}
    mapping = [
        {"column": "supplierID", "field": "external_ids.northwind"},
        {"column": "companyName", "field": "name"},
        {"column": "phone", "field": "description"},
        *ADDRESS,
    ]
    body = {"resource": "accounts", "mapping": mapping, "defaults": {"type": "supplier"}, **NULLS}
    made = done(admin, (FOLDER / "suppliers.csv").read_bytes(), **body)
    assert (made["counts"]["rows"], made["counts"]["created"]) == (29, len(expected))
    assert made["counts"]["invalid"] == 9, "a comma that is not quoted"
    found = {a["external_ids"]["northwind"]: a for a in admin.all("/v1/accounts", type="supplier", limit=200)}
    assert found.keys() == expected.keys()
    more = {"Australia": "AU", "Netherlands": "NL", "Japan": "JP", "Singapore": "SG"}
    for number, line in expected.items():
        assert (found[number]["name"], found[number]["city"]) == (line[1], line[5])
        assert found[number]["country"] == (COUNTRIES | more)[line[8]]


def test_products_come_in_their_categories_with_their_prices(admin):
    with (FOLDER / "categories.csv").open(encoding="utf-8", newline="") as file:
        kinds = [{name: line[name] for name in ("categoryID", "categoryName")} for line in csv.DictReader(file)]
    with (FOLDER / "products.csv").open(encoding="utf-8", newline="") as file:
        goods = list(csv.DictReader(file))
    mapping = [
        {"column": "categoryID", "field": "external_ids.northwind"},
        {"column": "categoryName", "field": "name"},
    ]
    made = done(admin, table(kinds), resource="product_categories", mapping=mapping)
    assert made["counts"]["created"] == len(kinds), rows(admin, made, state="failed")
    unit = admin.make("units", code="pcs", name="Piece")
    mapping = [
        {"column": "productID", "field": "external_ids.northwind"},
        {"column": "sku", "field": "sku"},
        {"column": "productName", "field": "name"},
        {"column": "categoryID", "field": "category_id", "by": "external_id", "source": "northwind"},
        {"column": "quantityPerUnit", "field": "specification"},
        {"column": "unitPrice", "field": "list_price"},
    ]
    lines = [{**line, "sku": f"NW-{line['productID']}"} for line in goods]
    settings = {"mapping": mapping, "defaults": {"unit_id": unit["id"], "currency": "USD"}}
    made = done(admin, table(lines), resource="products", **settings)
    assert made["counts"]["created"] == len(goods) == 77, rows(admin, made, state="failed")
    gone = [line["productID"] for line in goods if line["discontinued"] == "1"]
    verbs = [{"operation": "retire_product", "id": f"ext:northwind:{number}"} for number in gone]
    assert admin.post("/v1/batch", json={"operations": verbs}).status_code == 200

    asked = {"group_by": ["category_id"], "measures": [{"op": "count"}, {"op": "sum", "field": "list_price"}]}
    found = admin.post("/v1/products/aggregate", json={**asked, "filter": {"field": "status", "value": "active"}})
    assert found.status_code == 200, found.text
    names = {item["id"]: item["external_ids"]["northwind"] for item in admin.all("/v1/product_categories")}
    sold: dict[str, list[Decimal]] = {}
    for line in goods:
        if line["discontinued"] == "0":
            sold.setdefault(line["categoryID"], []).append(Decimal(line["unitPrice"]))
    told = {}
    for row in found.json()["data"]:
        count, price = row["measures"]
        told[names[row["group"]["category_id"]]] = (count, Decimal(price))
    assert told == {kind: (len(prices), sum(prices)) for kind, prices in sold.items()}
