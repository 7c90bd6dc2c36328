"""What an integrator does, with the client that openapi-python-client makes of the document; checked by mypy, and run.

Prints what it saw as one line of JSON.
"""

import json
import sys
import time
from typing import Any

from crm_client import AuthenticatedClient
from crm_client.api.accounts import create_account, list_accounts, scan_accounts, update_account
from crm_client.api.jobs import get_job
from crm_client.models import Account, AccountCreate, AccountList, AccountUpdate, Job, Problem, ScanRequest
from crm_client.types import UNSET, Response

url, key = sys.argv[1:]
crm = AuthenticatedClient(base_url=url, token=key)


def create(name: str) -> Account:
    """A new account, once."""
    body = AccountCreate(name=name, tags=["python"])
    made = create_account.sync_detailed(client=crm, body=body, idempotency_key=f"python-{name}")
    assert isinstance(made.parsed, Account), made
    assert made.headers["location"] == f"/v1/accounts/{made.parsed.id}"
    return made.parsed


def page() -> list[str]:
    """The names of all accounts, two at a time."""
    names: list[str] = []
    cursor: str | None = None
    while True:
        rows = list_accounts.sync(
            client=crm, tags=["python"], sort=["-annual_revenue", "name"], limit=2, cursor=cursor or UNSET
        )
        assert isinstance(rows, AccountList), rows
        names += [row.name for row in rows.data]
        cursor = rows.next_cursor
        if cursor is None:
            return names


def change(account: Account) -> dict[str, Any]:
    """Changes the version that was read, twice: the second comes too late."""
    match = f'"{account.version}"'
    first = update_account.sync(account.id, client=crm, body=AccountUpdate(industry="Food"), if_match=match)
    assert isinstance(first, Account), first
    second = update_account.sync_detailed(account.id, client=crm, body=AccountUpdate(industry="Retail"), if_match=match)
    problem = refused(second)
    return {
        "industry": first.industry,
        "status": problem.status,
        "code": problem.code,
        "changed": problem.changed,
        "current": problem.current_version,
    }


def refused(response: Response[Any]) -> Problem:
    """The problem of a reply."""
    assert isinstance(response.parsed, Problem), response
    assert response.status_code == response.parsed.status
    return response.parsed


def refuse() -> dict[str, Any]:
    """An account that cannot be."""
    problem = refused(create_account.sync_detailed(client=crm, body=AccountCreate(name="")))
    return {"status": problem.status, "code": problem.code, "pointers": [fault.pointer for fault in problem.errors]}


def follow() -> dict[str, Any]:
    """A job, to its end."""
    started = scan_accounts.sync_detailed(client=crm, body=ScanRequest(score=70))
    job = started.parsed
    assert isinstance(job, Job), started
    for _ in range(300):
        if job.state in ("succeeded", "failed", "cancelled"):
            break
        time.sleep(0.05)
        job = get_job.sync(job.id, client=crm)
        assert isinstance(job, Job), job
    return {"status": started.status_code, "state": job.state}


accounts = [create("Uno"), create("Dos"), create("Tres")]
listed = page()
changed = change(accounts[0])
print(json.dumps({"names": listed, "changed": changed, "refused": refuse(), "job": follow()}))
