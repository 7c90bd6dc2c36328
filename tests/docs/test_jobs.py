"""docs/jobs.md: the kind that it shows, run by a worker for somebody who may not change every account."""

import sys
import types

from tests.support.documents import ROOT, blocks
from tests.support.jobs import start, wait, working

DOCUMENT = ROOT / "docs" / "jobs.md"
FILE = "src/crm_api/domains/accounts/relabel.py"


def test_the_kind_that_is_shown_works(org, monkeypatch):
    (shown,) = [block for block in blocks(DOCUMENT) if block.rest == FILE]
    module = types.ModuleType("relabel")
    monkeypatch.setitem(sys.modules, "relabel", module)
    exec(compile(shown.text, FILE, "exec"), module.__dict__)  # noqa: S102 - our own document
    monkeypatch.setitem(org.server.kernel.catalog.jobs, module.RELABEL.name, module.RELABEL)

    mine = [org.rep.make("accounts", name=f"Mine {n}", industry="Mining")["id"] for n in range(60)]
    other = org.rep.make("accounts", name="Other", industry="Other")["id"]
    hidden = org.outsider.make("accounts", name="Hidden", industry="Mining")["id"]
    job = start(org.rep, module.RELABEL, module.Relabel(old="Mining", new="Resources"))
    with working(org.server):
        job = wait(org.rep, job)
    assert (job["state"], job["done"], job["result"]) == ("succeeded", 60, {"changed": 60})
    labels = {row["id"]: row["industry"] for row in org.admin.all("/v1/accounts")}
    assert labels == {**dict.fromkeys(mine, "Resources"), other: "Other", hidden: "Mining"}
    assert {org.rep.get(f"/v1/accounts/{id_}").json()["version"] for id_ in mine} == {2}
