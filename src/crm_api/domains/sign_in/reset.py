"""The page `/reset`: asks for a letter with a link, and sets a password for who comes by one."""

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api import settings as process
from crm_api.adapters.mail import Letter, Mail
from crm_api.domains.identity.api_key import live_keys, revoke_keys
from crm_api.domains.identity.invite import RESET_MINUTES, PasswordLink, new_link
from crm_api.domains.identity.leaving import ends, sign_out
from crm_api.domains.identity.tickets import Ticket, read_ticket
from crm_api.domains.sign_in import attempts, password
from crm_api.domains.sign_in.answering import behind, go, hurried, readable, refused, unhurried
from crm_api.domains.sign_in.attempts import ACCOUNT, ADDRESS, LETTERS
from crm_api.domains.sign_in.browser import cookie, page, read_form, sign_in_address
from crm_api.domains.sign_in.organisation import LONGEST, find_organisation
from crm_api.domains.sign_in.person import Person, acting, find_by_email, find_by_id, note
from crm_api.domains.sign_in.sign_in import ORGANISATION
from crm_api.domains.sign_in.words import language_of, say
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.ledger import NOW
from crm_api.kernel.record import table_of
from crm_api.kernel.unit_of_work import transact

router = APIRouter()
_ASK, _SET, _SENT = (f"sign_in/pages/{name}.html" for name in ("reset", "new_password", "sent"))
_OLD = "This link was used already, or is no longer good. Ask for another."
_LINKS = table_of(PasswordLink)
_ID = sa.bindparam("id", type_=sa.Uuid())
_GOOD = (_LINKS.c.tenant_id == TENANT, _LINKS.c.used_at.is_(None), _LINKS.c.expires_at > NOW)
_FIND = Statement(
    sa.select(_LINKS.c.secret_hash, sa.cast(_LINKS.c.principal_id, sa.Text()), _LINKS.c.revokes_keys).where(
        *_GOOD, _LINKS.c.id == _ID
    )
)
_USE = Statement(sa.update(_LINKS).where(*_GOOD, _LINKS.c.id == _ID).values(used_at=NOW).returning(_LINKS.c.mailed_to))
_USE_OTHERS = Statement(
    sa.update(_LINKS)
    .where(*_GOOD, _LINKS.c.principal_id == sa.bindparam("principal", type_=sa.Uuid()))
    .values(used_at=NOW)
)


@router.get("/reset")
@readable
async def ask(request: Request) -> Response:
    """The form for a new password, with a good link; else the one that asks for a link. Looking uses nothing up."""
    ticket = read_ticket(request.query_params.get("token"))
    if ticket is None:
        organisation = (cookie(request, ORGANISATION) or "")[:LONGEST]
        return page(request, "Reset your password", _ASK, organisation=organisation, email="", errors={})
    found = await _holder(request, ticket)
    if found is None:
        return _outdated(request)
    return await _form(request, *found, ticket)


def _outdated(request: Request) -> Response:
    return refused(request, "Reset your password", _ASK, {"email": _OLD}, organisation="", email="")


async def _form(request: Request, person: Person, revokes: bool, ticket: Ticket, fault: str | None = None) -> Response:
    values: dict[str, Any] = {
        "language": person.language,
        "token": ticket.text,
        "email": person.email,
        "keys": len(await live_keys(acting(request, person.tenant_id, person.id), person.id)),
        "revokes_keys": revokes,
        **bounds(person),
    }
    errors = {} if fault is None else {"password": fault}
    return page(request, "Set your password", _SET, status=422 if fault else 200, errors=errors, **values)


def bounds(person: Person) -> dict[str, Any]:
    """How many characters a password of the person has."""
    both = person.factor_id is not None or person.must_have_factor
    shortest = password.SHORTEST_WITH_FACTOR if both else password.SHORTEST
    return {"shortest": shortest, "longest": password.LONGEST, "alone": password.SHORTEST}


async def _holder(request: Request, ticket: Ticket) -> tuple[Person, bool] | None:
    """The person of a link that is good now, and whether their API keys end by it."""
    kernel, ctx = request.scope["crm.kernel"], acting(request, ticket.tenant_id, ticket.id)
    rows = await ctx.fetch(_FIND, {"id": ticket.id, "now": ctx.now})
    if not rows or not ticket.fits(rows[0]["secret_hash"]):
        return None
    person = await find_by_id(kernel, ticket.tenant_id, UUID(rows[0]["principal_id"]))
    return None if person is None else (person, rows[0]["revokes_keys"])


