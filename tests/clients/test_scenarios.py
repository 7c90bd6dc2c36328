"""Clients made from the contract do the same things against a live server, and see the same.

`make contract-tools` makes the clients and checks their types; the sources of the scenarios are in tools/contract.
"""

import json
import os
import subprocess

import pytest

from tests.support.documents import ROOT, blocks
from tests.support.jobs import working

pytestmark = pytest.mark.clients
TOOLS = ROOT / "tools" / "contract"
CLIENTS = {
    "typescript": ("node", "build/scenario.js"),
    "python": (".venv/bin/python", "scenario.py"),
}
SEEN = {
    "names": ["Dos", "Tres", "Uno"],
    "changed": {"industry": "Food", "status": 412, "code": "version_mismatch", "changed": ["industry"], "current": 2},
    "refused": {"status": 422, "code": "invalid", "pointers": ["/name"]},
    "job": {"status": 202, "state": "succeeded"},
}


@pytest.mark.parametrize("language", CLIENTS)
def test_a_client_creates_pages_changes_and_follows(org, language):
    command = [*CLIENTS[language], org.admin.server.base_url, org.admin.key]
    with working(org.admin.server):
        done = subprocess.run(
            command,
            cwd=TOOLS,
            env={**os.environ, "PYTHONPATH": "build"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout) == SEEN
    assert {row["name"] for row in org.admin.all("/v1/accounts", tags=language)} == {"Uno", "Dos", "Tres"}


def test_the_typescript_of_a_page_compiles():
    """In the folder of the generated types; with a mistake in it, it does not."""
    (block,) = blocks(ROOT / "docs" / "getting-started.md", "ts")
    page = TOOLS / "build" / "page.ts"
    for text, sound in ((block.text, True), (block.text.replace("body: { name }", "body: { name: 5 }"), False)):
        page.write_text(text)
        command = [
            "node_modules/.bin/tsc",
            "--noEmit",
            "--strict",
            "--target",
            "es2022",
            "--module",
            "nodenext",
            str(page),
        ]
        done = subprocess.run(command, cwd=TOOLS, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode == 0) == sound, done.stdout
