"""Serves the API with one process or several, over the database in the settings or an embedded one."""

import asyncio
import os
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress

import structlog
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from crm_api import __version__, logging
from crm_api.adapters.http import OneWrite
from crm_api.commands.database import check, place
from crm_api.kernel.problems import ConfigurationError
from crm_api.settings import Settings, load_settings

Announce = Callable[[], None]


def serve(host: str, port: int, workers: int, *, with_demo: bool) -> None:
    """Runs until SIGTERM or Ctrl-C; running requests finish within the shutdown timeout, then PostgreSQL stops."""
    settings = load_settings()
    settings.master_secret()
    with ExitStack() as stack:
        listener = stack.enter_context(_listen(host, port))
        database = stack.enter_context(place())
        asyncio.run(check(database))
        logging.configure(settings.log_level, settings.log_format)
        lines = []
        if with_demo:
            from crm_api.commands.demo import ensure, introduction

            keys = ensure(database)
            lines = introduction(keys, _address(listener))
        os.environ["CRM_DATABASE_URL"] = database.app_url  # how it reaches the processes that serve
        if settings.environment == "development":
            os.environ.setdefault("CRM_PUBLIC_URL", _address(listener))
        load_settings.cache_clear()
        if workers > 1:  # each process counts for itself: files in here let /metrics add them up
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="crm-metrics-"))
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        _run(settings, listener, workers, lambda: _announce(settings, listener, workers, lines))


def _listen(host: str, port: int) -> socket.socket:
    """The socket, bound before anything slow is done, so that a taken port is known at once."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"{host} port {port}: {error.strerror}. Choose another with --host or --port."
        ) from None
    listener.set_inheritable(True)
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - read, not bound
    return f"http://{host}:{port}"


def _run(settings: Settings, listener: socket.socket, workers: int, announce: Announce) -> None:
    config = uvicorn.Config(
        "crm_api.app:create_app",
        factory=True,
        workers=workers,
        loop="uvloop",
        http=OneWrite,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # the edge logs requests, with principal and request id
        server_header=False,
        date_header=True,
        proxy_headers=False,  # the edge reads X-Forwarded-For, from CRM_TRUSTED_PROXIES only
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )
    if workers > 1:
        supervisor = _Supervisor(config, [listener])
        supervisor.announce = announce
        supervisor.run()
        failed = any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes)
    else:
        server = _Server(config)
        server.announce = announce
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
        failed = not server.started
    if failed:
        raise ConfigurationError("The server did not start; its log says why.")
    structlog.get_logger("crm_api").info("stopped")


class _Server(uvicorn.Server):
    announce: Announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and not self.should_exit:
            self.announce()


class _Supervisor(Multiprocess):
    announce: Announce

    def init_processes(self) -> None:
        super().init_processes()
        if all(process.wait_until_ready(30, self.should_exit) for process in self.processes):
            self.announce()


def _announce(settings: Settings, listener: socket.socket, workers: int, lines: list[str]) -> None:
    address = _address(listener)
    structlog.get_logger("crm_api").info("serving", address=address, workers=workers, version=__version__)
    if settings.log_format == "text" or lines:
        print(
            "\n".join(["", f"CRM API {__version__} at {address}, reference at {address}/docs", *lines, ""]), flush=True
        )
