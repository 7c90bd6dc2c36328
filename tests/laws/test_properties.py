"""Small functions over generated values; trees and policies over random organisations."""

import os
import random
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from crm_api.catalog import CATALOG
from crm_api.kernel.filter_values import OPERATORS, _decimal
from crm_api.kernel.paging import Key, decode, encode
from crm_api.kernel.predicates import like
from crm_api.kernel.problems import Problem
from crm_api.kernel.record import MoneyAmount, Ratio
from crm_api.kernel.schema import Money, PositiveQuantity, Quantity, Wire, fold, money_text, ratio_text
from tests.laws.test_row_rules import assume, check_everywhere, read_oracle
from tests.support.examples import Examples
from tests.support.org import Org

SECRETS = (b"s" * 32, b"t" * 32)
MONEY: TypeAdapter[Decimal] = TypeAdapter(Money)
MOST = 10**14 * 10_000 - 1
quick = settings(max_examples=100, deadline=None, derandomize=True)


@quick
@given(st.integers(-MOST, MOST))
def test_amounts_survive_the_way_out_and_in(scaled):
    text = money_text(scaled)
    assert Decimal(text) * 10_000 == scaled
    assert MoneyAmount().process_bind_param(MONEY.validate_python(text), None) == scaled
    assert len(text.partition(".")[2]) in (2, 3, 4)


@quick
@given(st.integers(-(10**12) * 10_000 + 1, 10**12 * 10_000 - 1))
def test_an_amount_is_found_by_its_own_text(scaled):
    assert _decimal(10_000)(money_text(scaled)) == scaled


@quick
@given(st.integers(-(10**17), 10**17))
def test_ratios_survive_the_way_out(scaled):
    assert Decimal(ratio_text(scaled)) * 1_000_000 == scaled
    if abs(scaled) < 10**18:
        assert "." not in ratio_text(scaled) or not ratio_text(scaled).endswith(("0", "."))


class _Line(Wire):
    some: Quantity = 0
    more: PositiveQuantity = 1


@quick
@given(st.integers(1, 10**18 - 1))
def test_quantities_survive_the_way_out_and_in(scaled):
    line = _Line(some=ratio_text(scaled), more=ratio_text(scaled))
    assert [Ratio().process_bind_param(value, None) for value in (line.some, line.more)] == [scaled, scaled]


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", ".5", "1.", "1.0000001", "1e3", "NaN", " 1", "1\n", "١", "1" * 13, 1, 1.5, None, True],  # noqa: RUF001
)
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValidationError) as refused:
        _Line(some=text)
    assert refused.value.errors()[0]["type"] == "invalid_quantity"


def test_a_positive_quantity_is_not_zero():
    assert _Line(some="0.000").some == 0
    with pytest.raises(ValidationError) as refused:
        _Line(more="0.000")
    assert refused.value.errors()[0]["type"] == "not_positive"


@quick
@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**13), max_value=10**13))
def test_amounts_are_never_rounded(amount):
    assert (
        Decimal(money_text(MoneyAmount().process_bind_param(MONEY.validate_python(format(amount, "f")), None)))
        == amount
    )


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.text())
def test_folding_is_idempotent(text):
    once = fold(text)
    assert fold(once) == once
    assert fold(text.upper().lower()) == fold(fold(text.upper().lower()))


@quick
@given(st.text(alphabet="ab%_\\é ", max_size=12))
def test_a_pattern_has_no_wild_cards_but_its_own(text):
    pattern = like(text)
    inner = pattern[1:-1]
    assert inner.replace("\\\\", "").replace("\\%", "").replace("\\_", "").count("%") == 0


ACCOUNTS = CATALOG.resources["accounts"]
KEYS = (Key("name", descending=False), Key("annual_revenue", descending=True), Key("id", descending=True))


@quick
@given(
    st.text(max_size=30),
    st.none() | st.integers(-(2**62), 2**62),
    st.uuids(),
    st.binary(min_size=32, max_size=32),
    st.data(),
)
def test_a_cursor_gives_its_values_back_and_nothing_else_does(name, amount, id_, binding, data):
    cursor = encode(SECRETS, binding, [name, amount, str(id_)])
    for known in (SECRETS, SECRETS[::-1]):
        assert decode(known, binding, cursor, ACCOUNTS, KEYS) == [name, amount, str(id_)]
    position = data.draw(st.integers(0, len(cursor) - 2))  # the last character has bits that carry nothing
    other = data.draw(st.sampled_from([c for c in "ABCDwxyz0129-_" if c != cursor[position]]))
    for altered, under in (
        (cursor[:position] + other + cursor[position + 1 :], binding),
        (cursor, binding[::-1] + b"x"),
        (cursor[:-4], binding),
    ):
        with pytest.raises(Problem) as caught:
            decode(SECRETS, under, altered, ACCOUNTS, KEYS)
        assert caught.value.kind.status == 400


