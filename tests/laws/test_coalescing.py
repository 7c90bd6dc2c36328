"""However often a transaction changes an object, it has one generic event, and that tells what all of it came to."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_api.catalog import CATALOG
from crm_api.kernel import repository
from crm_api.kernel.context import Context, new_id
from crm_api.kernel.problems import Problem
from crm_api.kernel.unit_of_work import transact
from tests.support.org import Org

ACCOUNT, CONTACT = CATALOG.resources["accounts"], CATALOG.resources["contacts"]
STAMPS = {"version", "updated_at", "updated_by"}
TYPES = {
    (None, True): ["account.created"],
    (None, False): [],
    ("live", True): ["account.updated"],
    ("live", False): ["account.deleted"],
    ("deleted", True): ["account.restored"],
    ("deleted", False): [],
}


@pytest.fixture(scope="module")
def place(server) -> Org:
    return Org.create(server)


@pytest.fixture(scope="module")
def image(sql):
    """The row of an account as an event shows it, and whether it is live; None when there is none."""
    text = "SELECT to_jsonb(a) AS row, deleted_at IS NULL AS live FROM accounts a WHERE id = $1"

    def read(id_) -> tuple[dict[str, Any], bool] | None:
        rows = sql(text, id_)
        return ({name: rows[0]["row"][name] for name in ACCOUNT.columns}, rows[0]["live"]) if rows else None

    return read


def generic(ctx: Context, sql, id_) -> list[Any]:
    rows = sql("SELECT * FROM outbox WHERE transaction_id = $1 AND object_id = $2 ORDER BY id", ctx.transaction_id, id_)
    return [row for row in rows if row["type"].partition(".")[2] in ("created", "updated", "deleted", "restored")]


def business(ctx: Context, sql, id_) -> list[str]:
    rows = sql(
        "SELECT type FROM outbox WHERE transaction_id = $1 AND object_id = $2 ORDER BY id", ctx.transaction_id, id_
    )
    known = {f"account.{name}" for name in ("created", "updated", "deleted", "restored")}
    return [row["type"] for row in rows if row["type"] not in known]


async def step(ctx: Context, id_: str, name: str, values: dict[str, Any]) -> None:
    match name:
        case "create":
            await repository.create(ctx, ACCOUNT, {**BARE, "id": id_, "name": "Born"})
        case "update":
            await repository.update(ctx, ACCOUNT, id_, values)
        case "verb":
            await repository.update(ctx, ACCOUNT, id_, values, events=("updated", "blocked"), by_verb=True)
        case "record":
            await repository.record(ctx, ACCOUNT, id_, "share", "shared")
        case "delete":
            await repository.delete(ctx, ACCOUNT, id_)
        case "restore":
            await repository.restore(ctx, ACCOUNT, id_)


assert ACCOUNT.create is not None
BARE = ACCOUNT.create.model_validate({"name": "Bare"}).model_dump()
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["One", "Two", "Three"]),
        "legal_name": st.sampled_from([None, "L"]),
        "employees": st.sampled_from([None, 1, 2]),
        "tags": st.sampled_from([[], ["a"], ["a", "b"]]),
    },
).filter(bool)
WORKS = st.lists(st.tuples(st.sampled_from(["update", "verb", "record", "delete", "restore"]), VALUES), max_size=8)


@dataclass
class Seen:
    """What the steps that took place did, by the rows they left."""

    audits: int = 0
    business: list[str] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    deleted: bool = False


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from([None, "live", "deleted"]), WORKS)
def test_any_sequence_of_changes_is_one_event(place, sql, image, before, works):
    server, id_, other = place.server, str(new_id()), str(new_id())
    if before:
        server.run(step(place.context(), id_, "create", {}))
    if before == "deleted":
        server.run(step(place.context(), id_, "delete", {}))
    old = image(id_)
    seen, ctx = Seen(), place.context()

    async def work(inner: Context) -> None:
        live = before == "live"
        row = dict(old[0]) if old else {}
        if before is None:
            await step(inner, id_, "create", {})
            row, live, seen.audits = {**BARE, "name": "Born"}, True, 1
        await repository.create(inner, ACCOUNT, {**BARE, "id": other, "name": "Other"})
        for name, values in works:
            if name == "record":
                await step(inner, id_, name, values)
                seen.audits += 1
                seen.business.append("account.shared")
                continue
            if live == (name == "restore"):
                with pytest.raises(Problem):  # as a verb that tries; it writes nothing and is remembered by nothing
                    await step(inner, id_, name, values)
                continue
            await step(inner, id_, name, values)
            differing = {key for key, value in values.items() if row.get(key) != value}
            if name in ("update", "verb"):
                row |= values
                seen.touched |= differing
                seen.business += ["account.blocked"] * (name == "verb" and bool(differing))
                seen.audits += bool(differing)
            else:
                live, seen.deleted = name == "restore", seen.deleted or name == "delete"
                seen.audits += 1
            await repository.update(inner, ACCOUNT, other, {"employees": seen.audits})

    server.run(transact(ctx, work))
    new = image(id_)
    events = generic(ctx, sql, id_)
    wrote = new != old
    assert [event["type"] for event in events] == (TYPES[before, new[1]] if wrote else [])
    assert business(ctx, sql, id_) == seen.business
    audits = sql("SELECT version FROM audit_entries WHERE object_id = $1 AND request_id = $2", id_, ctx.request_id)
    assert len(audits) == seen.audits + {None: 0, "live": 1, "deleted": 2}[before]
    assert [event["type"] for event in generic(ctx, sql, other)] == ["account.created"]
    if not events:
        return
    (event,) = events
    assert (event["version"], event["data"]) == (new[0]["version"], new[0])
    previous = event["previous"]
    if event["type"] in ("account.created", "account.restored"):
        assert previous == {}
    elif event["type"] == "account.deleted":
        assert set(previous) == set(ACCOUNT.columns)
        assert {**previous, **dict.fromkeys(STAMPS)} == {**old[0], **dict.fromkeys(STAMPS)}
    else:
        assert previous == {name: old[0][name] for name in previous}
        differing = {name for name in ACCOUNT.columns if old[0][name] != new[0][name]} - STAMPS
        assert differing <= set(previous) <= seen.touched
        assert seen.deleted or set(previous) == seen.touched


def test_the_event_stands_where_the_first_change_put_it(place, sql):
    first, second = (place.admin.make("accounts", name=name)["id"] for name in ("First", "Second"))
    ctx = place.context()

    async def work(inner: Context) -> None:
        for id_ in (first, second, first, second):
            await repository.update(inner, ACCOUNT, id_, {"employees": 7 if id_ == first else 8}, by_verb=True)
            await repository.update(inner, ACCOUNT, id_, {"legal_name": str(new_id())}, by_verb=True)

    place.server.run(transact(ctx, work))
    rows = sql("SELECT object_id, type, version FROM outbox WHERE transaction_id = $1 ORDER BY id", ctx.transaction_id)
    assert [(str(row["object_id"]), row["type"], row["version"]) for row in rows] == [
        (first, "account.updated", 4),
        (second, "account.updated", 4),
    ]


def test_two_objects_of_one_id_have_their_own_events(place, sql):
    id_ = str(new_id())
    ctx = place.context()
    assert CONTACT.create is not None
    contact = CONTACT.create.model_validate({"last_name": "Same"}).model_dump() | {"id": id_}

    async def work(inner: Context) -> None:
        await repository.create(inner, ACCOUNT, {**BARE, "id": id_})
        await repository.create(inner, CONTACT, contact)
        await repository.update(inner, CONTACT, id_.upper(), {"last_name": "Other"})

    place.server.run(transact(ctx, work))
    rows = generic(ctx, sql, id_)
    assert [(row["type"], row["version"]) for row in rows] == [("account.created", 1), ("contact.created", 2)]


def test_what_a_lost_race_rolled_back_is_forgotten(place, sql):
    id_ = place.admin.make("accounts", name="Raced")["id"]
    ctx, tries = place.context(), []

    async def work(inner: Context) -> None:
        tries.append(1)
        await repository.update(inner, ACCOUNT, id_, {"name": f"Try {len(tries)}"})
        if len(tries) == 1:
            raise asyncpg.SerializationError
        await repository.update(inner, ACCOUNT, id_, {"employees": 3})

    place.server.run(transact(ctx, work))
    (event,) = generic(ctx, sql, id_)
    assert (event["version"], event["previous"]) == (3, {"name": "Raced", "employees": None})
    for number in (4, 5):  # transactions of one request after another have events of their own
        place.server.run(
            transact(ctx, lambda inner, n=number: repository.update(inner, ACCOUNT, id_, {"employees": n}))
        )
    assert [event["version"] for event in generic(ctx, sql, id_)] == [3, 4, 5]


def test_writes_that_are_one_statement_are_one_event_each(place, sql):
    id_ = place.admin.make("accounts", name="Plain")["id"]
    ctx = place.context()
    for number in (1, 2):
        place.server.run(repository.update(ctx, ACCOUNT, id_, {"employees": number}))
    assert [event["version"] for event in generic(ctx, sql, id_)] == [2, 3]


def test_no_event_of_another_transaction_can_be_changed(place, database, sql):
    """The function of the owner gives the server's role no hold on what is committed, nor on another tenant's."""
    id_ = place.admin.make("accounts", name="Committed")["id"]
    stranger = Org.create(place.server)
    text = "SELECT coalesce_event($1, $2, $3, 1, '{}', '{}')"
    insert = (
        "INSERT INTO outbox (tenant_id, event_id, at, transaction_id, type, object_type, object_id, version, previous, "
        "data, origin) VALUES ($1, $2, now(), $2, 'a.updated', 'a', $2, 1, '{}', '{}', '{}') RETURNING id"
    )

    async def work() -> None:
        connection = await asyncpg.connect(database["app"])
        try:
            await connection.execute("SELECT set_config('crm.tenant', $1, false)", str(place.tenant_id))
            (row,) = await connection.fetch("SELECT id FROM outbox WHERE object_id = $1", id_)
            for kind in ("updated", None):
                for tenant in (place.tenant_id, stranger.tenant_id):
                    with pytest.raises(asyncpg.RaiseError):
                        await connection.fetch(text, tenant, row["id"], kind)
            async with connection.transaction():
                number = await connection.fetchval(insert, place.tenant_id, new_id())
                assert await connection.fetchval(text, place.tenant_id, number, "deleted") == number
                await connection.execute("SELECT set_config('crm.tenant', $1, true)", str(stranger.tenant_id))
                with pytest.raises(asyncpg.RaiseError):
                    async with connection.transaction():
                        await connection.fetch(text, place.tenant_id, number, None)
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        finally:
            await connection.close()

    before = sql("SELECT * FROM outbox WHERE object_id = $1", id_)
    asyncio.run(work())
    assert sql("SELECT * FROM outbox WHERE object_id = $1", id_) == before
    assert orjson.loads(orjson.dumps(before[0]["data"]))["name"] == "Committed"
