"""`python -m benchmarks.tokens`: how long the token endpoint takes while others read, and what a token costs a read."""

import argparse
import asyncio
import base64
import json
import statistics
import sys
import time
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from benchmarks import load, report, servers
from benchmarks.abuse import answer, request
from benchmarks.limits import GET, read
from benchmarks.stage import staged
from benchmarks.usage import cpu_seconds, machine
from crm_api.app import build_kernel
from crm_api.settings import load_settings
from crm_api.tenants import create_tenant

RATE, CONNECTIONS = 50, 4
"""Tokens asked for in a second, and over how many connections."""
BAR_P99, BAR_CPU = 100.0, 1.1
"""Milliseconds of a token, and what a read with a token may cost of one with a key."""
_FORM = {"grant_type": "client_credentials", "scope": "accounts:read"}


def _post(port: int, path: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    asked = Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), headers)
    with urlopen(asked, timeout=30) as told:  # noqa: S310 - our own server
        found: dict[str, Any] = json.load(told)
        return found


def _client(port: int, key: str) -> str:
    """Authorization of a client that acts as a service account which reads accounts."""
    robot = _post(port, "/v1/service_accounts", key, {"name": "Robot"})["id"]
    grant = [{"permission": "accounts:read", "reach": "all"}]
    role = _post(port, "/v1/roles", key, {"name": "Robot", "permissions": grant})["id"]
    _post(port, "/v1/role_assignments", key, {"principal_id": robot, "role_id": role})
    said = {"client_type": "confidential", "grant_types": ["client_credentials"], "scopes": ["accounts:read"]}
    made = _post(port, "/v1/oauth_clients", key, {"name": "Robot", "service_account_id": robot, **said})
    secret = _post(port, f"/v1/oauth_clients/{made['id']}/secret/rotate", key, {})["secret"]
    return base64.b64encode(f"{made['client_id']}:{secret}".encode()).decode()


def _asking(basic: str) -> bytes:
    body = urlencode(_FORM).encode()
    head = f"POST /oauth/token HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {basic}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: application/x-www-form-urlencoded\r\n\r\n" + body


async def _tokens(port: int, text: bytes, seconds: float) -> list[float]:
    """Milliseconds of each token, asked for at an even pace."""
    times: list[float] = []

    async def connection(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        begin = time.perf_counter() + number / RATE
        for turn in range(round(seconds * RATE / CONNECTIONS)):
            await asyncio.sleep(max(begin + turn * CONNECTIONS / RATE - time.perf_counter(), 0))
            sent = time.perf_counter()
            writer.write(text)
            status = await answer(reader)
            times.append((time.perf_counter() - sent) * 1000)
            if status != 200:
                raise SystemExit(f"the token endpoint said {status}")
        writer.close()

    await asyncio.gather(*(connection(number) for number in range(CONNECTIONS)))
    return times


def _cost(server: servers.Server, texts: list[bytes], seconds: float) -> float:
    """Milliseconds of CPU of a read, without those of PostgreSQL."""
    before = cpu_seconds(server.pid)
    done = asyncio.run(read(server.port, texts, seconds))
    return (cpu_seconds(server.pid) - before) * 1000 / len(done)


def _run(stack: ExitStack, seconds: float) -> tuple[dict[str, Any], list[str]]:
    stage = stack.enter_context(staged())
    asyncio.run(load.load(stage, 1, 5_000, 5_000))
    picks = asyncio.run(load.choose(stage))

    async def tenant() -> Any:
        kernel = build_kernel(load_settings(), stage.app_url)
        try:
            return await create_tenant(kernel, stage.migrate_url, "Tokens", "admin@example.com")
        finally:
            await kernel.database.close()

    new = asyncio.run(tenant())
    server = servers.start("ours", stage, public_url="https://crm.example.com")
    stack.callback(server.stop)
    basic = _client(server.port, new.key)
    form = Request(
        f"http://127.0.0.1:{server.port}/oauth/token", urlencode(_FORM).encode(), {"Authorization": f"Basic {basic}"}
    )
    with urlopen(form, timeout=30) as told:  # noqa: S310 - our own server
        token = json.load(told)["access_token"]
    made = _post(server.port, "/v1/accounts", new.key, {"name": "Read"})["id"]
    ways = {name: [request(f"/v1/accounts/{made}", text)] for name, text in (("key", new.key), ("token", token))}
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(5):
        for name, texts in ways.items():
            costs[name].append(_cost(server, texts, seconds / 5))
    others = [request(GET.path(pick), stage.keys["manager"]) for pick in picks]

    async def together() -> list[float]:
        taken, _ = await asyncio.gather(
            _tokens(server.port, _asking(basic), seconds), read(server.port, others, seconds)
        )
        return taken

    cuts = statistics.quantiles(asyncio.run(together()), n=100)
    cost = {name: statistics.median(each) for name, each in costs.items()}
    figures = {"p50": cuts[49], "p99": cuts[98], "cpu": cost, "ratio": cost["token"] / cost["key"]}
    lines = [
        (
            f"{RATE} tokens a second by client credentials, while others read 80 accounts a second: "
            f"p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms (bar {BAR_P99:.0f})."
        ),
        "",
        (
            f"CPU of a read in the server: {cost['key']:.3f} ms with a key, {cost['token']:.3f} ms with a token: "
            f"{figures['ratio']:.2f} times (bar {BAR_CPU})."
        ),
    ]
    return figures, lines


def main() -> int:
    """Runs it and writes the figures beside the others."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tokens", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="length of the load")
    parser.add_argument("--name", help="of the result files")
    options = parser.parse_args()
    facts = machine()
    with ExitStack() as stack:
        data, lines = _run(stack, options.seconds)
    told = [f"- {name}: {value}" for name, value in facts.items()]
    report.save([("Machine", told), ("Tokens", lines)], data, options.name)
    print(*lines, sep="\n", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
