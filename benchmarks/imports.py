"""`python -m benchmarks.imports`: what an import of contacts takes, and an export of them, over HTTP."""

import argparse
import asyncio
import csv
import json
import os
import sys
import threading
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil

from benchmarks import report
from benchmarks.events import Bench, _end, _people, _port, _ready
from benchmarks.stage import staged
from benchmarks.usage import machine
from crm_api.settings import load_settings

CITIES = (("Berlin", "10115", "DE"), ("Madrid", "28001", "ES"), ("Lyon", "69001", "FR"), ("Graz", "8010", "AT"))
FIRST = ("Ana", "Bruno", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Karla", "Leo")
LAST = ("Abel", "Brandt", "Castro", "Duran", "Ebner", "Fuchs", "Gil", "Huber", "Ibarra", "Jung", "Krause", "Lopez")
MAPPING = [
    {"column": "First name", "field": "first_name"},
    {"column": "Last name", "field": "last_name"},
    {"column": "Job title", "field": "title"},
    {"column": "E-mail", "field": "emails.0.address"},
    {"column": "Phone", "field": "phones.0.number"},
    {"column": "City", "field": "addresses.0.city"},
    {"column": "Zip", "field": "addresses.0.postal_code"},
    {"column": "Country", "field": "addresses.0.country"},
    {"column": "Tags", "field": "tags"},
]


def write_file(path: Path, rows: int) -> None:
    """A file of people with an e-mail, a phone and an address each."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([entry["column"] for entry in MAPPING])
        for n in range(rows):
            city, code, country = CITIES[n % len(CITIES)]
            first, last = FIRST[n % 12], f"{LAST[n // 12 % 12]}{n // 144}"
            writer.writerow(
                [
                    first,
                    last,
                    "Buyer",
                    f"{first}.{last}@example{n % 5000}.com".lower(),
                    f"+4930{1_000_000 + n % 9_000_000}",
                    city,
                    code,
                    country,
                    "fair",
                ]
            )


class Peak:
    """The most memory that a process and its children had, looked at ten times a second."""

    def __init__(self, pid: int) -> None:
        self.megabytes: dict[str, float] = {}
        self.phase = "start"
        self._process, self._stop = psutil.Process(pid), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            try:
                now = max(item.memory_info().rss for item in (self._process, *self._process.children(recursive=True)))
            except psutil.Error:
                continue
            self.megabytes[self.phase] = max(self.megabytes.get(self.phase, 0.0), now / 1e6)

    def end(self) -> None:
        """Stops looking."""
        self._stop.set()
        self._thread.join(5)


def upload(port: int, key: str, id_: str, path: Path) -> None:
    """The file as a body, streamed."""
    with path.open("rb") as file:
        request = Request(f"http://127.0.0.1:{port}/v1/imports/{id_}/content", data=file, method="PUT")
        request.add_header("Authorization", f"Bearer {key}")
        request.add_header("Content-Type", "application/octet-stream")
        request.add_header("Content-Length", str(path.stat().st_size))
        with urlopen(request, timeout=600) as answer:  # noqa: S310 - our own server
            answer.read()


def phase(bench: Bench, port: int, id_: str, verb: str) -> tuple[float, dict[str, Any]]:
    """Seconds that the job of a verb ran, by its own times, and the import after it."""
    job = ended(bench, port, bench.call(port, "POST", f"/v1/imports/{id_}/{verb}", {}))
    return seconds_of(job), bench.call(port, "GET", f"/v1/imports/{id_}")


def ended(bench: Bench, port: int, job: dict[str, Any]) -> dict[str, Any]:
    """A job once it has succeeded."""
    while job["state"] not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.5)
        job = bench.call(port, "GET", f"/v1/jobs/{job['id']}")
    if job["state"] != "succeeded":
        raise SystemExit(json.dumps(job, indent=2))
    return job


def seconds_of(job: dict[str, Any]) -> float:
    """How long a job ran."""
    began, finished = (datetime.fromisoformat(job[name]).timestamp() for name in ("started_at", "finished_at"))
    return finished - began


def measure(bench: Bench, rows: int, revert: int, *, export: bool) -> dict[str, Any]:
    """A server whose own worker does the import; events go into the feed meanwhile."""
    path, port = bench.stage.folder / "contacts.csv", _port()
    write_file(path, rows)
    serving = bench.start("crm_api", "serve", "--port", str(port))
    _ready(port)
    peak = Peak(serving.pid)
    found: dict[str, Any] = {"rows": rows, "file_mb": path.stat().st_size / 1e6}
    try:
        body = {"name": "Benchmark", "resource": "contacts", "mapping": MAPPING}
        made = bench.call(port, "POST", "/v1/imports", body)
        peak.phase = "upload"
        began = time.monotonic()
        upload(port, bench.key, made["id"], path)
        found["upload_seconds"] = time.monotonic() - began
        for verb in ("validate", "apply"):
            peak.phase = verb
            seconds, made = phase(bench, port, made["id"], verb)
            found[f"{verb}_seconds"], found[f"{verb}_rows_per_second"] = seconds, rows / seconds
            print(verb, f"{rows / seconds:,.0f} rows/s", made["counts"], flush=True)
        if made["counts"]["created"] != rows:
            raise SystemExit(json.dumps(made["counts"]))
        together = found["validate_seconds"] + found["apply_seconds"]
        found["validate_and_apply_rows_per_second"] = rows / together
        if export:
            peak.phase = "export"
            job = ended(bench, port, bench.call(port, "POST", "/v1/exports", {"resource": "contacts"}))
            if job["result"]["rows"] != rows:
                raise SystemExit(json.dumps(job))
            found["export_rows_per_second"] = rows / seconds_of(job)
            found["export_mb"] = job["result"]["size"] / 1e6
        if revert:
            peak.phase = "revert"
            job = bench.call(port, "POST", f"/v1/imports/{made['id']}/revert", {})
            began = time.monotonic()
            while job["done"] < revert and job["state"] in ("queued", "running"):
                time.sleep(0.5)
                job = bench.call(port, "GET", f"/v1/jobs/{job['id']}")
            found["revert_rows_per_second"] = job["done"] / (time.monotonic() - began)
    finally:
        peak.end()
        _end(serving)
    return {**found, **{f"peak_mb_{name}": value for name, value in peak.megabytes.items()}}


def main() -> int:
    """Runs it and writes the figures beside the others."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imports", description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000, help="of the file (1,000,000 for the bar)")
    parser.add_argument("--revert", type=int, default=5_000, help="rows by which reverting is timed, or 0")
    parser.add_argument("--export", action="store_true", help="export them all, too, as CSV")
    parser.add_argument("--name", help="of the result files")
    options = parser.parse_args()
    facts = machine()
    with ExitStack() as stack:
        stage = stack.enter_context(staged())
        environment = {**stage.environment, "CRM_DATA_DIR": str(stage.folder / "data")}
        os.environ["CRM_DATA_DIR"] = str(stage.folder / "data")
        load_settings.cache_clear()
        bench = Bench(stage, stack, environment)
        asyncio.run(_people(bench))
        found = measure(bench, options.rows, options.revert, export=options.export)
    lines = [
        f"- {name.replace('_', ' ')}: {value:,.1f}" if isinstance(value, float) else f"- {name}: {value:,}"
        for name, value in found.items()
    ]
    sections = [("Machine", [f"- {name}: {value}" for name, value in facts.items()]), ("Import of contacts", lines)]
    print(report.save(sections, {"machine": facts, "imports": found}, options.name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
