"""What of a daemon's log is trouble."""

from .invariants import troubles

LOG = """2026-11-30T22:28:26.694513Z [info     ] a node is up
2026-11-30T22:28:26.7Z [warning  ] no session with a manager; trying again reason=x
2026-11-30T22:28:27.694513Z [error    ] the session with the manager failed node_id=1
  + Exception Group Traceback (most recent call last):
  |   File "x.py", line 1, in run
    | Traceback (most recent call last):
    | SessionEnded: the manager was silent
    +------------------------------------
2026-11-30T22:28:28Z [info     ] fine
Exception ignored in: <coroutine object x>
RuntimeWarning: coroutine 'x' was never awaited
2026-11-30T22:28:29Z [error    ] cannot write a snapshot""".splitlines()


def test_troubles_are_errors_and_tracebacks_each_once() -> None:
    assert troubles(LOG) == [
        "the session with the manager failed node_id=1 ... SessionEnded: the manager was silent",
        "fine ... RuntimeWarning: coroutine 'x' was never awaited",
        "cannot write a snapshot",
    ]


def test_troubles_of_a_quiet_log_are_none() -> None:
    assert troubles(LOG[:2]) == []
    assert troubles([]) == []
