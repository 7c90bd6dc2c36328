"""Clients that hang up, servers that are killed or stopped, the same request many times: one effect, or none."""

import socket
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.support.problems import problem, request_bytes


def _race(number: int, work: Any) -> list[Any]:
    gate = threading.Barrier(number)

    def run(index: int) -> Any:
        gate.wait()
        return work(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))


def _hang_up(process, body: bytes, sent: int, pause: float) -> None:
    headers = [("Authorization", f"Bearer {process.cluster.keys['rep']}"), ("Content-Type", "application/json")]
    whole = request_bytes("POST", "/v1/accounts", headers, body)
    with socket.create_connection(("127.0.0.1", process.port), timeout=5) as connection:
        connection.sendall(whole[: len(whole) - len(body) + sent])
        time.sleep(pause)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # a reset


def test_a_client_that_hangs_up_leaves_all_or_nothing(cluster, process):
    before = process.output.count("Traceback")

    def one(number: int) -> None:
        body = b'{"name": "hangup-%s-%d"}' % (b"half" if number % 2 else b"whole", number)
        _hang_up(process, body, len(body) // 2 if number % 2 else len(body), (number % 7) * 0.002)

    found: dict[str, tuple[int, int]] = {}
    with ThreadPoolExecutor(8) as pool:
        for start in range(0, 800, 80):  # on a busy machine none of a round may be read before it is gone
            list(pool.map(one, range(start, start + 80)))
            process.settled()
            found = cluster.ledger("hangup-%")
            if found:
                break
    assert not [name for name in found if "half" in name]
    assert set(found.values()) <= {(1, 1)}
    assert found, "some were read whole before the connection ended"
    assert cluster.orphans() == 0
    with process.client() as client:
        assert [client.get("/v1/accounts").status_code for _ in range(20)] == [200] * 20
    assert process.output.count("Traceback") == before


def _keyed(process, number: int, prefix: str) -> int | None:
    try:
        with process.client() as client:
            body = {"name": f"{prefix}-{number}"}
            return client.post("/v1/accounts", json=body, headers={"Idempotency-Key": body["name"]}).status_code
    except httpx2.TransportError:
        return None


def _kill_and_retry(cluster, process, launch, number: int, prefix: str, delay: float) -> None:
    first = launch()
    with ThreadPoolExecutor(20) as pool:
        futures = [pool.submit(_keyed, first, i, prefix) for i in range(number)]
        deadline = time.monotonic() + 20
        while not any(future.done() for future in futures):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(delay)
        first.kill()
        answers = [future.result() for future in futures]
    assert set(answers) <= {201, None}
    assert None in answers, "the process was killed while requests ran"
    acknowledged = {f"{prefix}-{i}" for i, status in enumerate(answers) if status == 201}
    assert acknowledged <= cluster.ledger(f"{prefix}-%").keys()
    again: list[int | None] = [None] * number
    with ThreadPoolExecutor(20) as pool:
        for _ in range(5):
            left = [i for i, status in enumerate(again) if status != 201]
            for i, status in zip(left, pool.map(lambda i: _keyed(process, i, prefix), left), strict=True):
                again[i] = status
            if not left:
                break
    assert set(again) == {201}
    found = cluster.ledger(f"{prefix}-%")
    assert len(found) == number
    assert set(found.values()) == {(1, 1)}
    assert cluster.orphans() == 0


def test_a_killed_server_and_retried_requests_have_one_effect_each(cluster, process, launch):
    _kill_and_retry(cluster, process, launch, 200, "killed", 0.1)


@pytest.mark.full
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.2, 0.4])
def test_servers_killed_at_other_moments(cluster, process, launch, delay):
    _kill_and_retry(cluster, process, launch, 600, f"killed-{delay}", delay)


RACERS = 60


def _race_with_one_key(process, method: str, path: str, body: Any, status: int) -> list[Any]:
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    with process.client() as client:
        answers = _race(RACERS, lambda _: client.request(method, path, json=body, headers=headers))
        last = client.request(method, path, json=body, headers=headers)
    assert (last.status_code, last.headers["idempotency-replayed"]) == (status, "true")
    for answer in answers:
        if answer.status_code != status:
            found = problem(answer, 409, code="idempotency_in_flight")
            assert found["retryable"] is True
            assert answer.headers["retry-after"] == "1"
    won = [answer for answer in answers if answer.status_code == status]
    assert all(answer.text == last.text or answer.json() == last.json() for answer in won)
    assert len([answer for answer in won if "idempotency-replayed" not in answer.headers]) == 1
    return won


