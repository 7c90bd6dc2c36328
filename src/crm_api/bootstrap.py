"""Prepares a PostgreSQL 18 for the product: roles, database, extensions. Needs a role that may create both."""

from urllib.parse import urlsplit, urlunsplit

import asyncpg

from crm_api.kernel.problems import ConfigurationError

NEEDED = (
    "bootstrap needs a role with CREATEROLE and CREATEDB, and, for the extensions pg_trgm and btree_gin, either "
    "superuser or a provider that trusts them (they are trusted extensions). The server itself never uses this role."
)
ROLES = {
    "crm_owner": "NOLOGIN NOSUPERUSER NOBYPASSRLS",
    "crm_migrate": "LOGIN NOSUPERUSER NOBYPASSRLS NOINHERIT",
    "crm_app": "LOGIN NOSUPERUSER NOBYPASSRLS",
}
EXTENSIONS = ("pg_trgm", "btree_gin")


async def bootstrap(admin_url: str, database: str = "crm", passwords: dict[str, str] | None = None) -> list[str]:
    """Creates what is missing; safe to repeat.

    Args:
        admin_url: a role that may create roles and databases, on any database of the server.
        database: name of the database to create.
        passwords: for crm_migrate and crm_app; without, they are created without a password.

    Returns:
        What was done, a line each.
    """
    done = []
    connection = await asyncpg.connect(admin_url, timeout=10)
    try:
        if connection.get_server_version().major < 18:
            raise ConfigurationError("PostgreSQL 18 or later is required.")
        for role, attributes in ROLES.items():
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
                await connection.execute(f"CREATE ROLE {role} {attributes}")
                done.append(f"created role {role} ({attributes})")
            if passwords and role in passwords:
                await connection.execute(f"ALTER ROLE {role} PASSWORD {_literal(passwords[role])}")
                done.append(f"set the password of {role}")
        await connection.execute("GRANT crm_owner TO crm_migrate")
        await connection.execute("GRANT crm_owner TO current_user")
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
            await connection.execute(
                f"CREATE DATABASE {_identifier(database)} OWNER crm_owner TEMPLATE template0 ENCODING 'UTF8' "
                "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'"
            )
            done.append(f"created database {database}")
    finally:
        await connection.close()
    connection = await asyncpg.connect(on_database(admin_url, database), timeout=10)
    try:
        for extension in EXTENSIONS:
            await connection.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}")
        await connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        await connection.execute("GRANT USAGE, CREATE ON SCHEMA public TO crm_owner")
        await connection.execute("GRANT USAGE ON SCHEMA public TO crm_app")
    finally:
        await connection.close()
    done.append(f"{database} is ready: migrate as crm_migrate, serve as crm_app")
    return done


def on_database(url: str, database: str, user: str | None = None) -> str:
    """The same server, another database and role."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{user}@{host}" if user else parts.netloc
    return urlunsplit((parts.scheme, netloc, f"/{database}", parts.query, ""))


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


async def check_server_role(url: str) -> None:
    """Refuses to serve as a role that could bypass row security.

    Raises:
        ConfigurationError: says which attribute is the problem.
    """
    connection = await asyncpg.connect(url, timeout=10)
    try:
        row = await connection.fetchrow(
            "SELECT rolsuper, rolbypassrls, pg_has_role(current_user, 'crm_owner', 'MEMBER') AS member "
            "FROM pg_roles WHERE rolname = current_user"
        )
    finally:
        await connection.close()
    assert row is not None  # noqa: S101 - current_user is in pg_roles
    for attribute, meaning in (
        ("rolsuper", "is a superuser"),
        ("rolbypassrls", "bypasses row security"),
        ("member", "is a member of the owner"),
    ):
        if row[attribute]:
            raise ConfigurationError(f"The role in CRM_DATABASE_URL {meaning}; serve as crm_app.")
