"""What a worker may do: carry traffic, and nothing else. It reads the Internet's bytes.

Before it reads the first of them, a worker gives up: the daemon's user and groups, every capability and the way back to
one (`no_new_privs`, the bounding set), core dumps and being looked into by others of its user (it holds TLS keys).
What needs more is done by the supervisor, which hands over what comes of it: listening sockets, the access log, the
socket on which the next supervisor is awaited.

The worker's user is `essaim-gateway` where the system has it, else a number that nobody has: 65530, or the first free
one below it, down to 65520 (above systemd's dynamic users and below those of containers).

A worker starts as the daemon and gives up what it may afterwards: an interpreter or a checkout that only the
daemon's user can read (a venv below /root) is loaded by then. What is loaded later (`LATE`) is then loaded at once.

A daemon that is not root gives its workers its own user; everything else holds for them, too. What a kernel, a user
namespace or a container does not allow is said (`lb status`, log), and the worker serves all the same.
"""

import ctypes
import importlib
import importlib.util
import os
import pwd
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

USER = "essaim-gateway"
HIGHEST, LOWEST = 65_530, 65_520
LATE = ("aiohttp", "yarl", "encodings.idna", "concurrent.futures.thread")
"""Modules that a worker loads when it first needs them, as most never do (11 MiB)."""

PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 4, 24, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CAPABILITY_VERSION_3 = 0x20080522
MOST_CAPABILITIES = 64


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a worker is to become."""

    uid: int
    gid: int

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}"


def read_identity(text: str) -> Identity | None:
    """What `str` of one says; "" is None: stay who you are."""
    uid, _, gid = text.partition(":")
    return Identity(int(uid), int(gid)) if text else None


def workers_identity() -> Identity | None:
    """Who this daemon's workers are to be; None is the daemon's own user. May ask the system's directory of users."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(USER)
    except KeyError:
        pass
    else:
        if entry.pw_uid:
            return Identity(entry.pw_uid, entry.pw_gid)
    number = next((one for one in range(HIGHEST, LOWEST - 1, -1) if not _is_somebody(one)), HIGHEST)
    return Identity(number, number)


def _is_somebody(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def close_all_but(fd: int) -> None:
    """Of the descriptors that the daemon had let its programs inherit, keep standard streams and this one."""
    os.closerange(3, fd)
    os.closerange(fd + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def confine(identity: Identity | None) -> list[str]:
    """Give up what is not needed to carry traffic; returns what could not be given up, and why."""
    problems = list(_done(_steps(identity)))
    os.umask(0o077)
    os.chdir("/")
    return problems


def _steps(identity: Identity | None) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "core dumps", lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if identity is not None:
        yield "capabilities for good", _drop_bounding_set
        yield "the daemon's groups", lambda: os.setgroups([])
        yield "loading modules late", lambda: _load_what_will_be_out_of_reach(identity)
        yield "the daemon's group", lambda: os.setresgid(identity.gid, identity.gid, identity.gid)
        yield "the daemon's user", lambda: os.setresuid(identity.uid, identity.uid, identity.uid)
    yield "inherited capabilities", lambda: _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    yield "capabilities", _drop_capabilities
    yield "new privileges", lambda: _prctl(PR_SET_NO_NEW_PRIVS, 1)
    # Last: a change of the user sets it anew.
    yield "being looked into", lambda: _prctl(PR_SET_DUMPABLE, 0)


def _done(steps: Iterator[tuple[str, Callable[[], object]]]) -> Iterator[str]:
    for what, step in steps:
        try:
            step()
        except (OSError, ValueError) as error:
            yield f"a gateway worker could not give up {what}: {getattr(error, 'strerror', None) or error}"


def _drop_bounding_set() -> None:
    for number in range(MOST_CAPABILITIES):
        try:
            _prctl(PR_CAPBSET_DROP, number)
        except OSError:
            # The kernel does not know so many; but it knows the first.
            if number == 0:
                raise
            return


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _drop_capabilities() -> None:
    header, none = _Header(CAPABILITY_VERSION_3, 0), (_Capabilities * 2)()
    _checked(_libc().capset(ctypes.byref(header), ctypes.byref(none)))


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _checked(_libc().prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _load_what_will_be_out_of_reach(identity: Identity) -> None:
    """Raises OSError."""
    places = [Path(os.__file__)]
    for name in (__package__ or "", *LATE):
        spec = importlib.util.find_spec(name)
        places += [Path(spec.origin)] if spec and spec.origin else []
    os.setegid(identity.gid)
    try:
        os.seteuid(identity.uid)
        try:
            out_of_reach = not all(os.access(place, os.R_OK, effective_ids=True) for place in places)
        finally:
            os.seteuid(0)
    finally:
        os.setegid(0)
    if out_of_reach:
        for name in LATE:
            importlib.import_module(name)
