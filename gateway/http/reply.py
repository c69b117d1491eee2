"""The gateway's own answers: errors, short and plain; and those that it passes on from an auth server."""

from http import HTTPStatus

from essaim.gateway.codec.interface import ClientStream
from essaim.gateway.codec.message import Response

REASONS = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",
    414: "URI Too Long",
}


CRLF = "\r\n"


def gateway_answer(
    status: int, reason: str, extra: bytes = b"", text: bytes | None = None, *, relayed: bool = False
) -> tuple[bytes, bytes]:
    """A response's head (its lines, each ended by CRLF) and its content.

    `reason` becomes the text of the body, unless there is a `text`; `extra` are field lines, each ended by CRLF.
    `relayed`: they say of which type the body is, if anybody does.
    """
    content = f"{status} {REASONS.get(status, 'Error')}: {reason}\n".encode() if text is None else text
    if status == HTTPStatus.NOT_MODIFIED:
        content = b""
    head = (
        f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}\r\n"
        f"{'' if relayed else 'Content-Type: text/plain; charset=utf-8' + CRLF}"
        f"{'' if status == HTTPStatus.NOT_MODIFIED else f'Content-Length: {len(content)}' + CRLF}"
    ).encode()
    return head + extra, content


def reply(status: int, reason: str) -> bytes:
    """A whole response, after which the connection is closed."""
    head, content = gateway_answer(status, reason)
    return head + b"Connection: close\r\n\r\n" + content


def send_answer(stream: ClientStream, status: int, head: bytes, content: bytes) -> None:
    """Send what `gateway_answer` has made."""
    stream.respond(Response(status, 1, head), None, head + b"\r\n" + content, len(head) + 2, True)
