"""The command `crm-api`: what can be said, and what is printed. The work is in `crm_api.commands`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from crm_api import memory

app = typer.Typer(
    name="crm-api",
    help="A headless CRM: serve it, migrate it, look into it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
tenants_app = typer.Typer(no_args_is_help=True, help="Tenants: the operator's customers.")
keys_app = typer.Typer(no_args_is_help=True, help="API keys of users and service accounts.")
clients_app = typer.Typer(no_args_is_help=True, help="OAuth clients: programs that ask for tokens.")
app.add_typer(clients_app, name="clients")
app.add_typer(tenants_app, name="tenants")
app.add_typer(keys_app, name="keys")
OPENAPI = Path("openapi/openapi.json")


def main() -> None:
    """Runs a command; what goes wrong outside our code is one line and exit code 1."""
    memory.collect_rarely()
    try:
        app()
    except Exception as error:
        from crm_api.commands.failures import describe

        line = describe(error)
        if line is None:
            raise
        print(f"crm-api: {' '.join(line.split())}", file=sys.stderr)
        sys.exit(1)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(help="Processes that serve.", min=1, max=256)] = 1,
    demo: Annotated[bool, typer.Option("--demo", help="Load the demo tenant if absent and print keys for it.")] = False,
) -> None:
    """Serve the API.

    Without CRM_DATABASE_URL an embedded PostgreSQL is started in CRM_DATA_DIR and migrated. With it, that database is
    served as it is: when migrations are pending, the command says so and stops.
    """
    from crm_api.commands.serve import serve as run

    run(host, port, workers, with_demo=demo)


@app.command()
def worker() -> None:
    """Do the work beside requests, without serving: jobs and the schedule.

    Server processes do it too, unless CRM_WORKER is false. Any number of processes may work on one database.
    """
    from crm_api.commands.worker import work

    work()


@app.command()
def demo() -> None:
    """Load the demo tenant if it is absent, and print keys for it."""
    from crm_api.commands.database import place
    from crm_api.commands.demo import ensure, introduction

    with place() as found:
        print("\n".join(introduction(ensure(found), "http://127.0.0.1:8000")))


@app.command()
def migrate(
    to: Annotated[str, typer.Option(help="Revision to go to.")] = "head",
    down: Annotated[bool, typer.Option("--down", help="Go back to --to; this may drop data.")] = False,
) -> None:
    """Bring the database to a revision, as the role in CRM_MIGRATE_URL.

    At the newest revision, the default roles of every tenant then get what this version adds to them, which is written
    as the role in CRM_DATABASE_URL.
    """
    from crm_api.commands.migrate import migrate as run

    before, after, lines = run(to, down=down)
    print(
        f"The database is at {after or 'nothing'}"
        + (f", it was at {before or 'nothing'}." if after != before else " already.")
    )
    for line in lines:
        print(line)


@app.command()
def bootstrap(
    admin_url: Annotated[
        str | None, typer.Argument(envvar="CRM_BOOTSTRAP_ADMIN_URL", help="A role that may create roles and databases.")
    ] = None,
    database: Annotated[str, typer.Option(help="Name of the database.")] = "crm",
    migrate_password: Annotated[
        str | None, typer.Option(envvar="CRM_BOOTSTRAP_MIGRATE_PASSWORD", help="Password to set for crm_migrate.")
    ] = None,
    app_password: Annotated[
        str | None, typer.Option(envvar="CRM_BOOTSTRAP_APP_PASSWORD", help="Password to set for crm_app.")
    ] = None,
    print_rights: Annotated[bool, typer.Option("--print-rights", help="Only say which rights are needed.")] = False,
) -> None:
    """Prepare a PostgreSQL 18: roles, database, extensions. Safe to repeat."""
    import asyncio

    from crm_api.bootstrap import NEEDED, ROLES
    from crm_api.bootstrap import bootstrap as run

    if print_rights or admin_url is None:
        print(NEEDED)
        for role, attributes in ROLES.items():
            print(f"  {role}: {attributes}")
        if admin_url is None and not print_rights:
            print("crm-api: give the address of the administrator.", file=sys.stderr)
            raise typer.Exit(1)
        return
    given = {"crm_migrate": migrate_password, "crm_app": app_password}
    passwords = {role: password for role, password in given.items() if password}
    for line in asyncio.run(run(admin_url, database, passwords)):
        print(line)


@app.command()
def openapi(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when the file differs.")] = False,
    changes: Annotated[
        Path | None, typer.Option(help="Write nothing; list in what the contract differs from this older document.")
    ] = None,
    release: Annotated[
        str | None, typer.Option(help="Keep the document as that of this version, which later ones are compared with.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The OpenAPI file; asyncapi.json is beside it.")] = OPENAPI,
) -> None:
    """Write the OpenAPI and AsyncAPI documents, or check that the committed ones are up to date."""
    from crm_api.commands import openapi as contract

    if changes is not None:
        print("\n".join(contract.since(changes)))
    elif release is not None:
        contract.release(output, release)
        print(f"{output} is the document of {release}; {output.parent / 'changes.md'} tells what was new")
    elif not check:
        contract.write(output)
        print(f"wrote {' and '.join(map(str, contract.files(output)))}")
    elif lines := contract.drift(output):
        print("\n".join(lines))
        print(f"crm-api: {output.parent} differs from the declarations; run `crm-api openapi`.", file=sys.stderr)
        raise typer.Exit(1)
    else:
        print(f"{output} is up to date")


@app.command()
def explain(
    resource: Annotated[str, typer.Argument(help="Plural or singular name, e.g. accounts.")],
    role: Annotated[
        str, typer.Option(help="Default role whose rights the sample SQL is compiled for.")
    ] = "Sales representative",
    machine: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show everything that follows from a resource's declaration."""
    from crm_api.commands.explain import describe, show

    found = describe(resource, role)
    if machine:
        import orjson

        print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
    else:
        show(found)


