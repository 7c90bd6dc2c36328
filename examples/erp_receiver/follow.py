"""Beside the webhooks: begins with the lists, catches up from the feed, looks at what markers tell of, writes back."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx2

from examples.erp_receiver.mirror import EVERYTHING, MIRRORED, Mirror

log = logging.getLogger("erp_receiver")
TYPES = ["account.*", "contact.*", "account_contact.*", "order.*", "access.changed"]
"""What the endpoint is to be made with, and what is read from the feed."""
PATHS = {
    "account": "/v1/accounts",
    "contact": "/v1/contacts",
    "account_contact": "/v1/account_contacts",
    "order": "/v1/orders",
}
RESTORED, EXPIRED = 409, 410
"""The feed cannot go on from our cursor: the database was restored, or we were away for longer than events are kept."""

NOT_OURS = (403, 404)
"""Nothing of the kind is open to us, or not this one."""


class Follower:
    """Keeps a mirror true. Every step may be repeated, so whatever fails is tried again.

    Args:
        mirror: what is kept.
        crm: a client of the API with the key of our service account.
        seconds: from one look at the feed to the next. Webhooks are faster; this finds what they failed to bring.
    """

    def __init__(self, mirror: Mirror, crm: httpx2.AsyncClient, seconds: float) -> None:
        self.mirror, self.crm, self.seconds = mirror, crm, seconds
        self.wake = asyncio.Event()

    async def run(self) -> None:
        """Follows until cancelled."""
        loop = asyncio.get_running_loop()
        next_round, patience = loop.time(), 0.5
        while True:
            self.wake.clear()
            try:
                if loop.time() >= next_round:
                    await self.catch_up()
                    next_round = loop.time() + self.seconds
                await self.look_and_write()
                patience = 0.5
            except Exception as error:  # noqa: BLE001 - the CRM may be away; it will be back
                log.warning("the CRM cannot be followed now: %r", error)
                await asyncio.sleep(patience)
                patience = min(patience * 2, 30)
                continue
            try:
                async with asyncio.timeout(max(next_round - loop.time(), 0)):
                    await self.wake.wait()
            except TimeoutError:
                pass

    async def catch_up(self) -> None:
        """Reads the feed to its end from where we were, or begins with the lists."""
        self.mirror.tidy()
        more = True
        while more:
            if self.mirror.cursor is None:
                await self.snapshot()
            params = {"since": self.mirror.cursor, "types": TYPES, "limit": 200}
            answer = await self.crm.get("/v1/changes", params=params)
            if answer.status_code in (RESTORED, EXPIRED):
                self.mirror.begin_again(restored=answer.status_code == RESTORED)
                continue
            page = answer.raise_for_status().json()
            self.mirror.follow(page["data"], page["next_cursor"])
            more = page["has_more"]

    async def snapshot(self) -> None:
        """Reads all lists. The cursor is taken first and kept last: what changes meanwhile is told after it."""
        cursor = (await self.crm.get("/v1/changes/cursor")).raise_for_status().json()["cursor"]
        await self._compare()
        self.mirror.begin_at(cursor)

    async def _compare(self) -> None:
        missing = self.mirror.live()
        for type_ in MIRRORED:
            async for rows in self._pages(PATHS[type_]):
                self.mirror.read(type_, rows)
                missing -= {(type_, row["id"]) for row in rows}
        for type_, id_ in sorted(missing):
            await self._read_one(type_, id_)

    async def look_and_write(self) -> None:
        """Does what is left to be read and written."""
        done: set[tuple[str, str]] = set()
        for number, type_, id_ in reversed(self.mirror.looks()):  # the last look at a record is worth all before it
            if (type_, id_) not in done:
                await self._look(type_, id_)
                self.mirror.looked(number)
                done.add((type_, id_))
        for key, type_, id_, verb, values in self.mirror.writes():
            await self._write(key, type_, f"{PATHS[type_]}/{id_}", verb, values)

    async def _look(self, type_: str, id_: str) -> None:
        if type_ == EVERYTHING:
            return await self._compare()
        await self._read_one(type_, id_)
        if type_ == "account_contact" and (contact := self.mirror.contact_of(id_)) is not None:
            await self._read_one("contact", contact)
        if type_ == "account":
            shown: set[tuple[str, str]] = set()
            for child in ("contact", "account_contact", "order"):
                async for rows in self._pages(PATHS[child], account_id=id_):
                    self.mirror.read(child, rows)
                    shown |= {(child, row["id"]) for row in rows}
            for child, child_id in sorted(self.mirror.children(id_) - shown):
                await self._read_one(child, child_id)
        return None

    async def _read_one(self, type_: str, id_: str) -> None:
        version = self.mirror.version(type_, id_)
        answer = await self.crm.get(f"{PATHS[type_]}/{id_}")
        if answer.status_code in NOT_OURS:
            self.mirror.gone(type_, id_, version)
        else:
            self.mirror.read(type_, [answer.raise_for_status().json()])

    async def _pages(self, path: str, **filters: str) -> AsyncIterator[list[dict[str, Any]]]:
        params: dict[str, Any] = {"limit": 200, **filters}
        while True:
            answer = await self.crm.get(path, params=params)
            if answer.status_code in NOT_OURS:
                return
            page = answer.raise_for_status().json()
            yield page["data"]
            if page["next_cursor"] is None:
                return
            params["cursor"] = page["next_cursor"]

    async def _write(self, key: str, type_: str, path: str, verb: str, values: dict[str, Any]) -> None:
        """Sends a change under its key, which is kept with it: however often we ask, it is made once."""
        method, path = ("POST", f"{path}/{verb}") if verb else ("PATCH", path)
        answer = await self.crm.request(method, path, json=values, headers={"Idempotency-Key": key})
        if answer.is_success:
            self.mirror.written(key, type_, answer.json())
        elif answer.status_code >= 500 or answer.status_code in (401, 429) or answer.json().get("retryable"):
            answer.raise_for_status()
        else:
            self.mirror.refused(key, answer.text)
