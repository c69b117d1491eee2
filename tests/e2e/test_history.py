"""The checker of the fault tests finds each kind of broken promise, and nothing in a history that keeps them."""

import pytest

from .history import History, Violation


@pytest.fixture
def history() -> History:
    """`kept` was acknowledged, `maybe` is uncertain, `refused` was refused."""
    made = History()
    for name in ("kept", "maybe", "refused"):
        made.began(name)
    made.acknowledged("kept", 1.0)
    made.refused("refused")
    return made


def look(history: History, manager: str, *names: str, stale: bool = False) -> None:
    history.read(history.expect(manager), names, stale=stale)


def test_history_that_keeps_its_promises_is_accepted(history: History) -> None:
    look(history, "h1", stale=True)
    look(history, "h2", "kept")
    look(history, "h1", "kept", "maybe")
    assert (history.fresh_reads, history.stale_reads, history.uncertain) == (2, 1, set())


def test_history_fresh_read_without_an_acknowledged_write_is_found(history: History) -> None:
    with pytest.raises(Violation, match="h2 does not show what was certain before"):
        look(history, "h2", "maybe")


def test_history_fresh_read_without_what_another_manager_showed_is_found(history: History) -> None:
    look(history, "h1", "kept", "maybe")
    with pytest.raises(Violation, match="h2 does not show what was certain before"):
        look(history, "h2", "kept")


def test_history_read_that_began_before_the_acknowledgement_may_miss_it(history: History) -> None:
    expected = history.expect("h1")
    history.acknowledged("maybe", 2.0)
    history.read(expected, ["kept"], stale=False)


def test_history_stale_read_that_overlaps_a_newer_one_may_show_less(history: History) -> None:
    older, newer = history.expect("h1"), history.expect("h1")
    history.read(newer, ["kept", "maybe"], stale=True)
    history.read(older, ["kept"], stale=True)
    with pytest.raises(Violation, match="h1 showed before"):
        look(history, "h1", "kept", stale=True)


def test_history_answer_of_a_former_process_does_not_bind_the_next(history: History) -> None:
    late = history.expect("h1")
    history.restarted("h1")
    history.read(late, ["kept", "maybe"], stale=False)
    look(history, "h1", "kept", stale=True)


def test_history_stale_read_that_loses_what_the_manager_showed_is_found(history: History) -> None:
    look(history, "h1", "kept", "maybe")
    with pytest.raises(Violation, match="h1 showed before"):
        look(history, "h1", "kept", stale=True)


def test_history_stale_read_after_a_restart_may_show_less(history: History) -> None:
    look(history, "h1", "kept", "maybe")
    history.restarted("h1")
    look(history, "h1", "kept", stale=True)


@pytest.mark.parametrize(
    ("shown", "complaint"),
    [
        (["kept", "kept"], "shows twice"),
        (["kept", "refused"], "shows what was refused for good"),
        (["kept", "alien"], "shows what nobody wrote"),
    ],
)
def test_history_impossible_read_is_found_also_when_stale(history: History, shown: list[str], complaint: str) -> None:
    for stale in (False, True):
        with pytest.raises(Violation, match=complaint):
            look(history, "h1", *shown, stale=stale)


def test_history_longest_pause_includes_the_one_that_has_not_ended(history: History) -> None:
    for moment in (2.0, 2.5, 4.0):
        history.acknowledged("kept", moment)
    assert history.longest_pause(2.2, 4.5) == 1.5
    assert history.longest_pause(2.2, 9.0) == 5.0
    assert history.longest_pause(1.5, 1.8) == pytest.approx(0.8)
