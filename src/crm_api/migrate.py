"""Runs Alembic from our own command, in a thread: its environment opens an event loop of its own."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config

ROOT = Path(__file__).resolve().parents[2]


def config(url: str) -> Config:
    """Alembic's configuration for a database."""
    for folder in (ROOT, Path.cwd()):
        if (folder / "alembic.ini").exists():
            found = Config(folder / "alembic.ini")
            found.attributes["url"] = url
            return found
    raise FileNotFoundError("alembic.ini: run this in the folder of the product")


def upgrade(url: str, revision: str = "head") -> None:
    """Brings a database to a revision."""
    command.upgrade(config(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Takes a database back to a revision."""
    command.downgrade(config(url), revision)


def check(url: str) -> None:
    """Raises when models and database differ."""
    command.check(config(url))


def revise(url: str, message: str, **options: Any) -> None:
    """Writes a migration for what differs between models and database."""
    command.revision(config(url), message=message, autogenerate=True, **options)
