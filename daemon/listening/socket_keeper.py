"""Keeps a listening socket alive while the daemon is restarted. A process of its own: `python socket_keeper.py PATH`.

A container that has a socket's file mounted holds that very file: were it made anew at each start of the daemon, the
container would be left with one where nobody listens. So the socket outlives the daemon here; who connects meanwhile
waits for the next one.

Descriptor 3 is the control socket, 4 the kept one, which is bound to PATH. A daemon connects to the control socket and
says `g` (give): it gets the kept socket; or `e` (end). When PATH is no longer the file that was bound, this ends too.
No imports beyond the standard library.
"""

import contextlib
import os
import socket
import sys

LOOK_SECONDS = 60.0
CLIENT_SECONDS = 5.0


def same(path: str, bound: tuple[int, int]) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == bound


def answer(client: socket.socket, kept: socket.socket) -> bool:
    """Whether to go on."""
    client.settimeout(CLIENT_SECONDS)
    word = client.recv(1)
    if word == b"g":
        socket.send_fds(client, [b"k"], [kept.fileno()])
    return word != b"e"


def main(path: str) -> None:
    control, kept = socket.socket(fileno=3), socket.socket(fileno=4)
    control.settimeout(LOOK_SECONDS)
    found = os.lstat(path)
    bound = (found.st_dev, found.st_ino)
    while True:
        client = None
        with contextlib.suppress(TimeoutError):
            client, _ = control.accept()
        if not same(path, bound):
            return
        if client is not None:
            with client, contextlib.suppress(OSError):
                if not answer(client, kept):
                    os.unlink(path)
                    os.unlink(path + ".keeper")
                    return


if __name__ == "__main__":
    main(sys.argv[1])
