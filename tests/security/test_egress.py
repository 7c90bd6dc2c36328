"""The client for typed addresses, against real peers on loopback: guarded, bounded in time and size, honest."""

import asyncio
import gc
import ipaddress
import itertools
import ssl
import time
from pathlib import Path

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from crm_api.adapters import destination, egress, http_exchange
from crm_api.adapters.addresses import Allowed
from crm_api.adapters.destination import Policy
from crm_api.adapters.egress import Egress, Failure, Reply
from crm_api.kernel.problems import ConfigurationError
from crm_api.settings import Settings
from tests.support.peer import OK, Authority, Peer

LOCAL = Policy(Allowed(loopback=True), allow_http=True)
PUBLIC = Policy(Allowed())
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(params=["asyncio", pytest.param("uvloop", marks=pytest.mark.broad)])
def run(request):
    """Runs a coroutine on each kind of loop."""
    return asyncio.run if request.param == "asyncio" else uvloop.run


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def names(**known):
    """A resolver that gives these answers, one list after the other."""
    asked = []

    async def resolve(host):
        asked.append(host)
        answers = known[host.replace(".", "_")]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [ipaddress.ip_address(text) for text in found]

    resolve.asked = asked
    return resolve


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def post(url, *, policy=LOCAL, headers=None, body=b"{}", **options):
    client = Egress(policy, **options)
    try:
        return await client.post(url, headers or {}, body)
    finally:
        await client.aclose()


def test_a_request_and_its_reply(run):
    async def work():
        reply = b"HTTP/1.1 202 Fine\r\nContent-Type: text/plain\r\nRetry-After: 7\r\nX-Other: 1\r\n"
        reply += b"Content-Length: 4\r\n\r\ndone"
        async with Peer(reply) as peer:
            answer = await post(f"{peer.url}/hook?a=1", headers={"webhook-id": "evt_1"}, body=b'{"a":1}')
            (head, body), *more = peer.requests
            return peer.port, answer, head, body, more

    port, answer, head, body, more = run(work())
    assert isinstance(answer, Reply)
    assert (answer.status, answer.body, answer.truncated, answer.retry_after) == (202, b"done", False, 7)
    assert answer.headers == {"content-type": "text/plain", "retry-after": "7"}
    assert 0 <= answer.milliseconds < 1000
    assert head.split(b"\r\n") == [
        b"POST /hook?a=1 HTTP/1.1",
        f"Host: 127.0.0.1:{port}".encode(),
        b"webhook-id: evt_1",
        b"Content-Type: application/json",
        b"User-Agent: crm-api",
        b"Accept-Encoding: identity",
        b"Content-Length: 7",
        b"",
        b"",
    ]
    assert body == b'{"a":1}'
    assert more == []


