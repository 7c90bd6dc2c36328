"""What every page of ours builds on: who is signed in with this browser, and how a page and a form look."""

import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

import jinja2
import orjson
import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from crm_api import settings as process
from crm_api.domains.identity.principal import Principal as PrincipalRow
from crm_api.domains.identity.tickets import read_ticket
from crm_api.domains.sign_in.session import Session
from crm_api.domains.sign_in.words import language_of, say
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.problems import FORBIDDEN, INVALID, TOO_LARGE, UNSUPPORTED_MEDIA, Problem
from crm_api.kernel.record import Tenant, table_of

SESSION = "crm_session"
_FORM = "crm_form"
_CSP = "default-src 'none'; style-src 'self'; form-action {forms}; frame-ancestors 'none'; base-uri 'none'"
_LONGEST_FORM = 65_536
_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")
"""A path of ours: no host, no backslash, no space or control character."""
_TOUCH = timedelta(minutes=1)
_SESSIONS, _PEOPLE, _TENANTS = table_of(Session), table_of(PrincipalRow), table_of(Tenant)
_ID = sa.bindparam("id", type_=sa.Uuid())
_AT = sa.bindparam("at", type_=sa.DateTime(timezone=True))
_LOOK_UP = Statement(
    sa.select(
        _SESSIONS.c.secret_hash,
        sa.cast(_SESSIONS.c.principal_id, sa.Text()),
        _SESSIONS.c.created_at,
        _SESSIONS.c.last_seen_at,
        _SESSIONS.c.methods,
    )
    .select_from(
        sa.join(_SESSIONS, _PEOPLE, _PEOPLE.c.id == _SESSIONS.c.principal_id).join(_TENANTS, sa.true()),
    )
    .where(
        _SESSIONS.c.tenant_id == TENANT,
        _PEOPLE.c.tenant_id == TENANT,
        _TENANTS.c.tenant_id == TENANT,
        _SESSIONS.c.id == _ID,
        _SESSIONS.c.revoked_at.is_(None),
        _SESSIONS.c.expires_at > _AT,
        _SESSIONS.c.last_seen_at > sa.bindparam("idle", type_=sa.DateTime(timezone=True)),
        _PEOPLE.c.is_active,
        _PEOPLE.c.deleted_at.is_(None),
        _TENANTS.c.is_active,
    )
)
_SEEN = Statement(
    sa.update(_SESSIONS).where(_SESSIONS.c.tenant_id == TENANT, _SESSIONS.c.id == _ID).values(last_seen_at=_AT)
)


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """Who is signed in. `methods` are those of RFC 8176 (`pwd`, `otp`), `csrf` is what forms of the session carry."""

    tenant_id: UUID
    principal_id: UUID
    session_id: UUID
    authenticated_at: datetime
    methods: tuple[str, ...]
    csrf: str


async def signed_in(request: Request) -> BrowserSession | None:
    """Who is signed in with the browser that sent a request; read anew each time, so an end holds at once."""
    ticket = read_ticket(cookie(request, SESSION))
    if ticket is None:
        return None
    kernel = request.scope["crm.kernel"]
    now = datetime.now(UTC)
    idle = now - timedelta(seconds=process.load_settings().session_idle)
    rows = await kernel.database.read(ticket.tenant_id, _LOOK_UP, {"id": ticket.id, "at": now, "idle": idle})
    if not rows or not ticket.fits(rows[0]["secret_hash"]):
        return None
    if now - rows[0]["last_seen_at"] > _TOUCH:
        await kernel.database.fetch(ticket.tenant_id, _SEEN, {"id": ticket.id, "at": now})
    return BrowserSession(
        ticket.tenant_id,
        UUID(rows[0]["principal_id"]),
        ticket.id,
        rows[0]["created_at"],
        tuple(orjson.loads(rows[0]["methods"])),
        ticket.token("form"),
    )


def own_path(address: str | None) -> str | None:
    """An address to go on to, if it is a path of this server; anything else would lead people away from it."""
    return address if address and len(address) <= 4096 and _PATH.fullmatch(address) else None


