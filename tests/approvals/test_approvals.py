"""Approvals over HTTP: who is asked, who decides, what becomes of the order, and races."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from crm_api.domains.approvals.remind import remind
from tests.support.jobs import wait, working
from tests.support.org import MANAGER, REPRESENTATIVE, Person

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def org(shared_org):
    return shared_org


def governed(org, person, *steps, values=None, **order):
    """An order of somebody, of an account with a rule of these steps."""
    account = person.make("accounts", name=f"Governed {next(_numbers)}", tier="A")
    rule = {"object_type": "order", "account_id": account["id"], "steps": list(steps), **(values or {})}
    org.admin.make("approval_rules", name="Big deals", **rule)
    lines = [{"description": "Tea", "unit_price": "100", "quantity": "10"}]
    return person.make("orders", **{"account_id": account["id"], "currency": "EUR", "lines": lines, **order})


def act(person, plural, item, verb, status=200, **body):
    answer = person.post(f"/v1/{plural}/{item['id']}/{verb}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def submitted(org, person, *steps, **options):
    made = governed(org, person, *steps, **options)
    assert act(person, "orders", made, "confirm")["state"] == "pending_approval"
    (found,) = org.admin.all("/v1/approvals", object_type="order", object_id=made["id"])
    return made, found


def order_of(org, made):
    return org.admin.get(f"/v1/orders/{made['id']}").json()


MANAGED = {"kind": "manager"}


def test_the_manager_approves_and_the_order_is_confirmed(org):
    made, found = submitted(org, org.rep, MANAGED)
    assert (found["status"], found["requested_by_id"], found["approver_id"]) == ("pending", org.rep.id, org.manager.id)
    assert [reason["code"] for reason in found["reasons"]] == ["account"]
    assert act(org.rep, "approvals", found, "approve", 403)["permission"] == "approvals:approve"
    done = act(org.manager, "approvals", found, "approve", comment="Good.")
    assert (done["status"], done["approver_id"]) == ("approved", org.manager.id)
    (said,) = done["decisions"]
    assert (said["step"], said["decision"], said["principal_id"]) == (0, "approved", org.manager.id)
    assert (said["comment"], said["to_id"]) == ("Good.", None)
    order = order_of(org, made)
    assert (order["state"], order["is_approved"]) == ("confirmed", True)
    assert order["number"]
    entries = org.admin.all("/v1/audit_log", object_id=made["id"], object_type="order", action="approve")
    assert [entry["actor_id"] for entry in entries] == [org.manager.id]


def test_a_rejected_order_is_a_draft_with_the_reason_and_asks_again(org):
    made, found = submitted(org, org.rep, MANAGED)
    problem_of = org.manager.post(f"/v1/approvals/{found['id']}/reject", json={})
    assert problem_of.status_code == 422
    assert act(org.manager, "approvals", found, "reject", comment="Too cheap.")["status"] == "rejected"
    order = order_of(org, made)
    assert (order["state"], order["reason"], order["is_approved"]) == ("draft", "Too cheap.", False)
    assert act(org.rep, "orders", made, "confirm")["state"] == "pending_approval"
    assert len(org.admin.all("/v1/approvals", object_id=made["id"], object_type="order")) == 2


def test_two_levels_decide_one_after_the_other(org):
    top = org.person(f"top{next(_numbers)}", MANAGER)
    middle = org.person(f"middle{next(_numbers)}", MANAGER)
    seller = org.person(f"seller{next(_numbers)}", REPRESENTATIVE)
    for below, above in ((middle, top), (seller, middle)):
        assert org.admin.patch(f"/v1/users/{below.id}", json={"manager_id": above.id}).status_code == 200
    made, found = submitted(org, seller, MANAGED, MANAGED)
    assert found["approver_id"] == middle.id
    act(top, "approvals", found, "approve", 404)
    first = act(middle, "approvals", found, "approve")
    assert (first["status"], first["step"], first["approver_id"]) == ("pending", 1, top.id)
    assert order_of(org, made)["state"] == "pending_approval"
    act(middle, "approvals", found, "approve", 403)
    assert act(top, "approvals", found, "approve")["status"] == "approved"
    assert order_of(org, made)["state"] == "confirmed"
    assert middle.get(f"/v1/approvals/{found['id']}").status_code == 200


def test_without_a_manager_it_goes_up_and_at_last_to_administrators(org):
    lonely = org.person(f"lonely{next(_numbers)}", REPRESENTATIVE)
    _, found = submitted(org, lonely, MANAGED)
    assert (found["approver_id"], found["approver_role_id"]) == (None, org.roles["Administrator"])
    boss = org.person(f"boss{next(_numbers)}", MANAGER)
    gone = org.person(f"gone{next(_numbers)}", MANAGER)
    below = org.person(f"below{next(_numbers)}", REPRESENTATIVE)
    for who, above in ((gone, boss), (below, gone)):
        assert org.admin.patch(f"/v1/users/{who.id}", json={"manager_id": above.id}).status_code == 200
    assert org.admin.patch(f"/v1/users/{gone.id}", json={"is_active": False}).status_code == 200
    _, found = submitted(org, below, MANAGED)
    assert found["approver_id"] == boss.id


def test_not_even_an_administrator_decides_their_own_request(org):
    made, found = submitted(org, org.admin, MANAGED)
    for verb, body in (("approve", {}), ("reject", {"comment": "No."}), ("delegate", {"principal_id": org.rep.id})):
        refused = act(org.admin, "approvals", found, verb, 409, **body)
        assert refused["errors"][0]["code"] == "own_request"
    assert order_of(org, made)["state"] == "pending_approval"


def chain(org, *roles):
    """People of these roles, each the manager of the one before."""
    people = [org.person(f"link{next(_numbers)}", role) for role in roles]
    for below, above in itertools.pairwise(people):
        assert org.admin.patch(f"/v1/users/{below.id}", json={"manager_id": above.id}).status_code == 200
    return people


def asked_of(org, person, plural, item, verb):
    """The approval that a document waits for once somebody has asked for it."""
    assert act(person, plural, item, verb)["state"] == "pending_approval"
    (found,) = org.admin.all("/v1/approvals", object_id=item["id"], status="pending")
    assert found["requested_by_id"] == person.id
    return found


def test_a_manager_does_not_decide_a_draft_of_their_own_that_somebody_below_confirms(org):
    seller, boss, top = chain(org, REPRESENTATIVE, MANAGER, MANAGER)
    made = governed(org, boss, MANAGED)
    assert boss.patch(f"/v1/orders/{made['id']}", json={"owner_id": seller.id}).status_code == 200
    found = asked_of(org, seller, "orders", made, "confirm")
    assert found["approver_id"] == top.id
    act(boss, "approvals", found, "approve", 404)
    refused = act(top, "approvals", found, "delegate", 422, principal_id=boss.id)
    assert refused["errors"][0]["code"] == "own_document"
    assert act(top, "approvals", found, "approve")["status"] == "approved"
    assert order_of(org, made)["state"] == "confirmed"


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({"discount_percent": "30"}, "above"),
        ({"lines": [{"description": "Tea", "unit_price": "1", "quantity": "10"}]}, "above"),
        ({"payment_terms": "In a year"}, "above"),
        ({"shipping_address": {"country": "DE"}}, "above"),
        ({"note": "Soon.", "tags": ["spring"]}, "manager"),
    ],
)
def test_who_changed_the_terms_does_not_decide_whoever_changed_them_last(org, change, asked):
    seller, boss, top = chain(org, REPRESENTATIVE, MANAGER, MANAGER)
    made = governed(org, seller, MANAGED)
    path = f"/v1/orders/{made['id']}"
    assert boss.patch(path, json=change).status_code == 200
    assert seller.patch(path, json={"client_reference": "Mine"}).status_code == 200
    found = asked_of(org, seller, "orders", made, "confirm")
    assert found["approver_id"] == {"above": top.id, "manager": boss.id}[asked]


def test_neither_as_named_nor_by_a_role_nor_by_reach_does_an_author_decide(org):
    seller, boss, top = chain(org, REPRESENTATIVE, MANAGER, MANAGER)
    cases = (
        ({"kind": "principal", "principal_id": boss.id}, boss, top),
        ({"kind": "role", "role_id": org.roles[MANAGER]}, boss, top),
        (MANAGED, org.admin, boss),
    )
    for step, author, other in cases:
        made = governed(org, seller, step)
        assert author.patch(f"/v1/orders/{made['id']}", json={"discount_percent": "5"}).status_code == 200
        found = asked_of(org, seller, "orders", made, "confirm")
        assert found["approver_id"] != author.id
        bodies = {"approve": {}, "reject": {"comment": "No."}, "delegate": {"principal_id": other.id}}
        for verb, body in bodies.items() if step["kind"] != "principal" else ():
            assert act(author, "approvals", found, verb, 409, **body)["errors"][0]["code"] == "own_document"
        assert act(other, "approvals", found, "approve")["status"] == "approved"


def test_a_role_that_only_authors_hold_is_passed_over(org):
    seller, boss, top = chain(org, REPRESENTATIVE, MANAGER, MANAGER)
    role = org.role(f"Board {next(_numbers)}", ("approvals:read", "own"), ("approvals:approve", "own"))
    for holder in (seller, boss):
        org.admin.make("role_assignments", role_id=role, principal_id=holder.id)
    made = governed(org, seller, {"kind": "role", "role_id": role})
    assert boss.patch(f"/v1/orders/{made['id']}", json={"discount_percent": "5"}).status_code == 200
    found = asked_of(org, seller, "orders", made, "confirm")
    assert (found["approver_id"], found["approver_role_id"]) == (top.id, None)


def test_a_step_that_comes_due_later_goes_past_an_author_too(org):
    seller, boss, top, highest = chain(org, REPRESENTATIVE, MANAGER, MANAGER, MANAGER)
    made = governed(org, seller, MANAGED, MANAGED)
    assert top.patch(f"/v1/orders/{made['id']}", json={"discount_percent": "5"}).status_code == 200
    found = asked_of(org, seller, "orders", made, "confirm")
    assert act(boss, "approvals", found, "approve")["approver_id"] == highest.id


def test_who_edits_many_drafts_by_a_job_is_an_author_of_each(org):
    seller, boss, top = chain(org, REPRESENTATIVE, MANAGER, MANAGER)
    made = governed(org, seller, MANAGED)
    body = {"ids": [made["id"]], "changes": {"discount_percent": "40"}}
    answer = boss.post("/v1/orders/edit", json=body)
    assert answer.status_code == 202, answer.text
    with working(org.server):
        assert wait(boss, answer.json())["result"]["done"] == 1
    assert asked_of(org, seller, "orders", made, "confirm")["approver_id"] == top.id


def test_a_service_account_does_not_decide_for_who_made_it_or_has_its_key(org):
    seller, boss = chain(org, REPRESENTATIVE, MANAGER)
    asked = {"kind": "role", "role_id": org.roles[MANAGER]}
    robot = org.admin.make("service_accounts", name=f"Robot {next(_numbers)}")
    org.admin.make("role_assignments", role_id=org.roles[MANAGER], principal_id=robot["id"])
    answer = org.admin.post(f"/v1/service_accounts/{robot['id']}/issue_key", json={"name": "key"})
    machine = Person(org.server, robot["id"], answer.json()["key"])
    made = governed(org, seller, asked)
    assert org.admin.patch(f"/v1/orders/{made['id']}", json={"discount_percent": "5"}).status_code == 200
    found = asked_of(org, seller, "orders", made, "confirm")
    assert act(machine, "approvals", found, "approve", 409)["errors"][0]["code"] == "own_document"
    assert act(boss, "approvals", found, "approve")["status"] == "approved"
    found = asked_of(org, seller, "orders", governed(org, seller, asked), "confirm")
    assert act(machine, "approvals", found, "approve")["status"] == "approved"


def test_who_drafted_a_quote_does_not_decide_its_revision_or_its_order(org):
    seller, boss, top = chain(org, REPRESENTATIVE, MANAGER, MANAGER)
    account = seller.make("accounts", name=f"Offered {next(_numbers)}", tier="A")
    lines = [{"description": "Tea", "unit_price": "100", "quantity": "10"}]
    quote = boss.make("quotes", account_id=account["id"], currency="EUR", lines=lines, owner_id=seller.id)
    act(seller, "quotes", quote, "submit")
    act(seller, "quotes", quote, "send")
    revision = {"id": act(seller, "quotes", quote, "revise")["superseded_by_id"]}
    for kind in ("quote", "order"):
        rule = {"object_type": kind, "account_id": account["id"], "steps": [MANAGED]}
        org.admin.make("approval_rules", name="Big deals", **rule)
    found = asked_of(org, seller, "quotes", revision, "submit")
    assert found["approver_id"] == top.id
    act(top, "approvals", found, "approve")
    for verb in ("send", "accept"):
        act(seller, "quotes", revision, verb)
    order = {"id": act(seller, "quotes", revision, "convert")["order_id"]}
    assert seller.patch(f"/v1/orders/{order['id']}", json={"discount_percent": "1"}).status_code == 200
    found = asked_of(org, seller, "orders", order, "confirm")
    assert found["approver_id"] == top.id
    assert act(top, "approvals", found, "delegate", 422, principal_id=boss.id)["errors"][0]["code"] == "own_document"


def test_holders_of_an_exempt_role_need_no_approval(org):
    role = org.role(f"Director {next(_numbers)}", ("approvals:read", "own"))
    made = governed(org, org.rep, MANAGED, values={"exempt_role_ids": [role]})
    assert act(org.rep, "orders", made, "confirm")["state"] == "pending_approval"
    act(org.rep, "orders", made, "reopen")
    held = org.admin.make("role_assignments", role_id=role, principal_id=org.rep.id)
    assert act(org.rep, "orders", made, "confirm")["state"] == "confirmed"
    assert org.admin.delete(f"/v1/role_assignments/{held['id']}").status_code == 204


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({"amount_over": "999.99", "currency": "EUR"}, "pending_approval"),
        ({"amount_over": "1000.00", "currency": "EUR"}, "confirmed"),
        ({"amount_over": "10.00", "currency": "USD"}, "confirmed"),
        ({"account_tier": "A"}, "pending_approval"),
        ({"account_tier": "B"}, "confirmed"),
        ({"account_risk": "high"}, "confirmed"),
        ({"discount_over": "0"}, "confirmed"),
        ({"margin_under": "100"}, "confirmed"),
        ({"account_tier": "A", "amount_over": "5000.00", "currency": "EUR"}, "confirmed"),
        ({"is_active": False}, "confirmed"),
    ],
)
def test_all_conditions_of_a_rule_must_hold(org, values, state):
    made = governed(org, org.rep, MANAGED, values=values)
    assert act(org.rep, "orders", made, "confirm")["state"] == state


def test_a_discount_over_the_bound_asks_and_the_bound_is_told(org):
    lines = [{"description": "Tea", "unit_price": "100", "discount_percent": "10.5"}]
    made = governed(org, org.rep, MANAGED, values={"discount_over": "10.5"}, lines=lines)
    lines[0]["discount_percent"] = "10.6"
    assert org.rep.patch(f"/v1/orders/{made['id']}", json={"lines": lines}).status_code == 200
    assert act(org.rep, "orders", made, "confirm")["state"] == "pending_approval"
    (found,) = org.rep.all("/v1/approvals", object_id=made["id"], object_type="order")
    assert {reason["code"] for reason in found["reasons"]} == {"account", "discount"}


def test_the_price_api_tells_what_may_be_given_away(org):
    account = org.rep.make("accounts", name="Asking")
    unit = org.admin.make("units", code=f"u{next(_numbers)}", name="Unit")["id"]
    priced = {"kind": "goods", "unit_id": unit, "list_price": "10.00", "currency": "EUR"}
    product = org.admin.make("products", sku=f"TEA-{next(_numbers)}", name="Tea", **priced)
    body = {"account_id": account["id"], "currency": "EUR", "lines": [{"product_id": product["id"], "quantity": "1"}]}

    def allowed(person):
        answer = person.post("/v1/prices/quote", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["allowed_discount"]

    assert allowed(org.rep) is None
    role = org.role(f"Director {next(_numbers)}", ("approvals:read", "own"))
    held = org.admin.make("role_assignments", role_id=role, principal_id=org.manager.id)
    given = {"object_type": "order", "steps": [MANAGED], "account_id": account["id"]}
    org.admin.make("approval_rules", name="Deep", discount_over="30", **given)
    org.admin.make("approval_rules", name="Any", discount_over="12.5", exempt_role_ids=[role], **given)
    assert (allowed(org.rep), allowed(org.manager)) == ("12.5", "30")
    assert org.admin.delete(f"/v1/role_assignments/{held['id']}").status_code == 204


def test_delegation_hands_the_step_on(org):
    made, found = submitted(org, org.rep, MANAGED)
    assert org.colleague.get(f"/v1/approvals/{found['id']}").status_code == 404
    act(org.manager, "approvals", found, "delegate", 422, principal_id=org.rep.id)
    handed = act(org.manager, "approvals", found, "delegate", principal_id=org.colleague.id, comment="On leave.")
    assert (handed["status"], handed["approver_id"]) == ("pending", org.colleague.id)
    assert handed["decisions"][0]["to_id"] == org.colleague.id
    act(org.manager, "approvals", found, "approve", 403)
    assert act(org.colleague, "approvals", found, "approve")["status"] == "approved"
    assert order_of(org, made)["state"] == "confirmed"


def test_rows_are_open_to_who_asked_and_was_asked_alone(org):
    _, found = submitted(org, org.rep, {"kind": "principal", "principal_id": org.outsider.id})
    path = f"/v1/approvals/{found['id']}"
    seen = {name: org.people[name].get(path).status_code for name in ("rep", "manager", "outsider", "colleague")}
    assert seen == {"rep": 200, "manager": 404, "outsider": 200, "colleague": 404}
    assert org.other_manager.get(path).status_code == 404
    act(org.outsider, "approvals", found, "approve")
    assert org.outsider.get(path).status_code == 200


def test_what_waits_for_me_is_one_search(org):
    me = org.manager.get("/v1/me").json()
    _, mine = submitted(org, org.rep, MANAGED)
    _, ours = submitted(org, org.rep, {"kind": "role", "role_id": org.roles[MANAGER]})
    _, other = submitted(org, org.rep, {"kind": "principal", "principal_id": org.outsider.id})
    asked = {
        "filter": {
            "and": [
                {"field": "status", "op": "eq", "value": "pending"},
                {
                    "or": [
                        {"field": "approver_id", "op": "eq", "value": me["id"]},
                        {"field": "approver_role_id", "op": "in", "value": me["role_ids"]},
                    ]
                },
            ]
        },
        "limit": 200,
    }
    answer = org.manager.post("/v1/approvals/search", json=asked)
    assert answer.status_code == 200, answer.text
    ids = {item["id"] for item in answer.json()["data"]}
    assert {mine["id"], ours["id"]} <= ids
    assert other["id"] not in ids
    assert act(org.other_manager, "approvals", ours, "approve")["status"] == "approved"


def test_withdrawing_and_cancelling_end_the_approval(org):
    made, found = submitted(org, org.rep, MANAGED)
    act(org.colleague, "approvals", found, "withdraw", 404)
    act(org.manager, "approvals", found, "withdraw", 403)
    assert act(org.rep, "approvals", found, "withdraw")["status"] == "withdrawn"
    assert order_of(org, made)["state"] == "draft"
    for verb, state in (("reopen", "draft"), ("cancel", "cancelled")):
        made, found = submitted(org, org.rep, MANAGED)
        assert act(org.rep, "orders", made, verb)["state"] == state
        assert org.rep.get(f"/v1/approvals/{found['id']}").json()["status"] == "withdrawn"
        refused = act(org.manager, "approvals", found, "approve", 409)
        assert refused["code"] == "transition_refused"


def test_an_order_that_waits_is_locked(org):
    made, _ = submitted(org, org.rep, MANAGED)
    path = f"/v1/orders/{made['id']}"
    assert org.rep.patch(path, json={"lines": []}).status_code == 409
    assert org.rep.patch(path, json={"note": "Soon."}).status_code == 200
    assert org.rep.delete(path).status_code == 409


def test_what_the_order_refuses_by_then_the_approver_is_told_and_nothing_changes(org):
    made, found = submitted(org, org.rep, MANAGED)
    account = f"/v1/accounts/{made['account_id']}"
    assert org.rep.patch(account, json={"credit_limit": "5.00", "currency": "EUR"}).status_code == 200
    refused = act(org.manager, "approvals", found, "approve", 409)
    assert refused["errors"][0]["code"] == "credit_exceeded"
    assert org.manager.get(f"/v1/approvals/{found['id']}").json() == found
    assert order_of(org, made)["state"] == "pending_approval"


def test_a_deleted_rule_leaves_open_approvals_as_they_are(org):
    _, found = submitted(org, org.rep, MANAGED)
    assert org.admin.delete(f"/v1/approval_rules/{found['reasons'][0]['rule_id']}").status_code == 204
    assert org.manager.get(f"/v1/approvals/{found['id']}").json() == found
    assert act(org.manager, "approvals", found, "approve")["status"] == "approved"


def test_of_two_decisions_at_once_one_holds(org):
    for _ in range(5):
        made, found = submitted(org, org.rep, {"kind": "role", "role_id": org.roles[MANAGER]})
        path = f"/v1/approvals/{found['id']}"
        asked = [(org.manager, f"{path}/approve"), (org.other_manager, f"{path}/reject")] * 2
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda one: one[0].post(one[1], json={"comment": "Said."}), asked))
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
        status = org.admin.get(path).json()["status"]
        assert order_of(org, made)["state"] == {"approved": "confirmed", "rejected": "draft"}[status]


def test_of_two_confirmations_at_once_one_asks(org):
    made = governed(org, org.rep, MANAGED)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: org.rep.post(f"/v1/orders/{made['id']}/confirm"), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert len(org.admin.all("/v1/approvals", object_id=made["id"], object_type="order")) == 1


def test_reminders_come_once_in_a_period_and_ten_times_at_most(org, sql):
    _, found = submitted(org, org.rep, {**MANAGED, "remind_after_hours": 1})

    def reminders():
        return sql("SELECT reminders FROM approvals WHERE id = $1", found["id"])[0]["reminders"]

    org.server.run(remind(org.server.kernel))
    assert reminders() == 0
    for n in range(12):
        sql("UPDATE approvals SET remind_at = remind_at - interval '1 hour' WHERE id = $1", found["id"])
        org.server.run(remind(org.server.kernel))
        org.server.run(remind(org.server.kernel))
        assert reminders() == min(n + 1, 10)
    kinds = sql(
        "SELECT type FROM feed WHERE object_id = $1 UNION ALL SELECT type FROM outbox WHERE object_id = $1", found["id"]
    )
    assert [row["type"] for row in kinds].count("approval.reminded") == 10


def test_rules_are_checked(org):
    def refused(**values):
        rule = {"name": "R", "object_type": "order", "steps": [MANAGED], "is_active": False, **values}
        answer = org.admin.post("/v1/approval_rules", json=rule)
        assert answer.status_code == 422, answer.text
        return answer.json()["errors"][0]["pointer"]

    assert refused(object_type="account") == "/object_type"
    assert refused(amount_over="5.00") in ("/currency", "/amount_over")
    assert refused(steps=[]) == "/steps"
    assert refused(steps=[{"kind": "principal"}]) == "/steps/0/principal_id"
    assert refused(steps=[{"kind": "manager", "role_id": org.roles[MANAGER]}]) == "/steps/0/role_id"
    assert refused(steps=[{"kind": "role", "role_id": org.rep.id}]) == "/steps/0/role_id"
    assert refused(exempt_role_ids=[org.rep.id]) == "/exempt_role_ids/0"
    assert org.rep.post("/v1/approval_rules", json={"name": "R"}).status_code == 403
    assert org.rep.get("/v1/approval_rules").status_code == 200
