"""Runs the application under uvicorn in a thread, and coroutines on its loop."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import uvicorn

from crm_api import settings as settings_module
from crm_api.adapters.egress import Egress
from crm_api.adapters.http import OneWrite
from crm_api.app import create_app
from crm_api.domains.deprecation.notice import Notices
from crm_api.kernel.edge import Edge
from crm_api.settings import Settings

T = TypeVar("T")
UNHURRIED = {
    "rate_credential": 10**6,
    "rate_tenant": 10**7,
    "rate_window": 60,
    "rate_failures": 10**6,
    "in_flight": 10**5,
}
"""Limits that no test meets by itself."""


class LiveServer:
    """`base_url` answers HTTP; `run` executes a coroutine on the server's loop; `kernel` is its kernel.

    It does no work beside requests unless told to: most tests want to know what a request does, and nothing else.
    """

    def __init__(self, app_url: str, migrate_url: str, data_dir: Path, **options: Any) -> None:
        self.migrate_url = migrate_url
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        given = {"log_level": "error", "worker": False, "public_url": self.base_url, **UNHURRIED, **options}
        self.settings = Settings(database_url=app_url, data_dir=data_dir, **given)
        self._before = settings_module.load_settings
        _rebind(lambda: self.settings)
        application = create_app(self.settings)
        self.edge = edge_of(application)
        self._loop: asyncio.AbstractEventLoop | None = None
        config = uvicorn.Config(
            application,
            log_level="error",
            access_log=False,
            loop="asyncio",
            http=OneWrite,
            proxy_headers=False,  # the edge reads X-Forwarded-For, from trusted proxies only
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            await self._server.serve(sockets=[self._socket])

        asyncio.run(main())

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + 15
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise RuntimeError("the server did not start")
            time.sleep(0.01)
        return self

    def __exit__(self, *error: object) -> None:
        if "egress" in self.__dict__:
            self.run(self.egress.aclose())
        self._server.should_exit = True
        self._thread.join(15)
        self._socket.close()
        _rebind(self._before)

    @cached_property
    def egress(self) -> Egress:
        """What its webhooks are sent with; to read the certificates of the machine takes longer than most tests."""
        return Egress.of(self.settings)

    @property
    def kernel(self):
        assert self.edge.kernel is not None
        return self.edge.kernel

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 30) -> T:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)


def edge_of(application: Edge | Notices) -> Edge:
    """What has the kernel, also where something is declared deprecated."""
    return application.edge if isinstance(application, Notices) else application


def _rebind(load: Callable[[], Settings]) -> None:
    """What reads the process's settings reads those of a test; the key module has a name of its own for it."""
    from crm_api.domains.identity import credentials

    settings_module.load_settings = credentials.load_settings = load  # type: ignore[assignment]
