"""What a token may be allowed to do: `{domain}:{level}` of the API, and the scopes of OpenID Connect."""

from collections.abc import Iterable

from crm_api.domains.sign_in.words import add_spanish
from crm_api.kernel.context import Context
from crm_api.kernel.domain import Catalog
from crm_api.kernel.problems import forbidden

IDENTITY_SCOPES = ("openid", "profile", "email", "offline_access")
"""Those of OpenID Connect Core 1.0, 5.4 and 11: who the person is, and access that outlasts the session."""
LEVELS = ("read", "write", "delete", "admin")
_SUBJECTS = {
    "identity": ("users, teams, roles and API keys", "usuarios, equipos, roles y claves de API"),
    "sign_in": ("sessions and ways to sign in", "sesiones y formas de iniciar sesión"),
    "oauth": ("connected applications", "aplicaciones conectadas"),
    "jobs": ("background jobs", "tareas en segundo plano"),
    "customs": ("custom fields", "campos personalizados"),
    "privacy": ("exports, erasures and consents of people", "exportaciones, supresiones y consentimientos de personas"),
    "duplicates": ("rules for duplicates", "reglas de duplicados"),
    "views": ("saved views", "vistas guardadas"),
    "territories": ("territories and their rules", "territorios y sus reglas"),
    "accounts": ("accounts", "cuentas"),
    "contacts": ("contacts", "contactos"),
    "numbering": ("number ranges", "rangos de numeración"),
    "products": ("products", "productos"),
    "approvals": ("approvals", "aprobaciones"),
    "pricing": ("prices, taxes and currencies", "precios, impuestos y monedas"),
    "opportunities": ("opportunities and forecasts", "oportunidades y pronósticos"),
    "leads": ("leads", "clientes potenciales"),
    "orders": ("orders", "pedidos"),
    "quotes": ("quotes", "cotizaciones"),
    "files": ("files", "archivos"),
    "printing": ("document templates", "plantillas de documentos"),
    "exchange": ("imports and exports", "importaciones y exportaciones"),
    "integrations": ("webhooks and connected systems", "webhooks y sistemas conectados"),
}
"""What people call a domain, in English and Spanish."""
_SENTENCES = {
    "read": ("See {what}", "Ver {what}"),
    "write": ("Create and change {what}", "Crear y modificar {what}"),
    "delete": ("Delete {what}", "Eliminar {what}"),
    "admin": ("See, change and delete {what}", "Ver, modificar y eliminar {what}"),
}
_OF_IDENTITY = {
    "openid": ("Know who you are", "Saber quién es usted"),
    "profile": ("See your name and language", "Ver su nombre y su idioma"),
    "email": ("See your e-mail address", "Ver su dirección de correo"),
    "offline_access": ("Keep this access after you sign out", "Conservar este acceso cuando cierre la sesión"),
}


def known(catalog: Catalog) -> frozenset[str]:
    """Every scope that there is."""
    domains = (domain.name for domain in catalog.domains if domain.resources)
    return frozenset(IDENTITY_SCOPES).union(f"{name}:{level}" for name in domains for level in LEVELS)


def words(scope: str) -> str:
    """What a scope allows, in English; pages have it in Spanish, too."""
    if scope in _OF_IDENTITY:
        return _OF_IDENTITY[scope][0]
    domain, _, level = scope.partition(":")
    return _SENTENCES[level][0].format(what=_SUBJECTS.get(domain, (domain.replace("_", " "),))[0])


add_spanish(dict(_OF_IDENTITY.values()))
add_spanish(
    {
        english.format(what=subject): spanish.format(what=sujeto)
        for english, spanish in _SENTENCES.values()
        for subject, sujeto in _SUBJECTS.values()
    }
)


def covered(ctx: Context, scopes: Iterable[str]) -> None:
    """Refuses with 403 what the scopes of the caller's own credential do not cover."""
    own = ctx.principal.scopes
    if own is None:
        return
    for scope in scopes:
        domain, separator, _ = scope.partition(":")
        if separator and scope not in own and f"{domain}:admin" not in own:
            raise forbidden(f"scope {scope}")
