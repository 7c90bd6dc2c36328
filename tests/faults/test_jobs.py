"""Workers that are killed, stopped, cut off: each step of a job has its effect once, and no job is lost or stuck."""

import random
import time
import uuid

import pytest

from tests.faults.conftest import Process
from tests.support.problems import problem

UNFINISHED = ("queued", "running")


@pytest.fixture(scope="module")
def office(cluster):
    """A server that starts jobs and leaves them to others."""
    with Process(cluster, "tests.faults.making:create_app", worker=False) as running:
        yield running


def _start(office, number: int, pause: float) -> dict:
    with office.client() as client:
        answer = client.post("/v1/make_accounts", json={"name": uuid.uuid4().hex, "number": number, "pause": pause})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    assert answer.headers["retry-after"] == "1"
    return answer.json()


def _get(office, job: dict, who: str = "rep") -> dict:
    with office.client(who) as client:
        answer = client.get(f"/v1/jobs/{job['id']}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def _wait(office, job: dict, reached, seconds: float = 30, who: str = "rep") -> dict:
    """The job once `reached(job)`; what is seen of it meanwhile never goes back."""
    deadline, done = time.monotonic() + seconds, 0
    while True:
        found = _get(office, job, who)
        assert found["done"] >= done, "progress fell"
        done = found["done"]
        if reached(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def _whole(cluster, job: dict) -> None:
    """Every step was done, once, with its audit row and its event."""
    parameters = job["parameters"]
    found = cluster.ledger(f"{parameters['name']} %")
    assert found.keys() == {f"{parameters['name']} {n}" for n in range(parameters["number"])}
    assert set(found.values()) == {(1, 1)}
    assert cluster.orphans() == 0
    assert (job["state"], job["done"], job["result"]) == ("succeeded", len(found), {"made": len(found)})
    assert cluster.events(job["id"]) == ["job.created", "job.succeeded", "job.updated"]


def _ended(job: dict) -> bool:
    return job["state"] not in UNFINISHED


def test_another_worker_finishes_what_a_killed_one_left(cluster, office, hire):
    first = hire()
    job = _start(office, 40, 0.05)
    _wait(office, job, lambda found: found["done"] >= 5)
    first.kill()
    left = _get(office, job)
    assert left["state"] == "running"
    hire()
    job = _wait(office, job, _ended)
    _whole(cluster, job)


@pytest.mark.broad  # one worker is killed above
def test_records_are_dealt_once_whoever_is_killed(cluster, office, hire):
    industry, number = uuid.uuid4().hex, 200
    with office.client("admin") as client:
        items = [{"op": "create", "body": {"name": f"D {n}", "industry": industry}} for n in range(number)]
        assert client.post("/v1/accounts/batch", json={"items": items}).status_code == 200
        users = [
            client.post("/v1/users", json={"name": "D", "email": f"{uuid.uuid4().hex}@example.com"}).json()["id"]
            for _ in range(3)
        ]
        first = hire(job_lease=1)
        body = {"filter": {"field": "industry", "value": industry}, "users": users}
        job = client.post("/v1/accounts/distribute", json=body).json()
    _wait(office, job, lambda found: found["done"] >= 20, who="admin")
    first.kill()
    assert _get(office, job, "admin")["state"] == "running"
    hire()
    job = _wait(office, job, _ended, who="admin")
    assert (job["state"], job["done"], job["result"]["done"]) == ("succeeded", number, number)
    rows = cluster.fetch(
        """SELECT owner_id::text AS owner, version,
             (SELECT count(*) FROM audit_entries e WHERE e.object_id = a.id AND e.action = 'distribute') AS audited
           FROM accounts a WHERE industry = $1 ORDER BY id""",
        industry,
    )
    assert [row["owner"] for row in rows] == [users[n % 3] for n in range(number)]
    assert {(row["version"], row["audited"]) for row in rows} == {(2, 1)}
    assert cluster.orphans() == 0


def _kill_again_and_again(cluster, office, hire, number: int, rounds: int) -> None:
    jobs = [_start(office, 25, 0.02) for _ in range(number)]
    rolled = random.Random(rounds)  # noqa: S311 - moments, no secrets
    for _ in range(rounds):
        pair = [hire(job_lease=1), hire(job_lease=1)]
        time.sleep(rolled.uniform(0.1, 0.8))
        for worker in pair:
            worker.kill()
    hire(job_lease=1)
    for job in jobs:
        _whole(cluster, _wait(office, job, _ended, 60))


@pytest.mark.full
def test_workers_killed_again_and_again(cluster, office, hire):
    _kill_again_and_again(cluster, office, hire, 4, 2)


@pytest.mark.full
def test_many_workers_killed_again_and_again(cluster, office, hire):
    _kill_again_and_again(cluster, office, hire, 30, 15)


@pytest.mark.broad  # the next one stops a worker, too
def test_a_stopped_worker_gives_its_job_back_at_once(cluster, office, hire):
    first = hire(job_lease=600)
    job = _start(office, 40, 0.05)
    _wait(office, job, lambda found: found["done"] >= 5)
    started = time.monotonic()
    assert first.stop() == 0, first.output
    assert time.monotonic() - started < 6
    left = _get(office, job)
    assert (left["state"], left["attempts"]) == ("queued", 0), "given back, and the try is not counted"
    assert "Traceback" not in first.output
    hire()
    _whole(cluster, _wait(office, job, _ended))


def test_a_stopped_worker_does_not_wait_for_a_long_step(cluster, office, hire):
    first = hire(job_lease=600)
    job = _start(office, 1, 20)
    _wait(office, job, lambda found: found["state"] == "running")
    started = time.monotonic()
    assert first.stop() == 0, first.output
    assert time.monotonic() - started < 8
    assert _get(office, job)["state"] == "queued"
    with office.client() as client:
        assert client.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200
    assert cluster.ledger(f"{job['parameters']['name']} %") == {}


@pytest.mark.broad  # it takes seven seconds
def test_it_goes_on_when_all_connections_are_cut(cluster, office, hire):
    worker = hire()
    job = _start(office, 60, 0.03)
    for done in (5, 25):
        _wait(office, job, lambda found, done=done: found["done"] >= done)
        cluster.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'crm_app'")
    job = _wait(office, job, _ended, 60)
    _whole(cluster, job)
    assert worker.popen.poll() is None
    assert "Traceback" not in worker.output


@pytest.mark.broad  # it takes seven seconds
def test_it_goes_on_when_postgresql_restarts(cluster, office, hire):
    worker = hire()
    job = _start(office, 60, 0.03)
    _wait(office, job, lambda found: found["done"] >= 5)
    cluster.restart("immediate")
    deadline = time.monotonic() + 20
    while True:
        with office.client() as client:
            if client.get("/readyz").status_code == 200:
                break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    job = _wait(office, job, _ended, 60)
    _whole(cluster, job)
    assert worker.popen.poll() is None


@pytest.mark.broad  # it takes four seconds
def test_a_worker_that_lost_its_lease_leaves_nothing_behind(cluster, office, hire, lock):
    """It is held up inside a step until another has the job; what it then writes is not kept."""
    slow = hire(job_lease=1)
    job = _start(office, 12, 0.1)
    _wait(office, job, lambda found: found["done"] >= 2)
    slow.popen.send_signal(19)  # SIGSTOP: it is alive, and does not know
    other = hire(job_lease=1)
    _wait(office, job, lambda found: found["done"] >= 6)
    slow.popen.send_signal(18)
    _whole(cluster, _wait(office, job, _ended))
    assert other.popen.poll() is None
    assert slow.popen.poll() is None


def test_a_cancelled_job_does_no_step_after_the_answer(cluster, office, hire):
    hire()
    job = _start(office, 1000, 0.01)
    _wait(office, job, lambda found: found["done"] >= 5)
    with office.client() as client:
        for _ in range(20):
            answer = client.post(f"/v1/jobs/{job['id']}/cancel")
            if answer.status_code != 409:
                break
            problem(answer, 409, code="locked")
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "cancelled"
    made = len(cluster.ledger(f"{job['parameters']['name']} %"))
    assert made == answer.json()["done"]
    time.sleep(1)
    assert len(cluster.ledger(f"{job['parameters']['name']} %")) == made
    assert _get(office, job) == answer.json()


@pytest.mark.broad  # it takes four seconds
def test_a_server_does_the_work_too_and_an_action_may_start_it(cluster, launch):
    server = launch(factory="tests.faults.making:create_app")
    with server.client() as client:
        account = client.post("/v1/accounts", json={"name": "Multiplied"}).json()
        body = {"name": uuid.uuid4().hex, "number": 3}
        path = f"/v1/accounts/{account['id']}/multiply"
        refused = client.post(path, json=body)
        problem(refused, 403, code="forbidden")
        contract = client.get("/openapi.json").json()["paths"]["/v1/accounts/{id}/multiply"]["post"]["responses"]
        assert "200" not in contract
        assert {"Location", "Retry-After", "Idempotency-Replayed"} <= contract["202"]["headers"].keys()
        assert contract["202"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Job"}
    with server.client("admin") as client:
        key = {"Idempotency-Key": uuid.uuid4().hex}
        first = client.post(path, json=body, headers=key)
        assert first.status_code == 202, first.text
        assert first.headers["location"] == f"/v1/jobs/{first.json()['id']}"
        assert first.headers["retry-after"] == "1"
        again = client.post(path, json=body, headers=key)
        assert (again.status_code, again.json(), again.headers["idempotency-replayed"]) == (202, first.json(), "true")
        assert again.headers["location"] == first.headers["location"]
        deadline = time.monotonic() + 10
        while _ended(job := client.get(first.headers["location"]).json()) is False:
            assert time.monotonic() < deadline, job
            time.sleep(0.02)
    _whole(cluster, job)
    server.settled()
    assert server.stop() in (0, -15)
    assert "Traceback" not in server.output
