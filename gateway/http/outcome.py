"""How requests ended: lines in the access log, if the service wants them; a sample never leaves server errors out."""

from essaim.gateway.codec.message import Request
from essaim.gateway.runtime.access_log import AccessLog, Entry, now
from essaim.gateway.upstream.backend import Backend, Endpoint


def log_request(
    log: AccessLog | None, backend: Backend, request: Request | None, endpoint: Endpoint | None, status: int,
    seconds: float, address: str, user: bytes,
) -> None:  # fmt: skip
    """`request` None: it was refused before it was understood. `endpoint`: who answered; None: the gateway.
    `address`: who called. `user`: as a middleware has found out."""
    options, service = backend.options, backend.service_name
    if log is None or not log.wants(status, options.access_sample):
        return
    if request is None:
        log.add(options.access_log, Entry(now(), address, "", "", "", status, 0.0, service, "", ""))
        return
    log.add(
        options.access_log,
        Entry(
            time=now(),
            client=address,
            method=request.method.decode("latin-1"),
            target=request.target.decode("latin-1"),
            host=request.host.decode("latin-1"),
            status=status,
            seconds=round(seconds, 6),
            service=service,
            task=endpoint.task_id if endpoint else "",
            protocol=request.version or f"HTTP/1.{request.minor}",
            user=user.decode("latin-1"),
        ),
    )
