"""The gateway's own answers: errors, short and plain.

Pure: values in, bytes out.
"""

REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 408: "Request Timeout",
    413: "Content Too Large", 414: "URI Too Long", 417: "Expectation Failed",
    421: "Misdirected Request", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout", 505: "HTTP Version Not Supported",
    301: "Moved Permanently", 302: "Found", 307: "Temporary Redirect", 308: "Permanent Redirect",
}  # fmt: skip


def reply(
    status: int, reason: str, keep_alive: bool, *, is_head: bool = False, extra: bytes = b"", text: bytes | None = None
) -> bytes:
    """A whole response. `reason` becomes the text of the body, unless there is a `text`; `extra` are field lines, each
    ended by CRLF.
    """
    body = f"{status} {REASONS.get(status, 'Error')}: {reason}\n".encode() if text is None else text
    lines = (
        f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        f"{'' if keep_alive else 'Connection: close' + chr(13) + chr(10)}"
    ).encode()
    return lines + extra + b"\r\n" + (b"" if is_head else body)
