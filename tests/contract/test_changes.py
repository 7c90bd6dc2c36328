"""The list of differences between two documents is right, and the history tells of every collection."""

import copy
import json
import re

import pytest

from crm_api.commands.contract_changes import breaking, changes
from crm_api.commands.contract_history import baseline, released, section, undeclared
from crm_api.excerpt import excerpt
from tests.support.contract import OPENAPI
from tests.support.documents import ROOT

PART = {name: excerpt(OPENAPI, "accounts")[name] for name in ("paths", "components")}


def after(change):
    new = copy.deepcopy(PART)
    change(new)
    return new


def changed(change):
    return changes(PART, after(change))


def schema(document, name):
    return document["components"]["schemas"][name]


def gone_field(new):
    del schema(new, "Account")["properties"]["tier"]


def new_value(new):
    status = schema(new, "Account")["properties"]["status"]
    status["enum"] = [*status["enum"], "asleep"]


def required_field(new):
    schema(new, "AccountCreate")["required"].append("tier")


def narrower(new):
    schema(new, "AccountCreate")["properties"]["tier"]["type"] = "string"


def open_values(new):
    """Named values, or others that have a form."""
    sort = schema(new, "AccountSearch")["properties"]["sort"]
    sort["items"] = {"anyOf": [sort["items"], {"type": "string", "pattern": "^custom"}]}


def gone_operation(new):
    del new["paths"]["/v1/accounts/{id}/block"]


def gone_parameter(new):
    parameters = new["paths"]["/v1/accounts"]["get"]["parameters"]
    parameters[:] = [item for item in parameters if item.get("name") != "industry_contains"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (gone_field, ["- Account .tier"]),
        (new_value, ["+ Account .status =asleep"]),
        (required_field, ["~ AccountCreate .tier: optional string or null -> string or null"]),
        (narrower, ["~ AccountCreate .tier: optional string or null -> optional string"]),
        (gone_operation, ["- block_account"]),
        (gone_parameter, ["- list_accounts ?industry_contains"]),
        (open_values, []),
        (dict, []),
    ],
)
def test_a_difference_is_told_once(change, told):
    assert changed(change) == told


def required_reply(new):
    schema(new, "Account")["properties"]["mood"] = {"type": "string"}
    schema(new, "Account")["required"].append("mood")


def longer_union(new):
    schema(new, "AccountFilter")["anyOf"].append({"$ref": "#/components/schemas/Account"})


def required_parameter(new):
    extra = {"name": "mood", "in": "query", "required": True, "schema": {"type": "string"}}
    new["paths"]["/v1/accounts"]["get"]["parameters"].append(extra)


def wider(new):
    schema(new, "AccountCreate")["properties"]["name"]["type"] = ["string", "null"]


def nullable_reply(new):
    schema(new, "Account")["properties"]["name"]["type"] = ["string", "null"]


@pytest.mark.parametrize("change", [gone_field, required_field, narrower, gone_operation, gone_parameter])
def test_what_clients_use_breaks_when_it_goes(change):
    assert _breaks(change) == changed(change)


@pytest.mark.parametrize("change", [required_parameter, nullable_reply])
def test_what_clients_do_not_expect_breaks(change):
    assert _breaks(change) == changed(change)


@pytest.mark.parametrize("change", [new_value, required_reply, wider, longer_union])
def test_what_clients_may_ignore_does_not_break(change):
    assert changed(change)
    assert _breaks(change) == []


def _breaks(change):
    return breaking(changed(change), PART, after(change))


HISTORY = "# Changes\n\n## Unreleased\n\n- By hand.\n\n## 0.1.0\n\n- Earlier.\n"


def test_the_history_lists_the_differences_and_keeps_what_was_written():
    old, new = PART, after(gone_field)
    new["paths"]["/v1/moods"] = {"get": {"operationId": "list_moods", "responses": {}}}
    first = section(HISTORY, old, new)
    assert first.startswith("# Changes\n\n## Unreleased\n\n- By hand.\n\n### In full\n")
    assert "Breaking:\n\n- `- Account .tier`\n\nBesides:\n\n- `+ list_moods`\n" in first
    assert first.endswith("\n## 0.1.0\n\n- Earlier.\n")
    assert undeclared(first) == ["- Account .tier"]
    written = first.replace("`- Account .tier`", "`- Account .tier`: Nobody used it.\n- `! Account .name`: Shorter.")
    written = written.replace("`+ list_moods`", "`+ list_moods`: How people feel.")
    again = section(written, old, new)
    assert undeclared(again) == []
    assert section(again, old, new) == again, "it comes to rest"
    for line in ("`- Account .tier`: Nobody used it.", "`! Account .name`: Shorter.", "feel."):
        assert line in again
    assert "`- Account .tier`" not in section(written, old, old), "what is as it was is not told"
    assert "\nNothing.\n" in section(HISTORY, old, old)
    assert "## Unreleased\n\n### In full\n" in section(released(again, "0.2.0"), new, new)
    assert "## 0.2.0\n\n- By hand." in released(again, "0.2.0")


def test_the_committed_history_is_in_step():
    """`crm-api openapi` writes it; `make check` says so, too."""
    text = (ROOT / "openapi" / "changes.md").read_text(encoding="utf-8")
    present = json.loads((ROOT / "openapi" / "openapi.json").read_bytes())
    assert section(text, baseline(ROOT / "openapi"), present) == text
    assert undeclared(text) == []


def test_the_history_tells_of_every_collection():
    history = re.sub(r"\s+", " ", (ROOT / "openapi" / "changes.md").read_text(encoding="utf-8")).lower()
    roots = {path.split("/")[2] for path in OPENAPI["paths"] if path.startswith("/v1/")}
    words = {"api_keys": "api keys", "audit_log": "audit log", "account_team_members": "accounts (with their team)"}
    words |= {"account_contacts": "contacts (with their further accounts)"}
    untold = [root for root in roots if words.get(root, root.replace("_", " ")) not in history.replace("_", " ")]
    assert untold == []
