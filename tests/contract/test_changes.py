"""The list of differences between two documents is right, and the history tells of every collection."""

import copy
import re

import pytest

from crm_api.commands.contract_changes import changes
from tests.support.contract import OPENAPI
from tests.support.documents import ROOT


def changed(change):
    new = copy.deepcopy({name: OPENAPI[name] for name in ("paths", "components")})
    change(new)
    return changes(OPENAPI, new)


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
        (dict, []),
    ],
)
def test_a_difference_is_told_once(change, told):
    assert changed(change) == told


def test_the_history_tells_of_every_collection():
    history = re.sub(r"\s+", " ", (ROOT / "openapi" / "changes.md").read_text(encoding="utf-8")).lower()
    roots = {path.split("/")[2] for path in OPENAPI["paths"] if path.startswith("/v1/")}
    words = {"api_keys": "api keys", "audit_log": "audit log", "account_team_members": "accounts (with their team)"}
    words |= {"account_contacts": "contacts (with their further accounts)"}
    untold = [root for root in roots if words.get(root, root.replace("_", " ")) not in history.replace("_", " ")]
    assert untold == []
