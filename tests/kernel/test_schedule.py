"""The schedule: whose turn it is, tasks that fail or hang, and the tasks there are."""

import asyncio
import itertools
import time
from contextlib import contextmanager

import asyncpg
import pytest

from crm_api.app import build_kernel
from crm_api.kernel import metrics
from crm_api.worker.jobs import sample
from crm_api.worker.schedule import Task, follow, turn
from crm_api.worker.upkeep import end_shares, forget_jobs, tasks
from tests.support.jobs import UNKNOWN, Nothing, ended, start
from tests.support.org import Org

_numbers = itertools.count(1)


@pytest.fixture
def operator(database):
    """`operator("SELECT ...", ...)` as the superuser."""

    def run(text, *values):
        async def work():
            connection = await asyncpg.connect(database["admin"])
            try:
                return await connection.fetch(text, *values)
            finally:
                await connection.close()

        return asyncio.run(work())

    return run


def task(run, every=0.5, **options) -> Task:
    return Task(f"test {next(_numbers)}", every, run, **options)


@contextmanager
def following(server, *tasks):
    """Loops for these tasks, each on a kernel of its own, as in several processes."""
    kernels = [build_kernel(server.settings, server.settings.database_url) for _ in range(3)]

    async def begin():
        return [asyncio.create_task(follow(kernel, each)) for kernel in kernels for each in tasks]

    async def end():
        for loop in loops:
            loop.cancel()
        await asyncio.wait(loops)
        for kernel in kernels:
            await kernel.database.close()

    loops = server.run(begin())
    try:
        yield
    finally:
        server.run(end())


def test_of_many_at_once_one_has_the_turn_until_the_next_period(server):
    due = task(None, every=0.4)

    async def race():
        return await asyncio.gather(*(turn(server.kernel.database, due) for _ in range(20)))

    for _ in range(3):
        waits = server.run(race())
        assert waits.count(0) == 1
        assert all(0 < wait <= 0.4 for wait in waits if wait)
        time.sleep(0.4)


def test_each_period_belongs_to_one_process_and_no_task_waits_for_another(server):
    rounds = {"well": [], "fails": [], "hangs": []}

    async def well(kernel):
        rounds["well"].append(time.monotonic())

    async def fails(kernel):
        rounds["fails"].append(time.monotonic())
        raise RuntimeError

    async def hangs(kernel):
        rounds["hangs"].append(time.monotonic())
        await asyncio.sleep(60)

    with following(server, task(well), task(fails), task(hangs, at_most=0.2)):
        time.sleep(3.2)
    assert 5 <= len(rounds["well"]) <= 7, "three processes, one round in a period"
    for name in ("fails", "hangs"):
        assert len(rounds[name]) >= 3, name
    for found in rounds.values():
        assert all(later - earlier > 0.4 for earlier, later in itertools.pairwise(found))


def test_what_is_scheduled(server):
    assert {each.name: each.every for each in tasks(server.settings)} == {
        "apply_retention": 300,
        "delete_unclaimed_bytes": 300,
        "end_shares": 60,
        "forget_deliveries": 3600,
        "forget_idempotency_keys": 3600,
        "forget_jobs": 3600,
        "forget_limit_usage": 3600,
        "forget_oauth": 3600,
        "forget_sign_ins": 3600,
        "rotate_signing_keys": 3600,
        "seal_factors_anew": 300,
        "resume_failed_endpoints": 3600,
        "seal_secrets_anew": 300,
        "remind_approvers": 300,
        "expire_quotes": 3600,
        "purge_files": 3600,
        "forget_import_rows": 3600,
        "keep_feed": 3600,
        "take_weekly_snapshots": 3600,
    }
    for each in tasks(server.settings):
        server.run(each.run(server.kernel))


