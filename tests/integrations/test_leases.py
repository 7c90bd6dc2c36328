"""What a worker that died was about to send is sent by another when its lease ends, and not before."""

import time

import pytest
from pydantic import ValidationError

from crm_api.adapters.egress import Egress
from crm_api.domains.integrations.deliver import Deliverer
from crm_api.domains.integrations.dispatch import dispatch
from crm_api.kernel import feed
from crm_api.settings import Settings
from tests.support.receiver import Receiver
from tests.support.webhooks import work


def test_a_lease_lasts_as_long_as_the_worker_was_told(org):
    server = org.server

    async def die(lease: int) -> None:
        while any(await feed.sequence(server.kernel)) or any(await dispatch(server.kernel)):
            pass
        egress = Egress.of(server.settings)
        worker = Deliverer(server.kernel, egress, lease)
        assert await worker.step()
        for task in worker.groups.values():
            task.cancel()  # before it has sent anything
        await egress.aclose()

    with Receiver() as receiver:
        types = ["account.created"]
        made = org.admin.make("webhook_endpoints", url=receiver.url, principal_id=org.admin.id, event_types=types)
        for name, lease in (("Long", server.settings.webhook_lease), ("Short", 1)):  # which soon ends
            org.admin.make("accounts", name=name)
            server.run(die(lease))
        server.run(work(server))
        assert receiver.messages == []
        time.sleep(1.1)
        server.run(work(server))
        assert [event["data"]["name"] for event in receiver.events] == ["Short"]
        (waiting,) = org.admin.all(f"/v1/webhook_endpoints/{made['id']}/deliveries", state="pending")
        assert waiting["attempts"] == 0


def test_a_lease_is_longer_than_an_attempt():
    assert Settings().webhook_lease == 60
    for wrong in (0, 15, 19, 4000):
        with pytest.raises(ValidationError):
            Settings(webhook_lease=wrong)
