"""How page routes answer: faults as pages that people can read, going on by a redirect, and what a form got wrong."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from crm_api.domains.identity.addresses import crowd
from crm_api.domains.sign_in.browser import BrowserSession, page, sign_in_address, signed_in
from crm_api.kernel.problems import Problem

log = structlog.get_logger("crm_api.sign_in")
Endpoint = Callable[[Request], Awaitable[Response]]
_MESSAGES = {
    403: "The form was outdated. Go back, load the page again and send it once more.",
    429: "There were too many attempts. Wait a minute and try again.",
    503: "The server cannot answer now. Wait a moment and try again.",
}


def readable(endpoint: Endpoint) -> Endpoint:
    """A route whose problems are pages."""

    @wraps(endpoint)
    async def run(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Problem as problem:
            status = problem.kind.status
            message = _MESSAGES.get(status, "The server did not understand the request.")
            response = page(request, "This did not work", "sign_in/pages/problem.html", status=status, message=message)
            response.headers.update(problem.headers)
            return response

    return run


def go(address: str) -> Response:
    """Sends the browser on, with GET."""
    return RedirectResponse(address, 303, {"Cache-Control": "no-store"})


def for_signed_in(endpoint: Callable[[Request, BrowserSession], Awaitable[Response]]) -> Endpoint:
    """A route for who is signed in; others are sent to sign in, and come back to the page."""

    async def run(request: Request) -> Response:
        session = await signed_in(request)
        if session is None:
            return go(sign_in_address("/account"))
        return await endpoint(request, session)

    run.__name__, run.__doc__ = endpoint.__name__, endpoint.__doc__
    return readable(run)


def refused(request: Request, title: str, template: str, errors: dict[str, str], **values: Any) -> Response:
    """The form again, with what was wrong: field -> text, as `words` knows it."""
    return page(request, title, template, status=422, errors=errors, **values)


async def unhurried(request: Request) -> None:
    """Refuses with 429 an address that sent too many wrong forms to this process, before they cost a hash.

    They count for whatever organisation is named, and not together with wrong API keys: a program that sends those
    must not keep the people at its address from signing in.
    """
    await request.scope["crm.kernel"].limiter.knock(_forms_of(request), None)


def hurried(request: Request) -> None:
    """Counts a form that was wrong, or asks for a letter."""
    request.scope["crm.kernel"].limiter.failed(_forms_of(request), None)


def _forms_of(request: Request) -> str:
    return f"forms of {crowd(request.scope['crm.address'])}"


_behind: set[asyncio.Task[None]] = set()


def behind(request: Request, work: Coroutine[Any, Any, None]) -> None:
    """Does something behind the answer, so that its time does not tell whether there was anything to do."""

    async def run() -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - nobody waits for it; the log says what failed
            log.warning("left_undone", error=type(error).__name__, request_id=request.scope["crm.request_id"])

    task = asyncio.create_task(run())
    _behind.add(task)
    task.add_done_callback(_behind.discard)
