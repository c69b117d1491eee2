"""What a network's DNS server answers."""

import asyncio

import dns.asyncquery
import dns.message
import dns.rcode

from essaim.network.names import answer
from essaim.network.responder import Responder

NAMES = {"db": ["10.0.1.2", "10.0.1.3"], "tasks.db": ["10.0.1.2", "10.0.1.3"]}


def addresses(response: dns.message.Message | None) -> list[str]:
    assert response is not None
    return [str(item) for rrset in response.answer for item in rrset]


def test_answer_known_name_in_any_case_turns_its_addresses() -> None:
    query = dns.message.make_query("Db.", "A")
    assert addresses(answer(query, NAMES.get, 0)) == ["10.0.1.2", "10.0.1.3"]
    assert addresses(answer(query, NAMES.get, 1)) == ["10.0.1.3", "10.0.1.2"]


def test_answer_known_name_other_type_is_empty_not_unknown() -> None:
    response = answer(dns.message.make_query("db.", "AAAA"), NAMES.get, 0)
    assert addresses(response) == []
    assert response is not None
    assert response.rcode() == dns.rcode.NOERROR


def test_answer_name_that_nobody_serves_now_is_empty_not_unknown() -> None:
    response = answer(dns.message.make_query("db.", "A"), {"db": []}.get, 0)
    assert addresses(response) == []
    assert response is not None
    assert response.rcode() == dns.rcode.NOERROR


def test_answer_unknown_name_is_refused_here_or_left_to_others() -> None:
    for name in ("web.", "tasks.web."):
        response = answer(dns.message.make_query(name, "A"), NAMES.get, 0)
        assert response is not None
        assert response.rcode() == dns.rcode.NXDOMAIN
    assert answer(dns.message.make_query("example.org.", "A"), NAMES.get, 0) is None


def test_answer_many_addresses_fits_a_datagram() -> None:
    names = {"db": [f"10.0.1.{i}" for i in range(1, 255)]}
    response = answer(dns.message.make_query("db.", "A"), names.get, 250)
    assert response is not None
    assert len(addresses(response)) == 25
    assert len(response.to_wire()) <= 512


async def test_responder_name_of_nobody_is_a_failure_not_silence() -> None:
    outer = Responder(lambda asking, name: {"example.org": ["192.0.2.1"]}.get(name), [])
    port = await outer.start("127.0.0.1", 0)
    inner = Responder(lambda asking, name: NAMES.get(name), [])
    inner_port = await inner.start("127.0.0.1", 0)
    query = dns.message.make_query("example.org.", "A")
    try:
        response = await dns.asyncquery.udp(query, "127.0.0.1", port=port, timeout=5)
        assert addresses(response) == ["192.0.2.1"]
        response = await dns.asyncquery.udp(query, "127.0.0.1", port=inner_port, timeout=5)
        assert response.rcode() == dns.rcode.SERVFAIL
    finally:
        await asyncio.gather(outer.stop(), inner.stop())
