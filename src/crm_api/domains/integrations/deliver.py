"""Sends what is due: claims deliveries under a lease, and shows each event as its endpoint may see it."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.adapters.egress import Egress, Failure, Reply
from crm_api.domains.integrations.outcome import Sent, settle
from crm_api.domains.integrations.pace import Pace
from crm_api.domains.integrations.resealing import renew
from crm_api.domains.integrations.rotate_secret import live_secrets
from crm_api.domains.integrations.selection import chosen
from crm_api.domains.integrations.send import TEST_TYPE
from crm_api.domains.integrations.set_headers import headers_of
from crm_api.domains.integrations.signing import sign
from crm_api.domains.integrations.webhook_endpoint import WebhookEndpoint
from crm_api.kernel import feed
from crm_api.kernel.context import Context, Kernel, Principal, new_id
from crm_api.kernel.database import TENANT, Row, Statement, bound
from crm_api.kernel.problems import UNAUTHENTICATED, AccessMoved, Problem, from_database, unavailable
from crm_api.kernel.projection import dumps
from crm_api.kernel.record import FeedEvent, among, table_of
from crm_api.kernel.schema import instant_text

log = structlog.get_logger("crm_api.webhooks")
MOST = 256
EACH = 32
"""Deliveries of one endpoint that are claimed at a time."""
GROUPS = 32
"""Endpoints that a process sends to at a time."""
BELL = "deliveries"
"""The bell that something is due."""
_TRIES = 4
_SECRET = 6
"""Shorter values of headers are none that a reply would give away."""
_ENDPOINTS = table_of(WebhookEndpoint)
_CLAIMED: dict[str, Any] = {
    "tenant_id": sa.Uuid(),
    "id": sa.Uuid(),
    "endpoint_id": sa.Uuid(),
    "seq": sa.BigInteger(),
    "event_type": sa.Text(),
    "object_id": sa.Uuid(),
    "kind": sa.Text(),
    "attempts": sa.BigInteger(),
    "created_at": sa.DateTime(timezone=True),
}
_CLAIM = Statement(
    sa.select(*(sa.column(name, type_) for name, type_ in _CLAIMED.items())).select_from(
        sa.func.claim_deliveries(
            sa.bindparam("worker", type_=sa.Uuid()),
            sa.bindparam("most", type_=sa.Integer()),
            sa.bindparam("each", type_=sa.Integer()),
            sa.bindparam("seconds", type_=sa.Integer()),
            sa.bindparam("busy", type_=ARRAY(sa.Uuid())),
        ).table_valued(*_CLAIMED)
    )
)
_ENDPOINT = Statement(
    sa.select(
        *(
            _ENDPOINTS.c[name]
            for name in (
                *("id", "url", "principal_id", "payload", "event_types", "filter", "status"),
                *("throttle", "sealed_headers", "sealed_secrets", "version"),
            )
        )
    ).where(
        _ENDPOINTS.c.tenant_id == TENANT,
        _ENDPOINTS.c.id == sa.bindparam("id", type_=sa.Uuid()),
        _ENDPOINTS.c.deleted_at.is_(None),
    )
)
_FEED = table_of(FeedEvent)
_EVENTS = Statement(
    sa.select(*feed.COLUMNS).where(
        _FEED.c.tenant_id == TENANT,
        among(_FEED.c.seq, sa.bindparam("seqs", type_=ARRAY(sa.BigInteger()))),
    )
)


@dataclass
class Deliverer:
    """The sender of one process. `lease`: seconds that what it sends is its own; more than an attempt takes."""

    kernel: Kernel
    egress: Egress
    lease: int
    worker: UUID = field(default_factory=uuid4)
    groups: dict[UUID, asyncio.Task[None]] = field(default_factory=dict)

    async def step(self) -> bool:
        """Claims what is due and begins to send it; whether more may be due now."""
        if len(self.groups) >= GROUPS:
            await asyncio.wait(self.groups.values(), timeout=1, return_when=asyncio.FIRST_COMPLETED)
            return True
        rows = await self.kernel.database.fetch(
            None,
            _CLAIM,
            {
                "worker": self.worker,
                "most": MOST,
                "each": EACH,
                "seconds": self.lease,
                "busy": bound(self.groups),
            },
        )
        by_endpoint: dict[UUID, list[Row]] = {}
        for row in rows:
            by_endpoint.setdefault(UUID(str(row["endpoint_id"])), []).append(row)
        for endpoint, group in by_endpoint.items():
            task = asyncio.create_task(self._send_all(endpoint, group))
            self.groups[endpoint] = task
            task.add_done_callback(partial(self._done, endpoint))
        return bool(rows)

    def _done(self, endpoint: UUID, _: asyncio.Task[None]) -> None:
        self.groups.pop(endpoint, None)
        self.kernel.bell(BELL).set()  # more may be due there

    async def stop(self, seconds: float) -> None:
        """Lets what is under way end; what does not is sent again by others when its lease ends."""
        if self.groups:
            _, late = await asyncio.wait(self.groups.values(), timeout=seconds)
            for task in late:
                task.cancel()

    async def _send_all(self, endpoint: UUID, group: list[Row]) -> None:
        tenant = UUID(str(group[0]["tenant_id"]))
        try:
            ctx, target = await _open(self.kernel, tenant, endpoint)
            if target is None:
                return  # deleted meanwhile: nothing is claimed for it any more
            sent = await self._send(ctx, target, group)
            await settle(ctx, target, self.worker, sent)
            with suppress(Exception):  # it is tried again with the next delivery
                await renew(ctx, target)
        except Exception as error:  # noqa: BLE001 - the lease ends, and another try is made
            log.warning("delivery_failed", endpoint=str(endpoint), error=type(error).__name__)
            known = error if isinstance(error, Problem) else from_database(error, {})
            if known is None or known.kind.status < 500:
                await self._one_by_one(endpoint, group, error)

    async def _one_by_one(self, endpoint: UUID, group: list[Row], error: Exception) -> None:
        """After a fault of ours: what can be told is sent without the event that cannot, and that one waits no more."""
        if len(group) > 1:
            for row in group:
                await self._send_all(endpoint, [row])
            return
        log.error("event_cannot_be_told", delivery=str(group[0]["id"]), exc_info=error)
        try:
            ctx, target = await _open(self.kernel, UUID(str(group[0]["tenant_id"])), endpoint)
            if target is not None:
                reason = "The event cannot be told; the log of the worker says why."
                await settle(ctx, target, self.worker, [Sent(group[0], suppressed=reason)])
        except Exception as other:  # noqa: BLE001 - as above
            log.warning("delivery_failed", endpoint=str(endpoint), error=type(other).__name__)

    async def _send(self, ctx: Context, target: Row, group: list[Row]) -> list[Sent]:
        told = await _told(ctx, target, group)
        headers = headers_of(ctx, target["sealed_headers"])
        secrets = [item["secret"] for item in live_secrets(ctx, target["sealed_secrets"], datetime.now(UTC))]
        pace = Pace(target["throttle"])
        made = (self._deliver(target, row, told[row["id"]], headers, secrets, pace) for row in group)
        return list(await asyncio.gather(*made))

    async def _deliver(
        self,
        target: Row,
        row: Row,
        told: list[dict[str, Any]] | str,
        headers: dict[str, str],
        secrets: list[str],
        pace: Pace,
    ) -> Sent:
        if isinstance(told, str):
            return Sent(row, suppressed=told)
        sent = Sent(row)
        for envelope in told:
            if target["payload"] == "thin":
                envelope = {**envelope, "data": None, "previous": {}}  # noqa: PLW2901 - the thin form of it
            await pace.turn()
            body, at = dumps(envelope), datetime.now(UTC)
            signed = sign(self.kernel.signer, secrets, envelope["id"], at, body)
            answer = _without(await self.egress.post(target["url"], {**headers, **signed}, body), headers)
            sent.attempts.append((new_id(), at, answer, body.decode()))
            if not isinstance(answer, Reply) or not 200 <= answer.status < 300:
                break
        return sent


def _without(answer: Reply | Failure, headers: dict[str, str]) -> Reply | Failure:
    """The answer as it is kept: a receiver that echoes what it was sent must not make secret headers readable."""
    if not isinstance(answer, Reply):
        return answer
    body = answer.body
    for value in headers.values():
        for part in {value, value.rpartition(" ")[2]}:
            body = body.replace(part.encode(), b"***") if len(part) >= _SECRET else body
    return replace(answer, body=body)


async def _open(kernel: Kernel, tenant: UUID, endpoint: UUID) -> tuple[Context, Row | None]:
    """The endpoint, and a context as its principal."""
    rows = await kernel.database.read(tenant, _ENDPOINT, {"id": endpoint})
    principal = Principal(tenant, UUID(str(rows[0]["principal_id"])) if rows else None, "service")
    ctx = Context(kernel, principal, None, "webhooks", via="webhooks")  # type: ignore[arg-type] # `_told` gives it
    return ctx, rows[0] if rows else None


async def _told(ctx: Context, target: Row, group: list[Row]) -> dict[Any, list[dict[str, Any]] | str]:
    """For each delivery what is to be sent, or why nothing is."""
    for _ in range(_TRIES):
        try:
            ctx.access = await ctx.kernel.authenticator.access(ctx.principal)
            return await _tell(ctx, target, group)
        except AccessMoved:
            continue
        except Problem as problem:
            if problem.kind is not UNAUTHENTICATED:
                raise
            return {row["id"]: "The endpoint's principal is not active." for row in group}
    raise unavailable("Permissions are changing.")


async def _tell(ctx: Context, target: Row, group: list[Row]) -> dict[Any, list[dict[str, Any]] | str]:
    rows = await ctx.read(_EVENTS, {"seqs": [row["seq"] for row in group if row["seq"]]})
    known = {row["seq"] for row in rows}
    entries: dict[int, list[dict[str, Any]]] = {}
    for entry in await chosen(ctx, target, rows):
        entries.setdefault(entry.seq, []).append(entry.envelope)
    found: dict[Any, list[dict[str, Any]] | str] = {}
    for row in group:
        if row["event_type"] == TEST_TYPE:
            found[row["id"]] = [_test(ctx, target, row)]
        elif row["seq"] not in known:
            found[row["id"]] = "The event is not kept any more."
        else:
            found[row["id"]] = entries.get(row["seq"]) or "The endpoint may not see it, or filters it out."
    return found


def _test(ctx: Context, target: Row, row: Row) -> dict[str, Any]:
    id_ = str(target["id"])
    return {
        "id": f"evt_{row['id']}",
        "type": TEST_TYPE,
        "timestamp": instant_text(row["created_at"]),
        "api_version": feed.API_VERSION,
        "tenant_id": str(ctx.principal.tenant_id),
        "object": {
            "type": "webhook_endpoint",
            "id": id_,
            "version": target["version"],
            "url": f"/v1/webhook_endpoints/{id_}",
            "merged_into": None,
        },
        "changed": [],
        "previous": {},
        "data": None,
        "access": None,
        "actor": dict.fromkeys(("type", "id")),
        "origin": dict.fromkeys(("client_id", "request_id", "idempotency_key", "via", "cause")),
        "transaction_id": str(row["id"]),
    }
