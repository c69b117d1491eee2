"""The certificate book in sessions: who gets what, and when it is everywhere."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster import wire
from essaim.cluster.certificate_parts import Assembly
from essaim.cluster.certificates import Certificate, CertificateBook
from essaim.cluster.gateway_nodes import idle_nodes
from essaim.cluster.node import Node, NodeSpec
from essaim.scheduler.dispatch.certificate_spread import BookSpread
from tests.scheduler.agents import SimulatedAgent, node, until
from tests.scheduler.test_dispatcher import Bench


def book(version: int, *names: str) -> CertificateBook:
    return CertificateBook(version=version, certificates=[Certificate(name=name, chain="c", key="k") for name in names])


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    for name in ("n1", "n2"):
        await bench.put("nodes", node(name))
    await bench.manager.dispatcher.start()
    yield bench
    await bench.stack.aclose()
    await bench.manager.dispatcher.stop()


def sent(agent: SimulatedAgent) -> list[wire.Certificates]:
    return [message for message in agent.received if isinstance(message, wire.Certificates)]


def assembled(agent: SimulatedAgent) -> CertificateBook | None:
    assembly = Assembly()
    for message in sent(agent):
        assembly.take(message.part)
    return assembly.book


async def test_sessions_get_the_whole_first_and_changes_then(bench: Bench) -> None:
    dispatcher = bench.manager.dispatcher
    one = await bench.agent("n1")
    dispatcher.told.publish_certificates(book(1, "a", "b"))
    await until(lambda: assembled(one) == book(1, "a", "b"))
    dispatcher.told.publish_certificates(book(2, "b", "c"))
    await until(lambda: assembled(one) == book(2, "b", "c"))
    assert [[c.name for c in message.part.book.certificates] for message in sent(one)] == [["a", "b"], ["c"]]
    late = await bench.agent("n2")
    await until(lambda: assembled(late) == book(2, "b", "c"))
    assert len(sent(late)) == 1


async def test_book_is_everywhere_once_each_live_gateway_has_applied_it(bench: Bench) -> None:
    dispatcher = bench.manager.dispatcher
    one, two = await bench.agent("n1"), await bench.agent("n2")
    await until(
        lambda: dispatcher.sessions.connected == {"n1", "n2"} and all(n.is_ready for n in bench.manager.store.nodes)
    )
    dispatcher.told.publish_certificates(book(7, "a"))
    waiting = asyncio.create_task(dispatcher.told.certificates_served(7))
    await one.send(wire.CertificatesApplied(7))
    await until(lambda: dispatcher.told.gateways_behind(7) == ["n2"])
    await asyncio.sleep(0)
    assert not waiting.done()
    await two.send(wire.CertificatesApplied(6))
    await two.send(wire.CertificatesApplied(8))
    async with asyncio.timeout(10):
        await waiting


async def test_node_that_goes_down_is_waited_for_no_more(bench: Bench) -> None:
    dispatcher = bench.manager.dispatcher
    one, two = await bench.agent("n1"), await bench.agent("n2")
    await until(
        lambda: dispatcher.sessions.connected == {"n1", "n2"} and all(n.is_ready for n in bench.manager.store.nodes)
    )
    dispatcher.told.publish_certificates(book(7, "a"))
    waiting = asyncio.create_task(dispatcher.told.certificates_served(7))
    await one.send(wire.CertificatesApplied(7))
    await two.channel.close()
    await until(lambda: "n2" not in dispatcher.sessions.connected)
    assert dispatcher.told.gateways_behind(7) == ["n2"], "it is up until its silence is noticed"
    await bench.put("nodes", node("n2", state="down"))
    async with asyncio.timeout(10):
        await waiting


def test_same_change_is_encoded_once_for_all_sessions() -> None:
    spread = BookSpread()
    assert spread.since(None) is None
    spread.publish(book(1, "a"))
    first, second = spread.since(None), spread.since(None)
    assert first is not None
    assert second is not None
    assert first[1] is second[1]
    assert spread.since(first[0]) is None


async def test_node_whose_gateway_serves_nothing_has_no_keys_and_is_not_waited_for(bench: Bench) -> None:
    dispatcher = bench.manager.dispatcher
    one, two = await bench.agent("n1"), await bench.agent("n2")
    await until(
        lambda: dispatcher.sessions.connected == {"n1", "n2"} and all(n.is_ready for n in bench.manager.store.nodes)
    )
    dispatcher.told.publish_certificates(book(7, "a"))
    await until(lambda: assembled(one) == assembled(two) == book(7, "a"))
    await bench.put("nodes", labelled("n2", "False"))
    await until(lambda: assembled(two) == book(7))
    assert assembled(one) == book(7, "a")
    dispatcher.told.publish_certificates(book(8, "a", "b"))
    await until(lambda: assembled(one) == book(8, "a", "b") and assembled(two) == book(8))
    await one.send(wire.CertificatesApplied(8))
    async with asyncio.timeout(10):
        await dispatcher.told.certificates_served(8)
    assert not any("b" in message.part.book.certificates for message in sent(two))
    await bench.put("nodes", labelled("n2", "true"))
    await until(lambda: assembled(two) == book(8, "a", "b"))


async def test_node_that_is_labelled_before_it_connects_is_told_no_key(bench: Bench) -> None:
    await bench.put("nodes", labelled("n1", "no"))
    bench.manager.dispatcher.told.publish_certificates(book(7, "a"))
    one = await bench.agent("n1")
    await until(lambda: assembled(one) == book(7))
    assert not any(message.part.book.certificates for message in sent(one))


def labelled(name: str, value: str) -> Node:
    return msgspec.structs.replace(node(name, state="ready"), spec=NodeSpec(labels={"essaim.gateway": value}))


async def test_while_a_node_says_only_no_other_is_told_a_key(bench: Bench) -> None:
    dispatcher = bench.manager.dispatcher
    one, two = await bench.agent("n1"), await bench.agent("n2")
    dispatcher.told.publish_certificates(book(7, "a"))
    await until(lambda: assembled(one) == assembled(two) == book(7, "a"))
    await bench.put("nodes", labelled("n1", "only"))
    await until(lambda: assembled(two) == book(7))
    # One that joins later has no say in it.
    await bench.put("nodes", labelled("n3", "true"))
    three = await bench.agent("n3")
    await until(lambda: assembled(three) == book(7))
    assert not any(message.part.book.certificates for message in sent(three))
    assert assembled(one) == book(7, "a")
    await bench.put("nodes", labelled("n1", ""))
    await until(lambda: assembled(two) == assembled(three) == book(7, "a"))


values = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["", "false", " OFF", "only", "true", "Only"]))


@given(values)
def test_idle_nodes_are_those_that_say_no_or_do_not_say_only(said: dict[str, str]) -> None:
    idle = idle_nodes(labelled(name, value) for name, value in said.items())
    some_say_only = any(value.lower() == "only" for value in said.values())
    for name, value in said.items():
        if some_say_only:
            assert (name in idle) == (value.lower() != "only")
        else:
            assert (name in idle) == (value.strip().lower() in ("false", "off"))
