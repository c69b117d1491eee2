"""Crowds of connections that say nothing, or never finish what they say, in a process of their own.

`python -m tests.daemon.floods HOW COUNT ADDRESS...`: opens COUNT connections, one after another and from 32 addresses
of this host in turn where the address is TCP, and again whatever is cut, until it is ended. Prints a line when all have
been opened once.
"""

import itertools
import resource
import selectors
import socket
import ssl
import sys
import time

HEAD = b"POST /services/create HTTP/1.1\r\nHost: localhost\r\n"
SAYS = {
    "idle": b"",
    "half": bytes.fromhex("1603010200010001fc0303"),
    "slow": HEAD + b"A: ",
    "body": HEAD + b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
}
AGAIN_SECONDS = 0.02
"""Between two attempts at what was cut."""


def dial(how: str, address: str, number: int) -> socket.socket:
    if address.startswith("/"):
        one = socket.socket(socket.AF_UNIX)
        one.connect(address)
    else:
        host, _, port = address.rpartition(":")
        one = socket.create_connection((host, int(port)), 5, source_address=(f"127.0.1.{number % 32 + 1}", 0))
    if how == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        one = context.wrap_socket(one)
    elif SAYS[how]:
        one.sendall(SAYS[how])
    one.setblocking(False)
    return one


def main() -> None:
    how, count, addresses = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    watching = selectors.DefaultSelector()
    turn = itertools.cycle(addresses)
    for number in itertools.count():
        try:
            one = dial(how, next(turn), number)
            watching.register(one, selectors.EVENT_READ)
        except OSError:
            pass
        if number == count:
            print("opened", flush=True)
        if number >= count:
            time.sleep(AGAIN_SECONDS)
        for key, _ in watching.select(0):
            watching.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]


if __name__ == "__main__":
    main()
