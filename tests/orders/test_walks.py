"""Random walks over orders and quotes that may need approval: the graph holds, and so does what goes with a state."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_api.catalog import CATALOG

KINDS = {
    "orders": ("confirm", "reopen", "hold", "release", "close", "cancel"),
    "quotes": ("submit", "reopen", "send", "accept", "decline", "expire", "cancel"),
}
DECISIONS = ("approve", "reject")
TEA = {"description": "Tea", "unit_price": "5.00"}
WALKS = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def org(shared_org):
    return shared_org


@pytest.fixture(scope="module")
def accounts(org) -> list[str]:
    """One whose documents need approval, and one whose do not."""
    ids = [org.rep.make("accounts", name=name)["id"] for name in ("Watched", "Free")]
    for type_ in ("order", "quote"):
        rule = {"object_type": type_, "account_id": ids[0], "steps": [{"kind": "manager"}]}
        org.admin.make("approval_rules", name=f"Walks of {type_}s", **rule)
    return ids


def after(plural: str, row: dict, verb: str, *, watched: bool) -> str | None:
    """Where a verb leads from a row by the graph, None where it does not."""
    edge = CATALOG.resources[plural].lifecycle.edge(verb)
    if row["state"] not in edge.sources:
        return None
    needs = watched and not row["is_approved"]
    if verb == "send" and row["state"] == "draft" and needs:
        return None
    return next(iter(edge.otherwise), edge.target) if needs else edge.target


def pending(org, row) -> list[dict]:
    return org.admin.all("/v1/approvals", object_id=row["id"], object_type=row["object"], status="pending")


def step(org, plural: str, row: dict, verb: str):
    if verb not in DECISIONS:
        return org.rep.post(f"/v1/{plural}/{row['id']}/{verb}")
    (asked,) = pending(org, row)
    return org.manager.post(f"/v1/approvals/{asked['id']}/{verb}", json={"comment": "So be it."})


@pytest.mark.parametrize("plural", KINDS)
@WALKS
@given(data=st.data(), watched=st.booleans())
def test_no_walk_leaves_the_graph(org, accounts, plural, data, watched):
    account = accounts[0 if watched else 1]
    row = org.rep.make(plural, account_id=account, currency="EUR", lines=[TEA])
    verbs = data.draw(st.lists(st.sampled_from((*KINDS[plural], *DECISIONS)), max_size=9))
    for verb in verbs:
        if verb in DECISIONS and row["state"] != "pending_approval":
            assert pending(org, row) == []
            continue
        expected = after(plural, row, verb, watched=watched)
        answer = step(org, plural, row, verb)
        now = org.rep.get(f"/v1/{plural}/{row['id']}").json()
        if expected is None:
            assert answer.status_code == 409, answer.text
            assert now == row
            continue
        assert answer.status_code == 200, answer.text
        assert now["state"] == expected
        assert len(pending(org, now)) == (expected == "pending_approval")
        assert now["is_approved"] == (row["is_approved"] or verb == "approve")
        assert row["number"] is None or now["number"] == row["number"]
        assert now["number"] or expected in ("draft", "pending_approval", "cancelled")
        for name in ("lines", "gross_total", "account_id"):
            assert now[name] == row[name]
        row = now
