"""The page `/account`: a person's own password, second factor and sessions."""

from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.identity.api_key import live_keys
from crm_api.domains.sign_in import attempts, password
from crm_api.domains.sign_in.answering import behind, for_signed_in, go
from crm_api.domains.sign_in.attempts import ACCOUNT
from crm_api.domains.sign_in.browser import SESSION, BrowserSession, page, read_form, set_cookie, sign_in_address
from crm_api.domains.sign_in.enrolment import confirm, offer
from crm_api.domains.sign_in.person import Person, acting, end_sessions, find_by_id, note, start_session
from crm_api.domains.sign_in.reset import bounds, change_password, tell, wants_keys_revoked
from crm_api.domains.sign_in.second_factor import SECOND_FACTORS
from crm_api.domains.sign_in.session import Session
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.ledger import NOW
from crm_api.kernel.problems import NOT_FOUND, Problem
from crm_api.kernel.record import table_of
from crm_api.kernel.repository import delete
from crm_api.kernel.unit_of_work import transact

router = APIRouter()
_SESSIONS = table_of(Session)
_MOST = 50
_OPEN = Statement(
    sa.select(
        sa.cast(_SESSIONS.c.id, sa.Text()),
        *(_SESSIONS.c[name] for name in ("address", "user_agent", "created_at", "last_seen_at")),
    )
    .where(
        _SESSIONS.c.tenant_id == TENANT,
        _SESSIONS.c.principal_id == sa.bindparam("principal", type_=sa.Uuid()),
        _SESSIONS.c.revoked_at.is_(None),
        _SESSIONS.c.expires_at > NOW,
    )
    .order_by(_SESSIONS.c.last_seen_at.desc())
    .limit(_MOST)
)
_WRONG = "This is not your password, or there were too many attempts. Wait some minutes before the next."


async def _person(request: Request, session: BrowserSession) -> Person:
    person = await find_by_id(request.scope["crm.kernel"], session.tenant_id, session.principal_id)
    if person is None:
        raise Problem(NOT_FOUND, "The person is gone.")
    return person


async def _page(request: Request, session: BrowserSession, person: Person, **errors: str) -> Response:
    ctx = acting(request, session.tenant_id, session.principal_id)
    rows = await ctx.fetch(_OPEN, {"principal": person.id, "now": ctx.now})
    return page(
        request,
        "Your account",
        "sign_in/pages/account.html",
        status=422 if errors else 200,
        language=person.language,
        session=session,
        person=person,
        sessions=[{**row, "mine": row["id"] == str(session.session_id)} for row in rows],
        keys=len(await live_keys(ctx, person.id)),
        errors=errors,
        notice=None if errors else request.query_params.get("notice"),
        **bounds(person),
    )


async def _proven(request: Request, person: Person, given: str) -> bool:
    """Whether the person at a browser knows the password: a session that was left open is not enough."""
    kernel, subject = request.scope["crm.kernel"], f"again {person.id}"
    tries = await attempts.begin(kernel, person.tenant_id, ACCOUNT, subject)
    if not await password.fits(given, person.hash if tries is not None else None):
        await note(acting(request, person.tenant_id, person.id), person, "password_refused", attempts=tries)
        return False
    await attempts.reset(kernel, person.tenant_id, ACCOUNT, subject)
    return True


@router.get("/account")
@for_signed_in
async def show(request: Request, session: BrowserSession) -> Response:
    """The page."""
    return await _page(request, session, await _person(request, session))


@router.post("/account/password")
@for_signed_in
async def change(request: Request, session: BrowserSession) -> Response:
    """Changes the password; all that the person is signed in by ends but this session, which gets a new cookie."""
    form, person = await read_form(request, session), await _person(request, session)
    if not await _proven(request, person, form.get("current", "")):
        return await _page(request, session, person, current=_WRONG)
    chosen = form.get("password", "")
    if (fault := password.fault(chosen, bounds(person)["shortest"], person.known)) is not None:
        return await _page(request, session, person, password=fault)
    hash_ = await password.hashed(chosen)

    async def work(ctx: Context) -> int:
        return await change_password(ctx, person, hash_, "change_password", wants_keys_revoked(form))

    keys = await transact(acting(request, person.tenant_id, person.id), work)
    behind(request, tell(request, person, keys))
    response = go("/account?notice=password")
    ticket = await start_session(request, await _person(request, session), session.methods)
    set_cookie(response, SESSION, ticket.text)
    return response


@router.get("/account/second-factor")
@for_signed_in
async def ask_second_factor(request: Request, session: BrowserSession) -> Response:
    """The form to set up a second factor."""
    person = await _person(request, session)
    if person.factor_id is not None:
        return go("/account")
    return offer(request, person, "/account/second-factor", session=session)


@router.post("/account/second-factor")
@for_signed_in
async def add_second_factor(request: Request, session: BrowserSession) -> Response:
    """Sets it up."""
    form, person = await read_form(request, session), await _person(request, session)
    if person.factor_id is not None:
        return go("/account")
    return await confirm(request, person, form, "/account/second-factor", session=session)


@router.post("/account/second-factor/remove")
@for_signed_in
async def remove_second_factor(request: Request, session: BrowserSession) -> Response:
    """Takes it away, unless the organisation wants one, or the password is too short to stand alone."""
    form, person = await read_form(request, session), await _person(request, session)
    given, factor = form.get("remove", ""), person.factor_id
    if person.must_have_factor or factor is None:
        return go("/account")
    if not await _proven(request, person, given):
        return await _page(request, session, person, remove=_WRONG)
    if len(password.normal(given)) < password.SHORTEST:
        fault = "Without a second factor a password has {alone} characters or more. Set a longer one first."
        return await _page(request, session, person, remove=fault)
    await transact(acting(request, person.tenant_id, person.id), lambda ctx: delete(ctx, SECOND_FACTORS, factor))
    return go("/account?notice=factor")


@router.post("/account/sessions/end")
@for_signed_in
async def end(request: Request, session: BrowserSession) -> Response:
    """Ends one of the person's sessions, or all but this one."""
    form = await read_form(request, session)

    only = _id(form["session"]) if "session" in form else None

    async def work(ctx: Context) -> None:
        await end_sessions(ctx, session.principal_id, but=None if only else session.session_id, only=only)

    await transact(acting(request, session.tenant_id, session.principal_id), work)
    return go(sign_in_address("/account") if only == session.session_id else "/account?notice=ended")


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Problem(NOT_FOUND, "There is no such session.") from None
