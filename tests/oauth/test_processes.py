"""Several processes over one database: keys that change under load, what one of them ends, clocks that differ."""

import itertools
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
import time_machine
from joserfc.jws import extract_compact

from crm_api.domains.oauth.access_token import LEEWAY, tokens_of
from tests.support.oauth import HTTP, App, ask, sign_in


@pytest.fixture(scope="module")
def program(org):
    account = org.admin.make("service_accounts", name="Program")
    values = {"grant_types": ["client_credentials"], "service_account_id": account["id"], "scopes": ["accounts:read"]}
    return App.register(org, client_type="confidential", **values)


def _token(place, program: App) -> httpx2.Response:
    form = {"grant_type": "client_credentials", "client_id": program.client_id, "client_secret": program.secret}
    return HTTP.post(f"{place.base_url}/oauth/token", data=form)


def _kid(token: str) -> str:
    return str(extract_compact(token.encode()).headers()["kid"])


def test_a_key_follows_another_under_load_and_no_request_fails(server, others, program):
    """A key is announced, then signs: first in the process that made it, then wherever a token of it is seen."""
    keys, places = tokens_of(server.kernel).keys, (server, *others)
    latest, statuses, signed = [_token(place, program).json()["access_token"] for place in places], Counter(), set()
    over, lock = threading.Event(), threading.Lock()

    def load(number: int) -> None:
        for turn in itertools.count(number):
            if over.is_set():
                return
            place = places[turn % len(places)]
            if turn % 4:
                answer, what = ask(place, latest[turn // 4 % len(latest)]), "read"
            else:
                answer, what = _token(place, program), "token"
                if answer.status_code == 200:
                    latest[turn // 4 % len(latest)] = answer.json()["access_token"]
                    with lock:
                        signed.add((place.base_url, _kid(answer.json()["access_token"])))
            with lock:
                statuses[what, answer.status_code] += 1

    before = _kid(latest[0])
    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(load, number) for number in range(6)]
        try:
            time.sleep(0.5)
            now = datetime.now(UTC)
            assert server.run(keys.add(now + timedelta(seconds=1), unless_since=now))
            deadline = time.monotonic() + 4
            while len(signed) < 2 * len(places) and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            over.set()
        for each in running:
            each.result()
    assert {status for _, status in statuses} == {200}, statuses
    assert min(statuses.values()) > 20, "there was a load"
    assert all((place.base_url, before) in signed for place in places)
    assert len(signed) == 2 * len(places), "each process signed with the old key, and then with the new one"
    assert ask(others[0], latest[0]).status_code == 200


def test_what_is_ended_in_one_process_ends_within_five_seconds_in_another(org, sql, others, program, app):
    browsers = {name: sign_in(sql, org, org.people["outsider"]) for name in ("session", "grant")}
    issued = org.admin.post(f"/v1/users/{org.reader.id}/issue_key", json={"name": "short"}).json()
    tokens = {name: app.tokens(browser)["access_token"] for name, browser in browsers.items()}
    tokens |= {"key": issued["key"], "program": _token(others[1], program).json()["access_token"]}
    known = {name: ask(others[0], token) for name, token in tokens.items()}
    assert {answer.status_code for answer in known.values()} == {200}, "each is remembered by the process from now on"
    began = time.monotonic()
    assert org.admin.post(f"/v1/sessions/{browsers['session'].ticket.id}/revoke").status_code == 200
    page = HTTP.get(
        f"{others[0].base_url}/account", headers={"Cookie": f"crm_session={browsers['session'].ticket.text}"}
    )
    assert page.status_code == 303, "the session itself, at once"
    while ask(others[0], tokens["session"]).status_code != 401:
        assert time.monotonic() < began + 5.2, "a token of the session is good still"
        time.sleep(0.05)
    assert {ask(others[0], tokens[name]).status_code for name in ("grant", "key", "program")} == {200}
    ends = {
        "grant": f"oauth_grants/{known['grant'].json()['credential_id']}/revoke",
        "key": f"api_keys/{issued['id']}/revoke",
    }
    for path in ends.values():
        assert org.admin.post(f"/v1/{path}").status_code == 200
    assert program.post("revoke", token=tokens["program"]).status_code == 200
    for name in ("grant", "key", "program"):
        assert ask(others[0], tokens[name]).status_code == 401, f"{name}: with the next request"


@pytest.mark.parametrize("seconds", [-LEEWAY + 1, LEEWAY - 1])
def test_clocks_of_processes_may_differ_by_seconds(server, others, org, sql, seconds):
    """The process of this test, which is early or late, and another take each other's codes and tokens."""
    other, app = others[0], App.register(org)
    elsewhere = f"{other.base_url}/oauth/token"
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=seconds), tick=True):
        browser = sign_in(sql, org, org.people["outsider"])
        here = app.tokens(browser)
        assert ask(other, here["access_token"]).status_code == 200
        form = {"grant_type": "refresh_token", "client_id": app.client_id, "refresh_token": here["refresh_token"]}
        there = HTTP.post(elsewhere, data=form)
        assert there.status_code == 200, there.text
        assert ask(server, there.json()["access_token"]).status_code == 200
        assert app.refresh(there.json()["refresh_token"]).status_code == 200


@pytest.mark.parametrize("seconds", [-900, -60, 60, 900])
def test_a_clock_that_is_wrong_by_more_is_refused_and_breaks_nothing(server, others, program, seconds):
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=seconds), tick=True):
        token = _token(server, program)
        assert token.status_code == 200
        refused = abs(seconds) > 600 or seconds > 0
        assert ask(others[0], token.json()["access_token"]).status_code == (401 if refused else 200)
    assert ask(others[0], _token(server, program).json()["access_token"]).status_code == 200
