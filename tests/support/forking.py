"""Programs of our own in processes of their own, forked from one that has the product in memory already.

`python -m crm_api` takes two seconds of a processor to import what it needs, and the tests start dozens of programs.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["crm_api.catalog", "uvicorn.main", "tests.support.forking"])


def _run(module: str, arguments: tuple[str, ...], environment: Mapping[str, str], output: str, errors: str) -> None:
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, output), (2, errors)):
        with Path(path).open("ab") as file:
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


class Forked:
    """`python -m module arguments`, with what one asks of a `subprocess.Popen`. What it says is added to files."""

    def __init__(
        self, module: str, *arguments: str, environment: Mapping[str, str], output: Path, errors: Path | None = None
    ) -> None:
        said = (str(output), str(errors or output))
        for path in said:
            Path(path).touch()
        self._process = _FORKS.Process(target=_run, args=(module, arguments, dict(environment), *said), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)
