"""Containers without an Engine: network namespaces on one bridge, the first with 10.0.1.1, and servers in them.

    with Spaces(4) as spaces, Server(spaces, 2):
        spaces.within(1, lambda: socket.create_connection(("10.0.1.2", 80)))

Needs root. The bridge is inside a namespace too; each goes with its process.
"""

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)


class Spaces:
    def __init__(self, count: int) -> None:
        self._count = count
        self._holders: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Spaces":
        try:
            for _ in range(self._count + 1):
                holder = subprocess.Popen(
                    ["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
                )
                self._holders.append(holder)
                assert holder.stdout is not None
                holder.stdout.readline()
            outer = "link add br0 type bridge\nlink set br0 up\n"
            for number in range(1, self._count + 1):
                outer += f"link add v{number} type veth peer name eth0 netns {self.pid(number)}\n"
                outer += f"link set v{number} master br0 up\n"
            self.ip(0, outer)
            for number in range(1, self._count + 1):
                self.ip(number, f"addr add {address(number)}/24 dev eth0\nlink set eth0 up\nlink set lo up\n")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for holder in self._holders:
            holder.kill()
            holder.communicate()

    def pid(self, number: int) -> int:
        return self._holders[number].pid

    def ip(self, number: int, lines: str) -> None:
        command = ["nsenter", f"--net=/proc/{self.pid(number)}/ns/net", "ip", "-batch", "-"]
        subprocess.run(command, input=lines, text=True, check=True)

    def within(self, number: int, work: Callable[[], Any]) -> Any:
        """Do it in a thread that is in the namespace: sockets that it makes stay there."""
        found: list[Any] = []

        def enter() -> None:
            try:
                with open(f"/proc/{self.pid(number)}/ns/net") as space:
                    assert _LIBC.setns(space.fileno(), 0x40000000) == 0, os.strerror(ctypes.get_errno())
                found.append(work())
            except Exception as problem:
                found.append(problem)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if isinstance(found[0], Exception):
            raise found[0]
        return found[0]


def address(number: int) -> str:
    return f"10.0.1.{number}"


class Server:
    """Says its address: to every TCP connection and for every line on it, and to every datagram."""

    def __init__(self, spaces: Spaces, number: int) -> None:
        self._name = address(number).encode()
        self._tcp, self._udp = spaces.within(number, self._open)
        self._connections: list[socket.socket] = []
        for work in (self._accept, self._answer):
            threading.Thread(target=work, daemon=True).start()

    @staticmethod
    def _open() -> tuple[socket.socket, socket.socket]:
        tcp, udp = socket.create_server(("", 80)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("", 80))
        return tcp, udp

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._talk, args=[connection], daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(self._name)
                while connection.recv(99):
                    connection.sendall(self._name)
            except OSError:
                return

    def _answer(self) -> None:
        while True:
            try:
                _, asking = self._udp.recvfrom(99)
                if asking is None:
                    return  # shut down
                self._udp.sendto(self._name, asking)
            except OSError:
                return

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        """End it as a killed process ends: nothing answers any more."""
        for each in (self._tcp, self._udp, *self._connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
