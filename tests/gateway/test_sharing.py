"""Which gateway checks what, and whose verdict it goes by: the decisions alone."""

from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.health.assignment import EXTRA, Assignment
from essaim.gateway.health.share import GRACE, KEPT_IN_DOUBT, Found, Share

names = st.lists(st.text("abcdef", min_size=1, max_size=6), min_size=1, max_size=30, unique=True)
keys = st.lists(st.text("0123456789", min_size=1, max_size=8), max_size=60, unique=True)


@given(names, keys, st.data())
def test_assignment_is_the_own_node_and_few_others_whatever_the_order(
    gateways: list[str], endpoints: list[str], data: st.DataObject
) -> None:
    one = Assignment(gateways)
    other = Assignment(data.draw(st.permutations(gateways)))
    for key in endpoints:
        node = data.draw(st.sampled_from([*gateways, "elsewhere"]))
        found = one.checkers(key, node)
        assert found == other.checkers(key, node)
        assert len(set(found)) == len(found) == min(len(gateways), 1 + EXTRA)
        assert set(found) <= set(gateways)
        assert node == "elsewhere" or found[0] == node
        checking = {gateway for gateway in gateways if one.is_checked_by(gateway, key, node)}
        assert checking == set(found)


@given(names.filter(lambda found: len(found) > EXTRA + 1), keys)
def test_assignment_a_gateway_that_leaves_moves_only_its_own_checks(gateways: list[str], endpoints: list[str]) -> None:
    gone, *rest = gateways
    before, after = Assignment(gateways), Assignment(rest)
    for key in endpoints:
        kept = [gateway for gateway in before.checkers(key, rest[0]) if gateway != gone]
        assert set(kept) <= set(after.checkers(key, rest[0]))


def test_assignment_spreads_the_checks_evenly() -> None:
    gateways = [f"node-{n}" for n in range(20)]
    assignment = Assignment(gateways)
    counts = dict.fromkeys(gateways, 0)
    for n in range(10_000):
        for gateway in assignment.checkers(f"task{n}@10.0.0.1:80", gateways[n % 20]):
            counts[gateway] += 1
    assert sum(counts.values()) == 30_000
    assert max(counts.values()) < 1.35 * 1500
    assert min(counts.values()) > 0.65 * 1500


def test_assignment_without_gateways_leaves_every_check_to_everybody() -> None:
    assert Assignment([]).is_checked_by("n1", "k", "n2")


OTHERS = Assignment(["a", "b", "c"])


def far_share(now: float = 0.0) -> Share:
    """A gateway that is not asked to check the endpoint `k` of another node."""
    share = Share("me", now)
    share.put(OTHERS, "k", "a", now)
    share.session(True, now)
    return share


def nobody(key: str) -> bool:
    return False


def test_share_believes_what_it_is_told_and_does_not_look() -> None:
    share = far_share()
    assert share.take_verdicts(False, {"a": {"k": "refused"}}, [], 1.0) == ["k"]
    assert share.shared("k") == Found(False, "refused", "a")
    assert share.beyond(nobody, 1000.0) == set()


def test_share_looks_itself_at_what_nobody_tells_of() -> None:
    share = far_share()
    assert share.beyond(nobody, GRACE - 0.1) == set()
    assert share.beyond(nobody, GRACE) == {"k"}
    share.take_verdicts(False, {"a": {"k": ""}}, [], GRACE)
    assert share.beyond(nobody, GRACE) == set()
    share.take_verdicts(False, {}, ["k"], 10.0)
    assert share.shared("k") == Found(True, "check passed", "a")
    assert share.beyond(nobody, 10.0 + GRACE) == {"k"}


def test_share_a_new_leader_that_knows_little_does_not_make_it_forget() -> None:
    share = far_share()
    share.take_verdicts(True, {"a": {"k": "refused"}}, [], 0.0)
    share.take_verdicts(True, {}, [], 10.0)
    assert share.shared("k") == Found(False, "refused", "a")
    assert share.beyond(nobody, 10.0) == set()
    assert share.beyond(nobody, 10.0 + GRACE) == {"k"}


def test_share_without_a_session_keeps_the_verdicts_and_then_looks_itself() -> None:
    share = far_share()
    share.take_verdicts(False, {"a": {"k": "refused"}}, [], 0.0)
    share.session(False, 1.0)
    assert share.beyond(nobody, 1.0 + GRACE - 0.1) == set()
    assert share.beyond(nobody, 1.0 + GRACE) == {"k"}
    assert share.shared("k") == Found(False, "refused", "a")
    share.session(True, 20.0)
    assert share.beyond(nobody, 20.0) == set()


def test_share_looks_itself_where_traffic_failed_for_as_long_as_it_finds_it_down() -> None:
    share = far_share()
    share.take_verdicts(False, {"a": {"k": ""}}, [], 0.0)
    share.trouble("k", 1.0)
    share.trouble("unheard-of", 1.0)
    assert share.beyond(nobody, 1.0) == {"k"}
    assert share.beyond(lambda key: True, 2.0 + KEPT_IN_DOUBT) == {"k"}
    assert share.beyond(nobody, 2.0 + KEPT_IN_DOUBT) == set()


def test_share_forgets_what_has_left_the_table_only() -> None:
    share = far_share()
    share.take_verdicts(False, {"a": {"k": "refused", "early": "refused"}}, [], 0.0)
    share.drop("k")
    assert share.shared("k") is None
    share.put(OTHERS, "early", "a", 2.0)
    assert share.shared("early") == Found(False, "refused", "a")
    assert share.beyond(nobody, 100.0) == set()
