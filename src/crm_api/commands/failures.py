"""Turns what may go wrong outside our code into one line for the person at the terminal."""

import subprocess
from collections.abc import Callable
from typing import Any

import asyncpg
from alembic.util import CommandError
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from crm_api.kernel.problems import ConfigurationError, Problem


def describe(error: BaseException) -> str | None:
    """The line to print, or None when the error is a fault of ours and its traceback is wanted."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig.__cause__ or error.orig
    return next((line(error) for kind, line in _LINES if isinstance(error, kind)), None)


def _problem(error: Problem) -> str:
    return " ".join([error.detail or error.kind.title, *(fault.detail for fault in error.errors)])


def _settings(error: ValidationError) -> str | None:
    if error.title != "Settings":
        return None
    return " ".join(
        str(item["ctx"]["error"])
        if item["type"] == "value_error"
        else f"CRM_{str(item['loc'][0]).upper()}: {item['msg']}."
        for item in error.errors()
    )


def _right(error: asyncpg.InsufficientPrivilegeError) -> str:
    if 'role "crm_owner"' in str(error):
        return f"PostgreSQL: {error}. Set CRM_MIGRATE_URL to the address of the database for crm_migrate."
    return f"PostgreSQL: {error}. The role lacks the right; see `crm-api bootstrap --print-rights`."


def _system(error: OSError) -> str:
    if error.filename is None:
        return f"PostgreSQL does not answer: {error or type(error).__name__}. Check CRM_DATABASE_URL."
    return f"{error.filename}: {error.strerror}."


_LINES: tuple[tuple[Any, Callable[[Any], str | None]], ...] = (  # the first that fits
    ((ConfigurationError, CommandError), str),
    (ValidationError, _settings),
    (Problem, _problem),
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        "PostgreSQL refuses this role: {}. Check the role and password of the address.".format,
    ),
    (asyncpg.InsufficientPrivilegeError, _right),
    (asyncpg.UndefinedTableError, "PostgreSQL: {}. The database is not migrated; run `crm-api migrate`.".format),
    (asyncpg.PostgresError, "PostgreSQL: {}.".format),
    (
        (asyncpg.InterfaceError, asyncpg.InternalClientError),
        "The database address or the connection is wrong: {}.".format,
    ),
    (
        subprocess.SubprocessError,
        "The embedded PostgreSQL did not start; the file `log` in its data folder says why. {}".format,
    ),
    (OSError, _system),
)
