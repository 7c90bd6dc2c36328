"""The linters of the contract find what they are there for: a small document with a fault is refused for it."""

import json
import os
import subprocess

import pytest

from tests.support.documents import ROOT

pytestmark = pytest.mark.clients
TOOLS = ROOT / "tools" / "contract"
BIN = TOOLS / "node_modules" / ".bin"
LINTERS = {
    "redocly": (BIN / "redocly", "lint", "--config", "redocly/redocly.yaml"),
    "spectral": (BIN / "spectral", "lint", "--ruleset", "spectral.mjs", "--fail-severity", "warn"),
}


def _reply(description, media, schema):
    headers = {name: {"schema": {"type": "string", "maxLength": 20}} for name in ("RateLimit", "Retry-After")}
    return {"description": description, "headers": headers, "content": {media: {"schema": schema}}}


def document(*names, **name):
    """An operation that gives an object with these properties, of which `name` is a text."""
    properties = {"name": {"type": "string", "maxLength": 20, **name}}
    properties |= {other: {"type": "boolean"} for other in names}
    success = _reply("It.", "application/json", {"$ref": "#/components/schemas/Thing"})
    errors = {
        status: _reply("Not so.", "application/problem+json", {"type": "object"})
        for status in ("400", "401", "429", "500")
    }
    operation = {
        "operationId": "get_thing",
        "summary": "Get it",
        "description": "The thing.",
        "tags": ["things"],
        "security": [{"bearer": []}],
        "responses": {"200": success, **errors},
    }
    return {
        "openapi": "3.1.1",
        "info": {"title": "Things", "version": "1", "description": "Things."},
        "servers": [{"url": "/", "description": "This server."}],
        "tags": [{"name": "things", "description": "Things."}],
        "paths": {"/v1/thing": {"get": operation}},
        "components": {
            "schemas": {"Thing": {"type": "object", "description": "A thing.", "properties": properties}},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def run(*command):
    environment = {**os.environ, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    done = subprocess.run(command, cwd=TOOLS, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def written(tmp_path):
    def write(name, content):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        return str(path)

    return write


@pytest.mark.parametrize("linter", LINTERS)
def test_a_sound_document_passes(written, linter):
    code, output = run(*LINTERS[linter], written("sound", document()))
    assert code == 0, output


def _unlimited(whole):
    del whole["components"]["schemas"]["Thing"]["properties"]["name"]["maxLength"]


def _open(whole):
    whole["paths"]["/v1/thing"]["get"]["security"] = []


def _silent(whole):
    del whole["paths"]["/v1/thing"]["get"]["responses"]["401"]


def _unhurried(whole):
    answer = whole["paths"]["/v1/thing"]["get"]["responses"]["429"]
    del answer["headers"]["Retry-After"]


def _unnamed(whole):
    del whole["paths"]["/v1/thing"]["get"]["operationId"]


def _untrue(whole):
    whole["components"]["schemas"]["Thing"]["example"] = {"name": 5}


@pytest.mark.parametrize(
    ("linter", "fault", "told"),
    [
        ("spectral", _unlimited, "string-limit"),
        ("spectral", _open, "read-restricted"),
        ("spectral", _silent, "error-responses-401"),
        ("spectral", _unhurried, "rate-limit-retry-after"),
        ("redocly", _unnamed, "operation-operationId"),
        ("redocly", _untrue, "no-invalid-schema-examples"),
    ],
)
def test_a_fault_is_found(written, linter, fault, told):
    whole = document()
    fault(whole)
    code, output = run(*LINTERS[linter], written("fault", whole))
    assert code != 0
    assert told in output


@pytest.mark.parametrize(
    ("before", "after", "breaks"),
    [
        (document("old"), document(), True),
        (document(), document(type="boolean"), True),
        (document(), document("new"), False),
    ],
    ids=["property gone", "another type", "property more"],
)
def test_a_break_of_the_contract_is_found(written, before, after, breaks):
    command = (BIN / "redocly", "diff", "--fail-on", "major", written("before", before), written("after", after))
    code, output = run(*command)
    assert (code != 0) == breaks, output


def _gone(whole):
    del whole["components"]["schemas"]["Account"]["properties"]["tier"]


def _narrower(whole):
    whole["components"]["schemas"]["AccountCreate"]["properties"]["name"]["maxLength"] = 20


@pytest.mark.parametrize(
    ("change", "told", "line"),
    [(_gone, "Account .tier", "- Account .tier"), (_narrower, "AccountCreate .name", "! AccountCreate .name")],
)
def test_a_break_of_our_contract_is_refused_until_it_is_declared(tmp_path, change, told, line):
    """The step of `make contract-tools`, against the committed baseline."""
    whole = json.loads((ROOT / "openapi" / "openapi.json").read_text(encoding="utf-8"))
    change(whole)
    document, history = tmp_path / "openapi.json", tmp_path / "changes.md"
    document.write_text(json.dumps(whole))
    real = (ROOT / "openapi" / "changes.md").read_text(encoding="utf-8").partition("\n## Unreleased\n")[2]
    real = real.partition("\n## ")[0].partition("\nBreaking:\n")[2].partition("\nBesides:\n")[0]
    history.write_text(f"## Unreleased\n\nBreaking:\n{real}")
    make = (
        "make",
        "--no-print-directory",
        "breaking",
        f"DOCUMENT={document}",
        f"HISTORY={history}",
        f"SCRATCH={tmp_path}",
    )
    code, output = run(*make)
    assert code != 0
    assert f"`! {told}`" in output, output
    history.write_text(f"## Unreleased\n\nBreaking:\n{real}\n- `{line}`: Nobody used it.\n")
    code, output = run(*make)
    assert code == 0, output
