"""/services/{id}/logs and /tasks/{id}/logs: what the replicas say, from whichever node they run on.

A frame is `[stream, 0, 0, 0, length in 4 bytes]` and the payload: timestamp, details, line (each when asked for). A
service with a terminal is sent raw. `tail` counts each task's lines.
"""

import struct
from typing import Any

from aiohttp import web

from essaim.api import query
from essaim.api.context import Api, api_of
from essaim.api.control import lookup
from essaim.api.routing import Route
from essaim.cluster.errors import ClusterError, InvalidArgument
from essaim.cluster.task import Task, TaskState
from essaim.cluster.wire import LogChunk, LogRequest

NO_STREAM = "Bad parameters: you must choose at least one stream"


async def service_logs(request: web.Request) -> web.StreamResponse:
    api = api_of(request)
    service = lookup.service(api.store, request.match_info["id"])
    tasks = [t for t in api.store.tasks.by("service", service.id) if t.node_id and t.state >= TaskState.STARTING]
    return await _stream(request, api, tasks, tty=_has_terminal(service.spec.task_template))


async def task_logs(request: web.Request) -> web.StreamResponse:
    api = api_of(request)
    task = lookup.task(api.store, request.match_info["id"])
    return await _stream(request, api, [task], tty=_has_terminal(task.spec))


def _has_terminal(spec: Any) -> bool:
    return bool(spec and spec.container_spec and spec.container_spec.tty)


async def _stream(request: web.Request, api: Api, tasks: list[Task], *, tty: bool) -> web.StreamResponse:
    requests = _requests(request, tasks)
    stamps, details = query.flag(request.query, "timestamps"), query.flag(request.query, "details")
    known = {task.id: task for task in tasks}
    kind = "raw-stream" if tty else "multiplexed-stream"
    response = web.StreamResponse(headers={"Content-Type": f"application/vnd.docker.{kind}"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    if requests:
        async for chunk in api.node.task_logs(requests):
            line = _line(chunk, known.get(chunk.task_id), stamps=stamps, details=details)
            if line:
                await response.write(line if tty else frame(chunk.stream, line))
    await response.write_eof()
    return response


def _requests(request: web.Request, tasks: list[Task]) -> list[LogRequest]:
    stdout, stderr = query.flag(request.query, "stdout"), query.flag(request.query, "stderr")
    if not stdout and not stderr:
        raise ClusterError(NO_STREAM)
    text = request.query.get("tail", "all")
    tail = -1 if text in ("", "all") else query.number(request.query, "tail", -1)
    if tail < -1:
        raise InvalidArgument(f'invalid tail "{text[:80]}": a number of lines, or all, is expected')
    return [
        LogRequest(
            request=number,
            task_id=task.id,
            stdout=stdout,
            stderr=stderr,
            follow=query.flag(request.query, "follow"),
            tail=tail,
            since=query.timestamp(request.query, "since"),
            until=query.timestamp(request.query, "until"),
        )
        for number, task in enumerate(tasks)
    ]


def _line(chunk: LogChunk, task: Task | None, *, stamps: bool, details: bool) -> bytes:
    if chunk.error:
        return f"essaim: {chunk.error}\n".encode()
    if chunk.end or not chunk.line:
        return b""
    parts = [chunk.timestamp.encode()] if stamps and chunk.timestamp else []
    if details:
        parts.append(_details(task, chunk.task_id).encode())
    line = chunk.line if chunk.line.endswith(b"\n") else chunk.line + b"\n"
    return b" ".join([*parts, line])


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
