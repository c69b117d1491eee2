"""Opening a connection to one of a backend's endpoints: in turn, moving on when one does not answer."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TypeVar

from essaim.gateway.runtime.deadlines import Deadlines
from essaim.gateway.runtime.descriptors import is_ours
from essaim.gateway.runtime.reasons import explain

from .backend import Backend, Endpoint

RECONNECT_SECONDS = 0.25
"""When no endpoint could be connected to, all are tried again after this time, as long as waiting is allowed."""

P = TypeVar("P", bound=asyncio.Protocol)


class NoEndpoint(Exception):
    """No endpoint could be connected to; the message says what was tried."""


async def connect(endpoint: Endpoint, factory: Callable[[], P], deadlines: Deadlines) -> P:
    """One attempt. Raises OSError (TimeoutError among them), after telling the endpoint if it was that that failed."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(endpoint.backend.options.connect_timeout):
            _, protocol = await loop.create_connection(factory, endpoint.address, endpoint.port)
    except OSError as error:
        if not is_ours(error):
            endpoint.failed(explain(error), loop.time())
            deadlines.wake()
        raise
    if endpoint.failures:
        endpoint.failures = 0
    return protocol


def start(connecting: Callable[[Endpoint], Coroutine[None, None, None]], endpoint: Endpoint) -> asyncio.Task[None]:
    """Run `connecting(endpoint)`, which goes on to `connect_any`, as a task.

    The endpoint counts it from now on, and not from the task's first step: what is picked in the same turn of the loop
    must see it, or a limit lets a burst through. A task that is cancelled before its first step gives it back.
    """
    endpoint.open += 1
    begun = False

    async def run() -> None:
        nonlocal begun
        begun = True
        await connecting(endpoint)

    task = asyncio.get_running_loop().create_task(run())
    task.add_done_callback(lambda _: None if begun else endpoint.released())
    return task


async def connect_any(
    backend: Backend, first: Endpoint, factory: Callable[[Endpoint], P], deadlines: Deadlines
) -> tuple[Endpoint, P]:
    """Connect to `first` (which counts this in its `open` already, see `start`), else to others, `retries` of them.

    The endpoint that is returned has it counted; the others have not.
    """
    tried: set[Endpoint] = set()
    endpoint: Endpoint | None = first
    while endpoint is not None:
        tried.add(endpoint)
        try:
            return endpoint, await connect(endpoint, partial(factory, endpoint), deadlines)
        except OSError:
            endpoint.released()
        except BaseException:
            endpoint.released()
            raise
        failed, endpoint = endpoint, backend.pick(tried=tried) if len(tried) <= backend.options.retries else None
        if endpoint is not None:
            failed.retries += 1
            endpoint.open += 1
    raise NoEndpoint(", ".join(sorted(f"{one.address}:{one.port}" for one in tried)) + " did not answer")
