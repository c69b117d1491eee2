"""The checker itself: it has to see what is wrong, and accept what is not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from linearizability import NEVER, Operation, is_linearizable


def op(kind: str, value: int, called: float, returned: float = NEVER) -> Operation:
    return Operation(0, kind, "k", value, called, returned)


def test_checker_accepts_overlapping_operations_in_either_order() -> None:
    assert is_linearizable([op("write", 1, 0, 10), op("read", 0, 1, 2), op("read", 1, 3, 4)])
    assert is_linearizable([op("write", 1, 0, 10), op("write", 2, 0, 10), op("read", 1, 11, 12)])


def test_checker_refuses_a_stale_read() -> None:
    assert not is_linearizable([op("write", 1, 0, 1), op("read", 0, 2, 3)])


def test_checker_refuses_a_read_that_goes_back() -> None:
    history = [op("write", 1, 0, 10), op("read", 1, 1, 2), op("read", 0, 3, 4)]
    assert not is_linearizable(history)


def test_checker_lets_an_unanswered_write_happen_late_or_never() -> None:
    lost = op("write", 1, 0)
    assert is_linearizable([lost, op("read", 0, 5, 6), op("read", 1, 7, 8)])
    assert is_linearizable([lost, op("read", 0, 5, 6)])
    assert not is_linearizable([lost, op("read", 1, 5, 6), op("read", 0, 7, 8)])