def test_nothing_is_connected_to_that_was_not_allowed(run):
    async def work():
        async with Peer() as peer:
            refused = [
                await post(f"https://{host}:{peer.port}/", policy=PUBLIC, resolve=names(evil_example=[["127.0.0.1"]]))
                for host in ("127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "localhost", "evil.example")
            ]
            mixed = names(evil_example=[["8.8.8.8", "127.0.0.1"]])
            refused.append(await post(f"https://evil.example:{peer.port}/", policy=PUBLIC, resolve=mixed))
            return peer.connections, refused

    connections, refused = run(work())
    assert connections == 0
    assert [answer.code for answer in refused] == ["refused_address"] * 6
    assert not any("127" in answer.text or "8.8" in answer.text for answer in refused)


def test_a_name_that_is_rebound_is_not_followed(run):
    """The resolver says an open address first and loopback afterwards: no second answer is ever asked for."""

    async def work():
        async with Peer(host="127.0.0.1") as inside, Peer(host="127.0.0.2") as outside:
            del outside
            resolve = names(evil_example=[["127.0.0.2"], ["127.0.0.1"]])
            policy = Policy(Allowed.of(["127.0.0.2"]), allow_http=True)  # 127.0.0.2 plays the public address
            first = await post(f"http://evil.example:{inside.port}/", policy=policy, resolve=resolve)
            asked = len(resolve.asked)
            second = await post(f"http://evil.example:{inside.port}/", policy=policy, resolve=resolve)
            return inside.connections, first, asked, second

    connections, first, asked, second = run(work())
    assert connections == 0
    assert asked == 1
    assert first.code == "connect"  # to 127.0.0.2, where nobody listens on this port
    assert second.code == "refused_address"


def test_a_checked_name_is_connected_to_without_asking_the_system(run, monkeypatch):
    """With the system's resolver broken, a resolved name still works: nobody resolves it again."""
    monkeypatch.setattr("socket.getaddrinfo", None)

    async def work():
        async with Peer() as peer:
            answer = await post(f"http://hook.example:{peer.port}/", resolve=names(hook_example=[["127.0.0.1"]]))
            return peer.port, answer, peer.requests

    port, answer, requests = run(work())
    assert answer.status == 200
    assert f"\r\nHost: hook.example:{port}\r\n".encode() in requests[0][0]


def test_the_next_address_of_a_name_is_tried(run):
    async def work():
        async with Peer() as peer:
            resolve = names(hook_example=[["127.0.0.9", "127.0.0.1"]])
            return await post(f"http://hook.example:{peer.port}/", resolve=resolve)

    assert run(work()).status == 200


def test_the_systems_resolver(run):
    async def work():
        async with Peer() as peer:
            client = Egress(LOCAL)
            good = await asyncio.gather(
                *(client.post(f"http://localhost:{peer.port}/", {}, b"{}") for _ in range(20)),
            )
            bad = await client.post("http://nowhere.invalid/", {}, b"{}")
            await client.aclose()
            return good, bad

    good, bad = run(work())
    assert [answer.status for answer in good] == [200] * 20
    assert (bad.code, bad.text) in {
        ("dns", "The name does not resolve."),
        ("dns", "The name was not resolved within 5 seconds."),
    }


def test_a_slow_resolver_is_given_up(run, monkeypatch):
    monkeypatch.setattr(egress, "CONNECT_SECONDS", 0.2)

    async def slow(host):
        await asyncio.sleep(30)

    answer = run(post("https://hook.example/", policy=PUBLIC, resolve=slow))
    assert answer.code == "dns"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(run, status):
    async def work():
        async with Peer() as inside:
            reply = f"HTTP/1.1 {status} Go\r\nLocation: {inside.url}/secret\r\nContent-Length: 0\r\n\r\n".encode()
            async with Peer(reply) as peer:
                answer = await post(peer.url)
            return inside, answer

    inside, answer = run(work())
    assert inside.connections == 0
    assert answer.status == status
    assert answer.headers["location"] == f"{inside.url}/secret"


def test_proxies_of_the_environment_are_ignored(run, monkeypatch):
    async def work():
        async with Peer() as proxy, Peer() as peer:
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.url)
                monkeypatch.setenv(name.lower(), proxy.url)
            monkeypatch.delenv("NO_PROXY", raising=False)
            answer = await post(peer.url)
            return proxy.connections, answer

    connections, answer = run(work())
    assert connections == 0
    assert answer.status == 200


def test_a_large_reply_is_cut(run):
    sent = 0

    async def flood(head, writer):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n")
        for _ in range(1024):
            writer.write(b"\xff\xfe" * 5120)
            await writer.drain()
            sent += 10240

    async def work():
        async with Peer(flood) as peer:
            client = Egress(LOCAL)
            answer = await client.post(peer.url, {}, b"{}")
            kept = len(client.waiting)
            await asyncio.sleep(0.1)
            await client.aclose()
            return answer, kept

    answer, kept = run(work())
    assert answer.status == 200
    assert answer.body == b"\xff\xfe" * 32768
    assert answer.truncated
    assert kept == 0
    assert sent < 10485760


