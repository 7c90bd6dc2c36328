"""The breaker counts failures in the order in which attempts ended, whatever was sent and settled together."""

from datetime import datetime, timedelta

import pytest

from crm_api.adapters.egress import Egress
from crm_api.domains.integrations.deliver import Deliverer
from crm_api.domains.integrations.dispatch import dispatch
from crm_api.domains.integrations.outcome import BREAKS_AT
from crm_api.kernel import feed
from tests.support.org import Org
from tests.support.receiver import Message, Receiver
from tests.support.webhooks import work

TYPES = ["account.created"]


@pytest.fixture
def receiver():
    """Takes what is called Good and refuses the rest, after as many seconds as the name says."""

    def decide(message: Message) -> tuple[int, float]:
        name, seconds = message.event["data"]["name"].split()[:2]
        return 200 if name == "Good" else 500, float(seconds)

    with Receiver(decide=decide) as receiver:
        yield receiver


def endpoint(org: Org, receiver: Receiver) -> dict:
    return org.admin.make("webhook_endpoints", url=receiver.url, principal_id=org.admin.id, event_types=TYPES)


def add(org: Org, *names: str) -> None:
    for name in names:
        org.admin.make("accounts", name=name)


def stats(org: Org, made: dict) -> dict:
    return org.admin.get(f"/v1/webhook_endpoints/{made['id']}/stats").json()


def test_an_early_success_does_not_mask_the_failures_after_it(org, receiver, follow):
    watcher, made = follow(org.admin), endpoint(org, receiver)
    add(org, "Good 0", *(f"Bad 0.3 {n}" for n in range(BREAKS_AT)))
    org.server.run(work(org.server))
    found = stats(org, made)
    assert (found["delivered"], found["failures_in_a_row"]) == (1, BREAKS_AT)
    assert found["closed_until"] is not None
    assert "webhook_endpoint.broken" in watcher.types()


def test_a_late_success_ends_the_failures_before_it(org, receiver, follow):
    watcher, made = follow(org.admin), endpoint(org, receiver)
    add(org, "Good 0.3", *(f"Bad 0 {n}" for n in range(BREAKS_AT)))
    org.server.run(work(org.server))
    found = stats(org, made)
    assert (found["delivered"], found["failures_in_a_row"], found["closed_until"]) == (1, 0, None)
    assert found["failing_since"] is None
    assert "webhook_endpoint.broken" not in watcher.types()


def test_a_success_that_is_settled_after_later_failures_does_not_forget_them(org, receiver, follow):
    """By two workers: the first holds its success until a slow one beside it has failed."""
    watcher, made = follow(org.admin), endpoint(org, receiver)
    server = org.server
    add(org, "Good 0.5", "Bad 1.6")
    egress = Egress.of(server.settings)
    first = Deliverer(server.kernel, egress, server.settings.webhook_lease)

    async def begin() -> None:
        while any(await feed.sequence(server.kernel)) or any(await dispatch(server.kernel)):
            pass
        assert await first.step()

    server.run(begin())
    add(org, "Bad 0", *(f"Bad 0.8 {n}" for n in range(1, BREAKS_AT)))
    server.run(work(server))
    assert stats(org, made)["failures_in_a_row"] == BREAKS_AT
    server.run(first.stop(30))
    server.run(egress.aclose())
    found = stats(org, made)
    assert (found["delivered"], found["failures_in_a_row"]) == (1, BREAKS_AT), "nor counts what was on its way"
    assert found["closed_until"] is not None
    assert watcher.types().count("webhook_endpoint.recovered") == 0


def test_what_a_receiver_never_takes_keeps_to_its_schedule_while_others_are_taken(org, receiver):
    made = endpoint(org, receiver)
    for name in ("Bad 0", *(f"Good 0 {n}" for n in range(4))):
        add(org, name)
        org.server.run(work(org.server))
    path = f"/v1/webhook_endpoints/{made['id']}/deliveries"
    (poison,) = org.admin.all(path, state="pending")
    assert poison["attempts"] == 1
    due, made_at = (datetime.fromisoformat(poison[name]) for name in ("due_at", "created_at"))
    assert due - made_at > timedelta(seconds=4)
    assert len(org.admin.all(path, state="delivered")) == 4
