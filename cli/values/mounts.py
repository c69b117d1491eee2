"""`--mount`: comma-separated fields to a Mount.

Pure: text to Mount. What cannot be read raises ValueError with a message for the user.
"""

from collections.abc import Callable
from typing import Any

from essaim.cluster.container import BindOptions, DriverSpec, ImageOptions, Mount, TmpfsOptions, VolumeOptions
from essaim.cluster.sizes import parse_size

from .pairs import fields
from .sizes import parse_bool

TYPES = ("bind", "volume", "tmpfs", "npipe", "image", "cluster")
ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
BARE = {"readonly", "volume-nocopy", "bind-nonrecursive", "bind-create-src"}
"""Keys that may stand without a value, which means true."""


def octal(text: str) -> int:
    return int(text, 8)


def mode_of(text: str) -> dict[str, bool]:
    """`bind-recursive` as bind options."""
    modes: dict[str, dict[str, bool]] = {
        "enabled": {},
        "disabled": {"non_recursive": True},
        "writable": {"read_only_non_recursive": True},
        "readonly": {"read_only_force_recursive": True},
    }
    if text not in modes:
        raise ValueError(
            f'invalid value for bind-recursive: {text} (must be "enabled", "disabled", "writable", or "readonly")'
        )
    return modes[text]


# key -> (field group of Mount or "", attribute, reader)
SIMPLE: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "type": ("", "type", str.lower),
    "source": ("", "source", str),
    "target": ("", "target", str),
    "consistency": ("", "consistency", str.lower),
    "readonly": ("", "read_only", parse_bool),
    "bind-propagation": ("bind", "propagation", str.lower),
    "bind-nonrecursive": ("bind", "non_recursive", parse_bool),
    "bind-create-src": ("bind", "create_mountpoint", parse_bool),
    "volume-nocopy": ("volume", "no_copy", parse_bool),
    "volume-subpath": ("volume", "subpath", str),
    "image-subpath": ("image", "subpath", str),
    "tmpfs-size": ("tmpfs", "size_bytes", parse_size),
    "tmpfs-mode": ("tmpfs", "mode", octal),
}


def parse_mount(text: str) -> Mount:
    """Raises ValueError for unknown keys, missing ones, and options of another type of mount."""
    groups: dict[str, dict[str, Any]] = {"": {"type": "volume"}, "bind": {}, "volume": {}, "image": {}, "tmpfs": {}}
    labels: dict[str, str] = {}
    driver: dict[str, Any] = {}
    for item in fields(text):
        key, separator, value = item.partition("=")
        key = ALIASES.get(key.lower(), key.lower())
        if not separator:
            if key not in BARE:
                raise ValueError(f"invalid field '{item}' must be a key=value pair")
            value = "true"
        if key in SIMPLE:
            group, attribute, read = SIMPLE[key]
            groups[group][attribute] = reading(key, value, read)
        elif key == "bind-recursive":
            groups["bind"] |= mode_of(value)
        elif key == "volume-label":
            label, _, content = value.partition("=")
            labels[label] = content
        elif key == "volume-driver":
            driver["name"] = value
        elif key == "volume-opt":
            option, _, content = value.partition("=")
            driver.setdefault("options", {})[option] = content
        else:
            raise ValueError(f"unexpected key '{key}' in '{item}'")
    if labels:
        groups["volume"]["labels"] = labels
    if driver:
        groups["volume"]["driver_config"] = DriverSpec(**driver)
    return check(build(groups))


def reading(key: str, value: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None


def build(groups: dict[str, dict[str, Any]]) -> Mount:
    plain = groups[""]
    if not plain.get("read_only", True):
        del plain["read_only"]
    return Mount(
        **plain,
        bind_options=BindOptions(**groups["bind"]) if groups["bind"] else None,
        volume_options=VolumeOptions(**groups["volume"]) if groups["volume"] else None,
        image_options=ImageOptions(**groups["image"]) if groups["image"] else None,
        tmpfs_options=TmpfsOptions(**groups["tmpfs"]) if groups["tmpfs"] else None,
    )


def check(mount: Mount) -> Mount:
    if mount.type not in TYPES:
        raise ValueError(f"invalid mount type '{mount.type}': must be one of {', '.join(TYPES)}")
    if not mount.target:
        raise ValueError("target is required")
    if mount.type == "bind" and not mount.source:
        raise ValueError("source is required for a mount of type bind")
    for group in ("bind", "volume", "image", "tmpfs"):
        if getattr(mount, f"{group}_options") is not None and mount.type != group:
            raise ValueError(f"cannot mix '{group}-*' options with mount type '{mount.type}'")
    bind = mount.bind_options
    if bind and bind.read_only_force_recursive:
        if not mount.read_only:
            raise ValueError("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction")
        if bind.propagation != "rprivate":
            raise ValueError(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
            )
    return mount


def merge_mounts(mounts: list[Mount]) -> list[Mount]:
    """One mount for each target (the last), in the order of source and target."""
    chosen = {mount.target: mount for mount in mounts}
    return sorted(chosen.values(), key=lambda mount: (mount.source or "", mount.target or ""))
