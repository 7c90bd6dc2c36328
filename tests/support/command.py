"""Runs `crm-api` as a process of its own, as an operator would."""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2

from tests.support.forking import ROOT, Forked

COMMAND = [sys.executable, "-m", "crm_api"]


def environment(**settings: str | Path) -> dict[str, str]:
    """The process's environment with these settings and no others of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CRM_")}
    given = {f"CRM_{name.upper()}": str(value) for name, value in settings.items()}
    return {**kept, "PYTHONPATH": str(ROOT / "src"), "CRM_LOG_FORMAT": "text", **given}


def crm_api(*arguments: str, **settings: str | Path) -> subprocess.CompletedProcess[str]:
    """A finished command with its output."""
    with tempfile.TemporaryDirectory(prefix="crm-command-") as name:
        output, errors = Path(name, "output"), Path(name, "errors")
        done = Forked("crm_api", *arguments, environment=environment(**settings), output=output, errors=errors)
        code = done.wait(60)
        return subprocess.CompletedProcess(arguments, code, output.read_text(), errors.read_text())


def refused(*arguments: str, **settings: str | Path) -> str:
    """The one line of a command that must fail without a traceback."""
    done = crm_api(*arguments, **settings)
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


class Serving:
    """`crm-api serve` on a free port; `base_url` once it says that it serves."""

    def __init__(self, log: Path, *arguments: str, **settings: str | Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", "--port", "0", *arguments],
                env=environment(**settings),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self):
        deadline = time.monotonic() + 40
        while not (found := re.search(r"at (http://[\d.]+:\d+), reference", self.output)):
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)
        self.base_url = found[1]
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def get(self, path: str, key: str | None = None) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx2.get(f"{self.base_url}{path}", headers=headers, timeout=20)

    def stop(self, number: int) -> int:
        """Sends a signal and waits; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)
