"""A mirror over webhooks while workers, connections, PostgreSQL and the receiver fail; `make soak` does more of it."""

import pytest

from tests.faults.syncing import Size, Sync

pytestmark = pytest.mark.broad  # its faults take seven seconds


def test_a_mirror_stays_true_whatever_fails(cluster, tmp_path):
    with Sync(cluster, Size(), tmp_path) as sync:
        sync.write()
        sync.settle()
        figures = sync.check()
    assert {"worker killed", "connections cut", "PostgreSQL restarted", "receiver killed"} <= figures["faults"].keys()
    assert figures["events"] > Size().writes / 2, "some writes change nothing"
    assert figures["sent again"] > 0
    assert figures["to the restricted endpoint"] > 0
    assert figures["deliveries"]["suppressed"] > 0
