"""Waiting for real processes: poll a condition until it holds or its deadline passes; never sleep for a guess.

A condition is a callable without arguments. It holds when its result is true, and that result is returned.
Exceptions listed in `retry_on` mean "not yet"; any other one ends the wait at once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
# Seconds between two looks: short beside anything a real process does, long beside the cost of a look.
EVERY = 0.05


class DeadlinePassed(AssertionError):
    """What was waited for did not happen in time; the message ends with what was seen last."""

    def __init__(self, what: str, deadline: float, seen: object) -> None:
        super().__init__(f"{what}: not within {deadline:g} s; last seen: {seen!r}")


def eventually(
    condition: Callable[[], T],
    deadline: float,
    what: str,
    *,
    every: float = EVERY,
    retry_on: tuple[type[Exception], ...] = (),
) -> T:
    """The condition's first true result; `DeadlinePassed` after `deadline` seconds. It is looked at least once."""
    end = time.monotonic() + deadline
    while True:
        seen: object
        try:
            result = condition()
            if result:
                return result
            seen = result
        except retry_on as error:
            seen = error
        if time.monotonic() >= end:
            raise DeadlinePassed(what, deadline, seen)
        time.sleep(every)


async def eventually_async(
    condition: Callable[[], Awaitable[T]],
    deadline: float,
    what: str,
    *,
    every: float = EVERY,
    retry_on: tuple[type[Exception], ...] = (),
) -> T:
    """As `eventually`, for a condition that is awaited. The deadline also cuts a look that hangs."""
    end = asyncio.get_running_loop().time() + deadline
    seen: object = None
    while True:
        try:
            async with asyncio.timeout_at(end):
                result = await condition()
            if result:
                return result
            seen = result
        except retry_on as error:
            seen = error
        except TimeoutError:
            raise DeadlinePassed(what, deadline, seen) from None
        if asyncio.get_running_loop().time() >= end:
            raise DeadlinePassed(what, deadline, seen)
        await asyncio.sleep(every)
