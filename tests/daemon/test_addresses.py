import re
from pathlib import Path

import pytest

from essaim.cluster.errors import InvalidArgument
from essaim.daemon.addresses import (
    check_addresses,
    choose_addresses,
    join_host_port,
    resolve_ip,
    source_ip,
    split_host_port,
    the_outward_one,
)
from essaim.daemon.settings import Settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", ("10.0.0.1", 2377)),
        ("10.0.0.1:99", ("10.0.0.1", 99)),
        ("[::1]:99", ("::1", 99)),
        ("[::1]", ("::1", 2377)),
        ("fd00::7", ("fd00::7", 2377)),
        ("eth0", ("eth0", 2377)),
        ("eth0:4000", ("eth0", 4000)),
    ],
)
def test_split_host_port_every_spelling(text: str, expected: tuple[str, int]) -> None:
    assert split_host_port(text, 2377) == expected


@pytest.mark.parametrize("text", ["10.0.0.1:x", "[::1", "a:b:c", "10.0.0.1:0", "10.0.0.1:70000"])
def test_split_host_port_nonsense_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(text)):
        split_host_port(text, 2377)


def test_join_host_port_brackets_ipv6() -> None:
    assert join_host_port("10.0.0.1", 5) == "10.0.0.1:5"
    assert join_host_port("::1", 5) == "[::1]:5"


def test_resolve_ip_takes_addresses_and_interfaces() -> None:
    assert resolve_ip("10.1.2.3") == "10.1.2.3"
    assert resolve_ip("lo") == "127.0.0.1"
    with pytest.raises(InvalidArgument, match=r"nosuch0.*interfaces \(.*lo"):
        resolve_ip("nosuch0")


def test_source_ip_is_the_address_on_the_way() -> None:
    assert source_ip("127.0.0.1", 9) == "127.0.0.1"
    assert source_ip("::1", 9) in ("::1", None)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["lo", "eth0"], "10.0.0.1"),
        (["lo", "eth0", "docker0", "docker_gwbridge", "br-0123456789ab"], "10.0.0.1"),
        (["lo", "eth0", "eth1"], None),
        (["lo", "eth0", "br-lan"], None),
        (["lo", "docker0"], None),
        ([], None),
    ],
)
def test_outward_address_is_the_only_one_besides_loopback_and_the_engines_bridges(
    names: list[str], expected: str | None
) -> None:
    candidates = [(name, "127.0.0.1" if name == "lo" else f"10.0.0.{number}") for number, name in enumerate(names)]
    assert the_outward_one(candidates) == expected


@pytest.mark.parametrize(
    ("asked", "flag", "expected"),
    [
        ("", "", "127.0.0.1:2377"),
        # The stock client sends this when its user said nothing.
        ("0.0.0.0:2377", "", "127.0.0.1:2377"),
        ("0.0.0.0:2378", "", "0.0.0.0:2378"),
        ("0.0.0.0:2377", "0.0.0.0", "0.0.0.0:2377"),
        ("127.0.0.2", "0.0.0.0", "127.0.0.2:2377"),
    ],
)
def test_listen_address_is_the_advertised_one_unless_another_is_asked_for(asked: str, flag: str, expected: str) -> None:
    settings = Settings(Path("s"), Path("s"), listen_addr=flag)
    advertised, listened, _ = choose_addresses(settings, "127.0.0.1:2377", asked, "")
    assert (advertised, listened) == ("127.0.0.1:2377", expected)


OWN, FOREIGN = "127.0.0.1:2377", "192.0.2.7:2377"


def test_check_addresses_of_this_host_and_a_foreign_one_with_its_own_listener_pass() -> None:
    check_addresses(OWN, OWN, "127.0.0.1")
    check_addresses(FOREIGN, "0.0.0.0:2377", "192.0.2.7")  # one-to-one NAT
    check_addresses(FOREIGN, OWN, "127.0.0.1")


@pytest.mark.parametrize(
    ("advertise", "listen", "data_ip", "says"),
    [
        (FOREIGN, FOREIGN, "192.0.2.7", r"must specify a listening address because .* 192\.0\.2\.7.*--listen-addr"),
        (OWN, FOREIGN, "127.0.0.1", r"listen address must be .* 192\.0\.2\.7"),
        ("0.0.0.0:2377", "0.0.0.0:2377", "127.0.0.1", "advertise address must be a non-zero IP address"),
        ("[::]:2377", "0.0.0.0:2377", "127.0.0.1", "advertise address must be a non-zero IP address"),
        ("224.0.0.1:2377", "0.0.0.0:2377", "127.0.0.1", "advertise address must be a non-zero IP address"),
        (OWN, OWN, "0.0.0.0", "data path address must be a non-zero IP address"),
    ],
)
def test_check_addresses_that_cannot_work_are_refused(advertise: str, listen: str, data_ip: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        check_addresses(advertise, listen, data_ip)
