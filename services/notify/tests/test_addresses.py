"""Which addresses a webhook may reach."""

import socket
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notify_service.addresses import AddressForbidden, HostNotFound, forbidden, reachable
from notify_service.allowance import Allowance

NOBODY = Allowance()


def resolver(*addresses):
    """Answers as getaddrinfo does."""

    def resolve(host, port, **_):
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    return resolve


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::200e", "::ffff:8.8.8.8"]
)
def test_a_public_address_may_be_reached(address):
    assert forbidden(ip_address(address)) == ""


KINDS = {
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "link-local": ["169.254.169.254", "fe80::1"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1"],
    "unspecified": ["0.0.0.0", "::"],
    "private": ["10.0.0.1", "172.16.0.1", "192.168.1.1", "fd00::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1"],
    "benchmarking, shared, broadcast": ["198.18.0.1", "100.64.0.1", "255.255.255.255"],
    "reserved": ["240.0.0.1", "0.1.2.3", "192.0.0.9", "192.88.99.1", "fec0::1", "100::1", "5f00::1", "4000::1"],
    "IPv4 mapped into IPv6": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe"],
    "IPv4-compatible": ["::127.0.0.1", "::a00:1"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1"],
    "6to4, Teredo": ["2002:7f00:1::", "2002:a9fe:a9fe::1", "2001::1"],
}


@pytest.mark.parametrize("address", [address for addresses in KINDS.values() for address in addresses])
def test_every_other_address_is_forbidden(address):
    """Whatever it is dressed up as."""
    assert forbidden(ip_address(address))


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        *(("127.0.0.1", "a loopback"), ("::ffff:127.0.0.1", "a loopback"), ("64:ff9b::7f00:1", "a loopback")),
        *(("169.254.169.254", "a link-local"), ("2002:a9fe:a9fe::1", "a link-local"), ("ff02::1", "a multicast")),
        *(("10.0.0.1", "a private"), ("::a00:1", "a private"), ("0.0.0.0", "an unspecified")),
    ],
)
def test_a_forbidden_address_is_named_for_what_it_is(address, kind):
    """For the error that says so."""
    assert forbidden(ip_address(address)) == kind


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_ipv6_is_judged_as_itself(address):
    """Mapped, compatible, translated or tunnelled."""
    value = int(address)
    carriers = [0xFFFF << 32 | value, 0x64FF9B << 96 | value, 0x2002 << 112 | value << 80]

    judged = {forbidden(ip_address(carrier.to_bytes(16, "big"))) for carrier in carriers}

    assert judged == {forbidden(address)}


@given(st.ip_addresses())
def test_what_may_be_reached_is_global_unicast(address):
    """The rule, against the standard library's own classification."""
    if forbidden(address) == "":
        assert address.is_global or getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
        assert not address.is_multicast


def test_a_host_has_the_addresses_that_it_resolves_to():
    addresses = reachable("example.com", 443, NOBODY, resolver("1.1.1.1", "2606:4700::1111", "1.1.1.1"))

    assert addresses == [(ip_address("1.1.1.1"), 0), (ip_address("2606:4700::1111"), 0)]


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["1.1.1.1", "10.0.0.1"], ["::ffff:127.0.0.1", "1.1.1.1"]])
def test_one_forbidden_address_forbids_the_host(addresses):
    """An attacker's name server may mix them."""
    with pytest.raises(AddressForbidden, match="NOTIFY_WEBHOOK_ALLOW_PRIVATE"):
        reachable("example.com", 443, NOBODY, resolver(*addresses))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "017700000001", "::1", "localhost"])
def test_every_way_of_writing_loopback_is_forbidden(host):
    """As this machine's own resolver reads them."""
    with pytest.raises(AddressForbidden):
        reachable(host, 80, NOBODY)


def test_a_host_that_does_not_resolve_is_not_found():
    def fail(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(HostNotFound, match=r"nowhere\.example"):
        reachable("nowhere.example", 80, NOBODY, fail)
    with pytest.raises(HostNotFound):
        reachable("nowhere.example", 80, NOBODY, resolver())


@pytest.mark.parametrize(
    "words",
    [["all"], ["1"], ["true"], ["127.0.0.1"], ["10.0.0.0/8", "127.0.0.0/8"], ["hooks.internal"], ["HOOKS.internal"]],
)
def test_the_operator_allows_everything_a_network_or_a_host(words):
    addresses = reachable("hooks.internal", 80, Allowance.parse(words), resolver("127.0.0.1"))

    assert addresses == [(ip_address("127.0.0.1"), 0)]


@pytest.mark.parametrize("words", [[], ["0"], ["false"], ["10.0.0.0/8"], ["other.internal"], ["::1"], ["internal"]])
def test_what_is_not_allowed_stays_forbidden(words):
    with pytest.raises(AddressForbidden):
        reachable("hooks.internal", 80, Allowance.parse(words), resolver("127.0.0.1"))


def test_an_allowed_network_covers_its_addresses_in_ipv6_too():
    allowance = Allowance.parse(["127.0.0.0/8"])

    assert reachable("hooks.internal", 80, allowance, resolver("::ffff:127.0.0.1"))


@pytest.mark.parametrize("word", ["10.0.0.0/33", "a b", "http://x", "x/y", "*"])
def test_another_word_is_refused(word):
    with pytest.raises(ValueError):
        Allowance.parse([word])