def sign_in_address(
    return_to: str, *, login_hint: str | None = None, tenant: str | None = None, again: bool = False
) -> str:
    """Where to send a browser whose person is to sign in.

    Args:
        return_to: path and query of this server to go on to; anything else is left out.
        login_hint: e-mail to begin with.
        tenant: handle or id of the organisation to begin with.
        again: to ask even who is signed in already, as with `prompt=login` of OpenID Connect.
    """
    given = {"return_to": own_path(return_to), "login_hint": login_hint, "organisation": tenant}
    given["prompt"] = "login" if again else None
    return "/sign-in?" + urlencode({name: value for name, value in given.items() if value})


def secure() -> bool:
    """Whether browsers reach us by https only; else, in development, on loopback by http."""
    settings = process.load_settings()
    return settings.environment == "production" or (settings.public_url or "").startswith("https:")


def _named(name: str) -> str:
    return f"__Host-{name}" if secure() else name


def cookie(request: Request, name: str) -> str | None:
    """The value of a cookie that `set_cookie` set."""
    return request.cookies.get(_named(name))


def set_cookie(response: Response, name: str, value: str, seconds: int | None = None) -> None:
    """Sets a cookie that no script reads and no other site's form sends; for `seconds`, or until the browser ends."""
    response.set_cookie(_named(name), value, max_age=seconds, path="/", secure=secure(), httponly=True, samesite="lax")


def unset_cookie(response: Response, name: str) -> None:
    """Takes a cookie away."""
    response.delete_cookie(_named(name), path="/", secure=secure(), httponly=True, samesite="lax")


@cache
def _templates() -> jinja2.Environment:
    folder = Path(__file__).parent.parent
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(
    request: Request,
    title: str,
    template: str,
    *,
    status: int = 200,
    language: str | None = None,
    session: BrowserSession | None = None,
    also_to: Sequence[str] = (),
    **values: Any,
) -> HTMLResponse:
    """A page from a template: accessible, without scripts, in English or Spanish, never kept by a cache.

    Args:
        request: what is answered.
        title: in English, as `words` knows it.
        template: its place below the domains, `oauth/pages/consent.html`; it extends `sign_in/pages/layout.html`,
            writes texts as `t("Sign in")` and puts `csrf` into each form.
        status: of HTTP.
        language: that the person's record names; else the browser's.
        session: whose forms these are; None for those of nobody yet.
        also_to: origins beside ours that a form may lead to, by a redirect.
        values: of the template.
    """
    spoken = language_of(request, language)
    fresh = None
    if session is not None:
        csrf = session.csrf
    else:
        kept = cookie(request, _FORM) or ""
        if len(kept) != 43:
            kept = fresh = secrets.token_urlsafe(32)
        csrf = _form_token(kept)
    text = _templates().get_template(template)
    html = text.render(
        t=lambda key, **named: say(spoken, key, **named),
        title=say(spoken, title),
        language=spoken,
        csrf=csrf,
        **values,
    )
    headers = {
        "Content-Security-Policy": _CSP.format(forms=" ".join(("'self'", *also_to))),
        "X-Frame-Options": "DENY",
        "Cache-Control": "no-store",
        "Content-Language": spoken,
        "Vary": "Accept-Language, Cookie",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    response = HTMLResponse(html, status, headers)
    if fresh is not None:
        set_cookie(response, _FORM, fresh)
    return response


def _form_token(kept: str) -> str:
    return hmac.new(kept.encode(), b"form", "sha256").hexdigest()


async def read_form(request: Request, session: BrowserSession | None = None) -> dict[str, str]:
    """The fields of a form that a page of ours showed to this browser; each once.

    Raises:
        Problem: 413, 415 or 422 for another body, 403 for a form that another site sent.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Problem(FORBIDDEN, "Another site sent this form.")
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise Problem(UNSUPPORTED_MEDIA, "A form is application/x-www-form-urlencoded.")
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > _LONGEST_FORM:
            raise Problem(TOO_LARGE, f"A form has at most {_LONGEST_FORM} bytes.")
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, strict_parsing=bool(raw), max_num_fields=50, errors="strict"
        )
    except ValueError:
        raise Problem(INVALID, "The form is malformed.") from None
    fields = dict(pairs)
    if len(fields) < len(pairs) or any("\x00" in value for value in fields.values()):
        raise Problem(INVALID, "The form is malformed.")
    expected = session.csrf if session is not None else _form_token(cookie(request, _FORM) or secrets.token_hex())
    if not hmac.compare_digest(fields.pop("csrf", "").encode(), expected.encode()):
        raise Problem(FORBIDDEN, "The form is outdated: go back, load the page again and send it once more.")
    return fields
