"""Two processes of the product, and two of each reference, as they would run in production."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import psutil

from benchmarks.operations import Operation, Pick
from benchmarks.stage import Stage

ROOT = Path(__file__).resolve().parents[1]
UVICORN = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
TARGETS = {
    "ours": (["crm_api", "serve", "--workers", "2"], "/readyz"),
    "naive": (["uvicorn", "benchmarks.naive:app", "--workers", "2", *UVICORN], "/healthz"),
    "by_hand": (["uvicorn", "benchmarks.by_hand:app", "--workers", "2", *UVICORN], "/healthz"),
}


@dataclass
class Server:
    """A running server: `pid` is the parent of its processes."""

    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def pid(self) -> int:
        """The parent process."""
        return self.process.pid

    def stop(self) -> None:
        """Ends it."""
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(self.pid).children(recursive=True):
                child.kill()
            self.process.kill()


def start(name: str, stage: Stage, **settings: object) -> Server:
    """Starts one of the targets; the access log of ours goes to a file, the references write none."""
    target, probe = TARGETS[name]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **stage.environment,
        **{f"CRM_{name.upper()}": str(value) for name, value in settings.items()},
        "NAIVE_DATABASE_URL": stage.admin_url,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
    }
    with (stage.folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", *target, "--port", str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=stage.folder,
        )
    server = Server(port, process)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(f"http://127.0.0.1:{port}{probe}", timeout=2) as answer:
                if answer.status == 200:
                    time.sleep(1)  # the second process
                    return server
        except (URLError, OSError):
            time.sleep(0.1)
    server.stop()
    raise SystemExit(f"{name} did not start:\n{(stage.folder / f'{name}.log').read_text()[-3000:]}")


def ask(server: Server, operation: Operation, pick: Pick, key: str) -> bytes:
    """One request, whose answer must have the right status."""
    content = operation.request(pick, key).partition(b"\r\n\r\n")[2].replace(b"@" * 12, os.urandom(6).hex().encode())
    request = Request(f"http://127.0.0.1:{server.port}{operation.path(pick)}", method=operation.method)
    request.add_header("Authorization", f"Bearer {key}")
    if content:
        request.data = content
        request.add_header("Content-Type", "application/json")
    try:
        with urlopen(request, timeout=30) as answer:  # noqa: S310 - our own server
            if answer.status != operation.status:
                raise SystemExit(f"{operation.name}: {answer.status}, not {operation.status}")
            body: bytes = answer.read()
            return body
    except HTTPError as error:
        raise SystemExit(f"{operation.name}: {error.code} {error.read().decode()[:2000]}") from None