def test_a_reply_without_end_is_cut(run):
    """One byte in each chunk is the dearest form of a body; what is read of it is bounded, and cheap."""

    async def drip(head, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\na\r\n" * 1000)
            await writer.drain()

    async def work():
        async with Peer(drip) as peer:
            return await post(peer.url)

    answer = run(work())
    assert answer.truncated
    assert len(answer.body) <= http_exchange.MAX_REPLY


@pytest.mark.parametrize(
    "part", [b"HTTP/1.1 200 ", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"]
)
def test_a_slow_drip_is_cut(run, monkeypatch, part):
    monkeypatch.setattr(egress, "TOTAL_SECONDS", 0.6)

    async def drip(head, writer):
        writer.write(part)
        while True:
            await asyncio.sleep(0.05)
            writer.write(b"x")
            await writer.drain()

    async def work():
        async with Peer(drip) as peer:
            begun = time.monotonic()
            answer = await post(peer.url)
            return answer, time.monotonic() - begun

    answer, took = run(work())
    assert answer.code == "timeout"
    assert 0.5 < took < 2
    assert 550 < answer.milliseconds < 2000


def test_a_peer_that_says_nothing_or_reads_nothing_is_given_up(run, monkeypatch):
    monkeypatch.setattr(egress, "TOTAL_SECONDS", 0.4)

    async def work():
        server = await asyncio.start_server(lambda *_: asyncio.sleep(30), "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        answer = await post(url, body=b"x" * 8_000_000)
        server.close()
        return answer

    assert run(work()).code == "timeout"


def test_no_connection_within_the_time(run, monkeypatch):
    """A listener whose backlog is full does not answer: the connection is given up."""
    import socket

    monkeypatch.setattr(egress, "CONNECT_SECONDS", 0.3)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
    answer = run(post(f"http://127.0.0.1:{listener.getsockname()[1]}/"))
    assert (answer.code, answer.text) == ("timeout", "There was no connection within 5 seconds.")
    for item in (listener, *fillers):
        item.close()


GARBAGE = {
    "ssh": b"SSH-2.0-OpenSSH_9.9\r\n",
    "smtp": b"220 mail.example ESMTP\r\n",
    "binary": bytes(range(256)),
    "old": b"ICY 200 OK\r\n\r\n",
    "http2": b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "no status": b"HTTP/1.1\r\n\r\n",
    "bad status": b"HTTP/1.1 abc OK\r\n\r\n",
    "long status": b"HTTP/1.1 20000 OK\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n" + CHUNKED + b"1\r\na\r\n0\r\n\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "bad header": b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
    "switch": b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nframes",
    "interim only": b"HTTP/1.1 100 Continue\r\n\r\n",
    "nothing": b"",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
    "cut chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
    "cut header": b"HTTP/1.1 200 OK\r\nContent-Le",
}


@pytest.mark.parametrize("reply", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_reply_is_a_failure(run, reply):
    async def say(head, writer):
        writer.write(reply)
        await writer.drain()
        raise OSError  # closes

    async def work():
        async with Peer(say) as peer:
            client = Egress(LOCAL)
            answer = await client.post(peer.url, {}, b"{}")
            kept = len(client.waiting)
            await client.aclose()
            return answer, kept, peer.connections

    answer, kept, connections = run(work())
    assert isinstance(answer, Failure)
    assert answer.code == "protocol"
    assert (kept, connections) == (0, 1)


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 5000 + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 40000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 400000,
        b"HTTP/1.1 200 " + b"O" * 40000 + b"\r\n\r\n",
        b"HTTP/1.1 103 Early\r\n\r\n" * 3000 + OK,
        b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n" * 3000 + OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X-A: b\r\n" * 5000 + b"\r\n",
    ],
    ids=["many", "long", "endless", "reason", "interim", "interim with headers", "trailers"],
)
def test_headers_are_bounded(run, reply):
    async def work():
        async with Peer(reply) as peer:
            return await post(peer.url)

    assert run(work()).code == "headers_too_large"


GOOD = {
    "nothing": (b"HTTP/1.1 204 No\r\n\r\n", 204, b"", True),
    "not modified": (b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", 304, b"", True),
    "chunks": (b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", 200, b"abc", True),
    "interim": (b"HTTP/1.1 100 Continue\r\nRetry-After: 9\r\n\r\n" + OK, 200, b"{}", True),
    "to the end": (b"HTTP/1.1 500 No\r\n\r\nto the end", 500, b"to the end", False),
    "old": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
    "closing": (b"HTTP/1.1 410 Gone\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", 410, b"no", False),
    "not UTF-8": (b"HTTP/1.1 400 \xff\r\nServer: \xe9\r\nContent-Length: 2\r\n\r\n\xff\x00", 400, b"\xff\x00", True),
    "compressed": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab", 200, b"ab", True),
    "two at once": (OK + OK, 200, b"{}", False),
    "and more": (OK + b"garbage", 200, b"{}", False),
}  # fmt: skip


@pytest.mark.parametrize(("reply", "status", "body", "kept"), GOOD.values(), ids=GOOD)
def test_replies_of_every_form(run, reply, status, body, kept):
    async def say(head, writer):
        writer.write(reply)
        await writer.drain()
        if b"to the end" in reply:
            raise OSError  # closes

    async def work():
        async with Peer(say) as peer:
            client = Egress(LOCAL)
            answer = await client.post(peer.url, {}, b"{}")
            found = len(client.waiting)
            await client.aclose()
            return answer, found

    answer, found = run(work())
    assert (answer.status, answer.body, answer.truncated) == (status, body, False)
    assert found == kept
    assert answer.retry_after is None


def test_a_connection_is_used_again(run):
    async def work():
        async with Peer() as peer:
            client = Egress(LOCAL)
            answers = [await client.post(peer.url, {}, b"{}") for _ in range(50)]
            answers += await asyncio.gather(*(client.post(peer.url, {}, b"{}") for _ in range(4)))
            open_, kept = peer.connections, len(client.waiting)
            await client.aclose()
            return answers, len(peer.requests), open_, kept, len(client.waiting)

    answers, requests, open_, kept, after = run(work())
    assert {answer.status for answer in answers} == {200}
    assert (requests, open_, kept, after) == (54, 4, 4, 0)


def test_a_connection_that_was_closed_while_it_waited_is_replaced(run):
    async def once(head, writer):
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.02)
        raise OSError  # closes without saying so before

    async def work():
        async with Peer(once) as peer:
            client = Egress(LOCAL)
            answers = []
            for pause in (0, 0.01, 0.019, 0.02, 0.021, 0.05):
                answers.append(await client.post(peer.url, {}, b"{}"))
                await asyncio.sleep(pause)
            await client.aclose()
            return answers

    assert [answer.status for answer in run(work())] == [200] * 6


def test_a_kept_connection_that_speaks_unasked_is_not_used(run):
    async def twice(head, writer):
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
        await writer.drain()

    async def work():
        async with Peer(twice) as peer:
            client = Egress(LOCAL)
            first = await client.post(peer.url, {}, b"{}")
            await asyncio.sleep(0.06)
            kept = len(client.waiting)
            second = await client.post(peer.url, {}, b"{}")
            await client.aclose()
            return first, kept, second, peer.connections

    first, kept, second, connections = run(work())
    assert (first.body, kept, second.body, connections) == (b"{}", 0, b"{}", 2)


def test_connections_that_wait_are_bounded_in_number_and_time(run, monkeypatch):
    from crm_api.adapters import keep_alive

    monkeypatch.setattr(keep_alive, "MAX_IDLE", 3)
    monkeypatch.setattr(keep_alive, "IDLE_SECONDS", 0.2)

    async def work():
        async with Peer() as peer:
            client = Egress(LOCAL)
            await asyncio.gather(*(client.post(peer.url, {}, b"{}") for _ in range(10)))
            most = len(client.waiting)
            await asyncio.sleep(0.4)
            return most, len(client.waiting)

    assert run(work()) == (3, 0)


def test_an_address_is_asked_for_again_after_a_while(run, monkeypatch):
    from crm_api.adapters import keep_alive

    monkeypatch.setattr(keep_alive, "AGE_SECONDS", 0.1)

    async def work():
        async with Peer() as peer:
            client = Egress(LOCAL)
            for _ in range(3):
                await client.post(peer.url, {}, b"{}")
                await client.post(peer.url, {}, b"{}")
                await asyncio.sleep(0.11)
            await client.aclose()
            return peer.connections

    assert run(work()) == 3


def test_tls_names_the_host_and_checks_its_certificate(run, authority):
    async def work():
        async with Peer(tls=authority.serve("hook.example")) as peer:
            resolve = names(hook_example=[["127.0.0.1"]], other_example=[["127.0.0.1"]])
            url = f"https://hook.example:{peer.port}/"
            good = await post(url, ca=str(authority.path), resolve=resolve)
            other = await post(f"https://other.example:{peer.port}/", ca=str(authority.path), resolve=resolve)
            unknown = await post(url, resolve=resolve)
            bare = await post(f"https://127.0.0.1:{peer.port}/", ca=str(authority.path))
            return peer, good, other, unknown, bare

    peer, good, other, unknown, bare = run(work())
    assert good.status == 200
    assert peer.names == ["hook.example", "other.example", "hook.example", None]
    assert [head.split(b"\r\n")[1] for head, _ in peer.requests] == [f"Host: hook.example:{peer.port}".encode()]
    assert [answer.code for answer in (other, unknown, bare)] == ["tls"] * 3
    assert "not valid for 'other.example'" in other.text
    assert "unable to get local issuer certificate" in unknown.text


def test_the_settings_name_authorities(run, authority, tmp_path):
    async def work():
        async with Peer(tls=authority.serve("127.0.0.1")) as peer:
            answers = []
            for chosen in (Settings(egress_ca=authority.path), Settings()):
                client = Egress.of(chosen)
                answers.append(await client.post(peer.url, {}, b"{}"))
                await client.aclose()
            return answers

    good, bad = run(work())
    assert (good.status, bad.code) == (200, "tls")
    (tmp_path / "empty.pem").write_text("")
    for path in (tmp_path / "absent.pem", tmp_path / "empty.pem"):
        with pytest.raises((ConfigurationError, ValueError), match="CRM_EGRESS_CA"):
            Egress.of(Settings(egress_ca=path))


def test_tls_to_an_address_and_again_over_the_same_connection(run, authority):
    async def work():
        async with Peer(tls=authority.serve("127.0.0.1")) as peer:
            client = Egress(LOCAL, ca=str(authority.path))
            answers = [await client.post(f"{peer.url}/{i}", {}, b"x" * 100_000) for i in range(5)]
            await client.aclose()
            return answers, peer

    answers, peer = run(work())
    assert [answer.status for answer in answers] == [200] * 5
    assert peer.connections == 1
    assert {len(body) for _, body in peer.requests} == {100_000}


def test_an_expired_certificate_is_refused(run, authority):
    async def work():
        async with Peer(tls=authority.serve("127.0.0.1", days=-1)) as peer:
            return await post(peer.url, ca=str(authority.path)), peer.requests

    answer, requests = run(work())
    assert (answer.code, requests) == ("tls", [])
    assert "expired" in answer.text


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_and_no_tls_are_refused(run, authority):
    async def work():
        old = authority.serve("127.0.0.1")
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        plain = await asyncio.start_server(lambda _, writer: writer.write(b"220 mail\r\n" + OK), "127.0.0.1", 0)
        async with Peer(tls=old) as peer:
            answers = [await post(peer.url, ca=str(authority.path))]
            answers.append(await post(f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}"))
        plain.close()
        return answers, peer.requests

    answers, requests = run(work())
    assert [answer.code for answer in answers] == ["tls", "tls"]
    assert requests == []


def test_nobody_listens(run):
    answer = run(post("http://127.0.0.1:1025/"))
    assert (answer.code, answer.text) == ("connect", "The connection was refused.")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "b\r\nHost: c"},
        {"X-A": "b\nc"},
        {"X-A\r\nB": "c"},
        {"X-A": "\x00"},
        {"X-A": "ü"},
        {"X A": "b"},
        {"": "b"},
        {"X-A:": "b"},
        {"Host": "b"},
        {"content-LENGTH": "0"},
        {"Transfer-Encoding": "chunked"},
        {"Connection": "close"},
        {"Expect": "100-continue"},
        {"Accept-Encoding": "gzip"},
    ],
)
def test_headers_that_would_change_the_request_are_not_sent(run, headers):
    async def work():
        async with Peer() as peer:
            return await post(peer.url, headers=headers), peer.connections

    answer, connections = run(work())
    assert (answer.code, connections) == ("invalid_header", 0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0", 0), ("120", 120), (" 5 ", 5), ("-1", None), ("1.5", None), ("soon", None), ("9" * 99, None)),
        *(("\u0661", None), ("", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Wed, 99 Oct 2015 07:28:00 GMT", None)),
    ],
)
def test_what_a_receiver_asks_to_wait(text, seconds):
    assert Reply(503, {"retry-after": text}, b"", truncated=False, milliseconds=1).retry_after == seconds


def test_what_is_given_up_is_closed(run, monkeypatch):
    """Requests that are cancelled, cut or time out leave no connection open."""
    monkeypatch.setattr(egress, "TOTAL_SECONDS", 0.3)

    async def wait(head, writer):
        await asyncio.sleep(0.8)

    async def work():
        client = Egress(LOCAL)
        async with Peer() as peer:
            await client.post(peer.url, {}, b"{}")
        await client.aclose()
        await asyncio.sleep(0.1)
        before = _open_files()
        async with Peer(wait) as peer:
            tasks = [asyncio.create_task(client.post(peer.url, {}, b"{}")) for _ in range(20)]
            await asyncio.sleep(0.1)
            for task in tasks[:10]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(1.2)
            await client.aclose()
        await asyncio.sleep(0.1)
        gc.collect()
        return answers, _open_files() - before

    answers, more = run(work())
    assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 10 + [Failure] * 10
    assert more <= 0


def test_a_hostile_reply_costs_little(run):
    """The dearest reply there is takes less than 0.1 s of the processor, and does not hold up the loop for as long."""
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 60_000

    async def work():
        client = Egress(LOCAL)
        async with Peer(chunks) as peer:
            begun = time.process_time()
            for _ in range(3):
                answer = await client.post(peer.url, {}, b"{}")
                assert answer.truncated
            spent = time.process_time() - begun
        await client.aclose()
        return spent

    assert run(work()) / 3 < 0.1


def test_the_limits_are_those_of_the_page():
    assert (egress.CONNECT_SECONDS, egress.TOTAL_SECONDS) == (5, 15)
    assert (http_exchange.MAX_REPLY, http_exchange.MAX_HEAD, destination.MAX_URL) == (65536, 32768, 2048)


class Wire(asyncio.Transport):
    """A transport that goes nowhere; it only knows whether it was ended."""

    ended = False

    def write(self, data):
        pass

    def abort(self):
        self.ended = True

    def get_write_buffer_size(self):
        return 0


PARTS = st.sampled_from(
    [
        *(
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 101 S\r\nUpgrade: a\r\n",
            b"\r\n",
            b"\n",
        ),
        *(b"HTTP/1.0 ", b"204 No\r\n", b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Connection: close\r\n"),
        *(
            CHUNKED,
            b"3\r\nabc\r\n",
            b"0\r\n",
            b"0\r\n\r\n",
            b"abc",
            b"X-A: b\r\n",
            b"Retry-After: 1\r\n",
            b"\x00",
            b":",
        ),
    ]
) | st.binary(max_size=20)


@settings(max_examples=500)
@given(st.lists(PARTS, max_size=12).map(b"".join), st.data(), st.sampled_from([None, OSError()]))
def test_no_bytes_break_an_exchange(stream, data, end):
    """However the bytes are cut: there is one outcome, and it does not depend on the cuts."""
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))

    async def work(places):
        exchange, wire = http_exchange.Exchange(asyncio.get_running_loop()), Wire()
        exchange.connection_made(wire)
        waiter = exchange.request(b"")
        for start, stop in itertools.pairwise([0, *places, len(stream)]):
            if stop > start and not wire.ended:
                exchange.data_received(stream[start:stop])
        reusable = exchange.reusable
        exchange.connection_lost(end)
        assert waiter.done()
        assert not exchange.reusable
        outcome = waiter.exception() or waiter.result()
        if isinstance(outcome, http_exchange.ExchangeError):
            assert not reusable
            return None
        assert 200 <= outcome.status <= 999
        return outcome.status, outcome.body, outcome.headers

    assert asyncio.run(work(cuts)) == asyncio.run(work([]))
