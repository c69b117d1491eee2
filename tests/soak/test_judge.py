"""Which failures a fault explains, and what counts as a slot that ran twice."""

from hypothesis import given
from hypothesis import strategies as st

from .judge import Failure, Permit, Slots, through, to, unexplained

HOSTS = ("h1", "h2")


def failure(node: str = "h1", port: str = "web", began: float = 5.0, ended: float = 6.0) -> Failure:
    return Failure(node, port, began, ended, "reset")


def test_failure_through_the_permitted_node_is_explained() -> None:
    assert unexplained([failure("h1"), failure("h2")], [through("h1")], 0, 10) == [failure("h2")]


def test_failure_of_a_permitted_port_is_explained_through_any_node() -> None:
    assert unexplained([failure(port="db"), failure(port="web")], [to("db")], 0, 10) == [failure(port="web")]


def test_permit_holds_for_requests_that_touch_its_time_only() -> None:
    early, first, last, late = (failure(began=b, ended=b + 1) for b in (1, 2.5, 9.5, 10.5))
    assert unexplained([early, first, last, late], [Permit(None, None)], 3, 10) == [early, late]


def test_permit_of_the_first_seconds_explains_no_later_request() -> None:
    early, late = failure(began=7.5), failure(began=8.5)
    assert unexplained([early, late], [to("web", within=5)], 3, 30) == [late]


def test_failure_without_permit_is_unexplained() -> None:
    assert unexplained([failure()], [], 0, 10) == [failure()]


def test_slot_seen_once_on_each_of_two_hosts_is_not_certain() -> None:
    # It may have ended on the first before it was started on the second.
    slots = Slots()
    slots.seen("h1", {"a": "db.1"}, 1.0, 1.1)
    slots.seen("h2", {"b": "db.1"}, 1.2, 1.3)
    assert slots.twice() == []


def test_slot_seen_before_and_after_the_other_ran_twice() -> None:
    slots = Slots()
    slots.seen("h1", {"a": "db.1"}, 1.0, 1.1)
    slots.seen("h2", {"b": "db.1"}, 1.2, 1.3)
    slots.seen("h1", {"a": "db.1"}, 2.0, 2.1)
    slots.seen("h2", {"b": "db.1"}, 2.2, 2.3)
    ((one, other, seconds),) = slots.twice()
    assert (one.container, other.container, round(seconds, 1)) == ("a", "b", 0.7)


def test_slot_of_a_host_in_doubt_is_forgotten() -> None:
    slots = Slots()
    for at in (1.0, 2.0, 3.0):
        slots.seen("h1", {"a": "db.1"}, at, at)
        slots.seen("h2", {"b": "db.1"}, at, at)
        slots.doubt("h2")
    assert slots.twice() == []


Stretch = tuple[int, int]
stretches = st.tuples(st.integers(0, 60), st.integers(1, 30)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(
    ran=st.lists(st.tuples(st.sampled_from(HOSTS), stretches), max_size=5),
    delays=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=5, max_size=40),
)
def test_slots_report_only_what_did_run_together(
    ran: list[tuple[str, Stretch]], delays: list[tuple[int, int, int]]
) -> None:
    """Looks take time; what they show was so at some moment between question and answer."""
    slots, now = Slots(), 0.0
    for number, (before, shown, after) in enumerate(delays):
        host = HOSTS[number % 2]
        asked = now + before
        moment = asked + shown
        running = {str(i): "db.1" for i, (where, (a, b)) in enumerate(ran) if where == host and a <= moment < b}
        now = moment + after
        slots.seen(host, running, asked, now)
        for one, other, seconds in slots.twice():
            (_, (a, b)), (_, (c, d)) = ran[int(one.container)], ran[int(other.container)]
            assert min(b, d) - max(a, c) >= seconds > 0
