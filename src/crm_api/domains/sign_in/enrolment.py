"""Setting up a second factor: the app's secret is shown, and kept once a code of it proves that the app has it."""

import base64
from typing import Any

import segno
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.sign_in.answering import refused
from crm_api.domains.sign_in.browser import page
from crm_api.domains.sign_in.person import Person, acting
from crm_api.domains.sign_in.second_factor import enrol, new_secret, otpauth, shown
from crm_api.domains.sign_in.steps import seal, unseal
from crm_api.kernel.context import Context
from crm_api.kernel.unit_of_work import transact

_TITLE, _PAGE, _DONE = "Set up a second factor", "sign_in/pages/enrol.html", "sign_in/pages/recovery.html"
_SECONDS = 1_800
_WRONG = "The code is not one of the app now. Check the clock of the device, and enter the newest code."


def _values(request: Request, person: Person, secret: bytes) -> dict[str, Any]:
    address = otpauth(secret, person.organisation, person.email)
    picture = segno.make(address, error="m").svg_inline(scale=4, svgclass="qr", lineclass=None, omitsize=False)
    kept = {"principal": str(person.id), "secret": base64.b64encode(secret).decode()}
    sealed = seal(request.scope["crm.kernel"], person.tenant_id, "secret", _SECONDS, **kept)
    return {"secret": shown(secret), "address": Markup(address), "picture": Markup(picture), "sealed": sealed}  # noqa: S704 - ours, made of escaped parts


def offer(request: Request, person: Person, action: str, **values: Any) -> Response:
    """The page with a new secret; the form goes to `action`, and carries the secret sealed."""
    fresh = _values(request, person, new_secret())
    return page(request, _TITLE, _PAGE, language=person.language, action=action, errors={}, **fresh, **values)


async def confirm(request: Request, person: Person, form: dict[str, str], action: str, **values: Any) -> Response:
    """The page with the recovery codes, 200, when the code was right; else the form again."""
    found = unseal(request.scope["crm.kernel"], "secret", form.get("sealed"))
    if found is None or found[0] != person.tenant_id or found[1]["principal"] != str(person.id):
        return offer(request, person, action, **values)
    secret = base64.b64decode(found[1]["secret"])

    async def work(ctx: Context) -> list[str] | None:
        return await enrol(ctx, person.id, secret, "".join(form.get("code", "").split())[:16])

    codes = await transact(acting(request, person.tenant_id, person.id), work)
    if codes is None:
        given = {"language": person.language, "action": action, **_values(request, person, secret), **values}
        return refused(request, _TITLE, _PAGE, {"code": _WRONG}, **given)
    target = values.get("return_to", "/account")
    return page(request, "Keep your recovery codes", _DONE, language=person.language, codes=codes, target=target)
