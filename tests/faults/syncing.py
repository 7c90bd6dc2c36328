"""A tenant that is mirrored while everything that may fail does; and what is true of it afterwards."""

import json
import os
import random
import signal
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2
from examples.erp_receiver.follow import TYPES
from examples.erp_receiver.mirror import Mirror

from tests.faults.conftest import Cluster, Process, Worker
from tests.faults.writers import Writers
from tests.support.forking import ROOT, Forked

KINDS = {"account": "accounts", "contact": "contacts"}


@dataclass(frozen=True)
class Size:
    """How much: writes, clients, workers; seconds between faults and of the whole; the worker's patience."""

    writes: int = 200
    clients: int = 8
    workers: int = 2
    pause: float = 0.8
    seconds: float = 120
    rate: float = 0.15
    lease: int = 2
    closed: int = 1
    most_faults: int = 10_000


class Receiver:
    """The receiver in a process, at an address that stays."""

    def __init__(self, folder: Path, environment: dict[str, str], rate: float) -> None:
        self.log, self.database = folder / "arrived.jsonl", folder / "erp.sqlite3"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.rate = rate
        self.environment = environment
        self.popen: Forked | None = None

    def start(self) -> None:
        said = (str(self.port), str(self.log), str(self.rate))
        output = self.log.with_suffix(".log")
        self.popen = Forked("tests.faults.receiving", *said, environment=self.environment, output=output)

    def kill(self) -> None:
        if self.popen is not None:
            self.popen.send_signal(signal.SIGKILL)
            self.popen.wait(10)
            self.popen = None

    def ask(self, method: str, path: str, body: Any = None) -> httpx2.Response | None:
        try:
            return httpx2.request(method, f"{self.base_url}{path}", json=body, timeout=20, trust_env=False)
        except httpx2.TransportError:
            return None

    def arrived(self) -> list[dict[str, Any]]:
        lines = self.log.read_bytes().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]


