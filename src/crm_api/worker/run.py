"""Everything a worker does, in the server's process or in one of its own."""

from collections.abc import Coroutine
from typing import Any

from crm_api.kernel.context import Kernel
from crm_api.settings import Settings
from crm_api.worker.events import deliver, hand_over, sequence
from crm_api.worker.jobs import Jobs
from crm_api.worker.schedule import follow
from crm_api.worker.upkeep import tasks


def loops(kernel: Kernel, settings: Settings) -> list[Coroutine[Any, Any, None]]:
    """The loops of a worker, for `beside`. Each outlives any error; cancelled, it hands on what it holds and ends."""
    return [
        sequence(kernel),
        hand_over(kernel),
        deliver(kernel, settings),
        Jobs(kernel, settings.worker_jobs, settings.job_lease).work(),
        *(follow(kernel, task) for task in tasks(settings)),
    ]
