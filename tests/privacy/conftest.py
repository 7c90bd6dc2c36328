"""A person with traces everywhere, and what looks for them."""

from typing import Any

import pytest

from crm_api.kernel import feed
from crm_api.kernel.record import Record
from tests.support.jobs import wait, working

FIRST, LAST, EMAIL, PHONE = "Zephyrine", "Quackenbush", "zephyrine.quackenbush@example.net", "+493023125987"
NEEDLES = (FIRST.lower(), LAST.lower(), EMAIL, PHONE[4:])


@pytest.fixture(scope="module")
def worker(server):
    """A worker for jobs."""
    with working(server):
        yield


@pytest.fixture
def traces(sql):
    """`traces(org)`: (table, text) of each row of the tenant that has one of the needles in it."""

    def look(org: Any, needles: tuple[str, ...] = NEEDLES) -> list[tuple[str, str]]:
        found = []
        for table in sorted(Record.metadata.tables):
            rows = sql(f"SELECT t::text AS text FROM {table} t WHERE tenant_id = $1", org.tenant_id)  # noqa: S608 - our own names
            found += [(table, row["text"]) for row in rows if any(needle in row["text"].lower() for needle in needles)]
        return found

    return look


@pytest.fixture
def sequence(server):
    """Moves committed events into the feed."""

    def move() -> None:
        while any(server.run(feed.sequence(server.kernel))):
            pass

    return move


@pytest.fixture
def erase(worker):
    """`erase(person, contact_id=...)` and waits; gives the erasure."""

    def run(person: Any, state: str = "succeeded", **body: Any) -> dict[str, Any]:
        answer = person.post("/v1/erasures", json=body)
        assert answer.status_code == 202, answer.text
        job = wait(person, answer.json(), seconds=60)
        assert job["state"] == state, job
        return person.get(f"/v1/erasures/{job['parameters']['erasure_id']}").json()

    return run


def someone(person: Any, **values: Any) -> dict[str, Any]:
    """A contact who is nobody else."""
    return person.make(
        "contacts",
        first_name=FIRST,
        last_name=LAST,
        **{
            "emails": [{"address": EMAIL, "is_primary": True}],
            "phones": [{"number": PHONE}],
            "birthday": "1970-01-02",
            "addresses": [{"line1": f"{LAST} Lane 7", "city": f"{LAST} City", "country": "DE"}],
            "description": f"{FIRST} likes tea.",
            "tags": [LAST],
            **values,
        },
    )
