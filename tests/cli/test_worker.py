"""`crm-api worker`: says when it works, ends when it is told, and does what the schedule says."""

import asyncio
import signal
import subprocess
import time

import asyncpg

from tests.cli.test_serve import SECRET
from tests.support.command import COMMAND, ROOT, environment


def _fetch(url, text, *values):
    async def work():
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch(text, *values)
        finally:
            await connection.close()

    return asyncio.run(work())


def test_it_works_until_it_is_told_to_stop(org, server, database, tmp_path):
    account = org.rep.make("accounts", name="For a while")
    share = {"grantee_type": "user", "grantee_id": org.outsider.id, "expires_at": "2090-01-01T00:00:00Z"}
    made = org.rep.post(f"/v1/accounts/{account['id']}/share", json=share).json()
    _fetch(database["admin"], "UPDATE shares SET expires_at = now() WHERE id = $1", made["id"])
    _fetch(database["admin"], "DELETE FROM schedule")
    for number in (signal.SIGTERM, signal.SIGINT):
        log = tmp_path / f"log {number}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*COMMAND, "worker"],
                env=environment(database_url=database["app"], data_dir=server.settings.data_dir, log_level="info"),
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + 30
            while "works beside the servers" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            while org.rep.get(f"/v1/accounts/{account['id']}/shares").json()["data"]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(number)
            assert process.wait(10) == 0, log.read_text()
        finally:
            process.kill()
        assert "Traceback" not in log.read_text()
    turns = _fetch(database["admin"], "SELECT name, next_at - ran_at AS every FROM schedule")
    assert {row["name"]: row["every"].total_seconds() for row in turns} == {
        "delete_unclaimed_bytes": 300,
        "end_shares": 60,
        "forget_idempotency_keys": 3600,
        "forget_jobs": 3600,
        "forget_limit_usage": 3600,
        "forget_sign_ins": 3600,
        "seal_factors_anew": 300,
        "forget_oauth": 3600,
        "rotate_signing_keys": 3600,
        "resume_failed_endpoints": 3600,
        "seal_secrets_anew": 300,
        "remind_approvers": 300,
        "expire_quotes": 3600,
        "take_weekly_snapshots": 3600,
        "purge_files": 3600,
        "forget_import_rows": 3600,
        "forget_deliveries": 3600,
        "keep_feed": 3600,
    }


def test_it_refuses_what_the_server_refuses(database, server, refused, tmp_path):
    where = {"database_url": database["app"], "data_dir": server.settings.data_dir}
    assert "is a superuser" in refused(
        "worker", **{**where, "database_url": database["admin"], "environment": "production", "secret": SECRET}
    )
    assert "at least 32 characters" in refused("worker", **where, secret="short")