@dataclass
class Sync:
    """The tenant, its endpoints and all processes; a context manager, which ends them."""

    cluster: Cluster
    size: Size
    folder: Path
    faults: Counter[str] = field(default_factory=Counter)
    workers: list[Worker] = field(default_factory=list)
    terms: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.keys = self.cluster.seed()
        self.server = Process(self.cluster, worker=False)
        self.robot, robot_key = self._principal("ERP", "all", "accounts:*", "contacts:*", "account_contacts:read")
        self.stranger, _ = self._principal("Stranger", "own", "accounts:read")
        self.receiver = Receiver(self.folder, {}, self.size.rate)
        url = self.receiver.base_url
        mine = {"event_types": TYPES, "exclude_own": True, "ordering": "per_object"}
        self.endpoint = self._make("webhook_endpoints", url=f"{url}/crm-events", principal_id=self.robot, **mine)
        other = {"event_types": ["account.*"], "ordering": "per_object"}
        self.restricted = self._make("webhook_endpoints", url=f"{url}/restricted", principal_id=self.stranger, **other)
        path = f"/v1/webhook_endpoints/{self.endpoint['id']}/secret/rotate"
        secret = self.admin().post(path).json()["secret"]
        self.receiver.environment |= {
            **os.environ,
            "CRM_URL": self.server.base_url,
            "CRM_KEY": robot_key,
            "CRM_WEBHOOK_SECRETS": secret,
            "ERP_DATABASE": str(self.receiver.database),
            "ERP_FOLLOW_SECONDS": "3600",
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        }
        self.receiver.start()
        for _ in range(self.size.workers):
            self._hire()
        return self

    def __exit__(self, *error: object) -> None:
        self.receiver.kill()
        for worker in self.workers:
            worker.__exit__()
        for made in (self.endpoint, self.restricted):
            self.admin().delete(f"/v1/webhook_endpoints/{made['id']}")
        self.server.__exit__()

    def admin(self) -> httpx2.Client:
        return self._client(self.keys["admin"])

    def _client(self, key: str) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx2.Client(base_url=self.server.base_url, headers=headers, timeout=20, verify=False)

    def _make(self, collection: str, **values: Any) -> dict[str, Any]:
        answer = self.admin().post(f"/v1/{collection}", json=values)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def _principal(self, name: str, reach: str, *permissions: str) -> tuple[str, str]:
        id_ = self._make("service_accounts", name=name)["id"]
        grants = [{"permission": permission, "reach": reach} for permission in permissions]
        role = self._make("roles", name=name, permissions=grants, field_rules=[])["id"]
        self._make("role_assignments", principal_id=id_, role_id=role)
        answer = self.admin().post(f"/v1/service_accounts/{id_}/issue_key", json={"name": "key"})
        assert answer.status_code == 201, answer.text
        return id_, answer.json()["key"]

    def _hire(self) -> None:
        given = {"faults_lease": self.size.lease, "faults_closed": self.size.closed}
        environment = {name.upper(): str(value) for name, value in given.items()}
        self.workers.append(Worker(self.cluster, program="tests.faults.hurried", environment=environment))

    def write(self) -> Writers:
        """All writes, under faults of every kind."""
        owners = [self.robot, self.stranger]
        writers = Writers(self.server.base_url, self.keys["admin"], owners, self.size.writes, self.size.clients)
        rolled = random.Random(self.size.writes)  # noqa: S311 - moments, no secrets
        kinds = [self._kill_worker, self._cut, self._restart, self._kill_receiver]
        deadline, round_ = time.monotonic() + self.size.seconds, 0
        try:
            while writers.running or round_ < len(kinds):
                assert time.monotonic() < deadline, (writers.left, self.faults)
                time.sleep(self.size.pause * rolled.uniform(0.5, 1.5))
                if round_ < self.size.most_faults:
                    (kinds[round_] if round_ < len(kinds) else rolled.choice(kinds))()
                self._set_terms(writers)
                round_ += 1
        finally:
            writers.stop()
        assert not writers.wrong, writers.wrong[:3]
        return writers

    def _kill_worker(self) -> None:
        worker = self.workers.pop(0)
        worker.kill()
        worker.__exit__()
        self._hire()
        self.faults["worker killed"] += 1

    def _cut(self) -> None:
        self.cluster.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'crm_app'")
        self.faults["connections cut"] += 1

    def _restart(self) -> None:
        self.cluster.restart("immediate")
        self.faults["PostgreSQL restarted"] += 1

    def _kill_receiver(self) -> None:
        self.receiver.kill()
        self.receiver.start()
        self.faults["receiver killed"] += 1

    def _set_terms(self, writers: Writers) -> None:
        """The ERP writes back, too."""
        if writers.accounts:
            terms = f"terms {len(self.terms)}"
            path = f"/accounts/{writers.accounts[len(writers.accounts) // 2]}/terms"
            answer = self.receiver.ask("PUT", path, {"payment_terms": terms})
            if answer is not None and answer.status_code == 202:
                self.terms.append(terms)

    def settle(self) -> float:
        """Nothing fails any more; seconds until nothing is on its way."""
        started = time.monotonic()
        while (found := self.receiver.ask("POST", "/calm")) is None or found.status_code != 204:
            assert time.monotonic() < started + 30
            time.sleep(0.1)
        while waiting := self.waiting():
            assert time.monotonic() < started + self.size.seconds, (waiting, self._stuck())
            time.sleep(0.25)
        return time.monotonic() - started

    def waiting(self) -> dict[str, Any]:
        """What is on its way, of each kind that is."""
        tenant = self.keys["tenant"]
        (row,) = self.cluster.fetch(
            """SELECT (SELECT count(*) FROM outbox WHERE tenant_id = $1) AS outbox,
                 (SELECT h.seq - f.seq FROM feed_heads h JOIN webhook_fanouts f USING (tenant_id)
                  WHERE h.tenant_id = $1) AS feed,
                 (SELECT count(*) FROM webhook_deliveries WHERE tenant_id = $1 AND state = 'pending') AS deliveries""",
            tenant,
        )
        answer = self.receiver.ask("GET", "/state")
        state = answer.json() if answer is not None and answer.is_success else {"began": False}
        found = {
            **dict(row),
            **{name: state.get(name) for name in ("looks", "writes")},
            "beginning": not state["began"],
        }
        return {name: value for name, value in found.items() if value != 0}

    def _stuck(self) -> list[dict[str, Any]]:
        """Some of the deliveries that wait, with what is known of their endpoint."""
        rows = self.cluster.fetch(
            """SELECT to_jsonb(d) - 'request' || jsonb_build_object('endpoint', to_jsonb(s), 'now', now()) AS row
               FROM webhook_deliveries d
               LEFT JOIN webhook_states s ON s.tenant_id = d.tenant_id AND s.endpoint_id = d.endpoint_id
               WHERE d.tenant_id = $1 AND d.state = 'pending' LIMIT 3""",
            self.keys["tenant"],
        )
        return [row["row"] for row in rows]

    def check(self) -> dict[str, Any]:
        """Everything that was promised; figures of what there was."""
        events = self.cluster.fetch(
            """SELECT 'evt_' || event_id AS id, type, object_id::text AS object, version, actor_id::text AS actor,
                 data ->> 'owner_id' AS owner, data ->> 'payment_terms' AS terms, previous ? 'payment_terms' AS set
               FROM feed WHERE tenant_id = $1 AND object_type IN ('account', 'contact') ORDER BY seq""",
            self.keys["tenant"],
        )
        arrived = self.receiver.arrived()
        mine = [item for item in arrived if item["path"] == "/crm-events"]
        theirs = [item for item in arrived if item["path"] == "/restricted"]
        self._same()
        expected = {row["id"] for row in events if row["actor"] != self.robot}
        own = {row["id"] for row in events if row["actor"] == self.robot}
        ids = {item["event"] for item in mine if item["kept"]}
        assert not expected - ids, f"{len(expected - ids)} of {len(expected)} events never arrived"
        assert not own & {item["event"] for item in mine}, "it heard itself"
        for items in (mine, theirs):
            assert _backwards([item for item in items if item["kept"]]) == []
        self._nothing_forbidden(events, theirs)
        states = self._states()
        assert set(states) <= {"delivered", "suppressed"}, states
        made = Counter(row["terms"] for row in events if row["actor"] == self.robot and row["set"])
        assert set(made.values()) <= {1}, "a change of the ERP was made twice"
        state = (self.receiver.ask("GET", "/state") or httpx2.Response(500)).json()
        assert len(set(self.terms) - set(made)) <= len(state["refused"]), "a change of the ERP was lost"
        return {
            "events": len(events),
            "arrivals": len(arrived),
            "sent again": len(arrived) - len({(item["path"], item["event"]) for item in arrived}),
            "to the restricted endpoint": len({item["event"] for item in theirs}),
            "deliveries": dict(states),
            "written back": len(made),
            "refused": len(state["refused"]),
            "faults": dict(self.faults),
        }

    def _same(self) -> None:
        """The mirror is the database, by version, and what the API shows, by every field."""
        mirror = Mirror(str(self.receiver.database))
        try:
            held = {type_: mirror.all(type_) for type_ in KINDS}
        finally:
            mirror.close()
        with self._client(self.receiver.environment["CRM_KEY"]) as client:
            for type_, plural in KINDS.items():
                rows = self.cluster.fetch(
                    f"SELECT id::text, version FROM {plural} WHERE tenant_id = $1 AND deleted_at IS NULL",  # noqa: S608 - our own table
                    self.keys["tenant"],
                )
                versions = {id_: row["version"] for id_, row in held[type_].items()}
                kept = {row["id"]: row["version"] for row in rows}
                assert versions == kept, sorted(versions.items() ^ kept.items())[:10]
                assert held[type_] == _all(client, plural)

    def _nothing_forbidden(self, events: list[Any], theirs: list[dict[str, Any]]) -> None:
        """The stranger is told of accounts it owns at that time, and that it lost those it owned before."""
        owned: dict[str, list[tuple[int, bool]]] = {}
        for row in events:
            if row["type"].startswith("account."):
                owned.setdefault(row["object"], []).append((row["version"], row["owner"] == self.stranger))
        ever = {id_ for id_, versions in owned.items() if any(mine for _, mine in versions)}
        assert not {item["object"] for item in theirs} - ever, "an account that was never open"
        for item in theirs:
            if item["told"]:
                assert any(mine and version >= item["version"] for version, mine in owned[item["object"]]), item

    def _states(self) -> dict[str, int]:
        rows = self.cluster.fetch(
            "SELECT state, count(*) AS number FROM webhook_deliveries WHERE tenant_id = $1 GROUP BY state",
            self.keys["tenant"],
        )
        return {row["state"]: row["number"] for row in rows}


def _all(client: httpx2.Client, plural: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    params: dict[str, Any] = {"limit": 200}
    while True:
        answer = client.get(f"/v1/{plural}", params=params)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found |= {row["id"]: row for row in page["data"]}
        if page["next_cursor"] is None:
            return found
        params["cursor"] = page["next_cursor"]


def _backwards(items: list[dict[str, Any]]) -> list[Any]:
    """First arrivals of events whose record was told of in a later version before."""
    seen: set[str] = set()
    latest: dict[str, int] = {}
    found = []
    for item in items:
        if item["event"] in seen or item["version"] is None:
            continue
        seen.add(item["event"])
        if item["version"] < latest.get(item["object"], 0):
            found.append((item, latest[item["object"]]))
        latest[item["object"]] = max(latest.get(item["object"], 0), item["version"])
    return found
