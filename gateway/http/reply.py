"""The gateway's own answers: errors, short and plain; and those that it passes on from an auth server.

Pure: values in, bytes out.
"""

from http import HTTPStatus

REASONS = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",
    414: "URI Too Long",
}


CRLF = "\r\n"


def reply(
    status: int,
    reason: str,
    keep_alive: bool,
    *,
    is_head: bool = False,
    extra: bytes = b"",
    text: bytes | None = None,
    relayed: bool = False,
) -> bytes:
    """A whole response. `reason` becomes the text of the body, unless there is a `text`; `extra` are field lines, each
    ended by CRLF. `relayed`: they say of which type the body is, if anybody does.
    """
    body = f"{status} {REASONS.get(status, 'Error')}: {reason}\n".encode() if text is None else text
    if status == HTTPStatus.NOT_MODIFIED:
        body = b""
    lines = (
        f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}\r\n"
        f"{'' if relayed else 'Content-Type: text/plain; charset=utf-8' + CRLF}"
        f"{'' if status == HTTPStatus.NOT_MODIFIED else f'Content-Length: {len(body)}' + CRLF}"
        f"{'' if keep_alive else 'Connection: close' + CRLF}"
    ).encode()
    return lines + extra + b"\r\n" + (b"" if is_head else body)