@quick
@given(st.text(max_size=60))
def test_no_text_is_a_cursor(text):
    with pytest.raises(Problem) as caught:
        decode(SECRETS, b"b" * 32, text, ACCOUNTS, KEYS)
    assert caught.value.kind.status == 400


def test_every_kind_has_operators():
    assert all(set(ops) for ops in OPERATORS.values())


@pytest.fixture(scope="module")
def forest(server) -> SimpleNamespace:
    org = Org.create(server)
    ids = [org.admin.make("accounts", name=f"Node {n}")["id"] for n in range(7)]
    return SimpleNamespace(org=org, ids=ids)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 6), st.none() | st.integers(0, 6)), max_size=8))
def test_trees_stay_trees_under_random_moves(forest, moves):
    admin = forest.org.admin
    parent = {row["id"]: row["parent_id"] for row in admin.all("/v1/accounts", limit=200)}
    for child, target in moves:
        id_, to = forest.ids[child], None if target is None else forest.ids[target]
        above, step = [], to
        while step is not None:
            above.append(step)
            step = parent[step]
        answer = admin.patch(f"/v1/accounts/{id_}", json={"parent_id": to})
        assert answer.status_code == (409 if id_ in above else 200), answer.text
        if answer.status_code == 200:
            parent[id_] = to
    assert {row["id"]: row["parent_id"] for row in admin.all("/v1/accounts", limit=200)} == parent


@pytest.mark.parametrize("seed", range(int(os.environ.get("CRM_LAW_SEEDS", "6"))))
def test_the_policy_agrees_with_the_oracle_on_random_organisations(server, sql, seed):
    """Random managers, teams, owners, shares, defaults and roles; every way in, two resources with a parent between."""
    draw = random.Random(seed)  # noqa: S311 - repeatable
    org = Org.create(server)
    org.examples = Examples(org.admin)
    names = ["manager", "rep", "colleague", "other_manager", "outsider"]
    people = [org.people[name] for name in names]
    teams = [org.admin.make("teams", name=f"Team {n}")["id"] for n in range(2)]
    for person in people:
        org.admin.patch(
            f"/v1/users/{person.id}", json={"manager_id": draw.choice([None, *(other.id for other in people)])}
        )
        for team in draw.sample(teams, draw.randint(0, 2)):
            org.admin.make("team_members", team_id=team, principal_id=person.id)
    accounts = []
    for n in range(6):
        owned = {"owner_id": draw.choice(people).id, "team_id": draw.choice([None, *teams])}
        accounts.append(org.admin.make("accounts", name=f"Account {n}", **owned)["id"])
    contacts = []
    for n in range(8):
        owned = {"owner_id": draw.choice(people).id, "team_id": draw.choice([None, *teams])}
        contacts.append(
            org.admin.make("contacts", last_name=f"Contact {n}", account_id=draw.choice([None, *accounts]), **owned)[
                "id"
            ]
        )
    places: list[str | None] = [None]
    for n in range(4):
        values = {"code": f"place_{n}", "name": f"Place {n}", "parent_id": draw.choice(places)}
        places.append(org.admin.make("territories", **values)["id"])
        org.admin.make("territory_members", territory_id=places[-1], principal_id=draw.choice(people).id)
    for plural, found in (("accounts", accounts), ("contacts", contacts)):
        for id_ in found:
            body = {"territory_id": draw.choice(places)}
            assert org.admin.post(f"/v1/{plural}/{id_}/assign_territory", json=body).status_code == 200
    for id_ in draw.sample(contacts, 3):
        org.admin.make(
            "account_contacts", contact_id=id_, account_id=draw.choice(accounts), is_active=draw.random() < 0.7
        )
    for plural, found in (("accounts", accounts), ("contacts", contacts)):
        for id_ in draw.sample(found, 3):
            place = ("territory", draw.choice(places[1:]))
            grantee = draw.choice([("user", draw.choice(people).id), ("team", draw.choice(teams)), place])
            body = {"grantee_type": grantee[0], "grantee_id": grantee[1], "level": draw.choice(["read", "write"])}
            assert org.admin.post(f"/v1/{plural}/{id_}/share", json=body).status_code == 201
    for name in draw.sample(names, 3):
        reaches = ["own", "subordinates", "team", "territory", "all"]
        grants = {
            f"{plural}:{action}": draw.choice(reaches)
            for plural in ("accounts", "contacts")
            for action in ("read", "update")
            if draw.random() < 0.8
        }
        person = assume(org, name, grants)
        oracle = read_oracle(org, sql)
        for plural in ("accounts", "contacts"):
            resource = CATALOG.resources[plural]
            if f"{plural}:read" not in grants:
                assert person.get(f"/v1/{plural}").status_code == 403
                continue
            visible = check_everywhere(person, oracle, resource, grants)
            writable = oracle.visible(person.id, grants, resource, "update")
            for id_ in visible if f"{plural}:update" in grants else ():
                answer = person.patch(f"/v1/{plural}/{id_}", json={resource.title: f"changed {draw.random()}"})
                assert answer.status_code == (200 if id_ in writable else 403), (plural, id_, grants)
