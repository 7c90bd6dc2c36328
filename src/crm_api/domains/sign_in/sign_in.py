"""The pages `/sign-in` and `/sign-out`: password, then the second factor of who has one or must have one."""

from functools import cache
from importlib.resources import files
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.identity.credentials import hashes
from crm_api.domains.sign_in import attempts, password
from crm_api.domains.sign_in.answering import behind, go, hurried, readable, refused, unhurried
from crm_api.domains.sign_in.attempts import ACCOUNT, ADDRESS
from crm_api.domains.sign_in.browser import (
    SESSION,
    cookie,
    own_path,
    page,
    read_form,
    set_cookie,
    sign_in_address,
    signed_in,
    unset_cookie,
)
from crm_api.domains.sign_in.enrolment import confirm, offer
from crm_api.domains.sign_in.organisation import LONGEST, find_organisation, handle_of
from crm_api.domains.sign_in.person import Person, acting, end_sessions, find_by_email, find_by_id, note, start_session
from crm_api.domains.sign_in.second_factor import use_code
from crm_api.domains.sign_in.steps import seal, unseal
from crm_api.kernel.context import Context, new_id
from crm_api.kernel.unit_of_work import transact

router = APIRouter()
ORGANISATION = "crm_organisation"
_STEP, _DEVICE = "crm_step", "crm_device"
_STEP_SECONDS, _YEAR = 600, 31_536_000
_FORM = "sign_in/pages/sign_in.html"
_CODE = "sign_in/pages/code.html"
_WRONG = (
    "Organisation, e-mail or password is wrong. After several attempts, wait some minutes before the next: "
    "until then, even the right password is refused."
)
_WRONG_CODE = "The code is wrong, was used before, or there were too many attempts. Wait for the next code."


def _next(values: Any) -> str:
    return own_path(values.get("return_to")) or "/account"


@router.get("/sign-in/style.css")
async def style(request: Request) -> Response:
    """How all pages look."""
    del request
    return Response(_style(), media_type="text/css", headers={"Cache-Control": "public, max-age=3600"})


@cache
def _style() -> bytes:
    return files("crm_api.domains.sign_in").joinpath("pages", "style.css").read_bytes()


@router.get("/sign-in")
@readable
async def ask(request: Request) -> Response:
    """The form; who is signed in already goes on."""
    given = request.query_params
    session = await signed_in(request)
    if session is not None and given.get("prompt") != "login":
        return page(request, "You are signed in", "sign_in/pages/signed_in.html", target=_next(given))
    organisation = given.get("organisation") or cookie(request, ORGANISATION) or ""
    values: dict[str, Any] = {"organisation": organisation[:LONGEST], "email": given.get("login_hint", "")[:254]}
    return page(request, "Sign in", _FORM, return_to=_next(given), errors={}, notice=given.get("notice"), **values)


@router.post("/sign-in")
@readable
async def enter(request: Request) -> Response:
    """Checks the password; takes as long, and says the same, whatever of it is wrong."""
    form = await read_form(request)
    await unhurried(request)
    kernel = request.scope["crm.kernel"]
    organisation, email = form.get("organisation", "")[:LONGEST], form.get("email", "")[:254].strip()
    tenant_id = await find_organisation(kernel, organisation) or _nowhere(organisation)
    person = await find_by_email(kernel, tenant_id, email)
    account, address = _counted(request, person, email), request.scope["crm.address"]
    free = await attempts.begin(kernel, tenant_id, ADDRESS, address) is not None
    tries = await attempts.begin(kernel, tenant_id, ACCOUNT, account) if free else None
    kept = person.hash if person is not None and tries is not None else None
    if not await password.fits(form.get("password", ""), kept) or person is None:
        hurried(request)
        if person is not None:
            behind(request, _failed(request, person, "sign_in_failed", tries))
        values = {"organisation": organisation, "email": email, "return_to": _next(form), "notice": None}
        return refused(request, "Sign in", _FORM, {"password": _WRONG}, **values)
    await attempts.take_back(kernel, tenant_id, ADDRESS, address)
    if person.factor_id is None and not person.must_have_factor:
        await attempts.reset(kernel, tenant_id, ACCOUNT, account)
        return await admit(request, person, ("pwd",), _next(form), handle_of(organisation))
    page_ = "code" if person.factor_id else "enrol"
    step = seal(kernel, tenant_id, page_, _STEP_SECONDS, **_who(person), organisation=handle_of(organisation))
    response = go(f"/sign-in/{page_}?{sign_in_address(_next(form)).partition('?')[2]}")
    set_cookie(response, _STEP, step, _STEP_SECONDS)
    return response


def _who(person: Person) -> dict[str, str]:
    """Whose password was right; another password since then ends the step."""
    return {"principal": str(person.id), "changed_at": str(person.changed_at)}


def _nowhere(organisation: str) -> UUID:
    """A tenant that does not exist, always the same for a name: nothing is found there, as slowly as elsewhere."""
    return UUID(bytes=hashes(f"nowhere {handle_of(organisation)}")[0][:16])


