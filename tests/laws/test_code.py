"""Laws of the source: who imports whom, where SQL may stand, how things are named, what every table has."""

import ast
import io
import re
import tokenize
from inspect import signature
from pathlib import Path

import pytest
import sqlalchemy as sa

import crm_api
from crm_api.catalog import CATALOG
from crm_api.kernel.problems import CATALOGUE
from crm_api.kernel.record import MoneyAmount, Record
from crm_api.kernel.router import operations
from tests.support.asking import RESOURCES

SOURCE = Path(crm_api.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
ORDER = [domain.name for domain in CATALOG.domains]
SQL_ROOMS = {"kernel/database.py", "kernel/migration.py", "kernel/migration_search.py", "bootstrap.py", "tenants.py"}
OPERATOR = "commands"  # runs beside the server, as the role that migrates
TABLES = [pytest.param(table, id=name) for name, table in sorted(Record.metadata.tables.items())]


def name_of(path: Path) -> str:
    return ".".join(("crm_api", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def imported(path: Path, *, top: bool = False) -> set[str]:
    """Modules of ours that a file imports; with `top` only while it is loaded, and not for types alone."""
    tree = ast.parse(path.read_text())
    known = {name_of(item) for item in FILES}
    nodes = tree.body if top else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in known else node.module)
    return {name for name in found if name.startswith("crm_api")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_one_way(path):
    room = path.relative_to(SOURCE).parts
    names = imported(path)
    if room[0] == "kernel":
        assert not {name for name in names if not name.startswith("crm_api.kernel")} - {"crm_api"}, (
            "the kernel knows only itself"
        )
    if room[0] == "domains" and len(room) > 2:
        position = ORDER.index(room[1])
        for name in names:
            if name.startswith("crm_api.domains."):
                other = name.split(".")[2]
                assert ORDER.index(other) <= position, f"{room[1]} may not import {other}"
            else:
                assert name.startswith(("crm_api.kernel", "crm_api.adapters")) or name == "crm_api.settings", name


def test_no_module_imports_itself_in_a_circle():
    graph = {name_of(path): imported(path, top=True) for path in FILES}
    done: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way, name))
        if name not in done:
            for other in graph.get(name, ()):
                if other != name:
                    walk(other, (*way, name))
            done.add(name)

    for name in graph:
        walk(name, ())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_sql_is_text_only_where_it_must_be(path):
    if str(path.relative_to(SOURCE)) in SQL_ROOMS or path.relative_to(SOURCE).parts[0] == OPERATOR:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if (
                node.func.attr == "text"
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in ("sa", "sqlalchemy")
            ):
                pytest.fail(f"line {node.lineno}: sqlalchemy.text")
            if node.func.attr in ("execute", "fetchrow", "fetchval", "executemany", "fetch", "read") and node.args:
                first = node.args[0]
                assert not isinstance(first, ast.JoinedStr), f"line {node.lineno}: SQL from text"
                text = first.value if isinstance(first, ast.Constant) else ""
                assert (
                    not re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|SET|WITH|CREATE)\b", str(text)) or text == "SELECT 1"
                ), f"line {node.lineno}"
        if isinstance(node, ast.ImportFrom) and node.module == "sqlalchemy":
            assert "text" not in {alias.name for alias in node.names}, f"line {node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_are_short_and_say_what_they_are(path):
    lines = path.read_text().splitlines()
    assert len(lines) < 400
    assert code_lines(path) <= 300
    if lines:
        assert lines[0].startswith('"""')
    assert path.stem not in ("utils", "helpers", "common", "manager", "base", "misc")


def code_lines(path: Path) -> int:
    """Lines that are neither blank, comment, docstring nor import at the top."""
    text = path.read_text()
    tree = ast.parse(text)
    left_out = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    left_out += [node for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    found = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in silent
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in left_out:
        found -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(found)


APART = (
    *("spec", "examples", "feed", "pulse", "sight", "batch", "external", "upsert", "customs", "jobs", "running"),
    *(
        "sealing",
        "signing",
        "collective",
        "migration_search",
        "merged",
        "duplicates",
        "parts",
        "joints",
        "obstacles",
        "seeds",
        "history",
        "everywhere",
        "admission",
        "aggregate",
        "sharing",
    ),
)
"""Kernel files with a budget of their own: the OpenAPI document, and features that stand beside the data path."""


def test_the_kernel_keeps_to_its_budget():
    counted = [path for path in FILES if path.parent.name == "kernel" and not path.stem.startswith(APART)]
    assert sum(map(code_lines, counted)) <= 4_500


WORD = r"[a-z][a-z0-9]*(_[a-z0-9]+)*"


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda item: item.plural)
def test_names_follow_from_noun_and_verb(resource):
    assert re.fullmatch(WORD, resource.singular)
    assert re.fullmatch(WORD, resource.plural)
    assert resource.title in resource.table.c
    assert resource.output.model_fields["object"].annotation.__args__ == (resource.singular,)
    for action in resource.permitted_actions:
        assert re.fullmatch(WORD, action)
    for event in resource.events:
        noun, _, past = event.partition(".")
        assert noun == resource.singular
        past_tense = r"(ed|en|sent|withdrawn|won|lost|paid|made|out|in|held|at_risk)$"
        assert re.search(past_tense, past), f"{event}: the past tense"
    for operation in operations(resource):
        assert re.fullmatch(f"{WORD}_({resource.singular}|{resource.plural})(_{WORD})?", operation.operation_id)
        noun, _, action = operation.permission.partition(":")
        if operation.kind == "batch":  # each of its items needs its own
            assert operation.permission == ""
        else:
            assert noun == resource.plural
            assert action in resource.permitted_actions
        home = CATALOG.target(resource, next(iter(resource.within))) if operation.kind == "within" else resource
        assert re.fullmatch(rf"/v1/{home.plural}(/\{{id\}})?(/{WORD}){{0,2}}", operation.path)
    for edge in resource.lifecycle.edges if resource.lifecycle else ():
        assert edge.verb != edge.event