def test_one_key_raced_by_creates(cluster, process):
    for number in range(3):
        name = f"raced-{number}-{uuid.uuid4().hex}"
        _race_with_one_key(process, "POST", "/v1/accounts", {"name": name}, 201)
        assert cluster.ledger(name) == {name: (1, 1)}
    process.settled()


def test_one_key_raced_by_changes_actions_and_deletions(cluster, process):
    with process.client() as client:
        one = client.post("/v1/accounts", json={"name": "Raced"}).json()["id"]
    path = f"/v1/accounts/{one}"
    _race_with_one_key(process, "PATCH", path, {"name": "Changed"}, 200)
    _race_with_one_key(process, "POST", f"{path}/activate", None, 200)
    _race_with_one_key(process, "DELETE", path, None, 204)
    _race_with_one_key(process, "POST", f"{path}/restore", None, 200)
    actions = cluster.fetch("SELECT version, action FROM audit_entries WHERE object_id = $1 ORDER BY version", one)
    assert [tuple(row) for row in actions] == [
        (1, "create"),
        (2, "update"),
        (3, "activate"),
        (4, "delete"),
        (5, "restore"),
    ]
    process.settled()


def test_one_key_with_two_bodies_raced(cluster, process):
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    names = [f"body-{uuid.uuid4().hex}" for _ in range(2)]
    with process.client() as client:
        answers = _race(20, lambda i: client.post("/v1/accounts", json={"name": names[i % 2]}, headers=headers))
    for answer in answers:
        if answer.status_code != 201:
            problem(answer, 409, 422)
    made = {answer.json()["name"] for answer in answers if answer.status_code == 201}
    assert len(made) == 1
    assert len(cluster.ledger("body-%")) == 1


def test_a_replay_when_what_was_referred_to_is_gone(process):
    """The effect happened; the retry says so, whatever became of the parent since."""
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    with process.client() as client:
        parent = client.post("/v1/accounts", json={"name": "Parent"}).json()
        body = {"last_name": "Child", "account_id": parent["id"]}
        first = client.post("/v1/contacts", json=body, headers=headers)
        assert first.status_code == 201
        assert client.delete(f"/v1/accounts/{parent['id']}").status_code == 204
        again = client.post("/v1/contacts", json=body, headers=headers)
    assert (again.status_code, again.headers.get("idempotency-replayed")) == (201, "true")
    assert again.json() == first.json()


def test_a_refused_write_does_not_consume_its_key(process):
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    with process.client() as client:
        tax_id = uuid.uuid4().hex
        other = client.post("/v1/accounts", json={"name": "First", "tax_id": tax_id}).json()
        body = {"name": "Second", "tax_id": tax_id}
        problem(client.post("/v1/accounts", json=body, headers=headers), 409, code="duplicate")
        problem(client.post("/v1/accounts", json=body, headers=headers), 409, code="duplicate")
        assert len(client.get("/v1/accounts", params={"tax_id": tax_id}).json()["data"]) == 1
        assert other["id"]


def test_a_request_in_flight_outlives_a_graceful_stop(cluster, launch, lock):
    server = launch(lock_timeout=10_000)
    with server.client() as client, ThreadPoolExecutor(1) as pool:
        one = client.post("/v1/accounts", json={"name": "Stopping"}).json()["id"]
        with lock("SELECT 1 FROM accounts WHERE id = $1 FOR UPDATE", one) as held:
            running = pool.submit(client.patch, f"/v1/accounts/{one}", json={"name": "Stopped"})
            time.sleep(0.3)
            server.popen.terminate()
            time.sleep(0.5)
            assert server.popen.poll() is None, "it waits for the request"
            with pytest.raises(ConnectionError), socket.create_connection(("127.0.0.1", server.port), timeout=1):
                pass
            held.release()
            answer = running.result(10)
        assert (answer.status_code, answer.json()["name"]) == (200, "Stopped")
    assert server.popen.wait(10) in (0, -15)
    assert cluster.fetch("SELECT name FROM accounts WHERE id = $1", one)[0][0] == "Stopped"
    assert "Traceback" not in server.output
