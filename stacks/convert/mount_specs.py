"""Mounts of a service as the Engine API's Mount, named volumes as the stack scopes them.

Pure: no I/O.
"""

from typing import Any

from essaim.cluster.container import BindOptions, DriverSpec, ImageOptions, Mount, TmpfsOptions, VolumeOptions
from essaim.stacks.canonical.units import parse_size
from essaim.stacks.canonical.values import NAMESPACE_LABEL, SpecError, labels, texts, value

RECURSION = {
    "disabled": BindOptions(non_recursive=True),
    "writable": BindOptions(read_only_non_recursive=True),
    "readonly": BindOptions(read_only_force_recursive=True),
}


def mounts(service: dict[str, Any], volumes: dict[str, Any], namespace: str) -> list[Mount] | None:
    """Every mount of a service in file order, `tmpfs` last. Raises SpecError."""
    found = [_mount(entry, volumes, namespace) for entry in service.get("volumes") or ()]
    found += [_tmpfs(text, index) for index, text in enumerate(service.get("tmpfs") or ())]
    return found or None


def _mount(entry: dict[str, Any], volumes: dict[str, Any], namespace: str) -> Mount:
    kind = entry["type"]
    source = entry.get("source")
    options: dict[str, Any] = {}
    if kind in ("volume", "cluster") and source is not None:
        source, volume_options = _volume(entry, volumes.get(source), namespace)
        options = {"volume_options": volume_options} if kind == "volume" else {}
    elif kind == "volume" and entry.get("volume"):
        options = {"volume_options": _anonymous(entry["volume"])}
    elif kind == "bind":
        options = {"bind_options": _bind(entry.get("bind") or {})}
    elif kind == "tmpfs":
        options = {"tmpfs_options": _tmpfs_options(entry.get("tmpfs") or {})}
    elif kind == "image" and value(entry, "image", "subpath"):
        options = {"image_options": ImageOptions(subpath=entry["image"]["subpath"])}
    return Mount(
        type=kind,
        source=source,
        target=entry["target"],
        read_only=entry.get("read_only") or None,
        consistency=entry.get("consistency"),
        **options,
    )


def _anonymous(own: dict[str, Any]) -> VolumeOptions:
    return VolumeOptions(no_copy=own.get("nocopy") or None, labels=texts(own.get("labels")), subpath=own.get("subpath"))


def _volume(entry: dict[str, Any], volume: Any, namespace: str) -> tuple[str, VolumeOptions]:
    own = _anonymous(entry.get("volume") or {})
    volume = volume or {}
    name = volume.get("name") or f"{namespace}_{entry['source']}"
    if volume.get("external"):
        return volume.get("name") or entry["source"], own
    driver = None
    if volume.get("driver") or volume.get("driver_opts"):
        driver = DriverSpec(name=volume.get("driver"), options=texts(volume.get("driver_opts")))
    return name, VolumeOptions(
        no_copy=own.no_copy,
        labels=(own.labels or {}) | labels(volume.get("labels"), **{NAMESPACE_LABEL: namespace}),
        driver_config=driver,
        subpath=own.subpath,
    )


def _bind(own: dict[str, Any]) -> BindOptions | None:
    recursion = RECURSION.get(own.get("recursive", ""), BindOptions())
    found = BindOptions(
        propagation=own.get("propagation"),
        create_mountpoint=own.get("create_host_path") or None,
        non_recursive=recursion.non_recursive,
        read_only_non_recursive=recursion.read_only_non_recursive,
        read_only_force_recursive=recursion.read_only_force_recursive,
    )
    return None if found == BindOptions() else found


def _tmpfs_options(own: dict[str, Any]) -> TmpfsOptions | None:
    found = TmpfsOptions(size_bytes=own.get("size"), mode=own.get("mode"))
    return None if found == TmpfsOptions() else found


def _tmpfs(text: str, index: int) -> Mount:
    """`/path` or `/path:size=64m,mode=1777,noexec`."""
    target, _, words = text.partition(":")
    if not target.startswith("/"):
        message = f'"{text}" is no tmpfs mount; allowed: /PATH[:size=SIZE,mode=OCTAL,OPTION...]'
        raise SpecError(message, "tmpfs", index)
    size: int | None = None
    mode: int | None = None
    options: list[list[str]] = []
    read_only = None
    for word in filter(None, words.split(",")):
        key, equals, word_value = word.partition("=")
        try:
            if key == "size":
                size = int(parse_size(word_value))
            elif key == "mode":
                mode = int(word_value, 8)
            elif word in ("ro", "rw"):
                read_only = word == "ro" or None
            else:
                options.append([key, word_value] if equals else [key])
        except ValueError:
            raise SpecError(f'"{word}" in "{text}" is no valid {key}', "tmpfs", index) from None
    found = TmpfsOptions(size_bytes=size, mode=mode, options=options or None)
    return Mount(
        type="tmpfs", target=target, read_only=read_only, tmpfs_options=None if found == TmpfsOptions() else found
    )
