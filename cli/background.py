"""Work in a thread that a command can leave.

A read of a terminal, a pipe or a FIFO may never end. `asyncio.to_thread` is no choice for it: after Ctrl-C asyncio
waits for its threads, and so for the read. Here a daemon thread works on alone, and ends with the process.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_background(work: Callable[[], T]) -> T:
    """What `work` returns or raises. A cancelled caller leaves it to itself."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(act: Callable[[], None]) -> None:
        def unless_cancelled() -> None:
            if not done.done():
                act()

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(unless_cancelled)

    def run() -> None:
        try:
            result = work()
        except Exception as error:
            raised = error
            settle(lambda: done.set_exception(raised))
        else:
            settle(lambda: done.set_result(result))

    threading.Thread(target=run, daemon=True).start()
    return await done
