"""Opportunities over HTTP: where they begin, how they move, what blocks them, and the history of it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.org import Org
from tests.support.problems import problem

STEPS = (
    ("first", "open", {"probability": 10}),
    (
        "second",
        "open",
        {
            "probability": 40,
            "forecast_category": "best_case",
            "required_fields": ["amount", "close_date"],
            "exit_checks": [{"code": "budget", "text": "The budget is approved."}],
        },
    ),
    ("third", "open", {"probability": 80, "forecast_category": "commit"}),
    ("won", "won", {}),
    ("lost", "lost", {"required_fields": ["lost_reason"]}),
)


@pytest.fixture(scope="module")
def org(server) -> Org:
    return Org.create(server)


@pytest.fixture(scope="module")
def stages(org) -> dict:
    """Stages by code; `pipeline` is the id of their pipeline."""
    pipeline = org.admin.make("pipelines", name="Sales")
    assert org.admin.post(f"/v1/pipelines/{pipeline['id']}/make_default").json()["is_default"]
    return {"pipeline": pipeline["id"]} | {
        code: org.admin.make(
            "stages", pipeline_id=pipeline["id"], name=code.title(), code=code, kind=kind, position=i, **values
        )["id"]
        for i, (code, kind, values) in enumerate(STEPS)
    }


@pytest.fixture
def account(org) -> dict:
    return org.rep.make("accounts", name="Kaufmann")


@pytest.fixture
def deal(org, stages, account) -> dict:
    return org.rep.make("opportunities", name="Fleet", account_id=account["id"])


def act(person, made, verb, status=200, **body):
    answer = person.post(f"/v1/opportunities/{made['id']}/{verb}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def history(person, made) -> list[dict]:
    return person.all(f"/v1/opportunities/{made['id']}/stage_changes", sort="at")


def test_it_begins_in_the_first_open_stage_of_the_default_pipeline(org, stages, deal):
    assert {name: deal[name] for name in ("pipeline_id", "stage_id", "status", "probability", "forecast_category")} == {
        "pipeline_id": stages["pipeline"],
        "stage_id": stages["first"],
        "status": "open",
        "probability": 10,
        "forecast_category": "pipeline",
    }
    (began,) = history(org.rep, deal)
    assert (began["from_stage_id"], began["to_stage_id"], began["days_in_stage"]) == (None, stages["first"], None)
    assert (began["at"], began["created_by"]) == (deal["stage_entered_at"], org.rep.id)
    assert "latest_change" not in deal


def test_what_the_stage_gives_can_be_given_otherwise(org, stages, account):
    values = {"probability": 55, "forecast_category": "commit", "stage_id": stages["second"]}
    made = org.rep.make("opportunities", name="Sure", account_id=account["id"], **values)
    assert {name: made[name] for name in values} == values
    assert org.rep.patch(f"/v1/opportunities/{made['id']}", json={"probability": 60}).json()["probability"] == 60
    refused = org.rep.patch(f"/v1/opportunities/{made['id']}", json={"stage_id": stages["first"]})
    assert problem(refused, 422)["errors"][0]["code"] == "read_only_field"


def test_a_stage_of_another_pipeline_is_refused(org, stages, account):
    other = org.admin.make("pipelines", name="Partners", position=7)
    values = {"name": "X", "account_id": account["id"], "pipeline_id": other["id"]}
    refused = org.rep.post("/v1/opportunities", json={**values, "stage_id": stages["first"]})
    assert problem(refused, 422)["errors"][0]["pointer"] == "/stage_id"
    empty = org.rep.post("/v1/opportunities", json=values)
    assert problem(empty, 422)["errors"][0]["code"] == "no_stage"
    for name in ("pipeline_id", "stage_id"):
        wrong = org.rep.post("/v1/opportunities", json={**values, name: account["id"]})
        assert {"reference_not_found"} == {error["code"] for error in problem(wrong, 422)["errors"]}
    assert org.admin.delete(f"/v1/pipelines/{other['id']}").status_code == 204


def test_moving_on_takes_what_the_stage_asks_for(org, stages, deal):
    moved = act(org.rep, deal, "move", stage_id=stages["second"])
    assert (moved["probability"], moved["forecast_category"]) == (40, "best_case")
    refused = org.rep.post(f"/v1/opportunities/{deal['id']}/move", json={"stage_id": stages["third"]})
    assert [(error["pointer"], error["code"]) for error in problem(refused, 422)["errors"]] == [
        ("/amount", "required"),
        ("/close_date", "required"),
        ("/confirmed", "unconfirmed"),
    ]
    assert problem(org.rep.post(f"/v1/opportunities/{deal['id']}/win", json={}), 422)
    assert act(org.rep, deal, "move", stage_id=stages["first"])["stage_id"] == stages["first"], "back is free"
    act(org.rep, deal, "move", stage_id=stages["second"])
    values = {"amount": "1200.50", "currency": "EUR", "close_date": "2026-12-24"}
    assert org.rep.patch(f"/v1/opportunities/{deal['id']}", json=values).status_code == 200
    act(org.rep, deal, "move", stage_id=stages["third"], confirmed=["budget"])
    assert [(row["from_stage_id"], row["to_stage_id"], row["amount"]) for row in history(org.rep, deal)] == [
        (None, stages["first"], None),
        (stages["first"], stages["second"], None),
        (stages["second"], stages["first"], None),
        (stages["first"], stages["second"], None),
        (stages["second"], stages["third"], "1200.50"),
    ]
    assert {row["days_in_stage"] for row in history(org.rep, deal)} == {None, 0}


def test_a_move_goes_to_an_open_stage_of_the_same_pipeline(org, stages, deal):
    for code, pointer in (("won", "wrong_kind"), ("lost", "wrong_kind"), ("first", None), ("pipeline", "reference")):
        answer = org.rep.post(f"/v1/opportunities/{deal['id']}/move", json={"stage_id": stages[code]})
        if pointer is None:
            assert problem(answer, 409)["code"] == "conflict"
        else:
            assert problem(answer, 422)["errors"][0]["code"].startswith(pointer)
    assert len(history(org.rep, deal)) == 1


def test_winning_and_reopening(org, stages, deal):
    act(org.rep, deal, "move", stage_id=stages["third"])
    won = act(org.rep, deal, "win")
    assert (won["status"], won["stage_id"], won["probability"], won["forecast_category"]) == (
        "won",
        stages["won"],
        100,
        "closed",
    )
    assert won["closed_at"] == won["stage_entered_at"]
    assert won["close_date"] == datetime.now(UTC).date().isoformat()
    for verb, body in (("win", {}), ("lose", {"reason": "x"}), ("move", {"stage_id": stages["first"]})):
        answer = org.rep.post(f"/v1/opportunities/{deal['id']}/{verb}", json=body)
        assert problem(answer, 409)["code"] == "transition_refused"
    back = act(org.rep, deal, "reopen")
    assert (back["status"], back["stage_id"], back["closed_at"]) == ("open", stages["third"], None), "where it was"
    assert [row["to_stage_id"] for row in history(org.rep, deal)] == [
        stages[code] for code in ("first", "third", "won", "third")
    ]


def test_losing_says_why_and_to_whom(org, stages, deal):
    refused = org.rep.post(f"/v1/opportunities/{deal['id']}/lose", json={"competitor": "Rival"})
    assert [error["pointer"] for error in problem(refused, 422)["errors"]] == ["/reason"]
    lost = act(org.rep, deal, "lose", reason="Price", competitor="Rival")
    assert (lost["status"], lost["stage_id"], lost["lost_reason"], lost["lost_to"], lost["forecast_category"]) == (
        "lost",
        stages["lost"],
        "Price",
        "Rival",
        "omitted",
    )
    back = act(org.rep, deal, "reopen", stage_id=stages["second"])
    assert (back["stage_id"], back["lost_reason"], back["lost_to"]) == (stages["second"], None, None)


def test_history_may_move_in_at_a_closed_stage_by_who_may_close(org, stages, account):
    won = org.rep.make("opportunities", name="Old", account_id=account["id"], stage_id=stages["won"])
    assert (won["status"], won["probability"], won["closed_at"]) == ("won", 100, won["stage_entered_at"])
    role = org.role(
        "Hunter",
        *((f"opportunities:{action}", "own") for action in ("read", "create")),
        *((f"{name}:read", "all") for name in ("accounts", "pipelines", "stages")),
    )
    hunter = org.person("hunter", role)
    body = {"name": "New", "account_id": account["id"]}
    refused = hunter.post("/v1/opportunities", json={**body, "stage_id": stages["won"]})
    assert problem(refused, 403)["permission"] == "opportunities:win"
    assert hunter.post("/v1/opportunities", json=body).status_code == 201


def test_a_blocked_account_takes_no_opportunity(org, stages, account, deal):
    blocked = org.rep.make("accounts", name="Late payer")
    assert org.admin.post(f"/v1/accounts/{blocked['id']}/block", json={"reason": "Unpaid"}).status_code == 200
    refused = org.rep.post("/v1/opportunities", json={"name": "X", "account_id": blocked["id"]})
    assert problem(refused, 409)["errors"][0]["code"] == "account_blocked"
    path = f"/v1/opportunities/{deal['id']}"
    assert (
        problem(org.rep.patch(path, json={"account_id": blocked["id"]}), 409)["errors"][0]["pointer"] == "/account_id"
    )
    assert org.rep.patch(path, json={"account_id": account["id"], "name": "Fleet 2"}).json()["name"] == "Fleet 2"
    hidden = org.outsider.post("/v1/opportunities", json={"name": "X", "account_id": blocked["id"]})
    assert problem(hidden, 422)["errors"][0]["code"] == "reference_not_found", "not whether it is blocked"


def test_a_score_card_is_weighed(org, deal):
    path = f"/v1/opportunities/{deal['id']}"
    card = [{"criterion": "Need", "weight": 50, "score": 8}, {"criterion": "Money", "weight": 25, "score": 3}]
    assert org.rep.patch(path, json={"score_card": card}).json()["score"] == "6.333333"
    assert org.rep.patch(path, json={"score_card": []}).json()["score"] is None


def test_a_stage_with_open_opportunities_stays(org, stages, deal, account):
    assert problem(org.admin.delete(f"/v1/stages/{stages['first']}"), 409)["code"] == "in_use"
    assert problem(org.admin.delete(f"/v1/pipelines/{stages['pipeline']}"), 409)["code"] == "in_use"
    spare = org.admin.make("stages", pipeline_id=stages["pipeline"], name="Spare", code="spare", position=1)
    act(org.rep, deal, "move", stage_id=spare["id"])
    act(org.rep, deal, "lose", reason="No")
    assert org.admin.delete(f"/v1/stages/{spare['id']}").status_code == 204
    assert act(org.rep, deal, "reopen")["stage_id"] == stages["first"], "its stage is gone"


def test_only_administrators_write_pipelines_and_stages(org, stages):
    assert len(org.reader.all(f"/v1/pipelines/{stages['pipeline']}/stages")) == 5
    for person in (org.rep, org.manager, org.reader):
        assert problem(person.post("/v1/pipelines", json={"name": "Mine"}), 403)
        assert problem(person.patch(f"/v1/stages/{stages['first']}", json={"name": "Mine"}), 403)


def test_one_pipeline_is_the_default(org, stages):
    other = org.admin.make("pipelines", name="Renewals", position=9)
    assert not other["is_default"]
    assert org.admin.post(f"/v1/pipelines/{other['id']}/make_default").json()["is_default"]
    assert [row["id"] for row in org.admin.all("/v1/pipelines", is_default=True)] == [other["id"]]
    assert org.admin.post(f"/v1/pipelines/{stages['pipeline']}/make_default").status_code == 200
    assert org.admin.delete(f"/v1/pipelines/{other['id']}").status_code == 204


def test_what_is_hidden_is_not_told_by_the_history_nor_by_a_move(org, stages, account):
    made = org.rep.make("opportunities", name="Secret", account_id=account["id"], amount="77.00", currency="EUR")
    act(org.rep, made, "move", stage_id=stages["second"])
    rules = [{"resource": "opportunities", "field": name, "rule": "hidden"} for name in ("amount", "close_date")]
    names = ("opportunities", "stage_changes", "accounts", "pipelines", "stages")
    permissions = [(f"{name}:read", "all") for name in names]
    verbs = [(f"opportunities:{verb}", "all") for verb in ("move", "update")]
    blind = org.person("blind", org.role("Blind", *permissions, *verbs, field_rules=rules))
    (_, second) = history(blind, made)
    assert (second["amount"], second["close_date"], second["redacted"]) == (None, None, ["amount", "close_date"])
    assert second["currency"] == "EUR"
    answer = blind.post(f"/v1/opportunities/{made['id']}/move", json={"stage_id": stages["third"]})
    assert problem(answer, 403)["permission"] == "field opportunities.amount"
    assert problem(blind.get("/v1/stage_changes", params={"amount": "77"}), 422)


def test_history_is_seen_with_its_opportunity_and_written_by_nobody(org, stages, deal):
    (began,) = history(org.manager, deal)
    assert problem(org.outsider.get(f"/v1/stage_changes/{began['id']}"), 404)
    assert problem(org.outsider.get(f"/v1/opportunities/{deal['id']}/stage_changes"), 404)
    assert org.admin.post("/v1/stage_changes", json={}).status_code == 405
    assert org.admin.patch(f"/v1/stage_changes/{began['id']}", json={}).status_code == 405


def test_contacts_take_part_once(org, deal, account):
    contact = org.rep.make("contacts", last_name="Baker", account_id=account["id"])
    part = {"opportunity_id": deal["id"], "contact_id": contact["id"], "role": "decision_maker", "influence": 80}
    made = org.rep.make("opportunity_contacts", **part)
    assert problem(org.rep.post("/v1/opportunity_contacts", json=part), 409)["code"] == "duplicate"
    assert [row["id"] for row in org.manager.all(f"/v1/opportunities/{deal['id']}/contacts")] == [made["id"]]
    assert problem(org.outsider.get(f"/v1/opportunity_contacts/{made['id']}"), 404)
    hidden = org.outsider.make("contacts", last_name="Theirs")
    refused = org.rep.post("/v1/opportunity_contacts", json={**part, "contact_id": hidden["id"]})
    assert problem(refused, 422)["errors"][0]["code"] == "reference_not_found"


def test_transitions_tell_what_blocks(org, stages, deal):
    def asked(person) -> dict:
        rows = person.get(f"/v1/opportunities/{deal['id']}/transitions").json()["data"]
        return {row["action"]: [(block["code"], block.get("pointer")) for block in row["blocked_by"]] for row in rows}

    assert asked(org.reader) == {
        "win": [("permission", None)],
        "lose": [("permission", None)],
        "reopen": [("state", None), ("permission", None)],
    }
    assert asked(org.rep) == {"win": [], "lose": [("required", "/reason")], "reopen": [("state", None)]}
    act(org.rep, deal, "move", stage_id=stages["second"])
    told = [("required", "/amount"), ("required", "/close_date"), ("unconfirmed", "/confirmed")]
    assert asked(org.rep)["win"] == told
    refused = problem(org.rep.post(f"/v1/opportunities/{deal['id']}/win", json={}), 422)
    assert [(error["code"], error["pointer"]) for error in refused["errors"]] == told
    assert org.rep.get(f"/v1/opportunities/{deal['id']}").json()["version"] == deal["version"] + 1


def test_moves_tell_which_stages_are_open(org, stages, deal):
    def asked(person) -> dict:
        answer = person.get(f"/v1/opportunities/{deal['id']}/moves")
        assert answer.status_code == 200, answer.text
        rows = answer.json()["data"]
        assert all(row["allowed"] == (not row["blocked_by"]) for row in rows)
        return {row["stage_id"]: [block["code"] for block in row["blocked_by"]] for row in rows}

    assert asked(org.rep) == {stages["second"]: [], stages["third"]: []}
    assert asked(org.reader) == {stages["second"]: ["permission"], stages["third"]: ["permission"]}
    act(org.rep, deal, "move", stage_id=stages["second"])
    assert asked(org.rep) == {stages["first"]: [], stages["third"]: ["required", "required", "unconfirmed"]}
    org.rep.patch(f"/v1/opportunities/{deal['id']}", json={"amount": "5", "close_date": "2027-01-31"})
    assert asked(org.rep) == {stages["first"]: [], stages["third"]: ["unconfirmed"]}
    act(org.rep, deal, "lose", reason="Price")
    assert set(map(tuple, asked(org.rep).values())) == {("state",)}
    assert org.outsider.get(f"/v1/opportunities/{deal['id']}/moves").status_code == 404


def test_a_dry_run_leaves_no_history(org, stages, deal):
    answer = org.rep.post(
        f"/v1/opportunities/{deal['id']}/move", json={"stage_id": stages["third"]}, params={"dry_run": "true"}
    )
    assert answer.json()["stage_id"] == stages["third"]
    assert len(history(org.rep, deal)) == 1


STEP = st.tuples(
    st.sampled_from(("move", "win", "lose", "reopen")),
    st.sampled_from((None, *(code for code, *_ in STEPS))),
    st.booleans(),
)


def told(stages, verb, code, *, ready) -> dict:
    body = {} if code is None else {"stage_id": stages[code]}
    if ready:
        body |= {"move": {"confirmed": ["budget"]}, "win": {"confirmed": ["budget"]}, "lose": {"reason": "x"}}.get(
            verb, {}
        )
    return body


def check_chain(org, stages, made):
    """Its history is a chain that ends where it stands, and its state is that of the stage."""
    now, rows = org.rep.get(f"/v1/opportunities/{made['id']}").json(), history(org.rep, made)
    assert rows[0]["from_stage_id"] is None
    assert [row["from_stage_id"] for row in rows[1:]] == [row["to_stage_id"] for row in rows[:-1]]
    assert rows[-1]["to_stage_id"] == now["stage_id"]
    assert now["status"] == next(kind for code, kind, _ in STEPS if stages[code] == now["stage_id"])
    assert (now["closed_at"] is None) == (now["status"] == "open")
    return rows


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(STEP, min_size=3, max_size=7))
def test_a_random_walk_keeps_state_stage_and_history_together(org, stages, account, steps):
    made = org.rep.make("opportunities", name="Walk", account_id=account["id"], amount="1", close_date="2026-12-31")
    moved = 1
    for verb, code, ready in steps:
        path = f"/v1/opportunities/{made['id']}/{verb}"
        answer = org.rep.post(path, json=told(stages, verb, code, ready=ready))
        if answer.status_code == 200:
            moved += 1
        else:
            problem(answer, 409, 422)
    assert len(check_chain(org, stages, made)) == moved


def test_moves_at_once_leave_one_chain(org, stages, deal):
    targets = ["second", "third"] * 3
    with ThreadPoolExecutor(len(targets)) as pool:
        answers = list(
            pool.map(
                lambda code: org.rep.post(
                    f"/v1/opportunities/{deal['id']}/move", json={"stage_id": stages[code], "confirmed": ["budget"]}
                ),
                targets,
            )
        )
    moved = sum(answer.status_code == 200 for answer in answers)
    assert moved >= 1
    assert {answer.status_code for answer in answers} <= {200, 409, 422}
    assert len(check_chain(org, stages, deal)) == moved + 1


def test_accounts_that_are_merged_keep_their_opportunities(org, stages, account, deal):
    other = org.admin.make("accounts", name="Kaufmann & Co")
    merged = org.admin.post(f"/v1/accounts/{other['id']}/merge", json={"other_id": account["id"]})
    assert merged.status_code == 200, merged.text
    assert org.admin.get(f"/v1/opportunities/{deal['id']}").json()["account_id"] == other["id"]
    assert len(history(org.admin, deal)) == 1
