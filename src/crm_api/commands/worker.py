"""Does the work beside requests in a process without HTTP, over the database in the settings or an embedded one."""

import asyncio
import signal

import structlog

from crm_api import __version__, logging
from crm_api.commands.database import Place, check, place
from crm_api.settings import Settings, load_settings


def work() -> None:
    """Runs until SIGTERM or Ctrl-C; jobs then end or are given back within seconds."""
    settings = load_settings()
    settings.master_secret()
    with place() as database:
        asyncio.run(check(database))
        logging.configure(settings.log_level, settings.log_format)
        asyncio.run(until_told(settings, database))


async def until_told(settings: Settings, database: Place) -> None:
    """Works until a signal comes."""
    from crm_api.app import build_kernel, worker_limits
    from crm_api.worker.loops import beside
    from crm_api.worker.run import loops

    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    kernel = build_kernel(settings, database.app_url, worker_limits(settings))
    log = structlog.get_logger("crm_api")
    try:
        await kernel.database.open()
        async with beside(*loops(kernel, settings)):
            log.info("working", jobs=settings.worker_jobs, version=__version__)
            if settings.log_format == "text":
                print(f"CRM API {__version__} works beside the servers", flush=True)
            await told.wait()
            log.info("stopping")
    finally:
        await kernel.database.close()
