"""Housekeeping over all tenants: what is due, found by a function of the owner, done one by one."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from crm_api.kernel.context import Context, Kernel
from crm_api.kernel.database import Row, Statement
from crm_api.kernel.unit_of_work import system, transact


def due(function: sa.ColumnElement[Any]) -> Statement:
    """The rows (tenant, id) of a function of the owner that looks over all tenants."""
    columns = (("tenant_id", "tenant"), ("id", "id"))
    rows: Any = function.table_valued("tenant_id", "id")
    return Statement(sa.select(*(sa.cast(rows.c[name], sa.Text()).label(label) for name, label in columns)))


async def each(kernel: Kernel, rows: list[Row], via: str, work: Callable[[Context, str], Awaitable[int]]) -> int:
    """Does the work for each row's id in a transaction of its own, as the system; gives the sum of what it gives.

    Raises:
        Exception: what went wrong with one of them, when all others are done.
    """
    done, failed = 0, None
    for row in rows:
        try:
            done += await transact(system(kernel, UUID(row["tenant"]), via), partial(_for, work=work, id_=row["id"]))
        except Exception as error:  # noqa: BLE001 - raised when the others are done
            failed = error
    if failed is not None:
        raise failed
    return done


async def _for(ctx: Context, *, work: Callable[[Context, str], Awaitable[int]], id_: str) -> int:
    return await work(ctx, id_)