def test_names_are_said_once():
    found = [operation.operation_id for item in RESOURCES for operation in operations(item)]
    assert len(found) == len(set(found))
    assert len({item.singular for item in RESOURCES}) == len(RESOURCES)
    assert len(CATALOG.permissions) == len(set(CATALOG.permissions))
    kinds = [kind for domain in CATALOG.domains for kind in domain.jobs]
    assert len(kinds) == len({kind.name for kind in kinds}) == len(CATALOG.jobs)
    for kind in kinds:
        assert re.fullmatch(WORD, kind.name)
        assert kind.permission is None or kind.permission in CATALOG.permissions


def test_problem_codes_are_plain_words():
    for code, kind in CATALOGUE.items():
        assert re.fullmatch(WORD, code)
        assert code == kind.code
        assert kind.status == 308 or 400 <= kind.status < 600


def leading(table: sa.Table) -> list[list[str]]:
    """Column lists of every index and key of a table."""
    found = [[str(column.name) for column in index.columns] for index in table.indexes]
    found += [
        [str(column.name) for column in item.columns]
        for item in table.constraints
        if isinstance(item, (sa.PrimaryKeyConstraint, sa.UniqueConstraint))
    ]
    return found


@pytest.mark.parametrize("table", TABLES)
def test_the_tenant_comes_first_in_every_key(table):
    assert not table.c.tenant_id.nullable
    for item in table.constraints:
        if isinstance(item, (sa.PrimaryKeyConstraint, sa.UniqueConstraint)):
            assert next(iter(item.columns)).name == "tenant_id", item.name
        if isinstance(item, sa.ForeignKeyConstraint):
            pairs = [
                (column.name, element.column.name) for column, element in zip(item.columns, item.elements, strict=True)
            ]
            assert pairs[0] == ("tenant_id", "tenant_id"), item.name
    for index in table.indexes:
        if index.unique:
            assert next(iter(index.columns)).name == "tenant_id", index.name
            if "deleted_at" in table.c:
                assert str(index.dialect_options["postgresql"]["where"]).startswith("deleted_at IS NULL"), index.name
    for item in [*table.constraints, *table.indexes]:
        assert item.name is None or len(str(item.name)) < 50, f"{item.name}: shards add a suffix"


@pytest.mark.parametrize("table", TABLES)
def test_every_foreign_key_has_an_index_with_the_tenant_first(table):
    for item in table.foreign_key_constraints:
        column = [str(column.name) for column in item.columns][1]
        assert any(names[:2] == ["tenant_id", column] for names in leading(table)), f"{table.name}.{column}"


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda item: item.plural)
def test_every_sortable_column_has_an_index_that_serves_its_cursor(resource):
    for name, column in resource.sortable.items():
        wanted = ["tenant_id", "id"] if name == "id" else ["tenant_id", str(column.name), "id"]
        unique = [[str(item.name) for item in index.columns] for index in resource.table.indexes if index.unique]
        alone = wanted[:2] in unique and not column.nullable  # no two live rows tie, so the id is not asked
        assert alone or wanted in leading(resource.table), f"{resource.plural}.{name}"


@pytest.mark.parametrize("table", TABLES)
def test_column_types_are_leakproof(table):
    for column in table.c:
        assert not isinstance(column.type, (sa.Numeric, sa.Float, sa.Enum, sa.ARRAY)), column.name
        if isinstance(column.type, MoneyAmount) or re.search(
            r"(amount|price|revenue|limit|total|cost|budget)$", column.name
        ):
            assert isinstance(column.type, MoneyAmount), column.name
            assert isinstance(column.type.impl, sa.BigInteger), column.name
        if isinstance(column.type, sa.DateTime):
            assert column.type.timezone, column.name


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda item: item.plural)
def test_a_declaration_fits_its_table_and_schemas(resource):
    assert {"id", "object", "version", "redacted"} <= set(resource.output.model_fields)
    assert set(resource.sortable) <= set(resource.output.model_fields)
    assert set(resource.filterable) <= set(resource.output.model_fields)
    assert set(resource.search) <= set(resource.table.c.keys())
    if resource.create:
        assert set(resource.create.model_fields) <= set(resource.table.c.keys())
        assert set(resource.create.model_fields) <= set(resource.output.model_fields)
    for many in resource.many.values():
        assert CATALOG.by_table[CATALOG.resources[many.plural].references[many.column]].table is resource.table
    for name in resource.hideable:
        assert resource.output.model_fields[name].annotation is not None
    granted = any(
        grant.split(":")[0] in ("*", resource.plural)
        for domain in CATALOG.domains
        for role in domain.roles.values()
        for grant, _ in role
    )
    assert granted or resource.default_access, "a resource without a declared policy is open to nobody"


def test_what_is_under_one_collection_is_found_in_one_way():
    """The edge looks for all paths of a collection by dictionary or leaves all of them to the framework."""
    ways: dict[str, set[bool]] = {}
    for router in (router for domain in CATALOG.domains for router in domain.routers):
        for route in router.routes:
            takes_request = signature(route.endpoint).parameters.keys() == {"request"}
            ways.setdefault(route.path.split("/")[2], set()).add(takes_request)
    assert ways["prices"] == {True}
    for collection, found in ways.items():
        assert collection in CATALOG.resources or len(found) == 1, collection
