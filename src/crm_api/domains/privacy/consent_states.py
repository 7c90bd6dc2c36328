"""Which consents hold now: of each person, purpose and channel the newest entry of the log."""

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy.dialects.postgresql import distinct_on

from crm_api.domains.identity.me import Current
from crm_api.domains.privacy.consent import CONSENTS, Basis, Channel, Status
from crm_api.domains.privacy.person import PEOPLE
from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import Statement
from crm_api.kernel.external import own_id
from crm_api.kernel.paging import encode, opened
from crm_api.kernel.problems import INVALID_CURSOR, Problem
from crm_api.kernel.query import framed
from crm_api.kernel.schema import Code, Id, Instant, Ref, instant_text

router = APIRouter()
MOST = 200
_TABLE = CONSENTS.table
_KEY = ("person", "purpose", "channel")


class ConsentState(BaseModel):
    """What a person said last about a purpose and a channel."""

    object: Literal["consent_state"]
    consent_id: Annotated[Id, Field(description="The entry of the log that says so.")]
    contact_id: Id | None
    lead_id: Id | None
    purpose: Code
    channel: Channel
    basis: Basis
    status: Status
    at: Instant


class ConsentStates(BaseModel):
    """A page of them, by person."""

    data: Annotated[list[ConsentState], Field(max_length=MOST)]
    has_more: bool
    next_cursor: Annotated[str | None, Field(max_length=1_000)]


def _states(ctx: Context, given: frozenset[str], *, following: bool) -> Statement:
    """The newest entry for each key among those that the caller sees; the filter by status comes after that."""
    gate = ctx.kernel.policy.gate(ctx.access, CONSENTS, "read", _TABLE)
    person = sa.func.coalesce(_TABLE.c.contact_id, _TABLE.c.lead_id)
    asked = [_TABLE.c[name] == sa.bindparam(name, type_=_TABLE.c[name].type) for name in sorted(given - {"status"})]
    newest = (
        sa.select(_TABLE, person.label("person"))
        .ext(distinct_on(person, _TABLE.c.purpose, _TABLE.c.channel))
        .where(*gate, *asked)
        .order_by(person, _TABLE.c.purpose, _TABLE.c.channel, _TABLE.c.at.desc(), _TABLE.c.id.desc())
        .subquery("newest")
    )
    key = [newest.c[name] for name in _KEY]
    shown: list[Any] = [
        sa.cast(newest.c[name], sa.Text()).label(name) for name in ("id", "contact_id", "lead_id", "person")
    ]
    rows = sa.select(*shown, *(newest.c[name] for name in ("purpose", "channel", "basis", "status", "at")))
    if "status" in given:
        rows = rows.where(newest.c.status == sa.bindparam("status", type_=sa.Text()))
    if following:
        after = [sa.bindparam(f"after_{name}", type_=column.type) for name, column in zip(_KEY, key, strict=True)]
        rows = rows.where(sa.tuple_(*key) > sa.tuple_(*after))
    return framed(rows.order_by(*key).limit(sa.bindparam("limit", type_=sa.BigInteger())).lateral("page"))


@router.get(
    "/v1/consent_states",
    operation_id="list_consent_states",
    summary="Which consents hold now",
    responses={400: {}, 403: {}, 422: {}},
)
async def consent_states(
    ctx: Current,
    contact_id: Annotated[Ref | None, Query(description="Of this contact.")] = None,
    lead_id: Annotated[Ref | None, Query(description="Of this lead.")] = None,
    purpose: Annotated[Code | None, Query(description="For this purpose.")] = None,
    channel: Annotated[Channel | None, Query(description="On this channel.")] = None,
    status: Annotated[Status | None, Query(description="Where the newest entry says so.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST, description="Entries of a page.")] = 50,
    cursor: Annotated[str | None, Query(max_length=1_000, description="`next_cursor` of the page before.")] = None,
) -> ConsentStates:
    """The newest entry of the log for each person, purpose and channel, as far as the caller sees the log."""
    ctx.require(CONSENTS, "read")
    asked = {"contact_id": contact_id, "lead_id": lead_id, "purpose": purpose, "channel": channel, "status": status}
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    for name in PEOPLE.keys() & given.keys():
        given[name] = str(await own_id(ctx, PEOPLE[name], given[name]))
    binding = repr(("consent_states", str(ctx.principal.id), sorted(given.items()))).encode()
    values = {**given, "limit": limit + 1}
    if cursor is not None:
        place = opened(ctx.kernel.cursor_keys, binding, cursor)
        if len(place) != len(_KEY):
            raise Problem(INVALID_CURSOR, "The cursor is not of this list.")
        values |= {f"after_{name}": value for name, value in zip(_KEY, place, strict=True)}
    names, following = frozenset(given), cursor is not None
    shape = ("consent_states", names, following)
    _, rows = await settled(ctx, shape, lambda: _states(ctx, names, following=following), values)
    found = [row for row in rows if row["id"] is not None]
    page = found[:limit]
    more = len(found) > limit
    after = encode(ctx.kernel.cursor_keys, binding, [page[-1][name] for name in _KEY]) if more else None
    return ConsentStates(data=[_state(row) for row in page], has_more=more, next_cursor=after)


def _state(row: Any) -> ConsentState:
    same = {name: row[name] for name in ("contact_id", "lead_id", "purpose", "channel", "basis", "status")}
    return ConsentState(object="consent_state", consent_id=row["id"], at=instant_text(row["at"]), **same)
