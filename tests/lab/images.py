"""Images for lab hosts, made without a registry: a tar archive of a root file system, given to `docker import`.

- `busybox_image`: Debian's static busybox and your files, 2 MB: `sh`, `httpd`, `nc`, `wget`, `sleep`, ...
- `python_image`: the same plus this test run's own Python with its standard library, and your files or folders.

The Python part is the same every time and is kept as `build/lab/python-*.tar`.
"""

import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .commands import environment

CACHE = Path(__file__).parents[2] / "build" / "lab"
Content = str | bytes | Path
_FOLDERS = ("etc", "proc", "root", "run", "sys", "tmp", "usr/bin", "var", "var/www")
_ETC = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}
# Parts of the standard library that no service needs; they are two thirds of it.
_LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "distutils"}
_LEFT_OUT |= {"site-packages", "dist-packages"}
_EPOCH = 1_700_000_000


@dataclass(frozen=True)
class Image:
    """A name, the archive in parts (the last one closes it), and Dockerfile instructions for `docker import`."""

    tag: str
    archives: tuple[bytes | Path, ...]
    changes: tuple[str, ...] = ()

    def parts(self) -> list[bytes | Path]:
        return list(self.archives)


def busybox_image(
    tag: str, command: Sequence[str] = ("sleep", "infinity"), files: Mapping[str, Content] | None = None, *changes: str
) -> Image:
    """`files` maps paths in the image to text, bytes, or a file or folder here.

    `changes` are CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, USER, VOLUME, WORKDIR lines of a Dockerfile.
    """
    return Image(tag, (_busybox(), _files(files or {})), (_cmd(command), *changes))


def python_image(tag: str, command: Sequence[str], files: Mapping[str, Content] | None = None, *changes: str) -> Image:
    """As `busybox_image`, with `python3` in PATH: `python_image("app:1", ["python3", "/app.py"], {"/app.py": ...})`."""
    return Image(tag, (_busybox(), _python(), _files(files or {})), (_cmd(command), "ENV PYTHONUNBUFFERED=1", *changes))


def _cmd(command: Sequence[str]) -> str:
    quoted = ", ".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in command)
    return f"CMD [{quoted}]"


class _Archive:
    """A tar archive under construction: folders are entered once, owners and times are fixed."""

    def __init__(self, target: io.BytesIO | io.BufferedRandom) -> None:
        self._tar = tarfile.TarFile(fileobj=target, mode="w", format=tarfile.GNU_FORMAT)
        self._target = target

    def add(self, name: str, content: bytes | Path, mode: int | None = None) -> None:
        info = tarfile.TarInfo(name.lstrip("/"))
        info.mtime = _EPOCH
        data = content.read_bytes() if isinstance(content, Path) else content
        info.mode = mode or (content.stat().st_mode & 0o777 if isinstance(content, Path) else 0o644)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))

    def add_link(self, name: str, target: str) -> None:
        info = tarfile.TarInfo(name.lstrip("/"))
        info.type, info.linkname, info.mtime = tarfile.SYMTYPE, target, _EPOCH
        self._tar.addfile(info)

    def add_folder(self, name: str, mode: int = 0o755) -> None:
        info = tarfile.TarInfo(name.lstrip("/"))
        info.type, info.mode, info.mtime = tarfile.DIRTYPE, mode, _EPOCH
        self._tar.addfile(info)

    def finish(self, *, last: bool) -> None:
        """The closing blocks belong to the last part only: the parts are read as one archive."""
        end = self._tar.offset
        self._tar.close()
        if not last:
            self._target.truncate(end)


@cache
def _busybox() -> bytes:
    program = shutil.which("busybox", path=environment()["PATH"])
    assert program is not None, "busybox is not installed: run tools/debian.sh as root"
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    buffer = io.BytesIO()
    archive = _Archive(buffer)
    for folder in _FOLDERS:
        archive.add_folder(folder, 0o1777 if folder == "tmp" else 0o755)
    for name, text in _ETC.items():
        archive.add(name, text.encode())
    archive.add("bin/busybox", Path(program), 0o755)
    for applet in applets:
        if applet != "busybox":
            archive.add_link(f"bin/{applet}", "busybox")
    archive.finish(last=False)
    return buffer.getvalue()


def _files(files: Mapping[str, Content]) -> bytes:
    buffer = io.BytesIO()
    archive = _Archive(buffer)
    for name, content in files.items():
        if isinstance(content, Path) and content.is_dir():
            for path in sorted(p for p in content.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
                archive.add(f"{name.rstrip('/')}/{path.relative_to(content)}", path)
        elif isinstance(content, Path):
            archive.add(name, content)
        else:
            archive.add(name, content.encode() if isinstance(content, str) else content)
    archive.finish(last=True)
    return buffer.getvalue()


def _python() -> Path:
    """The interpreter, its libraries and standard library, at the same paths as here; cached by what it is made of."""
    binary = Path(sys.executable).resolve()
    stamp = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}-{binary.stat().st_mtime_ns}"
    target = CACHE / f"python-{stamp}.tar"
    if target.exists():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    # Several test processes may make it at the same time: each its own file, the last rename wins.
    fresh = target.with_suffix(f".{os.getpid()}")
    with fresh.open("w+b") as file:
        archive = _Archive(file)
        library = list(_standard_library(Path(sysconfig.get_path("stdlib"))))
        extensions = [path for path in library if path.suffix == ".so"]
        for path in [binary, *library]:
            archive.add(str(path), path)
        for path in sorted(_shared_libraries([binary, *extensions])):
            archive.add(str(path), path.resolve(), 0o755)
        for name in ("python3", f"python3.{sys.version_info.minor}"):
            if Path("/usr/bin", name) != binary:
                archive.add_link(f"usr/bin/{name}", str(binary))
        archive.finish(last=False)
    fresh.rename(target)
    return target


def _standard_library(root: Path) -> Iterable[Path]:
    wanted = f".cpython-{sys.version_info.major}{sys.version_info.minor}.pyc"
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in _LEFT_OUT and not f.startswith("config-"))
        for name in sorted(names):
            if name.startswith(("_test", "_tkinter", "_ctypes_test")) or (name.endswith(".pyc") and wanted not in name):
                continue
            yield Path(folder, name)


def _shared_libraries(programs: Sequence[Path]) -> set[Path]:
    """What the loader finds for the programs, the loader itself included, by the paths it looks them up by."""
    listed = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=True).stdout
    words = [word for line in listed.splitlines() if line.startswith("\t") for word in line.split()]
    return {Path(word) for word in words if word.startswith("/")}
