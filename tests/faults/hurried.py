"""Run as a program: `crm-api worker` that waits less, so that a test need not wait for minutes.

`FAULTS_LEASE` is how long a delivery is held by a worker that died, `FAULTS_CLOSED` how long the breaker keeps an
endpoint closed, in seconds. Attempts follow each other after a second or some.
"""

import os
from functools import lru_cache

import sqlalchemy as sa

from crm_api import settings
from crm_api.domains.integrations import outcome


def _closed(_failures: object) -> sa.ColumnElement[object]:
    return sa.func.make_interval(0, 0, 0, 0, 0, 0, sa.literal_column(os.environ["FAULTS_CLOSED"]))


class _Hurried(settings.Settings):
    webhook_lease: int = int(os.environ["FAULTS_LEASE"])


outcome.SCHEDULE = (0.5, 0.5, 1, 1, 2, 2, 3, 3, 5)
outcome._pause = _closed
outcome._SETTLE = outcome._settle()
settings.load_settings = lru_cache(_Hurried)

if __name__ == "__main__":
    from crm_api.commands.worker import work

    work()
