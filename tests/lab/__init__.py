"""A lab of real hosts on one machine; docs/lab.md tells how to use it."""

from .commands import CommandFailed, LabUnavailable
from .host import Host
from .images import Image, busybox_image, python_image
from .lab import Lab
from .process import HostProcess
from .wait import DeadlinePassed, eventually, eventually_async

__all__ = [
    "CommandFailed",
    "DeadlinePassed",
    "Host",
    "HostProcess",
    "Image",
    "Lab",
    "LabUnavailable",
    "busybox_image",
    "eventually",
    "eventually_async",
    "python_image",
]
