"""The canonical form of a Compose file: every key in its long spelling, with typed values and absolute paths.

What comes out is what merging, `extends`, `essaim stack config` and the conversion work on: durations are
`Duration`, sizes `Size`, environments and labels mappings, ports and mounts lists of mappings.

Pure: paths are only computed, nothing is read.
"""

from functools import cached_property
from pathlib import Path as FilePath

from essaim.stacks.source.files import absolute
from essaim.stacks.source.tree import Node, Path, Problems, Transform

from . import volumes
from .forms import boolean, build, each, mapping, octal, one_of, record, same, text, texts
from .service_forms import SERVICE, options, plain_size


def external(node: Node, path: Path, problems: Problems) -> Node:
    """`external: {name: N}` as `external: true` with `name: N`."""
    if not isinstance(node.value, dict):
        return node
    found = node.value.get("external")
    if found is None or found.value is None:
        return node
    if isinstance(found.value, dict):
        name = found.value.get("name")
        outer = node.value.get("name")
        if name is not None and outer is not None and outer.value != name.value:
            problems.add(name.place, (path, "external"), "name and external.name exclude each other; use name")
        return node.like(node.value | {"external": found.like(True)} | ({"name": name} if name else {}))
    return node.like(node.value | {"external": boolean(found, (path, "external"), problems)})


class Canonical:
    """Forms of a whole file whose relative paths start at `base`."""

    def __init__(self, base: FilePath) -> None:
        self.base = base

    def path(self, node: Node, path: Path, problems: Problems) -> Node:
        return node if node.value is None else node.like(str(absolute(self.base, str(node.value))))

    def env_files(self, node: Node, path: Path, problems: Problems) -> Node:
        items = node.value if isinstance(node.value, list) else [Node(node.value, node.place)]
        found = []
        for item in items:
            entry = item.value if isinstance(item.value, dict) else {"path": item}
            form = entry.get("format")
            if form is not None and form.value not in ("raw", "compose", "", None):
                problems.add(form.place, (path, "format"), f'found "{form.value}"', ("raw", "compose"))
            found.append(item.like(entry | {"path": self.path(entry["path"], path, problems)}))
        return node.like([record({"required": boolean})(item, path, problems) for item in found])

    def label_files(self, node: Node, path: Path, problems: Problems) -> Node:
        found = texts(node, path, problems)
        return found.like([self.path(item, path, problems) for item in found.value])

    def volumes(self, node: Node, path: Path, problems: Problems) -> Node:
        found = []
        for index, item in enumerate(node.value or ()):
            if isinstance(item.value, dict):
                entry = self.long_volume(item, (path, index), problems)
            else:
                try:
                    entry = build(volumes.parse_short(str(item.value)), item)
                except volumes.VolumeError as error:
                    problems.add(item.place, (path, index), str(error))
                    continue
            source = entry.get("source")
            if source is not None and entry.value["type"].value == "bind":
                entry = entry.like(entry.value | {"source": self.source(source)})
            found.append(entry)
        return node.like(found)

    def security_options(self, node: Node, path: Path, problems: Problems) -> Node:
        """`seccomp=FILE` names a file beside the stack file."""
        found = []
        for item in texts(node, path, problems).value:
            name, separator, rest = str(item.value).partition("=" if "=" in str(item.value) else ":")
            if name == "seccomp" and separator and rest != "unconfined" and not rest.startswith("{"):
                item = item.like(f"seccomp={absolute(self.base, rest)}")
            found.append(item)
        return node.like(found)

    def source(self, node: Node) -> Node:
        """A bind mount's source. Absolute paths and templates stay as they are."""
        source = str(node.value)
        if volumes.WINDOWS.match(source) or source.startswith(("/", "\\", "{{")):
            return node
        return node.like(str(absolute(self.base, source)))

    def long_volume(self, node: Node, path: Path, problems: Problems) -> Node:
        form = record(
            {
                "read_only": boolean,
                "bind": record({"create_host_path": boolean, "propagation": one_of(*volumes.PROPAGATION)}),
                "volume": record({"nocopy": boolean, "labels": mapping}),
                "tmpfs": record({"size": plain_size, "mode": octal}),
            }
        )
        found = form(node, path, problems)
        kind = found.value["type"].value
        if found.get("target") is None:
            problems.add(node.place, path, '"target" is missing')
        if kind in ("bind", "image", "npipe", "cluster") and found.get("source") is None:
            problems.add(node.place, path, f'a mount of type {kind} needs a "source"')
        if kind == "tmpfs" and found.get("source") is not None:
            problems.add(found.value["source"].place, path, 'a mount of type tmpfs has no "source"')
        return found

    @cached_property
    def service(self) -> Transform:
        own: dict[str, Transform] = {
            "security_opt": self.security_options,
            "env_file": self.env_files,
            "label_file": self.label_files,
            "volumes": self.volumes,
        }
        return record(SERVICE | own)

    @cached_property
    def file(self) -> Transform:
        """The form of a whole file."""

        def named(form: Transform) -> Transform:
            def transform(node: Node, path: Path, problems: Problems) -> Node:
                return external(form(node, path, problems), path, problems)

            return each(transform)

        flags: dict[str, Transform] = dict.fromkeys(
            ("internal", "attachable", "enable_ipv4", "enable_ipv6", "ingress"), boolean
        )
        common: dict[str, Transform] = {"labels": mapping, "driver_opts": options, "name": text}
        data = common | {"file": self.path}
        return record(
            {
                "version": text,
                "services": each(self.service),
                "networks": named(record(common | flags)),
                "volumes": named(record(common)),
                "secrets": named(record(data)),
                "configs": named(record(data)),
                "include": same,
            }
        )
