"""The process that sets documents, by itself: what it may not do, and what it costs."""

import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from crm_api.adapters import typesetting, typesetting_child
from crm_api.adapters.typesetting import TemplateError, TypesettingError, set_document
from crm_api.domains.orders.order import ORDERS
from crm_api.domains.printing.formats import locale_of
from crm_api.domains.printing.samples import sample
from crm_api.domains.printing.sheet import SHIPPED, Form
from tests.printing.conftest import png

LOOP = b"#for a in range(10000) { for b in range(10000) { for c in range(10000) { } } }"
_CONFINED = f"""
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("child", {typesetting_child.__file__!r})
child = importlib.util.module_from_spec(spec)
spec.loader.exec_module(child)
import socket, subprocess, threading
child.confine()
try:
    {{}}
except (OSError, MemoryError, BlockingIOError) as error:
    print(type(error).__name__)
else:
    print("done")
"""


def confined(statement: str, folder: Path) -> str:
    """What comes of a statement in a process that has given up its rights."""
    program = _CONFINED.replace("{}", statement)
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout.strip() or f"ended with {done.returncode}: {done.stderr}"


@pytest.mark.skipif(not typesetting_child._filter(), reason="the kernel has no filter here")
@pytest.mark.parametrize(
    "statement",
    [
        "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
        "socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)",
        "socket.socketpair()",
        "os.execv('/bin/true', ['true'])",
        "os.fork()",
        "subprocess.run(['/bin/true'])",
        "os.open('new', os.O_WRONLY | os.O_CREAT)",
        "os.open('there', os.O_WRONLY)",
        "os.open('there', os.O_RDONLY | os.O_TRUNC)",
        "open('there', 'a')",
        "os.rename('there', 'gone')",
        "os.unlink('there')",
        "os.mkdir('new')",
        "os.symlink('/etc/passwd', 'link')",
        "os.link('there', 'link')",
        "os.truncate('there', 0)",
        "os.chmod('there', 0o777)",
        "os.kill(os.getppid(), 0)",
    ],
)
def test_the_kernel_refuses_what_setting_a_document_does_not_need(statement, tmp_path):
    (tmp_path / "there").write_text("kept")
    assert confined(statement, tmp_path) == "PermissionError"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_text() == "kept"


def test_limits_stand_on_every_system(tmp_path):
    (tmp_path / "there").write_text("kept")
    assert confined("bytearray(2_000_000_000)", tmp_path) == "MemoryError"
    assert confined("[os.open('there', os.O_RDONLY) for _ in range(40)]", tmp_path) == "OSError"
    assert confined("os.open('there', os.O_RDONLY)", tmp_path) == "done"
    assert confined("threading.Thread(target=int).start()", tmp_path) == "done"
    assert confined("os.read(os.open('/dev/zero', os.O_RDONLY), 9)", tmp_path) == "done"


@pytest.mark.broad  # what takes too much memory in a template ends, too
def test_processor_time_is_bounded():
    start = _cpu()
    with pytest.raises(TemplateError, match="processor time"):
        set_document({"main.typ": LOOP}, 0)
    assert _cpu() - start < typesetting_child.CPU_SECONDS + 2


def test_time_by_the_clock_is_bounded():
    start = time.monotonic()
    with pytest.raises(TypesettingError):
        set_document({"main.typ": LOOP}, 0, seconds=1)
    assert time.monotonic() - start < 10


def test_nothing_is_left_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert set_document({"main.typ": b"= One"}, 0).startswith(b"%PDF-")
    with pytest.raises(TemplateError):
        set_document({"main.typ": b"#wrong"}, 0)
    with pytest.raises(TypesettingError):
        set_document({"main.typ": LOOP}, 0, seconds=0.5)
    assert list(tmp_path.iterdir()) == []


def test_the_environment_is_not_handed_on(monkeypatch, tmp_path):
    monkeypatch.setenv("CRM_SECRET", "canary-4711")
    seen = tmp_path / "seen"
    monkeypatch.setattr(typesetting, "_command", lambda: ["/bin/sh", "-c", f"env > {seen}; printf '%s' '+%PDF'"])
    assert set_document({"main.typ": b""}, 0) == b"%PDF"
    names = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert "CRM_SECRET" not in names
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == set(typesetting._ENVIRONMENT)


def test_a_child_that_says_too_much_or_nothing_is_an_error(monkeypatch):
    monkeypatch.setattr(typesetting, "_command", lambda: ["/bin/sh", "-c", "yes"])
    with pytest.raises(TypesettingError):
        set_document({}, 0, seconds=10)
    monkeypatch.setattr(typesetting, "_command", lambda: ["/bin/sh", "-c", "kill -9 $$"])
    with pytest.raises(TypesettingError):
        set_document({}, 0)
    monkeypatch.setattr(typesetting, "_command", lambda: ["/bin/sh", "-c", "exit 1"])
    with pytest.raises(TypesettingError):
        set_document({}, 0)


def test_a_document_is_of_bounded_size():
    noise = random.Random(1)  # noqa: S311 - noise is all that it is
    picture = {size: png(1_000, size, noise.randbytes) for size in (2_000, 12_000)}
    setting = {"main.typ": b'#set page(height: auto)\n#image("noise.png")'}
    assert len(set_document({**setting, "noise.png": picture[2_000]}, 0)) > 1_000_000
    with pytest.raises(TemplateError, match=str(typesetting_child.LARGEST)):
        set_document({**setting, "noise.png": picture[12_000]}, 0)


@pytest.mark.skipif(not typesetting_child._filter(), reason="the kernel has no filter here")
def test_the_kernel_refuses_to_fetch_a_package():
    with pytest.raises(TemplateError, match="Operation not permitted"):
        set_document({"main.typ": b'#import "@preview/cetz:0.3.0"'}, 0)


def test_without_the_filter_a_package_is_asked_of_a_proxy_that_is_not_there(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for fence, heard in ((typesetting._ENVIRONMENT["https_proxy"], False), (_at(listening), True)):
            program = "import typst; typst.compile(b'#import \"@preview/cetz:0.3.0\"', package_cache_path='cache')"
            environment = {**typesetting._ENVIRONMENT, "https_proxy": fence}
            child = subprocess.Popen(
                [sys.executable, "-I", "-c", program], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
            )
            if heard:
                listening.settimeout(20)
                connection, _ = listening.accept()
                with connection:
                    assert connection.recv(1000).startswith(b"CONNECT ")
            _, said = child.communicate(timeout=30)
            assert "failed to download package" in said
            assert ("127.0.0.1:9" in said or "refused" in said.lower()) != heard, said


def _at(listening: socket.socket) -> str:
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_what_a_document_costs():
    """A bound on processor time that a slow machine keeps, too; the figure is printed with -s."""
    locale = locale_of("en")
    assert locale is not None
    files = sample(ORDERS, Form(SHIPPED, "en", locale)).files(None)
    set_document(files, 0)
    before, start = _cpu(), time.monotonic()
    for _ in range(5):
        set_document(files, 0)
    cpu, wall = (_cpu() - before) / 5, (time.monotonic() - start) / 5
    print(f"one document: {1000 * cpu:.0f} ms of processor time, {1000 * wall:.0f} ms by the clock")  # noqa: T201
    assert cpu < 1


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
