"""Runs Alembic from our own command, in a thread: its environment opens an event loop of its own."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from crm_api.kernel.problems import ConfigurationError

if TYPE_CHECKING:  # imported by its first use only: it takes half a second, and a server that is up to date needs none
    from alembic.config import Config

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGED = Path(__file__).resolve().parent / "schema"
"""Where a wheel has them."""
_HEAD = re.compile(r'^(revision|down_revision)\b[^=\n]*= (?:"([^"]+)"|None)', re.MULTILINE)


def folder() -> Path:
    """The folder with alembic.ini and the migrations."""
    for found in (_PACKAGED, _ROOT, Path.cwd()):
        if (found / "alembic.ini").exists():
            return found
    raise ConfigurationError("There is no alembic.ini here: run this in the folder of the product.")


def revisions() -> list[str]:
    """Every revision of this program, oldest first; they form one line, so the heads of their files tell it."""
    after: dict[str, str] = {}
    for file in (folder() / "migrations" / "versions").glob("*.py"):
        head = dict(_HEAD.findall(file.read_text(encoding="utf-8")))
        if head.get("revision"):
            after[head["down_revision"]] = head["revision"]
    found, at = [], ""
    while at in after:
        at = after.pop(at)
        found.append(at)
    return found


def config(url: str) -> "Config":
    """Alembic's configuration for a database."""
    from alembic.config import Config

    found = Config(folder() / "alembic.ini", stdout=sys.stdout)  # its default is bound when it is imported
    found.attributes["url"] = url
    return found


def upgrade(url: str, revision: str = "head") -> None:
    """Brings a database to a revision."""
    from alembic import command

    command.upgrade(config(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Takes a database back to a revision."""
    from alembic import command

    command.downgrade(config(url), revision)
