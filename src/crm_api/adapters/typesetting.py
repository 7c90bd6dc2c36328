"""Sets documents by typst, each in a process of its own that may do nothing else."""

import importlib.util
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from crm_api.adapters import typesetting_child
from crm_api.adapters.typesetting_child import CPU_SECONDS, LARGEST, MEMORY, WALL_SECONDS

_ENVIRONMENT = {
    "RAYON_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "https_proxy": "http://127.0.0.1:9",
}
"""All of it: one thread, one heap, and a fence where the kernel has no filter: nobody answers there."""
_CHUNK = 65_536
_EXHAUSTED = {
    signal.SIGXCPU: f"it takes more than {CPU_SECONDS} seconds of processor time",
    signal.SIGABRT: f"it takes more than {MEMORY // 1024 // 1024} MB of memory",
    signal.SIGSEGV: "it nests too deep",
}


class TypesettingError(Exception):
    """The document cannot be set now, through no fault of its own."""


@dataclass
class TemplateError(Exception):
    """The document cannot be set: what is wrong with it, and where in which file if that is known."""

    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    hints: tuple[str, ...] = ()


@cache
def _command() -> list[str]:
    """The child's command; typst is not loaded into this process, which it would make larger by half."""
    found = importlib.util.find_spec("typst")
    if found is None or found.origin is None:
        raise TypesettingError("typst is not installed")
    packages = Path(found.origin).parent.parent
    return [sys.executable, "-I", "-S", "-B", typesetting_child.__file__, str(packages)]


def set_document(files: Mapping[str, bytes], timestamp: int, seconds: float = WALL_SECONDS) -> bytes:
    """The PDF of `main.typ`; blocks for as long as the child runs.

    Args:
        files: name -> bytes: all that the document can read. They are gone afterwards.
        timestamp: when the PDF says it was made, in seconds of the epoch: the same input gives the same bytes.
        seconds: how long it may take by the clock, if less than the child's own limit.

    Raises:
        TemplateError: the document is wrong, or takes more than it may.
        TypesettingError: the child was killed, or did not end in time.
    """
    deadline = time.monotonic() + min(seconds, WALL_SECONDS)
    with tempfile.TemporaryDirectory(prefix="crm-print-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        process = subprocess.Popen(  # noqa: S603 - our own program
            [*_command(), str(timestamp)],
            cwd=folder,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            reply = _read(process, deadline)
        finally:
            process.kill()
            status = process.wait()
            if process.stdout is not None:
                process.stdout.close()
    return _judged(reply, status)


def _read(process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """All that the child says; None when it is not through in time, or says too much."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    handle = process.stdout.fileno()
    parts: list[bytes] = []
    size = 0
    with selectors.DefaultSelector() as selector:
        selector.register(handle, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            part = os.read(handle, _CHUNK)
            if not part:
                process.wait(max(0.1, deadline - time.monotonic()))
                return b"".join(parts)
            parts.append(part)
            size += len(part)
            if size > LARGEST:
                return None
    return None


def _judged(reply: bytes | None, status: int) -> bytes:
    if reply is None:
        raise TypesettingError("the document was not set in time")
    if status != 0:
        if (exhausted := _EXHAUSTED.get(signal.Signals(-status) if status < 0 else signal.SIGKILL)) is not None:
            raise TemplateError(exhausted)
        raise TypesettingError(f"the process ended with {status}")
    if reply[:1] == b"+":
        return reply[1:]
    fault = json.loads(reply[1:])
    place = (fault.get("file"), fault.get("line"), fault.get("column"))
    raise TemplateError(fault["message"], *place, tuple(fault.get("hints", ())))
