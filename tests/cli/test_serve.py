"""Serving: stops without losing a request, shares one database between processes, refuses what is unsafe."""

import re
import signal
import socket
import time
from urllib.parse import urlsplit

import orjson
import psutil
import pytest

from tests.support.command import Serving, crm_api

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def where(server, database):
    return {"database_url": database["app"], "data_dir": server.settings.data_dir, "shutdown_timeout": "10"}


def begin(serving: Serving, key: str, body: bytes) -> socket.socket:
    """A request whose body is sent but for its last byte."""
    address = urlsplit(serving.base_url)
    connection = socket.create_connection((address.hostname, address.port), timeout=20)
    head = (
        f"POST /v1/accounts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body[:-1])
    return connection


def test_metrics_want_their_token(where, tmp_path):
    with Serving(tmp_path / "log", **where, metrics_token="scrape-me-if-you-can") as serving:
        assert serving.get("/metrics").status_code == 401
        assert serving.get("/metrics", "scrape-me-if-you-cannot").status_code == 401
        assert serving.get("/metrics", "scrape-me-if-you-can").status_code == 200
        assert serving.get("/healthz").status_code == 200


@pytest.mark.broad  # faults/test_processes has it, of one process
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_request_in_flight_is_finished(org, where, tmp_path, workers):
    body = orjson.dumps({"name": f"Last order {workers}"})
    with Serving(tmp_path / "log", "--workers", workers, **where) as serving:
        parent = psutil.Process(serving.process.pid)
        children = [child for child in parent.children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]
        assert len(children) == (2 if workers == "2" else 0)
        for _ in range(6):
            answer = serving.get("/v1/me", org.admin.key)
            assert answer.status_code == 200
        assert "server" not in answer.headers
        counted = serving.get("/metrics").text
        assert 'crm_requests_total{method="GET",status="200"} 6.0' in counted

        with begin(serving, org.admin.key, body) as connection:
            time.sleep(0.3)
            serving.process.send_signal(signal.SIGTERM)
            time.sleep(1)
            assert serving.process.poll() is None
            connection.sendall(body[-1:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 201 ")
        assert serving.process.wait(15) == 0, serving.output
        assert not psutil.wait_procs(children, timeout=2)[1]
        assert "Traceback" not in serving.output
    assert [account["name"] for account in org.admin.all("/v1/accounts")] == [f"Last order {workers}"]


def test_ctrl_c_stops_it(where, tmp_path):
    with Serving(tmp_path / "log", **where) as serving:
        assert serving.get("/readyz").status_code == 200
        assert serving.stop(signal.SIGINT) == 0
        assert "Traceback" not in serving.output
        assert re.search(r"\] stopped\s*$", serving.output)


@pytest.mark.broad  # it takes nine seconds
def test_a_log_for_people_has_plain_ids_and_says_why_work_fails(org, where, tmp_path, database):
    with Serving(tmp_path / "log", **{**where, "database_url": database["migrate"]}) as serving:
        deadline = time.monotonic() + 20
        while "permission denied for" not in serving.output:
            assert time.monotonic() < deadline, serving.output
            time.sleep(0.1)
        assert serving.stop(signal.SIGTERM) == 0
    with Serving(tmp_path / "second", **where) as serving:
        assert serving.get("/v1/me", org.rep.key).status_code == 200
        assert serving.stop(signal.SIGTERM) == 0
        assert f"principal={org.rep.id} " in serving.output


def test_without_an_address_it_brings_its_own_database(tmp_path):
    data = tmp_path / "data"
    with Serving(tmp_path / "log", data_dir=data) as serving:
        made = crm_api("tenants", "create", "Mine", "--email", "me@mine.example", data_dir=data)
        assert made.returncode == 0, made.stderr
        key = made.stdout.split()[-1]
        assert serving.get("/v1/me", key).status_code == 200  # a second process joined the database and left it running
        serving.process.kill()
        serving.process.wait()
    assert (data / "postgres" / "postmaster.pid").exists()
    with Serving(
        tmp_path / "log", data_dir=data
    ) as serving:  # after a kill PostgreSQL is joined, and stopped in the end
        assert serving.get("/v1/me", key).status_code == 200
        assert serving.stop(signal.SIGTERM) == 0
    assert not (data / "postgres" / "postmaster.pid").exists()


def test_production_refuses_what_is_unsafe(where, database, refused):
    def line(**settings):
        return refused("serve", "--port", "0", **{**where, "environment": "production", "secret": SECRET, **settings})

    assert "is a superuser" in line(database_url=database["admin"])
    assert "is a member of the owner" in line(database_url=database["migrate"])
    assert "at least 32 characters" in line(secret="short")
    assert "CRM_DATABASE_URL is required" in line(database_url=None)
    assert "CRM_SECRET is required" in refused("serve", environment="production", database_url=database["app"])


def test_a_taken_port_is_one_line(where, refused):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "already in use" in refused("serve", "--port", str(taken.getsockname()[1]), **where)
