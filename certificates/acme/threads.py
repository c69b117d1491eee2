"""Blocking calls beside the event loop, each in a daemon thread of its own.

Rejected: `asyncio.to_thread`. Its few threads are shared by the whole daemon, and a server that does not answer would
hold them, and the end of the process, for as long as it likes.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[..., T], *arguments: Any) -> T:
    """What the call returns or raises. If the caller is cancelled, the call goes on, and nobody hears of it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = call(*arguments)
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name=f"acme {getattr(call, '__name__', '')}", daemon=True).start()
    return await done