def _counted(request: Request, person: Person | None, email: str) -> str:
    """What attempts are counted for: the e-mail, or this browser if it has signed in to the account before.

    So somebody else's guesses do not make the owner wait.
    """
    device = unseal(request.scope["crm.kernel"], "device", cookie(request, _DEVICE))
    if (
        person is not None
        and device is not None
        and (device[0], device[1]["principal"])
        == (
            person.tenant_id,
            str(person.id),
        )
    ):
        return f"{person.id} {device[1]['browser']}"
    return email.lower()


async def _failed(request: Request, person: Person, action: str, tries: int | None) -> None:
    if tries is not None:  # what is refused unseen is not recorded: nothing bounds how often that is
        ctx = acting(request, person.tenant_id, person.id)
        locked = {"locked": True} if tries >= ACCOUNT.free else {}
        await note(ctx, person, action, address=request.scope["crm.address"], attempts=tries, **locked)


async def admit(request: Request, person: Person, methods: tuple[str, ...], target: str, organisation: str) -> Response:
    """Starts the session; the browser goes on by a page of its own, since no form may lead away from here."""
    ticket = await start_session(request, person, methods)
    response = go(sign_in_address(target))
    set_cookie(response, SESSION, ticket.text)
    set_cookie(response, ORGANISATION, organisation, _YEAR)
    kernel, known = request.scope["crm.kernel"], {"principal": str(person.id), "browser": str(new_id())}
    if _counted(request, person, "") == "":
        set_cookie(response, _DEVICE, seal(kernel, person.tenant_id, "device", _YEAR, **known), _YEAR)
    unset_cookie(response, _STEP)
    return response


async def _waiting(request: Request, purpose: str) -> tuple[Person, str] | None:
    """Whose password was right some minutes ago with this browser, and what they called their organisation."""
    kernel = request.scope["crm.kernel"]
    step = unseal(kernel, purpose, cookie(request, _STEP))
    if step is None:
        return None
    person = await find_by_id(kernel, step[0], UUID(step[1]["principal"]))
    if person is None or str(person.changed_at) != step[1]["changed_at"]:
        return None
    return person, str(step[1]["organisation"])


@router.get("/sign-in/code")
@readable
async def ask_code(request: Request) -> Response:
    """The form for the code of the second factor."""
    target = _next(request.query_params)
    found = await _waiting(request, "code")
    if found is None:
        return go(sign_in_address(target))
    return page(request, "Enter the code", _CODE, language=found[0].language, return_to=target, errors={})


@router.post("/sign-in/code")
@readable
async def enter_code(request: Request) -> Response:
    """Checks the code."""
    form = await read_form(request)
    found = await _waiting(request, "code")
    if found is None:
        return go(sign_in_address(_next(form)))
    person, organisation = found
    kernel, subject = request.scope["crm.kernel"], f"code {person.id}"
    tries = await attempts.begin(kernel, person.tenant_id, ACCOUNT, subject)

    async def work(ctx: Context) -> bool:
        return await use_code(ctx, person.id, form.get("code", "")[:64])

    ctx = acting(request, person.tenant_id, person.id)
    if tries is None or not await transact(ctx, work):
        behind(request, _failed(request, person, "second_factor_failed", tries))
        values = {"language": person.language, "return_to": _next(form)}
        return refused(request, "Enter the code", _CODE, {"code": _WRONG_CODE}, **values)
    for each in (subject, _counted(request, person, person.email)):
        await attempts.reset(kernel, person.tenant_id, ACCOUNT, each)
    return await admit(request, person, ("pwd", "otp"), _next(form), organisation)


@router.get("/sign-in/enrol")
@readable
async def ask_enrolment(request: Request) -> Response:
    """The form to set up a second factor, for who must have one and has none."""
    found = await _waiting(request, "enrol")
    if found is None or found[0].factor_id is not None:
        return go(sign_in_address(_next(request.query_params)))
    return offer(request, found[0], "/sign-in/enrol", return_to=_next(request.query_params))


@router.post("/sign-in/enrol")
@readable
async def enrol(request: Request) -> Response:
    """Sets it up, and signs the person in."""
    form = await read_form(request)
    found = await _waiting(request, "enrol")
    if found is None or found[0].factor_id is not None:
        return go(sign_in_address(_next(form)))
    person, organisation = found
    answer = await confirm(request, person, form, "/sign-in/enrol", return_to=_next(form))
    if answer.status_code == 200:
        await attempts.reset(request.scope["crm.kernel"], person.tenant_id, ACCOUNT, person.email.lower())
        entered = await admit(request, person, ("pwd", "otp"), _next(form), organisation)
        answer.raw_headers += [pair for pair in entered.raw_headers if pair[0] == b"set-cookie"]
    return answer


@router.get("/sign-out")
@readable
async def ask_sign_out(request: Request) -> Response:
    """Asks before it ends the session: a link alone must not."""
    session = await signed_in(request)
    if session is None:
        return go(sign_in_address("/account"))
    return page(request, "Sign out", "sign_in/pages/sign_out.html", session=session)


@router.post("/sign-out")
@readable
async def sign_out(request: Request) -> Response:
    """Ends the session."""
    session = await signed_in(request)
    if session is not None:
        await read_form(request, session)
        ctx = acting(request, session.tenant_id, session.principal_id)
        await transact(ctx, lambda inner: end_sessions(inner, session.principal_id, only=session.session_id))
    response = go(sign_in_address("/account") + "&notice=out")
    unset_cookie(response, SESSION)
    return response
