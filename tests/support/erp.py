"""The receiver of examples/ as a real peer on loopback: a uvicorn of its own, which may go away and lose its state."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from examples.erp_receiver.app import Config, create_app
from examples.erp_receiver.follow import TYPES
from examples.erp_receiver.mirror import Mirror

from crm_api.worker.loops import beside
from crm_api.worker.run import loops
from tests.support.org import Org, Person

COLLECTIONS = {"account": "accounts", "contact": "contacts", "account_contact": "account_contacts", "order": "orders"}


@contextmanager
def worker(server: Any) -> Iterator[None]:
    """All that a worker does, on the server's loop, while the block runs."""

    async def begin() -> tuple[asyncio.Task[None], asyncio.Event]:
        done = asyncio.Event()

        async def run() -> None:
            async with beside(*loops(server.kernel, server.settings)):
                await done.wait()

        return asyncio.create_task(run()), done

    async def end(task: asyncio.Task[None], done: asyncio.Event) -> None:
        done.set()
        await task

    running = server.run(begin())
    try:
        yield
    finally:
        server.run(end(*running))


class Erp:
    """The receiver of one principal. `start` and `stop` as often as wanted; the address stays."""

    def __init__(self, org: Org, principal: Person, folder: Path, **endpoint: Any) -> None:
        self.org, self.principal, self.file = org, principal, folder / "erp.sqlite3"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}"
        values = {"ordering": "per_object", "exclude_own": True, "event_types": TYPES, **endpoint}
        url = f"{self.base_url}/crm-events"
        self.endpoint = org.admin.make("webhook_endpoints", url=url, principal_id=principal.id, **values)
        path = f"/v1/webhook_endpoints/{self.endpoint['id']}"
        self.secret = org.admin.post(f"{path}/secret/rotate").json()["secret"]
        self._server: uvicorn.Server | None = None

    def start(self, follow_seconds: float = 3600) -> None:
        config = Config(
            self.org.server.base_url, self.principal.key, (self.secret,), str(self.file), follow_seconds=follow_seconds
        )
        app = create_app(config)
        self._server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=self.port, log_level="error", access_log=False)
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until(lambda: self._server.started and self.state()["began"])

    def stop(self) -> None:
        if self._server is not None:
            self._server.should_exit = True
            self._thread.join(15)
            assert not self._thread.is_alive()
            self._server = None

    def lose_state(self) -> None:
        assert self._server is None
        for file in self.file.parent.glob(f"{self.file.name}*"):
            file.unlink()

    def state(self) -> dict[str, Any]:
        return httpx2.get(f"{self.base_url}/state", trust_env=False).json()

    def mirrored(self) -> dict[str, dict[str, Any]]:
        """What it holds, by collection and id."""
        mirror = Mirror(str(self.file))
        try:
            return {plural: mirror.all(type_) for type_, plural in COLLECTIONS.items()}
        finally:
            mirror.close()

    def shown(self) -> dict[str, dict[str, Any]]:
        """What the API shows its principal, likewise; nothing of what it may not read at all."""
        return {
            plural: {row["id"]: row for row in self.principal.all(f"/v1/{plural}", limit=200)}
            if self.principal.get(f"/v1/{plural}").status_code != 403
            else {}
            for plural in COLLECTIONS.values()
        }

    def deliveries(self, **params: Any) -> list[dict[str, Any]]:
        return self.org.admin.all("/v1/webhook_deliveries", endpoint_id=self.endpoint["id"], limit=200, **params)

    def equal(self, seconds: float = 20) -> None:
        """Waits until the mirror is what the API shows."""
        until(lambda: not self.differences(), seconds, self.differences)

    def differences(self) -> list[tuple[str, str, Any, Any]]:
        """Collection, id, version in the mirror and version in the API of what is not the same."""
        mirrored, shown = self.mirrored(), self.shown()
        return [
            (plural, id_, *((rows[plural].get(id_) or {}).get("version") for rows in (mirrored, shown)))
            for plural in shown
            for id_ in mirrored[plural].keys() | shown[plural].keys()
            if mirrored[plural].get(id_) != shown[plural].get(id_)
        ]


def until(reached: Any, seconds: float = 20, told: Any = None) -> None:
    """Waits until `reached()`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if reached():
                return
        except httpx2.TransportError:
            pass
        assert time.monotonic() < deadline, told() if told else "it did not happen in time"
        time.sleep(0.05)
