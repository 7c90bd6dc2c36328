"""By which texts a person is found where nothing else says that it is about them: in logs, jobs and imported rows."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.identity.principal import ERASED_USER, USERS
from crm_api.domains.privacy.emptying import Rows, plain
from crm_api.domains.privacy.person import PEOPLE
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement, bound
from crm_api.kernel.record import FieldValue, among, table_of
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import fold

NOTHING = "\x01"
"""A pattern that no JSON has."""
_SHORTEST = 6
_VALUES = table_of(FieldValue)
_IDS, _TEXTS = sa.bindparam("ids", type_=ARRAY(sa.Uuid())), sa.bindparam("texts", type_=ARRAY(sa.Text()))
_FIELDS = [f"{table}.{field}" for table in ("contacts", "leads", "accounts") for field in ("emails", "phones")]
_USERS = USERS.table
_ADDRESS, _NAME = sa.func.lower(_USERS.c.email), _USERS.c.name_key
_COLLEAGUES = Statement(
    sa.select(_ADDRESS.label("address"), _NAME.label("name")).where(
        _USERS.c.tenant_id == TENANT,
        _USERS.c.id != sa.all_(_IDS),
        sa.or_(among(_ADDRESS, _TEXTS), among(_NAME, sa.bindparam("names", type_=ARRAY(sa.Text())))),
    )
)
"""Principals who have one of these e-mail addresses or names."""
_HELD = Statement(
    sa.select(_VALUES.c.value).where(
        _VALUES.c.tenant_id == TENANT,
        among(_VALUES.c.field, sa.bindparam("fields", type_=ARRAY(sa.Text()))),
        among(_VALUES.c.value, _TEXTS),
        _VALUES.c.object_id != sa.all_(_IDS),
    )
)


@cache
def _namesakes(resource: Resource) -> Statement:
    table = resource.table
    return Statement(
        sa.select(table.c.id)
        .where(
            table.c.tenant_id == TENANT,
            table.c.deleted_at.is_(None),
            table.c.id != sa.all_(_IDS),
            table.c.name_key == sa.bindparam("last", type_=sa.Text()),
            table.c.first_name == sa.bindparam("first", type_=sa.Text()),
        )
        .limit(sa.literal_column("1"))
    )


async def pattern(ctx: Context, found: Rows) -> str:
    """A regular expression of PostgreSQL for texts that mean this person and nobody else that there is.

    They are e-mail addresses, phone numbers, first with last name, and the name of a user. What another record has as
    well is left out: it is theirs, too.
    """
    rows = [row for resource in PEOPLE.values() for row in found.get(resource, ())]
    users = [row for row in found.get(USERS, ()) if row["name"] != ERASED_USER]
    ids = bound([UUID(row["id"]) for row in (*rows, *users)])
    texts = {text for row in rows for text in _reached(row)} | {row["email"] for row in users if row["email"]}
    pairs = {(row["first_name"], row["last_name"]) for row in rows if row["first_name"] and row["last_name"]}
    names = {row["name"]: tuple(_split(row["name"])) for row in users}
    names |= {form: (pair,) for pair in pairs for form in (" ".join(pair), ", ".join(reversed(pair)))}
    colleagues = await ctx.fetch(
        _COLLEAGUES,
        {
            "ids": ids,
            "texts": sorted({text.lower() for text in texts}),
            "names": sorted({fold(name) for name in (*names, *map(" ".join, pairs))}),
        },
    )
    others = {row["name"] for row in colleagues}
    texts -= {text for text in texts if text.lower() in {row["address"] for row in colleagues}}
    held = await ctx.fetch(_HELD, {"ids": ids, "fields": _FIELDS, "texts": [fold(text) for text in texts]})
    shared = {row["value"] for row in held}
    texts = {text for text in texts if fold(text) not in shared}
    for name, parts in names.items():
        shared_by_users = {fold(name), *(fold(" ".join(part)) for part in parts)} & others
        if not shared_by_users and not any([await _has_namesake(ctx, *part, ids) for part in parts]):
            texts.add(name)
    wanted = sorted(_quoted(text) for text in texts if len(text) >= _SHORTEST)
    return f"(?<![[:alnum:]._+-])({'|'.join(wanted)})(?![[:alnum:]_-]|\\.[[:alnum:]])" if wanted else NOTHING


def _reached(row: Any) -> Iterator[str]:
    yield from (item["address"] for item in plain(row["emails"]))
    yield from (item["number"] for item in plain(row["phones"]))


def _split(name: str) -> Iterator[tuple[str, str]]:
    """The ways in which a name may be a first and a last one."""
    words = name.split()
    for i in range(1, len(words)):
        yield " ".join(words[:i]), " ".join(words[i:])


async def _has_namesake(ctx: Context, first: str, last: str, ids: Any) -> bool:
    for resource in PEOPLE.values():
        if await ctx.fetch(_namesakes(resource), {"ids": ids, "first": first, "last": fold(last)}):
            return True
    return False


def _quoted(text: str) -> str:
    """The text as JSON writes it, each sign standing for itself."""
    return re.sub(r"([^\w\s])", r"\\\1", orjson.dumps(text)[1:-1].decode())
