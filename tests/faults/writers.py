"""Clients that write accounts and contacts at once, and ask again under the same key until they are answered."""

import random
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2


class Writers:
    """`number` writes that were answered with success, by `clients` at once; `owners` take turns in owning accounts.

    `wrong` holds answers that no client should get, `tried` counts requests, `kinds` what was done.
    """

    def __init__(self, base_url: str, key: str, owners: list[str], number: int, clients: int) -> None:
        self.base_url, self.key, self.owners = base_url, key, owners
        self.left = number
        self.wrong: list[str] = []
        self.kinds: Counter[str] = Counter()
        self.tried = 0
        self.accounts: list[str] = []
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._futures = [self._pool.submit(self._work, seed) for seed in range(clients)]

    @property
    def running(self) -> bool:
        return not all(future.done() for future in self._futures)

    def stop(self) -> None:
        self._stop.set()
        self._pool.shutdown()
        for future in self._futures:
            future.result()

    def _work(self, seed: int) -> None:
        rolled = random.Random(seed)  # noqa: S311 - a mix, no secrets
        headers = {"Authorization": f"Bearer {self.key}"}
        deleted: list[str] = []
        with httpx2.Client(base_url=self.base_url, headers=headers, timeout=20, verify=False) as client:
            while not self._stop.is_set() and not self.wrong:
                kind, answer = self._one(client, rolled, deleted)
                with self._lock:
                    if answer is not None and answer.is_success:
                        self.kinds[kind] += 1
                        self.left -= 1
                    if self.left <= 0:
                        return

    def _one(self, client: httpx2.Client, rolled: random.Random, deleted: list[str]) -> tuple[str, Any]:
        known = self.accounts[-60:]  # several clients change the same ones
        chance = rolled.random()
        if chance < 0.3 or not known:
            body = {"name": f"Account {uuid.uuid4().hex}", "owner_id": rolled.choice(self.owners)}
            answer = self._send(client, "POST", "/v1/accounts", body)
            if answer is not None and answer.status_code == 201:
                self.accounts.append(answer.json()["id"])
            return "create", answer
        one = rolled.choice(known)
        path = f"/v1/accounts/{one}"
        if chance < 0.45:
            body = {"last_name": uuid.uuid4().hex, "account_id": one}
            return "create contact", self._send(client, "POST", "/v1/contacts", body)
        if chance < 0.75:
            return "update", self._send(client, "PATCH", path, {"tier": uuid.uuid4().hex[:8]})
        if chance < 0.85:
            return "transfer", self._send(client, "PATCH", path, {"owner_id": rolled.choice(self.owners)})
        if chance < 0.9:
            return "activate", self._send(client, "POST", f"{path}/activate")
        if chance < 0.95 or not deleted:
            answer = self._send(client, "DELETE", path)
            if answer is not None and answer.is_success:
                deleted.append(one)
            return "delete", answer
        return "restore", self._send(client, "POST", f"/v1/accounts/{deleted.pop()}/restore")

    def _send(self, client: httpx2.Client, method: str, path: str, body: Any = None) -> Any:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        while not self._stop.is_set():
            self.tried += 1
            try:
                answer = client.request(method, path, json=body, headers=headers)
            except httpx2.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code in (400, 401, 500):
                self.wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
                return None
            if answer.is_success or not answer.json()["retryable"]:
                return answer
            time.sleep(0.05)
        return None
