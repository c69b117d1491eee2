import asyncio

import pytest

from essaim.raft.interface import NoQuorum, Uncertain
from essaim.raft.member.waiting import Proposals, Reads

NEVER = float("inf")


def future() -> asyncio.Future[object]:
    return asyncio.get_running_loop().create_future()


async def test_proposals_of_an_earlier_term_are_sent_again_once_a_later_one_is_applied() -> None:
    proposals, answer = Proposals(7), future()
    proposals.add(b"a", answer, NEVER)
    [sent] = proposals.send(3, 1000)
    proposals.passed(3)
    assert proposals.unsent == []
    proposals.passed(4)
    assert proposals.send(4, 1000) == [sent]
    assert sent.term == 4
    assert not answer.done()


async def test_proposals_sent_again_in_a_later_term_ignore_a_late_refusal_of_the_earlier_one() -> None:
    proposals = Proposals(7)
    proposals.add(b"a", future(), NEVER)
    [sent] = proposals.send(3, 1000)
    proposals.passed(4)
    proposals.send(4, 1000)
    proposals.refused([sent.key], 3)
    assert proposals.unsent == []
    proposals.refused([sent.key], 4)
    assert proposals.unsent == [sent]


async def test_proposals_over_the_deadline_are_uncertain_only_if_they_were_sent() -> None:
    proposals, first, second = Proposals(7), future(), future()
    proposals.add(b"a", first, 10.0)
    proposals.send(1, 1000)
    proposals.add(b"b", second, 10.0)
    proposals.expire(9.9, leaderless=False)
    assert not first.done()
    proposals.expire(10.0, leaderless=False)
    with pytest.raises(Uncertain):
        await first
    with pytest.raises(NoQuorum):
        await second


async def test_proposals_within_a_restored_snapshot_are_uncertain() -> None:
    proposals, answer = Proposals(7), future()
    proposals.add(b"a", answer, NEVER)
    proposals.send(2, 1000)
    proposals.skipped(2)
    with pytest.raises(Uncertain, match="snapshot"):
        await answer


async def test_proposals_are_taken_in_batches() -> None:
    proposals = Proposals(7)
    for _ in range(10):
        proposals.add(bytes(100), future(), NEVER)
    assert len(proposals.send(1, 250)) == 3
    assert len(proposals.send(1, 10_000)) == 7


async def test_reads_that_come_together_ask_once_and_wait_for_their_index() -> None:
    reads, first, second = Reads(5), future(), future()
    reads.add(first, NEVER)
    reads.add(second, NEVER)
    context = reads.ask(0.0)
    assert reads.ask(0.0) == 0
    reads.answered(context, 12)
    reads.applied(11)
    assert not first.done()
    reads.applied(12)
    assert first.done()
    assert second.done()


async def test_reads_without_an_answer_are_asked_again_under_another_context() -> None:
    reads, answer = Reads(5), future()
    reads.add(answer, NEVER)
    context = reads.ask(0.0)
    reads.expire(0.4, leaderless=False, retry=0.5)
    assert reads.ask(0.4) == 0
    reads.expire(0.5, leaderless=False, retry=0.5)
    again = reads.ask(0.5)
    assert again not in (0, context)
    reads.answered(context, 3)  # late, and perhaps of an older state
    reads.applied(3)
    assert not answer.done()


async def test_reads_of_another_life_do_not_share_contexts() -> None:
    contexts = set()
    for seed in (1 << 40, 1 << 50):
        reads = Reads(seed)
        reads.add(future(), NEVER)
        contexts.add(reads.ask(0.0))
    assert len(contexts) == 2