@router.post("/reset")
@readable
async def reset(request: Request) -> Response:
    """With a link sets the password; without one has a letter sent, and says so whether there is a person or not."""
    form = await read_form(request)
    if "token" in form:
        return await _set(request, form)
    await unhurried(request)
    hurried(request)
    behind(request, _write(request, form, language_of(request)))
    return page(request, "Look into your mail", _SENT, minutes=RESET_MINUTES)


async def _set(request: Request, form: dict[str, str]) -> Response:
    ticket = read_ticket(form["token"])
    found = None if ticket is None else await _holder(request, ticket)
    if ticket is None or found is None:
        return _outdated(request)
    person, revokes = found
    chosen = form.get("password", "")
    if (fault := password.fault(chosen, bounds(person)["shortest"], person.known)) is not None:
        return await _form(request, person, revokes, ticket, fault)
    hash_ = await password.hashed(chosen)

    async def work(ctx: Context) -> int | None:
        used = await ctx.fetch(_USE, {"id": ticket.id, "now": ctx.now})
        if not used:
            return None
        ends, proven = revokes or wants_keys_revoked(form), used[0]["mailed_to"]
        return await change_password(ctx, person, hash_, "reset_password", ends, proven)

    keys = await transact(acting(request, person.tenant_id, person.id), work, patient=True)
    if keys is None:
        return _outdated(request)
    behind(request, tell(request, person, keys))
    await attempts.reset(request.scope["crm.kernel"], person.tenant_id, ACCOUNT, person.email.lower())
    return go(sign_in_address("/account", login_hint=person.email, again=True) + "&notice=password")


def wants_keys_revoked(form: dict[str, str]) -> bool:
    """Whether somebody who sets a password would end their API keys with it."""
    return form.get("revoke_keys") == "true"


async def change_password(
    ctx: Context, person: Person, hash_: str, action: str, revokes_keys: bool, proven_email: str | None = None
) -> int:
    """Makes this the password, and ends all that the person is signed in by; gives how many API keys stay good."""
    await password.keep(ctx, person.id, hash_, proven_email)
    await sign_out(ctx, person.id)
    if revokes_keys:
        await revoke_keys(ctx, person.id)
    keys = len(await live_keys(ctx, person.id))
    await note(ctx, person, action, revoke_keys=revokes_keys, live_keys=keys)
    return keys


@ends
async def _links(ctx: Context, principal_id: UUID) -> None:
    await ctx.fetch(_USE_OTHERS, {"principal": principal_id, "now": ctx.now})


async def tell(request: Request, person: Person, keys: int) -> None:
    """Writes to a person that their password is another now (NIST SP 800-63B-4, 4.6)."""
    spoken = language_of(request, person.language)
    values: dict[str, Any] = {"name": person.name, "organisation": person.organisation, "keys": keys}
    letter = Letter(person.email, say(spoken, "Your password was changed"), say(spoken, CHANGED, **values))
    await Mail.of(process.load_settings()).send(letter)


async def _write(request: Request, form: dict[str, str], language: str) -> None:
    """Looks for the person and writes to them."""
    person = await _addressee(request, form)
    if person is None:
        return
    ctx = acting(request, person.tenant_id, person.id)
    url, _ = await new_link(ctx, person.id, RESET_MINUTES, mailed_to=person.email)
    await note(ctx, person, "ask_reset", address=request.scope["crm.address"])
    spoken = language_of(request, person.language or language)
    values: dict[str, Any] = {"name": person.name, "url": url, "minutes": RESET_MINUTES}
    letter = Letter(person.email, say(spoken, "Your new password"), say(spoken, LETTER, **values))
    await Mail.of(process.load_settings()).send(letter)


async def _addressee(request: Request, form: dict[str, str]) -> Person | None:
    """The person that a form means, unless they or the address had too many letters of late."""
    kernel, email = request.scope["crm.kernel"], form.get("email", "")[:254].strip()
    tenant_id = await find_organisation(kernel, form.get("organisation", "")[:LONGEST])
    if tenant_id is None or await attempts.begin(kernel, tenant_id, ADDRESS, request.scope["crm.address"]) is None:
        return None
    person = await find_by_email(kernel, tenant_id, email)
    if person is None or await attempts.begin(kernel, tenant_id, LETTERS, email.lower()) is None:
        return None
    return person


LETTER = (
    "Hello {name},\n\nsomebody, probably you, asked for a new password. Set it within {minutes} minutes here:\n\n"
    "{url}\n\n"
    "If it was not you, do nothing: your password stays as it is.\n"
)
CHANGED = (
    "Hello {name},\n\nthe password of your account at {organisation} was changed. All other sessions are ended, and "
    "applications that you allowed something have to ask you again.\n\n"
    "API keys of yours that are still good: {keys}. They do not depend on the password.\n\n"
    "If it was not you, ask an administrator of your organisation for help at once.\n"
)
