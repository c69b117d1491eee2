"""Verdicts that gateways share: the merge against a naive second version, and what is told of it."""

from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.wire import Findings, Verdicts
from essaim.scheduler.traffic.verdicts import SharedVerdicts, merge

reasons = st.sampled_from(["", "refused", "silent"])
words = st.dictionaries(st.sampled_from("abcde"), reasons, max_size=5)
nodes = st.sampled_from("abc")
keys = st.sampled_from("123")
steps = st.lists(
    st.one_of(
        st.tuples(
            nodes, st.builds(Findings, st.booleans(), st.dictionaries(keys, reasons), st.lists(keys, unique=True))
        ),
        st.tuples(nodes, st.none()),
        st.tuples(nodes, st.booleans()),
    ),
    max_size=25,
)


@given(words)
def test_merge_is_down_by_majority_only(said: dict[str, str]) -> None:
    merged = merge(said)
    if not said:
        assert merged is None
        return
    assert merged is not None
    assert bool(merged[1]) == (sum(map(bool, said.values())) > len(said) / 2)
    assert said[merged[0]] == merged[1]


def heard(said: dict[str, tuple[str, str]], message: Verdicts) -> None:
    """What a gateway makes of a message."""
    if message.full:
        said.clear()
    for node, found in message.found.items():
        said.update((key, (node, reason)) for key, reason in found.items())
    for key in message.unknown:
        del said[key]


@given(steps)
def test_shared_verdicts_changes_add_up_to_the_majority_of_what_is_told(
    history: list[tuple[str, Findings | bool | None]],
) -> None:
    shared = SharedVerdicts()
    naive: dict[str, dict[str, str]] = {}
    listener: dict[str, tuple[str, str]] = {}
    muted: set[str] = set()
    for node, word in history:
        if isinstance(word, bool):
            (muted.add if word else muted.discard)(node)
            changes = shared.mute(node, word)
        elif word is None:
            naive.pop(node, None)
            changes = shared.disconnect(node)
        else:
            mine = {} if word.full else naive.get(node, {})
            naive[node] = {key: said for key, said in mine.items() if key not in word.dropped} | word.found
            changes = shared.told(node, word)
        before = dict(listener)
        if changes is not None:
            assert not changes.full
            heard(listener, changes)
            assert listener != before
        expected = {}
        for key in "123":
            told = {node: said[key] for node, said in naive.items() if key in said and node not in muted}
            if told:
                expected[key] = sum(map(bool, told.values())) > len(told) / 2
                finder, reason = listener[key]
                assert bool(told[finder]) == bool(reason)
        assert {key: bool(reason) for key, (_, reason) in listener.items()} == expected
        newcomer: dict[str, tuple[str, str]] = {}
        heard(newcomer, shared.full())
        assert newcomer == listener


def test_shared_verdicts_a_partial_failure_is_told_to_nobody() -> None:
    shared = SharedVerdicts()
    for node in ("a", "b", "c"):
        shared.told(node, Findings(True, {"k": ""}))
    assert shared.told("c", Findings(False, {"k": "no route to host"})) is None
    assert shared.told("b", Findings(False, {"k": "refused"})) == Verdicts(False, {"b": {"k": "refused"}})
    assert shared.disconnect("b") == Verdicts(False, {"a": {"k": ""}})
