"""/services/{id}/logs and /tasks/{id}/logs: what the replicas say, from whichever node they run on.

A frame is `[stream, 0, 0, 0, length in 4 bytes]` and the payload: timestamp, details, line (each when asked for). A
service with a terminal is sent raw. `tail` counts each task's lines. Whoever follows a service gets its new tasks'
lines too, as they start, until the service is gone and its tasks have ended.
"""

import asyncio
import contextlib
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from msgspec.structs import replace

from essaim.api import query
from essaim.api.context import Api, api_of, in_chunks
from essaim.api.control import lookup
from essaim.api.routing import Route
from essaim.cluster.errors import ClusterError, InvalidArgument, Unavailable
from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskState
from essaim.cluster.watch import Lagged, Watch
from essaim.cluster.wire import LogChunk, LogRequest
from essaim.cluster.writer import NO_QUORUM

QUEUE = 1000
NO_STREAM = "Bad parameters: you must choose at least one stream"


async def service_logs(request: web.Request) -> web.StreamResponse:
    api = api_of(request)
    service = lookup.service(api.store, request.match_info["id"])
    options = _options(request)
    tasks = [t for t in api.store.tasks.by("service", service.id) if _may_speak(t)]
    chunks: AsyncIterator[LogChunk]
    if options.follow:
        chunks = followed(api.manager.store, api.node.task_logs, service.id, options)
    else:
        chunks = api.node.task_logs([_of(options, task) for task in tasks]) if tasks else _nothing()
    return await _send(request, api, chunks, tty=_has_terminal(service.spec.task_template))


async def task_logs(request: web.Request) -> web.StreamResponse:
    api = api_of(request)
    task = lookup.task(api.store, request.match_info["id"])
    chunks = api.node.task_logs([_of(_options(request), task)])
    return await _send(request, api, chunks, tty=_has_terminal(task.spec))


def _may_speak(task: Task) -> bool:
    """It has been started somewhere."""
    return bool(task.node_id) and task.state >= TaskState.STARTING


async def _nothing() -> AsyncIterator[LogChunk]:
    none: list[LogChunk] = []
    for chunk in none:
        yield chunk


@contextlib.asynccontextmanager
async def _closing(chunks: AsyncIterator[LogChunk]) -> AsyncIterator[AsyncIterator[LogChunk]]:
    """A generator that is left half-way is ended here and now, not when the collector finds it."""
    try:
        yield chunks
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


def _has_terminal(spec: Any) -> bool:
    return bool(spec and spec.container_spec and spec.container_spec.tty)


async def _send(request: web.Request, api: Api, chunks: AsyncIterator[LogChunk], *, tty: bool) -> web.StreamResponse:
    manager = api.manager
    if not manager.leadership.leader_id:
        raise Unavailable(NO_QUORUM)
    stamps, details = query.flag(request.query, "timestamps"), query.flag(request.query, "details")
    kind = "raw-stream" if tty else "multiplexed-stream"
    response = web.StreamResponse(headers={"Content-Type": f"application/vnd.docker.{kind}"})
    in_chunks(request, response)
    await response.prepare(request)
    async with _closing(chunks):
        async for chunk in chunks:
            if chunk.error and not chunk.timestamp:
                chunk = replace(chunk, timestamp=stamp_of(api.now()))
            line = _line(chunk, manager.store.tasks.get(chunk.task_id), stamps=stamps, details=details)
            if line:
                await response.write(line if tty else frame(chunk.stream, line))
    await response.write_eof()
    return response


def _options(request: web.Request) -> LogRequest:
    """What the client asks for, of a task yet to be named. Raises ClusterError."""
    stdout, stderr = query.flag(request.query, "stdout"), query.flag(request.query, "stderr")
    if not stdout and not stderr:
        raise ClusterError(NO_STREAM)
    text = request.query.get("tail", "all")
    tail = -1 if text in ("", "all") else query.number(request.query, "tail", -1)
    if tail < -1:
        raise InvalidArgument(f'invalid tail "{text[:80]}": a number of lines, or all, is expected')
    return LogRequest(
        request=0,
        task_id="",
        stdout=stdout,
        stderr=stderr,
        follow=query.flag(request.query, "follow"),
        tail=tail,
        since=query.timestamp(request.query, "since"),
        until=query.timestamp(request.query, "until"),
    )


def _of(options: LogRequest, task: Task) -> LogRequest:
    return replace(options, task_id=task.id)


async def followed(
    store: Store, read: Callable[[list[LogRequest]], AsyncIterator[LogChunk]], service_id: str, options: LogRequest
) -> AsyncGenerator[LogChunk, None]:
    """The lines of a service's tasks, those that start later included. Raises what a task's reader raises."""
    queue: asyncio.Queue[LogChunk | None] = asyncio.Queue(QUEUE)
    seen: set[str] = set()

    async def pump(task: Task) -> None:
        async with _closing(read([_of(options, task)])) as chunks:
            async for chunk in chunks:
                await queue.put(chunk)

    async def look() -> None:
        async with asyncio.TaskGroup() as group:
            with store.watch("tasks", "services") as watch:
                while store.services.get(service_id) is not None:
                    for task in store.tasks.by("service", service_id):
                        if task.id not in seen and _may_speak(task):
                            seen.add(task.id)
                            group.create_task(pump(task))
                    await _next(watch)

    async def look_to_the_end() -> None:
        try:
            await look()
        except Exception:
            await queue.put(None)
            raise
        await queue.put(None)

    # The group is in a task of its own: around a `yield` it would take the generator's close for a reader's error.
    looking = asyncio.create_task(look_to_the_end())
    try:
        while (chunk := await queue.get()) is not None:
            yield chunk
        try:
            await looking
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def _next(watch: Watch) -> None:
    """Something has changed, or too much to tell what."""
    with contextlib.suppress(Lagged):
        await watch.next()


def _line(chunk: LogChunk, task: Task | None, *, stamps: bool, details: bool) -> bytes:
    if chunk.end and not chunk.error:
        return b""
    # What went wrong is a line as any other: a client that asked for details ends at one without.
    said = f"essaim: {chunk.error}".encode() if chunk.error else chunk.line
    parts = [chunk.timestamp.encode()] if stamps and chunk.timestamp else []
    if details:
        parts.append(_details(task, chunk.task_id).encode())
    line = said if said.endswith(b"\n") else said + b"\n"
    return b" ".join([*parts, line])


def stamp_of(moment: datetime) -> str:
    """RFC 3339 in UTC, with nine digits of a fraction."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z"


def _details(task: Task | None, task_id: str) -> str:
    node = (task.node_id if task else None) or ""
    service = (task.service_id if task else None) or ""
    prefix = "com.docker.swarm"
    return f"{prefix}.node.id={node},{prefix}.service.id={service},{prefix}.task.id={task_id}"


def frame(stream: int, payload: bytes) -> bytes:
    """Docker's stream framing."""
    return struct.pack(">BxxxL", stream, len(payload)) + payload


ROUTES: list[Route] = [
    ("GET", "/services/{id}/logs", service_logs),
    ("GET", "/tasks/{id}/logs", task_logs),
]
