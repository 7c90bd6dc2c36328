"""Which columns of a file seem to mean which fields."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from crm_api.domains.exchange.cells import leads
from crm_api.domains.exchange.importing import ColumnMapping
from crm_api.kernel.customs import CUSTOM
from crm_api.kernel.duplicates_search import similarity
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import fold

_SYNONYMS = {
    "name": (
        *("company", "company name", "account", "account name", "organization", "organisation", "full name"),
        *("empresa", "razon social", "nombre", "firma", "unternehmen", "firmenname"),
    ),
    "last_name": ("surname", "family name", "contact name", "apellido", "apellidos", "nachname"),
    "first_name": ("given name", "forename", "nombre", "nombre de pila", "vorname"),
    "title": ("job title", "position", "contact title", "cargo", "puesto"),
    "industry": ("sector", "branch", "industria", "branche"),
    "annual_revenue": ("revenue", "turnover", "ingresos", "facturacion", "umsatz"),
    "employees": ("number of employees", "headcount", "empleados", "mitarbeiter"),
    "website": ("homepage", "home page", "url", "web", "sitio web", "pagina web", "webseite"),
    "tax_id": ("vat", "vat id", "vat number", "tax number", "nif", "cif", "rfc", "ust idnr", "steuernummer"),
    "emails.0.address": ("email", "e mail", "mail", "email address", "correo", "correo electronico"),
    "phones.0.number": ("phone", "telephone", "phone number", "mobile", "tel", "telefono", "movil", "telefon"),
    "addresses.0.line1": ("address", "street", "address line 1", "direccion", "calle", "strasse", "adresse"),
    "addresses.0.line2": ("address line 2",),
    "addresses.0.city": ("city", "town", "ciudad", "poblacion", "ort", "stadt"),
    "addresses.0.region": ("region", "state", "province", "provincia", "estado", "bundesland"),
    "addresses.0.postal_code": ("postal code", "zip", "zip code", "postcode", "codigo postal", "plz"),
    "addresses.0.country": ("country", "office location", "pais", "land"),
    "parent_id": ("parent", "subsidiary of", "parent account", "empresa matriz"),
    "owner_id": ("owner", "sales agent", "seller", "account owner", "vendedor", "propietario"),
}
"""Words that columns are often called by, in English, Spanish and German, folded."""
_ALIKE = 0.75


def suggested(resource: Resource, customs: Mapping[str, Iterable[str]], columns: Iterable[str]) -> list[dict[str, Any]]:
    """A mapping of columns to fields that seem to be meant, each field at most once.

    Args:
        resource: what is imported.
        customs: by name (`custom.grade`) the custom fields that may be set, with what else they are called.
        columns: of the file.
    """
    own = {
        name: tuple(_words(word) for word in (name, name.partition(".")[2], *more)) for name, more in customs.items()
    }
    names = {**_names(resource), **own}
    taken: set[str] = set()
    found = []
    for column in columns:
        words = _words(column)
        scores = {path: max(similarity(words, name) for name in known) for path, known in names.items()}
        best = max(scores, key=lambda path: (scores[path], path.count(".") == 0), default=None)
        if best is not None and scores[best] >= _ALIKE and best not in taken and len(column) <= 500:
            taken.add(best)
            found.append(ColumnMapping(column=column, field=best).model_dump())
    return found


def _words(text: str) -> str:
    return fold(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text).replace("_", " ").replace("-", " "))


@cache
def _names(resource: Resource) -> dict[str, tuple[str, ...]]:
    assert resource.create is not None  # noqa: S101 - checked before
    paths = [name for name in resource.create.model_fields if name not in ("id", CUSTOM)]
    known = {path: (path.replace("_", " "), *_SYNONYMS.get(path, ())) for path in paths}
    for path, synonyms in _SYNONYMS.items():
        first, *others = path.split(".")
        info = resource.create.model_fields.get(first)
        if others and info is not None and leads(info.annotation, tuple(others)):
            known[path] = synonyms
    return known
