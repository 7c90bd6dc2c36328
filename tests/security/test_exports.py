"""Exports: what they give to who may read less by now, and what a spreadsheet makes of them."""

import asyncio
import csv
import io

import pytest

from crm_api.domains.exchange import export as exports
from crm_api.domains.exchange.tables import cell
from tests.support.asking import code
from tests.support.jobs import wait, working
from tests.support.org import Org
from tests.support.problems import problem


@pytest.fixture(scope="module")
def worker(server):
    with working(server):
        yield


def export(person, **body) -> dict:
    job = person.post("/v1/exports", json={"resource": "accounts", "format": "csv", **body})
    assert job.status_code == 202, job.text
    assert wait(person, job.json())["state"] == "succeeded"
    return job.json()


def test_an_export_is_not_given_to_who_may_read_less_by_now(org, worker):
    org.outsider.make("accounts", name="Theirs")
    own, all_ = (("accounts:read", reach) for reach in ("own", "all"))
    role = org.role("Wide", own, all_, ("exports:*", "own"), ("jobs:*", "own"))
    clerk = org.person("clerk", role)
    made = export(clerk)
    path = f"/v1/exports/{made['id']}/content"
    url = clerk.post(f"/v1/exports/{made['id']}/download_link").json()["url"]
    assert "Theirs" in clerk.get(path).text
    kept_ = (own, ("exports:*", "own"), ("jobs:*", "own"))
    less = [{"permission": permission, "reach": reach} for permission, reach in kept_]
    assert org.admin.patch(f"/v1/roles/{role}", json={"permissions": less}).status_code == 200
    for answer in (clerk.get(path), clerk.get(url), clerk.post(f"/v1/exports/{made['id']}/download_link")):
        problem(answer, 403)
    more = [*less, {"permission": "accounts:read", "reach": "all"}]
    assert org.admin.patch(f"/v1/roles/{role}", json={"permissions": more}).status_code == 200
    assert clerk.get(path).status_code == 200


def test_an_export_goes_with_the_people_that_it_was_about(org, worker):
    org.rep.make("accounts", name="Of rep")
    made = export(org.manager)
    path = f"/v1/exports/{made['id']}/content"
    assert "Of rep" in org.manager.get(path).text
    assert org.admin.patch(f"/v1/users/{org.rep.id}", json={"manager_id": org.other_manager.id}).status_code == 200
    problem(org.manager.get(path), 403)


def test_a_field_that_is_hidden_by_now_is_not_told_by_what_an_export_was_asked_by(org, worker):
    org.admin.make("accounts", name="Rich", credit_limit="900.00")
    role = org.role("Clerk", ("accounts:read", "all"), ("exports:*", "own"), ("jobs:*", "own"))
    clerk = org.person("clerk", role)
    asked = {"filter": {"field": "credit_limit", "op": "gt", "value": "100"}, "fields": ["name"]}
    made = export(clerk, **asked)
    path = f"/v1/exports/{made['id']}/content"
    assert "Rich" in clerk.get(path).text
    rules = [{"resource": "accounts", "field": "credit_limit", "rule": "hidden"}]
    assert org.admin.patch(f"/v1/roles/{role}", json={"field_rules": rules}).status_code == 200
    assert problem(clerk.get(path), 403)["permission"] == "field accounts.credit_limit"


def test_an_export_while_a_field_is_closed_has_no_later_page_of_it(org, worker, monkeypatch):
    for i in range(4):
        org.admin.make("accounts", name=f"Account {i}", credit_limit="900000000.00")
    role = org.role("Clerk", ("accounts:read", "all"), ("exports:*", "own"), ("jobs:*", "own"))
    clerk = org.person("clerk", role)
    rules = [{"resource": "accounts", "field": "credit_limit", "rule": "hidden"}]
    original, pages = exports._page, []

    async def slow(*arguments):
        found = await original(*arguments)
        if not pages:
            pages.append(1)
            path, body = f"/v1/roles/{role}", {"field_rules": rules}
            assert (await asyncio.to_thread(org.admin.patch, path, json=body)).status_code == 200
        return found

    monkeypatch.setattr(exports, "PAGE", 2)
    monkeypatch.setattr(exports, "_page", slow)
    job = clerk.post("/v1/exports", json={"resource": "accounts"})
    ended = wait(clerk, job.json())
    answer = clerk.get(f"/v1/exports/{ended['id']}/content")
    assert "900000000" not in answer.text
    assert ended["state"] == "succeeded", ended


BLANKS = ("", " ", "\u00a0", "\u3000", "\ufeff", "\u200b", "  \t")


@pytest.mark.parametrize("blank", BLANKS)
@pytest.mark.parametrize("sign", "=+-@\uff1d\uff0b\uff0d\uff20")
def test_blanks_before_a_formula_do_not_hide_it(blank, sign):
    text = cell(f"{blank}{sign}cmd|' /C calc'!A0")
    assert text.startswith("'")
    (row,) = csv.reader(io.StringIO(text))
    assert row[0] == text
    assert not cell(f"{blank}5 = 5").startswith("'")


def test_a_read_only_key_makes_no_export_and_gets_none_of_others(org, worker):
    made = export(org.rep)
    path = f"/v1/exports/{made['id']}/content"
    for scopes, status in ((["accounts:read", "exchange:read"], 200), (["exchange:read", "exchange:write"], 403)):
        issued = org.admin.post(f"/v1/users/{org.rep.id}/issue_key", json={"name": "k", "scopes": scopes}).json()
        headers = {"Authorization": f"Bearer {issued['key']}"}
        problem(org.rep.post("/v1/exports", json={"resource": "accounts"}, headers=headers), 403)
        assert org.rep.get(path, headers=headers).status_code == status
        assert org.admin.post(f"/v1/api_keys/{issued['id']}/revoke").status_code == 200
    problem(org.colleague.get(path), 404)
    assert code(Org.create(org.server).admin.get(path)) == (404, "not_found")
