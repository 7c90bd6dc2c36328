"""How long the server waits for the other side of a connection, and what it keeps meanwhile."""

import socket
import time
from contextlib import ExitStack, closing

import pytest

from crm_api import settings
from crm_api.adapters import http
from crm_api.domains.files import upload as uploads
from tests.support.org import Org
from tests.support.problems import problem, read_answer, request_bytes


def connected(server) -> socket.socket:
    host, _, port = server.base_url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def ended(connection: socket.socket, seconds: float = 3) -> bool:
    """Whether the server ends the connection in this time, without an answer."""
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def target(account: dict) -> str:
    return f"/v1/files?object_type=account&object_id={account['id']}&name=x.txt"


def headers(org, *more: tuple[str, str]) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {org.rep.key}"), *more]


@pytest.fixture
def account(shared_org) -> dict:
    return shared_org.rep.make("accounts", name="Slow")


@pytest.mark.parametrize(
    "begin", [b"", b"\r\n", b"GET /v1/me HTTP/1.1\r\nHost: x\r\n", b"GET /v1/me HTTP/1.1\r\nX: " + b"x" * 9_000]
)
def test_a_head_that_does_not_come_ends_the_connection(server, monkeypatch, begin):
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.1)
    with closing(connected(server)) as connection:
        connection.sendall(begin)
        started = time.monotonic()
        assert ended(connection)
        assert time.monotonic() - started < 2


def test_a_head_has_an_end(server):
    with closing(connected(server)) as connection:
        connection.sendall(b"GET /v1/me HTTP/1.1\r\nHost: x\r\n")
        lines = [b"X-%d: %s\r\n" % (i, b"x" * 1_000) for i in range(10_000)]
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(b"".join(lines))


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_does_not_come_holds_nothing_and_ends(server, shared_org, account, monkeypatch, chunked):
    """More uploads than the pool has connections hang: others are answered all the same."""
    monkeypatch.setattr(http, "BODY_SECONDS", 0.4)
    framing = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", "1000000")
    slow = [connected(server) for _ in range(server.settings.pool_size + 2)]
    try:
        for connection in slow:
            connection.sendall(request_bytes("POST", target(account), headers(shared_org, framing)) + b"1\r\nx\r\n")
        assert shared_org.rep.get("/v1/me").status_code == 200
        assert all(map(ended, slow))
    finally:
        for connection in slow:
            connection.close()
    assert shared_org.rep.all("/v1/files", object_id=account["id"]) == []


def test_uploads_at_once_are_bounded_for_each_tenant(server, shared_org, account, monkeypatch):
    monkeypatch.setattr(uploads, "OF_TENANT", 2)
    slow = [connected(server) for _ in range(2)]
    try:
        for connection in slow:
            connection.sendall(request_bytes("POST", target(account), headers(shared_org, ("Content-Length", "9"))))
        deadline = time.monotonic() + 5
        while uploads._running[shared_org.tenant_id] < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        found = problem(shared_org.rep.post(target(account), content=b"x"), 503)
        assert found["retryable"]
        other = Org.create(server)
        theirs = other.rep.make("accounts", name="Theirs")
        assert other.rep.post(target(theirs), content=b"x").status_code == 201
    finally:
        for connection in slow:
            connection.close()
    while uploads._running:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert shared_org.rep.post(target(account), content=b"x").status_code == 201


def test_a_body_that_never_ends_is_cut(server, shared_org, account):
    with closing(connected(server)) as connection:
        connection.sendall(
            request_bytes("POST", target(account), headers(shared_org, ("Transfer-Encoding", "chunked")))
        )
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        try:
            for _ in range(100):
                connection.sendall(chunk)
        except (ConnectionResetError, BrokenPipeError):
            return
        assert read_answer(connection).status_code == 413


def test_an_answer_that_nobody_takes_ends(server, shared_org, account, monkeypatch):
    monkeypatch.setattr(http, "STALL_SECONDS", 0.2)
    file = shared_org.rep.post(target(account), content=b"x" * 20_000_000).json()
    with closing(connected(server)) as connection:
        connection.sendall(request_bytes("GET", f"/v1/files/{file['id']}/content", headers(shared_org)))
        time.sleep(0.5)
        got = 0
        try:
            while part := connection.recv(1_000_000):
                got += len(part)
        except ConnectionResetError:
            pass
        assert got < 20_000_000


def test_an_address_has_so_many_connections_and_others_get_in(server, shared_org, monkeypatch):
    most = http._OPEN["127.0.0.1"] + 3
    monkeypatch.setattr(http, "most_open", lambda: most)
    raw = request_bytes("GET", "/v1/me", headers(shared_org))
    with ExitStack() as stack:
        for _ in range(3):
            one = stack.enter_context(closing(connected(server)))
            one.sendall(raw)
            assert read_answer(one).status_code == 200
        with closing(connected(server)) as further:
            assert ended(further)
        proxies = server.settings.model_copy(update={"trusted_proxies": ("127.0.0.1",)})
        with monkeypatch.context() as patch, closing(connected(server)) as proxy:
            patch.setattr(settings, "load_settings", lambda: proxies)
            proxy.sendall(raw)
            assert read_answer(proxy).status_code == 200
    deadline = time.monotonic() + 3
    while http._OPEN["127.0.0.1"] >= most:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with closing(connected(server)) as again:
        again.sendall(raw)
        assert read_answer(again).status_code == 200


def test_slow_but_steady_clients_are_served(server, shared_org, monkeypatch):
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.4)
    raw = request_bytes("GET", "/v1/me", headers(shared_org))
    with closing(connected(server)) as connection:
        for idle in (0.5, 0):
            for start in range(0, len(raw), 40):
                connection.sendall(raw[start : start + 40])
                time.sleep(0.01)
            assert read_answer(connection).status_code == 200
            time.sleep(idle)
