"""Who called: the rightmost address that is not trusted, whatever the client has written."""

import ipaddress
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from essaim.gateway.http.client_address import client_address
from essaim.gateway.protocol.addresses import Networks, read_address

PEER = "10.0.0.9"
TRUSTED = [Networks(["10.0.0.0/8", "2001:db8::/32"])]


@pytest.mark.parametrize(
    ("fields", "client"),
    [
        ([], PEER),
        (["6.6.6.6, 203.0.113.9"], "203.0.113.9"),
        (["6.6.6.6", "203.0.113.9"], "203.0.113.9"),
        (["6.6.6.6, 203.0.113.9, 10.0.0.1"], "203.0.113.9"),
        (["6.6.6.6,203.0.113.9", "10.0.0.1", "10.0.0.2"], "203.0.113.9"),
        (["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        (["203.0.113.9:4711"], "203.0.113.9"),
        (["[2001:db9::1]:4711"], "2001:db9::1"),
        (["[2001:db9::1]"], "2001:db9::1"),
        (["2001:DB9:0::1"], "2001:db9::1"),
        (["6.6.6.6, 2001:db8::5"], "6.6.6.6"),
        (["::ffff:203.0.113.9"], "203.0.113.9"),
        (["203.0.113.9, ::ffff:10.0.0.3"], "203.0.113.9"),
        (["fe80::1%eth0"], "fe80::1"),
        (["6.6.6.6, unknown"], PEER),
        (["6.6.6.6, _hidden, 10.0.0.1"], "10.0.0.1"),
        (["6.6.6.6, example.org"], PEER),
        (["6.6.6.6, 203.0.113.999"], PEER),
        (["6.6.6.6, "], PEER),
        (["6.6.6.6,"], PEER),
        ([""], PEER),
        (["203.0.113.9\t"], "203.0.113.9"),
        (["6.6.6.6 203.0.113.9"], PEER),
        (["\u00b2.0.0.1"], PEER),
        (["0x7f000001"], PEER),
        (["127.1"], PEER),
        (["6.6.6.6," + "1" * 5000], PEER),
        (["[::1"], PEER),
        (['"[2001:db9::1]:80"'], PEER),
    ],
)
def test_client_address_is_the_rightmost_that_is_not_trusted(fields: list[str], client: str) -> None:
    assert client_address(PEER, [field.encode("latin-1", "replace") for field in fields], TRUSTED) == client


@pytest.mark.parametrize("trusted", [[], [Networks()], [Networks(["172.16.0.0/12"])]])
def test_client_address_of_a_peer_that_is_not_trusted_is_the_peers(trusted: list[Networks]) -> None:
    assert client_address(PEER, [b"6.6.6.6"], trusted) == PEER
    assert client_address("unknown", [b"6.6.6.6"], TRUSTED) == "unknown"


entries = st.sampled_from([
    "10.0.0.1", "10.200.0.1:80", "203.0.113.9", "203.0.113.7:1", "2001:db8::1", "[2001:db8::1]:443", "[2001:db9::1]",
    "unknown", "_x", "", "evil", "6.6.6.6", "::ffff:10.1.1.1", "300.1.1.1",
])  # fmt: skip


def naive(peer: str, chain: list[str], trusted: list[str]) -> str:
    """By the standard library alone, one entry after the other."""
    networks = [ipaddress.ip_network(one) for one in trusted]
    client: str = peer
    waiting = list(chain)
    while True:
        address = ipaddress.ip_address(client)
        if not any(address.version == one.version and address in one for one in networks) or not waiting:
            return client
        entry = waiting.pop()
        if entry.startswith("["):
            entry = entry[1:].partition("]")[0]
        elif "." in entry and entry.count(":") == 1:
            entry = entry.partition(":")[0]
        try:
            found = ipaddress.ip_address(entry)
        except ValueError:
            return client
        mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
        client = str(mapped or found)


@given(st.lists(st.lists(entries, min_size=1, max_size=4), max_size=3), st.sampled_from([PEER, "192.0.2.1", "::1"]))
@example([["6.6.6.6", "203.0.113.9"]], PEER)
def test_client_address_is_what_a_naive_walk_comes_to(fields: list[list[str]], peer: str) -> None:
    chain = [entry for field in fields for entry in field]
    said = [", ".join(field).encode() for field in fields]
    assert client_address(peer, said, TRUSTED) == naive(peer, chain, ["10.0.0.0/8", "2001:db8::/32"])


@given(st.lists(entries, min_size=1, max_size=5), st.lists(st.text(max_size=9), max_size=5))
def test_client_address_does_not_depend_on_what_stands_left_of_it(chain: list[str], invented: list[str]) -> None:
    """Behind a proxy that appends, a client may begin the list as it likes."""
    seen = [*chain, "203.0.113.9", "10.0.0.1"]
    claimed = [one.replace(",", " ").encode("latin-1", "replace").decode("latin-1") for one in invented]
    told = ", ".join([*claimed, *seen]).encode("latin-1", "replace")
    assert client_address(PEER, [told], TRUSTED) == "203.0.113.9"


def test_client_address_of_thousands_of_entries_takes_a_time_that_grows_with_them() -> None:
    def seconds(count: int) -> float:
        field = b",".join(b"10.%d.%d.1" % (n // 250 % 250, n % 250) for n in range(count))
        began = time.thread_time()
        assert client_address(PEER, [b"203.0.113.9", field], TRUSTED) == "203.0.113.9"
        return time.thread_time() - began

    # A head has room for some 4,000. 5 ms; the square of them would be seconds.
    assert seconds(4000) < 0.5


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@given(st.lists(st.tuples(addresses, st.integers(0, 32)), max_size=5), addresses)
def test_networks_hold_what_the_standard_library_says(given_networks: list[tuple[str, int]], address: str) -> None:
    texts = [f"{one}/{bits}" for one, bits in given_networks]
    found = read_address(address)
    assert found is not None
    if ipaddress.ip_address(address).version != found[0]:
        return
    expected = any(
        ipaddress.ip_address(address) in network
        for network in (ipaddress.ip_network(text, strict=False) for text in texts)
        if network.version == found[0]
    )
    assert (address in Networks(texts)) is expected
