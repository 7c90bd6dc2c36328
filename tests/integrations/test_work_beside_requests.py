"""What is done beside requests is told in the feed, to those it concerns."""

import asyncio

import asyncpg

from crm_api.worker.upkeep import end_shares
from tests.support.jobs import MAKE_ACCOUNTS, Naming, start, wait, working


def test_the_grantee_of_an_expired_share_is_told_of_the_loss(org, follow, database):
    account = org.rep.make("accounts", name="Lent")
    grantee = {"grantee_type": "user", "grantee_id": org.outsider.id, "expires_at": "2090-01-01T00:00:00Z"}
    share = org.rep.post(f"/v1/accounts/{account['id']}/share", json=grantee).json()

    async def expire() -> None:
        connection = await asyncpg.connect(database["admin"])
        await connection.execute("UPDATE shares SET expires_at = now() WHERE id = $1", share["id"])
        await connection.close()

    owner, outsider, colleague = (follow(person) for person in (org.rep, org.outsider, org.colleague))
    asyncio.run(expire())
    assert outsider.types() == [], "nothing was changed yet"
    org.server.run(end_shares(org.server.kernel))
    (lost,) = outsider.read()
    assert (lost["type"], lost["access"], lost["object"]["id"], lost["data"]) == (
        "account.access_changed",
        "lost",
        account["id"],
        None,
    )
    (told,) = owner.read()
    assert (told["type"], told["actor"], told["origin"]["via"]) == (
        "account.unshared",
        {"type": "system", "id": None},
        "schedule",
    )
    assert colleague.types() == []


def test_a_job_is_told_to_its_originator(org, follow, monkeypatch):
    monkeypatch.setitem(org.server.kernel.catalog.jobs, MAKE_ACCOUNTS.name, MAKE_ACCOUNTS)
    mine, manager, outsider = (follow(person) for person in (org.rep, org.manager, org.outsider))
    job = start(org.rep, MAKE_ACCOUNTS, Naming(name="Told", number=2))
    with working(org.server):
        wait(org.rep, job)
    events = mine.read()
    assert [event["type"] for event in events] == [
        "job.created",
        "account.created",
        "account.created",
        "job.updated",
        "job.succeeded",
    ]
    assert {(event["actor"]["type"], event["actor"]["id"]) for event in events} == {("user", org.rep.id)}
    assert [event["origin"]["via"] for event in events] == ["api", "job", "job", "job", "job"]
    assert len({event["transaction_id"] for event in events}) == 4, "each step is one of its own"
    assert events[-1]["data"] == org.rep.get(f"/v1/jobs/{job['id']}").json()
    assert manager.types() == ["account.created", "account.created"]
    assert outsider.types() == []
