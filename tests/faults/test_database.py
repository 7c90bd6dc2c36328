"""The database goes away, comes back, is slow or full: clear answers, nothing acknowledged lost, no restart by hand."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.conftest import Process
from tests.support.problems import problem


def works(process, seconds: float = 5.0) -> None:
    """Fails unless, within some seconds, twenty reads and writes in a row succeed."""
    deadline, row = time.monotonic() + seconds, 0
    with process.client() as client:
        while row < 20:
            answers = (client.post("/v1/accounts", json={"name": "After"}), client.get("/v1/accounts?limit=1"))
            row = row + 1 if all(answer.is_success for answer in answers) else 0
            assert time.monotonic() < deadline, answers[0].text


@pytest.mark.parametrize("mode", [pytest.param("fast", marks=pytest.mark.broad), "immediate"])
def test_postgresql_restarts_under_load(cluster, process, load, mode):
    with load(process, f"restart-{mode}") as running:
        time.sleep(0.8)
        cluster.restart(mode)
        time.sleep(1.5)
    running.check()
    assert running.statuses[503], "the restart was noticed"
    works(process)
    process.settled()


@pytest.mark.full
def test_postgresql_restarts_ten_times_under_load(cluster, process, load):
    with load(process, "restarts", writers=12, readers=6) as running:
        for mode in ["fast", "immediate"] * 5:
            time.sleep(1)
            cluster.restart(mode)
    running.check()
    works(process)
    process.settled()


def test_a_restart_between_requests_costs_at_most_one_answer(cluster, process):
    """Idle connections that died are not handed out one after the other."""
    with process.client() as client, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.get("/v1/accounts"), range(32)))
        cluster.restart()
        time.sleep(0.3)
        statuses = [client.post("/v1/accounts", json={"name": "Between"}).status_code for _ in range(10)]
    assert statuses.count(201) >= 9, statuses
    assert set(statuses) <= {201, 503}


def _terminate_some(cluster, chance: float) -> int:
    rows = cluster.fetch(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'crm-api' AND random() < $1", chance
    )
    for row in rows:
        cluster.fetch("SELECT pg_terminate_backend($1)", row["pid"])
    return len(rows)


def test_backends_are_terminated_at_random(cluster, process, load):
    ended = 0
    with load(process, "terminate") as running:
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            ended += _terminate_some(cluster, 0.5)
            time.sleep(0.05)
    running.check()
    assert ended > 10
    works(process)
    process.settled()


@pytest.mark.full
def test_a_thousand_backends_are_terminated(cluster, process, load):
    ended = 0
    with load(process, "storm", writers=12, readers=6) as running:
        while ended < 1000:
            ended += _terminate_some(cluster, 0.5)
            time.sleep(0.02)
    running.check()
    works(process)
    process.settled()


def _account(process, name: str) -> str:
    with process.client() as client:
        answer = client.post("/v1/accounts", json={"name": name})
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]


def test_a_locked_row_is_409_after_half_a_second(process, lock):
    one = _account(process, "Locked")
    with process.client() as client:
        with lock("SELECT 1 FROM accounts WHERE id = $1 FOR UPDATE", one):
            for method, path, body in (
                ("PATCH", "", {"name": "x"}),
                ("DELETE", "", None),
                ("POST", "/activate", None),
            ):
                started = time.monotonic()
                answer = client.request(method, f"/v1/accounts/{one}{path}", json=body)
                assert 0.4 < time.monotonic() - started < 1.5
                assert problem(answer, 409, code="locked")["retryable"] is True
                assert answer.headers["retry-after"] == "1"
            answer = client.get(f"/v1/accounts/{one}")
            assert answer.json()["version"] == 1
            quota, window = map(int, re.findall("[0-9]+", answer.headers["ratelimit-policy"])[:2])
            used = (quota - int(re.findall("[0-9]+", answer.headers["ratelimit"])[0])) * window / quota
            assert 0.1 < used < 0.26, "seconds of the rate: a quarter for the last wait"
        assert client.patch(f"/v1/accounts/{one}", json={"name": "y"}).json()["version"] == 2
    process.settled()


def test_an_undecided_unique_value_is_409(process, lock):
    one = _account(process, "Undecided")
    with process.client() as client:
        with lock("UPDATE accounts SET tax_id = 'UNDECIDED' WHERE id = $1 RETURNING 1", one):
            problem(client.post("/v1/accounts", json={"name": "Second", "tax_id": "UNDECIDED"}), 409, code="locked")
        assert client.post("/v1/accounts", json={"name": "Second", "tax_id": "UNDECIDED"}).status_code == 201
        problem(client.post("/v1/accounts", json={"name": "Third", "tax_id": "UNDECIDED"}), 409, code="duplicate")


@pytest.fixture(scope="module")
def small(cluster):
    """A server with one connection, which waits for locks longer than a statement may take."""
    with Process(cluster, pool_size=1, pool_timeout=0.3, lock_timeout=10_000, statement_timeout=1500) as running:
        yield running


def test_a_slow_statement_is_503(small, lock):
    one = _account(small, "Slow")
    with small.client() as client:
        with lock("SELECT 1 FROM accounts WHERE id = $1 FOR UPDATE", one):
            started = time.monotonic()
            answer = client.patch(f"/v1/accounts/{one}", json={"name": "x"})
            assert 1.4 < time.monotonic() - started < 4
            assert problem(answer, 503, code="timeout")["retryable"] is True
            assert answer.headers["retry-after"] == "1"
        assert client.patch(f"/v1/accounts/{one}", json={"name": "y"}).json()["version"] == 2
    small.settled()


def test_an_exhausted_pool_answers_fast_and_healthz_always(small, lock):
    one = _account(small, "Contended")
    with small.client() as client, ThreadPoolExecutor(12) as pool:
        client.get("/v1/me")
        with lock("SELECT 1 FROM accounts WHERE id = $1 FOR UPDATE", one):
            blocked = pool.submit(client.patch, f"/v1/accounts/{one}", json={"name": "x"})
            time.sleep(0.2)
            started = time.monotonic()
            waiting = [pool.submit(client.get, "/v1/accounts") for _ in range(10)]
            health = client.get("/healthz")
            assert health.status_code == 200
            assert time.monotonic() - started < 0.3, "before any of the others is answered"
            for future in waiting:
                answer = future.result()
                assert problem(answer, 503, code="unavailable")["retryable"] is True
                assert answer.headers["retry-after"] == "1"
            assert time.monotonic() - started < 1
            assert client.get("/readyz").status_code == 200, "one tenant has what it may have, and no more"
        assert blocked.result().status_code == 200
        assert [client.get("/v1/accounts").status_code for _ in range(5)] == [200] * 5
    small.settled()


def test_what_hand_written_routes_say_when_the_database_is_away(cluster, process):
    with process.client() as client:
        assert client.get("/v1/me").status_code == 200
        cluster.fetch("ALTER TABLE role_assignments RENAME TO away")
        try:
            problem(client.get("/v1/me"), 500, code="internal")
        finally:
            cluster.fetch("ALTER TABLE away RENAME TO role_assignments")
        assert client.get("/v1/me").status_code == 200
