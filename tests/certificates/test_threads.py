"""Blocking calls beside the loop."""

import asyncio
import threading

import pytest

from essaim.certificates.acme.threads import in_thread


async def test_result_and_failure_come_back() -> None:
    assert await in_thread(divmod, 7, 3) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


async def test_cancelled_caller_goes_on_at_once_and_the_late_result_is_dropped() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def slow() -> int:
        begun.set()
        may_end.wait(10)
        return 1

    waiting = asyncio.create_task(in_thread(slow))
    while not begun.is_set():
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    may_end.set()
    while any(thread.name == "acme slow" for thread in threading.enumerate()):
        await asyncio.sleep(0)
    await asyncio.sleep(0)
