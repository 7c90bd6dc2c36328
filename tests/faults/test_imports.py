"""An import whose worker is killed goes on in another one: each row is applied once, with its audit entry and event."""

import time
import uuid

import pytest

from tests.faults.conftest import Process


@pytest.fixture(scope="module")
def office(cluster):
    """A server that starts jobs and leaves them to others."""
    with Process(cluster, worker=False) as running:
        yield running


def _job(client, made: dict, verb: str) -> dict:
    answer = client.post(f"/v1/imports/{made['id']}/{verb}")
    assert answer.status_code == 202, answer.text
    return answer.json()


def _until(client, job: dict, reached) -> dict:
    deadline = time.monotonic() + 60
    while not reached(found := client.get(f"/v1/jobs/{job['id']}").json()):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


@pytest.mark.broad  # test_jobs kills a worker, too
def test_rows_are_applied_once_whoever_is_killed(cluster, office, hire):
    mark, number = uuid.uuid4().hex, 2_000
    content = "name\n" + "".join(f"{mark} {n}\n" for n in range(number))
    with office.client() as client:
        body = {"name": "Killed", "resource": "accounts", "mapping": [{"column": "name", "field": "name"}]}
        made = client.post("/v1/imports", json=body).json()
        assert client.put(f"/v1/imports/{made['id']}/content", content=content).status_code == 200
        for verb in ("validate", "apply"):
            job = _job(client, made, verb)
            worker = hire(job_lease=1)
            _until(client, job, lambda found: found["done"] >= 500)
            worker.kill()
            hire(job_lease=1)
            job = _until(client, job, lambda found: found["state"] not in ("queued", "running"))
            assert (job["state"], job["done"]) == ("succeeded", number)
        counts = client.get(f"/v1/imports/{made['id']}").json()["counts"]
    assert (counts["rows"], counts["created"]) == (number, number)
    found = cluster.ledger(f"{mark} %")
    assert (len(found), set(found.values())) == (number, {(1, 1)})
    assert cluster.orphans() == 0
