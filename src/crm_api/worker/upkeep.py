"""Housekeeping: what grows is cut back, and what was given for a time is taken back."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from crm_api.adapters.storage import storage
from crm_api.domains.approvals.remind import remind
from crm_api.domains.files.lease import delete_expired
from crm_api.domains.integrations.outcome import resume_failed
from crm_api.domains.integrations.resealing import renew_all
from crm_api.domains.oauth.upkeep import forget_oauth, rotate_signing_keys
from crm_api.domains.opportunities.take_snapshots import take_weekly_snapshots
from crm_api.domains.privacy.retain import apply_retention
from crm_api.domains.quotes.expire import expire_outdated
from crm_api.domains.sign_in import resealing
from crm_api.domains.sign_in.forget import forget_sign_ins
from crm_api.kernel import sharing
from crm_api.kernel.context import Kernel
from crm_api.kernel.database import Database, Statement
from crm_api.kernel.unit_of_work import system
from crm_api.settings import Settings
from crm_api.worker.schedule import Task

CHUNK = 1_000
"""Rows that one statement deletes."""
_SHARES = 200
_TENANTS = 100


def _forget(function: Any) -> Statement:
    before = sa.bindparam("older_than", type_=sa.DateTime(timezone=True))
    return Statement(sa.select(function(before, sa.bindparam("most", type_=sa.BigInteger())).label("gone")))


_KEYS, _JOBS, _DELIVERIES, _FILES, _ROWS, _USAGE = map(
    _forget,
    (
        *(sa.func.forget_idempotency_keys, sa.func.forget_jobs, sa.func.forget_deliveries, sa.func.purge_files),
        *(sa.func.forget_import_rows, sa.func.forget_limit_usage),
    ),
)
_KEEP_FEED = Statement(sa.select(sa.func.keep_feed(sa.bindparam("days", type_=sa.Integer())).label("dropped")))
_EXPIRED = Statement(
    sa.select(
        sa.cast(sa.func.tenants_with_expired_shares(sa.bindparam("most", type_=sa.BigInteger())), sa.Text()).label("id")
    )
)


async def _in_chunks(database: Database, statement: Statement, days: int) -> int:
    older_than = datetime.now(UTC) - timedelta(days=days)
    gone = 0
    while True:
        rows = await database.fetch(None, statement, {"older_than": older_than, "most": CHUNK})
        now = int(rows[0]["gone"])
        gone += now
        if now < CHUNK:
            return gone


async def forget_idempotency_keys(database: Database, days: int) -> int:
    """Deletes keys and replies older than `days` in every tenant; gives how many."""
    return await _in_chunks(database, _KEYS, days)


async def forget_jobs(database: Database, days: int) -> int:
    """Deletes jobs that ended more than `days` ago in every tenant; gives how many."""
    return await _in_chunks(database, _JOBS, days)


async def forget_deliveries(database: Database, days: int) -> int:
    """Deletes deliveries of webhooks that ended more than `days` ago, with their attempts; gives how many."""
    return await _in_chunks(database, _DELIVERIES, days)


async def purge_files(database: Database, days: int) -> int:
    """Gives the bytes of files that were deleted more than `days` ago up to deletion; gives of how many."""
    return await _in_chunks(database, _FILES, days)


async def forget_import_rows(database: Database, days: int) -> int:
    """Deletes rows of imports that nothing has changed for `days`, in every tenant; gives how many."""
    return await _in_chunks(database, _ROWS, days)


async def forget_limit_usage(database: Database) -> int:
    """Deletes what callers used of their limits before yesterday, in every tenant; gives of how many."""
    return await _in_chunks(database, _USAGE, 1)


async def keep_feed(database: Database, days: int) -> None:
    """Makes the partitions of the weeks to come, and drops those whose events are older than `days`."""
    await database.fetch(None, _KEEP_FEED, {"days": days})


async def end_shares(kernel: Kernel) -> int:
    """Removes shares whose end has passed in every tenant, each with its event; gives how many."""
    ended = 0
    while True:
        rows = await kernel.database.fetch(None, _EXPIRED, {"most": _TENANTS})
        now = 0
        for row in rows:
            now += await sharing.end_expired(system(kernel, UUID(row["id"]), "schedule"), _SHARES)
        ended += now
        if not now:  # none is left, or those that are cannot be ended now
            return ended


def tasks(settings: Settings) -> tuple[Task, ...]:
    """What is done again and again."""
    return (
        Task("end_shares", 60, end_shares),
        Task(
            "forget_idempotency_keys",
            3600,
            lambda kernel: forget_idempotency_keys(kernel.database, settings.idempotency_days),
        ),
        Task("forget_limit_usage", 3600, lambda kernel: forget_limit_usage(kernel.database)),
        Task("keep_feed", 3600, lambda kernel: keep_feed(kernel.database, settings.feed_days)),
        Task("forget_deliveries", 3600, lambda kernel: forget_deliveries(kernel.database, settings.webhook_days)),
        Task("take_weekly_snapshots", 3600, take_weekly_snapshots, at_most=900.0),
        Task("resume_failed_endpoints", 3600, resume_failed),
        Task("seal_secrets_anew", 300, renew_all),
        Task("seal_factors_anew", 300, resealing.renew_all),
        Task("remind_approvers", 300, remind),
        Task("expire_quotes", 3600, expire_outdated),
        Task("purge_files", 3600, lambda kernel: purge_files(kernel.database, settings.file_days)),
        Task("delete_unclaimed_bytes", 300, lambda kernel: delete_expired(kernel, storage(settings))),
        Task("forget_import_rows", 3600, lambda kernel: forget_import_rows(kernel.database, settings.import_days)),
        Task("rotate_signing_keys", 3600, rotate_signing_keys),
        Task("forget_oauth", 3600, forget_oauth),
        Task("apply_retention", 300, apply_retention, at_most=900.0),
        Task("forget_sign_ins", 3600, forget_sign_ins),
        Task("forget_jobs", 3600, lambda kernel: forget_jobs(kernel.database, settings.job_days)),
    )
