"""No spelling of an address leads where the server may not go; what the operator opens is open, and no more."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_api.adapters.addresses import METADATA, Allowed, inner, is_public
from crm_api.adapters.destination import Policy, Refused, read_url
from crm_api.adapters.egress import check, policy_of
from crm_api.kernel.problems import ConfigurationError
from crm_api.settings import Settings

PUBLIC = Policy(Allowed())
CLOSED = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 100.100.100.200 127.0.0.1 127.255.255.254
169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1
192.168.0.1 192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1
255.255.255.255 168.63.129.16
:: ::1 ::7f00:1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:a9fe:a9fe 64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe
64:ff9b::10.1.2.3 64:ff9b:1::8.8.8.8 64:ff9b:1::1 100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1
2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1::1 2002:a9fe:a9fe::1 2002:c0a8:1::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254
fd20:ce::254 fdff::1 fe80::1 fec0::1 ff02::1 ff0e::1 4000::1 ::ffff:0:127.0.0.1
""".split()  # noqa: SIM905 - read as a list
OPEN = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 172.15.255.255 172.32.0.0
192.0.1.1 223.255.255.255 2606:4700:4700::1111 2a00:1450:4001:80b::200e 64:ff9b::8.8.8.8 ::ffff:8.8.8.8
2002:808:808::1 2003::1
""".split()  # noqa: SIM905 - read as a list
LOOPBACK_SPELLED = """
127.1 127.0.1 2130706433 0x7f000001 0x7F.0.0.1 0x7f.1 0177.0.0.1 0177.1 017700000001 127.0.0.1. 127.000.000.001
0x7f.0x0.0x0.0x1 [::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:7f00:0001] [::1] [0000::0001] [64:ff9b::7f00:1]
\uff11\uff12\uff17.0.0.1 127\u30020\u30020\u30021 \u2460\u2461\u2466.0.0.1
localhost LOCALHOST localhost. a.localhost \uff4cocalhost
""".split()  # noqa: SIM905 - read as a list
MALFORMED = """
https:// https:///path https://. https://a..b https://.a https://user@a.example https://user:word@a.example
https://@a.example https://a.example@127.0.0.1 https://127.0.0.1@a.example https://127.0.0.1%23@a.example
https://a.example:99999 https://a.example:-1 https://a.example:x https://%31%32%37.0.0.1 https://[fe80::1%25eth0]
https://[fe80::1%eth0] https://[::1 https://::1 https://[127.0.0.1] https://1.2.3.4.5 https://256.1.1.1 https://0x100000000
https://4294967296 https://09.0.0.1 https://a.0x https://a.1 https://a_*.example https://-a.example https://a-.example
https://a.example/#part https://a.example# http://a.example HTTP://a.example ftp://a.example file:///etc/passwd
gopher://a.example javascript:alert(1) //a.example a.example https:a.example https:/a.example https:\\\\a.example
https://a.example\\@127.0.0.1
""".split()  # noqa: SIM905 - read as a list
MALFORMED += [
    "",
    " https://a.example",
    "https://a.example ",
    "https://a.example/a b",
    "https://a.example/\r\nHost: b",
    "https://a.example\t/",
    "https://exa\nmple.example",
    "https://a.example\x00",
    "https://a\u2028b.example/",
    "https://" + "a" * 64 + ".example",
    "https://" + "a." * 130 + "example",
    "https://a.example/" + "a" * 2048,
]


def refusal(url: str, policy: Policy = PUBLIC) -> str | None:
    try:
        read_url(url, policy)
    except Refused as refused:
        return refused.code
    return None


@pytest.mark.parametrize("text", CLOSED)
def test_what_is_not_public_is_closed(text):
    address = ipaddress.ip_address(text)
    assert not is_public(address)
    host = f"[{text}]" if ":" in text else text
    assert refusal(f"https://{host}/") == "refused_address"


@pytest.mark.parametrize("text", OPEN)
def test_what_is_public_is_open(text):
    assert is_public(ipaddress.ip_address(text))
    host = f"[{text}]" if ":" in text else text
    assert refusal(f"https://{host}/") is None


@pytest.mark.parametrize("host", LOOPBACK_SPELLED)
def test_every_spelling_of_loopback_is_loopback(host):
    assert refusal(f"https://{host}/") == "refused_address"
    assert refusal(f"https://{host}/", Policy(Allowed(loopback=True))) is None


@pytest.mark.parametrize("url", MALFORMED)
def test_what_is_no_address_is_refused(url):
    assert refusal(url) == "invalid_url"


@pytest.mark.parametrize("port", [0, 1, 22, 25, 80, 110, 445, 1023, 3306, 5432, 6379, 9200, 11211])
def test_ports_that_serve_something_else_are_refused(port):
    assert refusal(f"https://a.example:{port}/") == "refused_port"


@pytest.mark.parametrize("port", [443, 1024, 8000, 8080, 8443, 65535])
def test_other_ports_are_open(port):
    assert refusal(f"https://a.example:{port}/") is None


@given(st.ip_addresses(v=4))
def test_an_address_within_an_address_decides(address):
    number = int(address)
    prefixes = {"::ffff:0:0": 0, "64:ff9b::": 0, "2002::": 80}
    for prefix, shift in prefixes.items():
        outer = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) + (number << shift))
        assert inner(outer) == address
        assert is_public(outer) == is_public(address)


@given(st.ip_addresses())
def test_nothing_is_open_that_python_knows_to_be_closed(address):
    if not inner(address).is_global:
        assert not is_public(address)


@given(st.ip_addresses(v=4), st.sampled_from(["{:d}", "{:#x}", "{:#o}", "dotted-hex", "dotted-octal", "two"]))
def test_numbers_are_read_as_the_resolver_reads_them(address, form):
    number = int(address)
    parts = address.packed
    host = {
        "dotted-hex": ".".join(hex(part) for part in parts),
        "dotted-octal": ".".join(f"0{part:o}" for part in parts),
        "two": f"{parts[0]}.{number & 0xFFFFFF}",
    }.get(form) or form.format(number).replace("0o", "0")
    anything = Policy(Allowed.of(["0.0.0.0/0"]))
    if address not in METADATA:
        assert read_url(f"https://{host}/", anything).address == address


@given(st.text(max_size=40), st.sampled_from(["", "https://", "https://[", "https://a.example:", "https://a.example/"]))
def test_no_text_is_more_than_refused(text, start):
    url = start + text
    if refusal(url) is not None:
        assert check(url, PUBLIC).isascii()  # it repeats nothing that was typed but a port
        return
    to = read_url(url, PUBLIC)
    assert to.host.isascii()
    assert not set(to.target + to.authority) & set(range(0x21))
    assert to.address is None or is_public(to.address)


@given(st.text(max_size=30))
def test_no_text_in_place_of_a_host_reaches_a_closed_address(text):
    try:
        to = read_url(f"https://{text}/", PUBLIC)
    except Refused:
        return
    assert to.address is None or is_public(to.address)
    assert not to.host.replace(".", "").isdigit() or to.address is not None


def test_the_operator_opens_networks():
    policy = Policy(Allowed.of(["10.1.0.0/16", "fd12:3456::/32", "192.168.7.7/32"]))
    for host in ("10.1.2.3", "0x0a010203", "[::ffff:10.1.2.3]", "[64:ff9b::10.1.2.3]", "[fd12:3456::9]", "192.168.7.7"):
        assert refusal(f"https://{host}/", policy) is None, host
    for host in ("10.2.0.1", "192.168.7.8", "[fd12:3457::9]", "127.0.0.1", "[::1]", "169.254.169.254"):
        assert refusal(f"https://{host}/", policy) == "refused_address", host


def test_a_wide_network_does_not_open_a_clouds_own_services():
    wide = Allowed.of(["0.0.0.0/0", "::/0"])
    for address in METADATA:
        assert not wide.permits(address)
        assert Allowed.of([str(address)]).permits(address)
    assert not wide.permits(ipaddress.ip_address("64:ff9b::a9fe:a9fe"))
    assert wide.permits(ipaddress.ip_address("10.0.0.1"))
    assert not wide.permits(ipaddress.ip_address("fe80::1%eth0"))


def test_development_opens_loopback_and_http_only():
    policy = policy_of(Settings(environment="development"))
    for url in ("http://127.0.0.1:8000/", "http://localhost:3000/", "http://[::1]:8000/", "http://a.example/"):
        assert check(url, policy) is None
    for url in ("http://10.0.0.1/", "http://169.254.169.254/", "https://[fd00::1]/", "https://0.0.0.0/"):
        assert check(url, policy) == "The address is not a public one."


def test_production_opens_what_the_setting_says():
    policy = policy_of(Settings(environment="production", egress_allow="10.1.0.0/16, 10.9.9.9"))
    assert check("https://10.1.2.3/", policy) is None
    assert check("https://10.9.9.9/", policy) is None
    assert check("https://127.0.0.1/", policy) == "The address is not a public one."
    assert check("http://a.example/", policy) == "The address must begin with https://."


@pytest.mark.parametrize("text", ["10.1.2.3/16", "10.0.0.0/33", "intranet", "10.0.0.0-10.0.0.9"])
def test_a_setting_that_is_no_network_is_refused(text):
    with pytest.raises((ValueError, ConfigurationError), match="CRM_EGRESS_ALLOW"):
        Settings(egress_allow=text)


@pytest.mark.parametrize(
    ("url", "host", "authority", "target"),
    [
        ("https://A.Example", "a.example", b"a.example", b"/"),
        ("https://a.example.:443/x?y=1", "a.example", b"a.example", b"/x?y=1"),
        ("https://a.example:8443?y", "a.example", b"a.example:8443", b"/?y"),
        ("https://bücher.example/ü?ä", "xn--bcher-kva.example", b"xn--bcher-kva.example", b"/%C3%BC?%C3%A4"),
        ("https://[2606:4700::1]:8443/%2F", "2606:4700::1", b"[2606:4700::1]:8443", b"/%2F"),
        ("https://0x08080808/", "8.8.8.8", b"8.8.8.8", b"/"),
        ("https://[::ffff:8.8.8.8]/", "8.8.8.8", b"8.8.8.8", b"/"),
    ],
)
def test_what_is_sent_of_an_address(url, host, authority, target):
    to = read_url(url, PUBLIC)
    assert (to.host, to.authority, to.target) == (host, authority, target)
