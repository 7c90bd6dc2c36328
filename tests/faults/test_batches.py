"""Batches whose server or database dies in the middle: sent again under their key, each item has one effect."""

import threading
import time

import httpx2
import pytest

pytestmark = pytest.mark.broad  # killed servers are in test_processes, too

SIZE = 200


def frame(prefix: str, mode: str) -> dict:
    items = [{"op": "create", "body": {"name": f"{prefix}-{n}"}} for n in range(SIZE)]
    return {"mode": mode, "items": items}


def send(process, prefix: str, mode: str):
    try:
        with process.client() as client:
            headers = {"Idempotency-Key": prefix}
            return client.post("/v1/accounts/batch", json=frame(prefix, mode), headers=headers)
    except httpx2.TransportError:
        return None


def sent_whole(process, prefix: str, mode: str):
    """Sends a batch until all of it is answered."""
    deadline = time.monotonic() + 20
    while (answer := send(process, prefix, mode)) is None or answer.status_code != 200:
        assert answer is None or answer.status_code in (207, 409, 503), answer.text
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return answer


def interrupted(process, cluster, prefix: str, mode: str, interrupt) -> tuple[object, int]:
    """A batch that `interrupt` cuts short once it has begun: its answer, and how many records there are then."""
    answers: list = []
    thread = threading.Thread(target=lambda: answers.append(send(process, prefix, mode)))
    thread.start()
    deadline = time.monotonic() + 10
    while mode == "partial" and len(cluster.ledger(f"{prefix}-%")) < 10:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    if mode == "atomic":
        time.sleep(0.05)
    interrupt()
    thread.join(30)
    return answers[0], len(cluster.ledger(f"{prefix}-%"))


def once(cluster, prefix: str, answer) -> None:
    found = cluster.ledger(f"{prefix}-%")
    assert set(found) == {f"{prefix}-{n}" for n in range(SIZE)}
    assert set(found.values()) == {(1, 1)}
    assert len({item["id"] for item in answer.json()["results"]}) == SIZE
    assert cluster.orphans() == 0


@pytest.mark.parametrize("mode", ["atomic", "partial"])
def test_a_batch_of_a_killed_server(cluster, process, launch, mode):
    prefix = f"batch-killed-{mode}"
    first = launch()
    answer, left = interrupted(first, cluster, prefix, mode, first.kill)
    if mode == "atomic":
        assert left in (0, SIZE), "all or nothing"
    elif answer is None:
        assert 10 <= left <= SIZE
    once(cluster, prefix, sent_whole(process, prefix, mode))


@pytest.mark.parametrize("mode", ["atomic", "partial"])
def test_a_batch_whose_connection_is_lost(cluster, process, mode):
    """What was done is told, the rest is said not to be tried; sent again, it is completed."""
    prefix = f"batch-cut-{mode}"

    def cut() -> None:
        cluster.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'crm_app'")

    answer, left = interrupted(process, cluster, prefix, mode, cut)
    assert answer is not None
    if mode == "atomic":
        assert (answer.status_code, left) in ((503, 0), (200, SIZE))
    elif answer.status_code != 200:
        results = answer.json()["results"]
        statuses = [item["status"] for item in results]
        assert set(statuses) == {201, 503}
        assert statuses == sorted(statuses), "none after the first that could not be answered"
        assert all(item["problem"]["retryable"] for item in results if item["status"] == 503)
    once(cluster, prefix, sent_whole(process, prefix, mode))
    process.settled()
