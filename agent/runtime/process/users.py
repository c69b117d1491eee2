"""Whom a process task runs as. Looking users up blocks; it is done in a thread."""

import grp
import os
import pwd

from essaim.agent.runtime.interface import Rejected
from essaim.cluster.numerals import whole

from .plan import User


def resolve_user(user: str | None, groups: list[str] | None) -> User | None:
    """`user` is NAME, UID, NAME:GROUP or UID:GID, as Docker takes it; None: as the daemon. Raises Rejected."""
    if not user and not groups:
        return None
    name, _, group = (user or str(os.geteuid())).partition(":")
    uid, gid, home = _user(name)
    if group:
        gid = _group(group)
    extra = tuple(_group(entry) for entry in groups or [])
    if os.geteuid() != 0:
        if (uid, gid) != (os.geteuid(), os.getegid()) or extra:
            raise Rejected(
                f"only a daemon that runs as root can run a task as another user ({user or ','.join(groups or [])})"
            )
        return None
    return User(uid, gid, extra, home)


def _user(name: str) -> tuple[int, int, str]:
    number = whole(name, 10)
    try:
        entry = pwd.getpwnam(name) if number is None else pwd.getpwuid(number)
    except KeyError:
        if number is not None:
            return number, 0, "/"
        raise Rejected(f"there is no user {name} on this node") from None
    return entry.pw_uid, entry.pw_gid, entry.pw_dir


def _group(name: str) -> int:
    number = whole(name, 10)
    if number is not None:
        return number
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise Rejected(f"there is no group {name} on this node") from None
