"""Commands run in this process: what they do is the same, without the seconds that a start costs."""

import signal
import sys
from dataclasses import dataclass

import pytest

from crm_api import cli
from crm_api.commands import database as where
from crm_api.commands import serve, worker
from crm_api.settings import Settings


@dataclass
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def here(monkeypatch, capsys):
    """`here("tenants", "list", database_url=...)` runs a command under these settings."""

    def run(*arguments, **settings):
        for module in (where, serve, worker):
            monkeypatch.setattr(module, "load_settings", lambda: Settings(**settings))
        monkeypatch.setattr(sys, "argv", ["crm-api", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def refused(here):
    """The one line of a command that must fail."""

    def run(*arguments, **settings):
        said = here(*arguments, **settings)
        assert said.code == 1, said
        lines = said.err.strip().splitlines()
        assert len(lines) == 1, said.err
        return lines[0]

    return run