def test_an_expired_share_ends_with_an_event(org, operator):
    """In every tenant, of every kind of record, also of one that was deleted; what has time left stays."""
    org.server.run(end_shares(org.server.kernel))  # those of other tests
    other = Org.create(org.server)
    expired = []
    for firm in (org, other):
        for collection, values in (("accounts", {"name": "Shared"}), ("contacts", {"last_name": "Shared"})):
            made = firm.rep.make(collection, **values)
            path = f"/v1/{collection}/{made['id']}"
            team = firm.admin.make("teams", name=f"Team of {collection}")
            shares = [
                firm.rep.post(f"{path}/share", json={"cause": "for a while", **grantee}).json()
                for grantee in (
                    {"grantee_type": "user", "grantee_id": firm.outsider.id, "expires_at": "2090-01-01T00:00:00Z"},
                    {"grantee_type": "team", "grantee_id": team["id"], "expires_at": "2090-01-01T00:00:00Z"},
                    {"grantee_type": "user", "grantee_id": firm.reader.id},
                )
            ]
            assert firm.outsider.get(path).status_code == 200
            operator("UPDATE shares SET expires_at = now() - interval '1 s' WHERE id = $1", shares[0]["id"])
            assert firm.outsider.get(path).status_code == 404, "it ends at its time, not when it is cleared away"
            expired.append((firm, path, made["id"], shares))
    firm, path, _, _ = expired[-1]
    assert firm.rep.delete(path).status_code == 204

    assert org.server.run(end_shares(org.server.kernel)) == 4
    assert org.server.run(end_shares(org.server.kernel)) == 0
    for firm, path, id_, (gone, *kept) in expired:
        left = operator("SELECT id FROM shares WHERE object_id = $1 ORDER BY id", id_)
        assert [str(row["id"]) for row in left] == [share["id"] for share in kept]
        events = operator(
            "SELECT type, actor_id, previous #>> '{cause}' AS cause, previous #>> '{share,grantee_id}' AS grantee, "
            "previous #>> '{share,cause}' AS given, origin ->> 'via' AS via, version, "
            "(SELECT max(e.version) FROM outbox e WHERE e.object_id = o.object_id) AS newest "
            "FROM outbox o WHERE object_id = $1 AND type LIKE '%.unshared'",
            id_,
        )
        assert [dict(event) for event in events] == [
            {
                "type": f"{path.split('/')[2].removesuffix('s')}.unshared",
                "actor_id": None,
                "cause": "expired",
                "grantee": gone["grantee_id"],
                "given": "for a while",
                "via": "schedule",
                "version": events[0]["newest"],
                "newest": events[0]["newest"],
            }
        ]
        entry = firm.admin.all("/v1/audit_log", object_id=id_, action="unshare")[0]
        assert (entry["before"]["cause"], entry["actor_id"]) == ("expired", None)


def test_a_share_that_is_renewed_meanwhile_stays(org, operator):
    account = org.rep.make("accounts", name="Renewed")
    path = f"/v1/accounts/{account['id']}/share"
    grantee = {"grantee_type": "user", "grantee_id": org.outsider.id, "expires_at": "2090-01-01T00:00:00Z"}
    share = org.rep.post(path, json=grantee).json()
    operator("UPDATE shares SET expires_at = now() - interval '1 s' WHERE id = $1", share["id"])
    assert org.rep.post(path, json=grantee).status_code == 201
    assert org.server.run(end_shares(org.server.kernel)) == 0
    assert org.outsider.get(f"/v1/accounts/{account['id']}").status_code == 200


def test_a_share_of_a_locked_record_ends_the_next_time(org, operator, database):
    rows = [org.rep.make("accounts", name=f"Locked {n}") for n in range(2)]
    grantee = {"grantee_type": "user", "grantee_id": org.outsider.id, "expires_at": "2090-01-01T00:00:00Z"}
    shares = [org.rep.post(f"/v1/accounts/{row['id']}/share", json=grantee).json()["id"] for row in rows]
    operator("UPDATE shares SET expires_at = now() - interval '1 s' WHERE id = ANY ($1)", shares)

    async def held():
        connection = await asyncpg.connect(database["admin"])
        try:
            async with connection.transaction():
                await connection.execute("SELECT 1 FROM accounts WHERE id = $1 FOR UPDATE", rows[0]["id"])
                return await asyncio.to_thread(org.server.run, end_shares(org.server.kernel))
        finally:
            await connection.close()

    assert asyncio.run(held()) == 1
    assert org.server.run(end_shares(org.server.kernel)) == 1


def test_jobs_that_ended_long_ago_are_forgotten(org, operator):
    old, young = ended(org.rep), ended(org.rep)
    waiting = start(org.rep, UNKNOWN, Nothing())
    operator("UPDATE jobs SET finished_at = now() - interval '31 days' WHERE id = $1", old["id"])
    operator("UPDATE jobs SET created_at = now() - interval '31 days' WHERE id = $1", waiting["id"])
    assert org.server.run(forget_jobs(org.server.kernel.database, 30)) == 1
    assert {row["id"] for row in org.rep.all("/v1/jobs")} == {young["id"], waiting["id"]}


def test_the_figures_of_jobs(org, operator):
    def figures() -> dict:
        org.server.run(sample(org.server.kernel.database))
        text = metrics.exposition().decode()
        return {
            line.split(" ")[0]: float(line.split(" ")[1]) for line in text.splitlines() if line.startswith("crm_job")
        }

    before = figures()
    ended(org.rep)
    later = start(org.rep, UNKNOWN, Nothing())
    first = start(org.rep, UNKNOWN, Nothing())
    operator("UPDATE jobs SET run_at = now() + interval '1 hour' WHERE id = $1", later["id"])
    operator("UPDATE jobs SET run_at = now() - interval '30 days' WHERE id = $1", first["id"])
    after = figures()
    assert after['crm_jobs{state="failed"}'] == before['crm_jobs{state="failed"}'] + 1
    assert after['crm_jobs{state="queued"}'] == before['crm_jobs{state="queued"}'] + 1
    assert after['crm_jobs{state="running"}'] == before['crm_jobs{state="running"}']
    assert 0 <= after["crm_job_lag_seconds"] - 30 * 86_400 < 60
    org.rep.post(f"/v1/jobs/{first['id']}/cancel")