@tenants_app.command("create")
def create_tenant(
    name: Annotated[str, typer.Argument(help="What the tenant is called.")],
    email: Annotated[str, typer.Option(help="E-mail of its first administrator.")],
) -> None:
    """Create a tenant with default roles and an administrator, and print that one's key."""
    from crm_api.commands import tenants

    new = tenants.create(name, email)
    shown = {"tenant": new.tenant_id, "handle": new.handle, "administrator": new.administrator_id, "key": new.key}
    print("\n".join(f"{name:<15}{value}" for name, value in shown.items()))


@tenants_app.command("list")
def list_tenants() -> None:
    """List all tenants."""
    from crm_api.commands import tenants

    for row in tenants.rows():
        state = "" if row["is_active"] else "(inactive) "
        print(f"{row['id']}  {row['created_at']:%Y-%m-%d}  {state}{row['name']}  {row['handle'] or ''}")


@tenants_app.command("suspend")
def suspend_tenant(tenant: Annotated[str, typer.Argument(metavar="NAME|ID", help="The tenant.")]) -> None:
    """Refuse every key of a tenant, from its next request on. Its data stays."""
    from crm_api.commands import tenants

    print(f"suspended {tenants.switch(tenant, active=False)}")


@tenants_app.command("resume")
def resume_tenant(tenant: Annotated[str, typer.Argument(metavar="NAME|ID", help="The tenant.")]) -> None:
    """Take the keys of a suspended tenant again."""
    from crm_api.commands import tenants

    print(f"resumed {tenants.switch(tenant, active=True)}")


@tenants_app.command("limit")
def limit_tenant(
    tenant: Annotated[str, typer.Argument(metavar="NAME|ID", help="The tenant.")],
    credential: Annotated[int | None, typer.Option(help="Requests each second of one credential.", min=1)] = None,
    whole: Annotated[int | None, typer.Option("--tenant", help="Of all its credentials together.", min=1)] = None,
) -> None:
    """Set limits of a tenant's own; what is not given is as in the settings. A process learns it by a request."""
    from crm_api.commands import tenants

    print(f"limited {tenants.limit(tenant, credential, whole)}")


@keys_app.command("issue")
def issue_key(
    who: Annotated[str, typer.Argument(metavar="EMAIL|ID", help="User or service account.")],
    tenant: Annotated[str, typer.Option(help="Id or name of the tenant.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "issued by the operator",
) -> None:
    """Issue a key and print it, once."""
    from crm_api.commands import tenants

    print(tenants.issue(who, tenant, name))


@keys_app.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(metavar="KEY|ID", help="The whole key, or its id with --tenant.")],
    tenant: Annotated[str | None, typer.Option(help="Id or name of the tenant.")] = None,
) -> None:
    """End a key; every process refuses it with its next request."""
    from crm_api.commands import tenants

    print(f"revoked {tenants.revoke(key, tenant)}")


@clients_app.command("create")
def create_client(
    name: Annotated[str, typer.Argument(help="What people are asked about.")],
    tenant: Annotated[str, typer.Option(help="Id or name of the tenant.")],
    scope: Annotated[list[str], typer.Option(help="What its tokens may be allowed to do; several.")],
    redirect_uri: Annotated[list[str] | None, typer.Option(help="Where people are sent back to; several.")] = None,
    public: Annotated[bool, typer.Option("--public", help="It cannot keep a secret: a browser or mobile app.")] = False,
    service_account: Annotated[
        str | None, typer.Option(metavar="ID", help="Whom it acts as by itself, with client_credentials.")
    ] = None,
) -> None:
    """Register an OAuth client, and print its id and secret, once."""
    from crm_api.commands import clients

    client_id, secret = clients.create(name, tenant, scope, redirect_uri or [], service_account, public=public)
    print(f"client_id      {client_id}" + ("" if secret is None else f"\nclient_secret  {secret}"))


@clients_app.command("list")
def list_clients(tenant: Annotated[str, typer.Option(help="Id or name of the tenant.")]) -> None:
    """List the OAuth clients of a tenant."""
    from crm_api.commands import clients

    for row in clients.rows(tenant):
        print(f"{row['client_id']}  {row['client_type']}  {'' if row['is_active'] else '(inactive) '}{row['name']}")


@clients_app.command("revoke")
def revoke_client(client_id: Annotated[str, typer.Argument(help="Its client_id.")]) -> None:
    """Switch an OAuth client off; every process refuses its tokens with their next request."""
    from crm_api.commands import clients

    print(f"revoked {clients.revoke(client_id)}")


@keys_app.command("rotate-signing")
def rotate_signing_key() -> None:
    """Add a key that tokens are signed with from now on; earlier ones stay published while their tokens live."""
    from crm_api.commands import clients

    print(f"signing with {clients.rotate_signing_key()}")
