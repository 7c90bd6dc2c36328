"""The press: sets documents in processes, so many at once, and keeps a short queue in which no tenant waits for one."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

import structlog

from crm_api import settings
from crm_api.adapters.typesetting import TemplateError, TypesettingError, set_document
from crm_api.kernel.admission import Turns
from crm_api.kernel.problems import CATALOGUE, Fault, Kind, Problem, unavailable

TEMPLATE_FAILED = CATALOGUE["template_failed"] = Kind("template_failed", 422, "The document cannot be set by this form")
MOST, OF_TENANT = 16, 8
"""Documents that a process sets or keeps waiting at the same time: in all, and of one tenant."""
PATIENCE = 20.0
"""Seconds after which a document is given up, those in the queue included."""
HASTE = 8.0
"""The same for one that is set while a transaction waits for it."""
_TEMPLATE = "template.typ"
_log = structlog.get_logger("crm_api.printing")

Make = Callable[[], Mapping[str, bytes]]
"""Gives the files that typst reads."""


@dataclass(slots=True)
class _Work:
    make: Make
    timestamp: int
    end: float
    done: "Future[bytes]"


class Press:
    """Bounds what a process sets at once; threads wait for the children, so that the loop does not.

    Of several tenants that wait, none is served twice before another is served once.
    """

    def __init__(self, processes: int) -> None:
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="press")
        self._guard = threading.Lock()
        self._taken: Counter[UUID | None] = Counter()
        self._turns: Turns[_Work] = Turns(processes)

    async def set(self, tenant_id: UUID, make: Make, timestamp: int, patience: float = PATIENCE) -> bytes:
        """The PDF of a document.

        Args:
            tenant_id: whose it is.
            make: is called in a thread.
            timestamp: when the PDF says it was made, in seconds of the epoch.
            patience: seconds in which it has to be done.

        Raises:
            Problem: 422 `template_failed` with what typst says; 503 when there are too many, or the child is killed.
        """
        work = _Work(make, timestamp, time.monotonic() + patience, Future())
        with self._guard:
            if self._taken.total() >= MOST or self._taken[tenant_id] >= OF_TENANT:
                raise unavailable("Too many documents are being printed; try again.")
            self._taken[tenant_id] += 1
            self._turns.wait(tenant_id, work)
        self._threads.submit(self._next)
        return await asyncio.wrap_future(work.done)

    def _next(self) -> None:
        with self._guard:
            turn = self._turns.next()
        assert turn is not None  # noqa: S101 - a thread for each, and no more threads than one tenant may have
        tenant_id, work = turn
        try:
            if work.done.set_running_or_notify_cancel():
                work.done.set_result(_set(work))
        except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
            work.done.set_exception(error)
        finally:
            self._leave(tenant_id)

    def _leave(self, tenant_id: UUID | None) -> None:
        with self._guard:
            self._turns.leave(tenant_id)
            self._taken[tenant_id] -= 1
            if not self._taken[tenant_id]:
                del self._taken[tenant_id]


def _set(work: _Work) -> bytes:
    try:
        files = work.make()
        if (left := work.end - time.monotonic()) <= 0:
            raise TypesettingError("it waited too long")
        return set_document(files, work.timestamp, left)
    except TypesettingError as error:
        _log.warning("printing_failed", reason=str(error))
        raise unavailable("The document cannot be printed now; try again.") from error
    except TemplateError as error:
        raise _problem(error) from None


def _problem(error: TemplateError) -> Problem:
    """What is wrong, with the line of the template if it is known."""
    of_template = error.file == _TEMPLATE
    place = f"Line {error.line}, column {error.column}: " if of_template else ""
    detail = f"{place}{error.message}"[:2_000]
    hints = [hint[:500] for hint in error.hints[:10]]
    extra = {"line": error.line if of_template else None, "hints": hints}
    return Problem(TEMPLATE_FAILED, detail, [Fault("template_failed", detail, pointer="/source")], extra=extra)


@lru_cache(maxsize=4)
def _press(processes: int) -> Press:
    return Press(processes)


def press() -> Press:
    """The press of this process."""
    return _press(settings.load_settings().print_processes)
