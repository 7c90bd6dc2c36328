"""The receiver over HTTP: webhooks come in, the ERP's own pages read the mirror and change it."""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import httpx2
import orjson
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from examples.erp_receiver.follow import Follower
from examples.erp_receiver.mirror import Mirror
from examples.erp_receiver.signature import verified

MOST_BYTES = 2_000_000


@dataclass(frozen=True)
class Config:
    """Where the CRM is, who we are there, and what its messages are signed with."""

    crm_url: str
    crm_key: str
    secrets: tuple[str, ...]
    database: str = "erp.sqlite3"
    follow_seconds: float = 60
    source: str = "erp"

    @classmethod
    def from_environment(cls) -> Self:
        """From CRM_URL, CRM_KEY, CRM_WEBHOOK_SECRETS (separated by spaces), and the ERP_ ones that README tells of."""
        return cls(
            os.environ["CRM_URL"],
            os.environ["CRM_KEY"],
            tuple(os.environ["CRM_WEBHOOK_SECRETS"].split()),
            os.environ.get("ERP_DATABASE", cls.database),
            float(os.environ.get("ERP_FOLLOW_SECONDS", cls.follow_seconds)),
            os.environ.get("ERP_SOURCE", cls.source),
        )


class Terms(BaseModel):
    """What the ERP knows better than the CRM."""

    model_config = ConfigDict(extra="forbid")

    payment_terms: Annotated[str, Field(min_length=1, max_length=200)]


class Taken(BaseModel):
    """The number that the ERP keeps an order under."""

    model_config = ConfigDict(extra="forbid")

    number: Annotated[str, Field(min_length=1, max_length=60)]


def create_app(config: Config | None = None) -> FastAPI:
    """The application; its mirror is open, and followed, while it runs."""
    config = config or Config.from_environment()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        mirror = Mirror(config.database)
        headers = {"Authorization": f"Bearer {config.crm_key}"}
        async with httpx2.AsyncClient(base_url=config.crm_url, headers=headers, timeout=30) as crm:
            follower = Follower(mirror, crm, config.follow_seconds)
            app.state.mirror, app.state.follower = mirror, follower
            task = asyncio.create_task(follower.run())
            try:
                yield
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                mirror.close()

    app = FastAPI(title="ERP receiver", lifespan=lifespan)

    @app.post("/crm-events", status_code=204)
    async def receive(request: Request) -> Response:
        """Applies an event, once. 2xx is said after it is kept; anything else makes the CRM send it again."""
        body = await _body(request)
        if not verified(config.secrets, request.headers, body, time.time()):
            raise HTTPException(401, "The signature is not right, or not of now.")
        app.state.mirror.receive(orjson.loads(body))
        app.state.follower.wake.set()
        return Response(status_code=204)

    @app.get("/{plural}/{id_}")
    async def show(plural: Literal["accounts", "contacts", "orders"], id_: str) -> dict[str, Any]:
        """A record of the mirror."""
        found: dict[str, Any] | None = app.state.mirror.get(plural.removesuffix("s"), id_)
        if found is None:
            raise HTTPException(404)
        return found

    def intend(type_: str, id_: str, values: dict[str, Any], verb: str = "") -> dict[str, str]:
        if app.state.mirror.get(type_, id_) is None:
            raise HTTPException(404)
        key = str(uuid.uuid4())
        app.state.mirror.intend(key, type_, id_, values, verb)
        app.state.follower.wake.set()
        return {"key": key}

    @app.put("/accounts/{id_}/terms", status_code=202)
    async def set_terms(id_: str, terms: Terms) -> dict[str, str]:
        """Sets an account's payment terms in the CRM: kept first, then sent until it is answered."""
        return intend("account", id_, terms.model_dump())

    @app.put("/orders/{id_}/number", status_code=202)
    async def take_order(id_: str, taken: Taken) -> dict[str, str]:
        """Tells the CRM under which number we keep an order: its external id, by which we may name it from now on."""
        return intend("order", id_, {"source": config.source, "external_id": taken.number}, "link")

    @app.post("/orders/{id_}/done", status_code=202)
    async def finish_order(id_: str) -> dict[str, str]:
        """Tells the CRM that all of an order is shipped and invoiced, and that it is closed with it."""
        order = app.state.mirror.get("order", id_) or {"lines": []}
        whole = ((line["id"], line["quantity"]) for line in order["lines"])
        lines = [{"id": line, "shipped_quantity": count, "invoiced_quantity": count} for line, count in whole]
        intend("order", id_, {"lines": lines}, "progress")
        return intend("order", id_, {}, "close")

    @app.get("/state")
    async def state() -> dict[str, Any]:
        """How the mirror does: what is still to be read and written, and what was refused."""
        mirror: Mirror = app.state.mirror
        waiting = {"looks": len(mirror.looks()), "writes": len(mirror.writes())}
        return {"began": mirror.cursor is not None, **waiting, "refused": mirror.refusals()}

    return app


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise HTTPException(413)
    return body
