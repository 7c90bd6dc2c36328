"""The queue before the press: how many at once, whose turn it is, and what comes of those that are given up."""

import asyncio
import threading
import time
from collections.abc import Mapping

import pytest

from crm_api.domains.printing.press import MOST, OF_TENANT, Press
from crm_api.kernel.context import new_id
from crm_api.kernel.problems import Problem

ONE, OTHER = new_id(), new_id()
FILES = {"main.typ": b"= One"}


def test_no_tenant_waits_for_all_that_another_has_sent():
    turns: list[str] = []

    async def work() -> None:
        press, gate = Press(1), threading.Event()

        def made(name: str) -> Mapping[str, bytes]:
            gate.wait(10)
            turns.append(name)
            return FILES

        asked = [asyncio.ensure_future(press.set(ONE, lambda i=i: made(f"one {i}"), 0)) for i in range(4)]
        await asyncio.sleep(0.1)
        asked.append(asyncio.ensure_future(press.set(OTHER, lambda: made("other"), 0)))
        await asyncio.sleep(0.1)
        gate.set()
        assert all(pdf.startswith(b"%PDF-") for pdf in await asyncio.gather(*asked))

    asyncio.run(work())
    assert turns == ["one 0", "one 1", "other", "one 2", "one 3"]


def test_so_many_are_set_at_once_and_no_more_wait():
    now, most, lock = 0, 0, threading.Lock()

    def make() -> Mapping[str, bytes]:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1
        return FILES

    async def work() -> list[object]:
        press = Press(2)
        tenants = [ONE] * (OF_TENANT + 2) + [new_id() for _ in range(MOST)]
        return await asyncio.gather(*(press.set(one, make, 0) for one in tenants), return_exceptions=True)

    found = asyncio.run(work())
    assert most == 2
    refused = [i for i, answer in enumerate(found) if isinstance(answer, Problem)]
    assert refused == [OF_TENANT, OF_TENANT + 1, *range(MOST + 2, OF_TENANT + 2 + MOST)]
    assert all(found[i].kind.status == 503 and found[i].headers["Retry-After"] for i in refused)


def test_what_is_given_up_leaves_its_place():
    async def work() -> None:
        press, gate = Press(1), threading.Event()

        def make() -> Mapping[str, bytes]:
            gate.wait(10)
            return FILES

        asked = [asyncio.ensure_future(press.set(ONE, make, 0)) for _ in range(OF_TENANT)]
        await asyncio.sleep(0.1)
        for one in asked:
            one.cancel()
        gate.set()
        await asyncio.gather(*asked, return_exceptions=True)
        for _ in range(100):
            if not press._taken:
                break
            await asyncio.sleep(0.05)
        assert (press._taken, press._turns.held, press._turns.next()) == ({}, {}, None)
        assert (await press.set(ONE, lambda: FILES, 0)).startswith(b"%PDF-")

    asyncio.run(work())


def test_what_waits_too_long_is_not_begun():
    async def work() -> None:
        with pytest.raises(Problem) as caught:
            await Press(1).set(ONE, lambda: time.sleep(0.2) or FILES, 0, patience=0.1)
        assert caught.value.kind.status == 503

    asyncio.run(work())
