"""From sources to one canonical tree: reading, substitution, checking, `extends`, `include`, merging.

Every source goes through the same stages in this order: parse, substitute variables, check against the schema, bring
into canonical form, resolve `extends`; then the sources are merged in order, and what they include is added.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath

from essaim.stacks.canonical.canonical import Canonical
from essaim.stacks.check.schema import check, compose_rule
from essaim.stacks.source.errors import Place, Problem, StackError
from essaim.stacks.source.files import Files, absolute
from essaim.stacks.source.tree import Node, Path, Problems
from essaim.stacks.source.yamlreader import read_yaml

from .dotenv import EnvFile, read_env, read_raw
from .interpolation import Interpolator, interpolate
from .merge import merge, without_resets

RESOURCES = ("services", "networks", "volumes", "secrets", "configs")
MAX_INCLUDES = 50


@dataclass(frozen=True, slots=True)
class Source:
    """One `-c` file. `name` stands in messages; `-` is standard input."""

    name: str
    text: str


@dataclass(slots=True)
class Reading:
    """What all sources of one load share. `chain` are the includes that lead to the current file; without
    `interpolate` values keep their variables as text."""

    files: Files
    warnings: dict[str, None] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)
    chain: tuple[FilePath, ...] = ()
    interpolate: bool = True

    def text(self, path: FilePath, where: Node, key: Path) -> str:
        """A referenced file's text. Raises StackError at the place of the reference, which stands below `key`."""
        try:
            return self.files.read(path).decode()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise _problem(where, key, f"cannot read {path}: {reason}") from None
        except UnicodeDecodeError:
            raise _problem(where, key, f"cannot read {path}: it is not UTF-8 text") from None


class Project:
    """The files of one folder with one environment; an `include` is a project of its own."""

    def __init__(self, reading: Reading, environment: Mapping[str, str], base: FilePath) -> None:
        self.reading = reading
        self.environment = environment
        self.base = base
        self.extended: dict[FilePath, Node] = {}

    def load(self, sources: list[Source]) -> Node:
        """The merged tree. Raises StackError."""
        trees = [tree for source in sources for tree in self.trees(source.text, source.name, self.base)]
        self.reading.problems.stop_if_any()
        resolved = [self.resolve_extends(tree, self.base) for tree in trees]
        if not resolved:
            raise StackError([Problem(Place(sources[0].name if sources else "-"), "", "the file is empty")])
        merged = resolved[0]
        for tree in resolved[1:]:
            merged = merge(merged, tree)
        return without_resets(self.with_includes(merged))

    def trees(self, text: str, name: str, base: FilePath) -> list[Node]:
        """The documents of a text in canonical form; problems are collected."""
        problems = self.reading.problems
        found = []
        for document in read_yaml(text, name):
            if document.value is None:
                continue
            interpolator = Interpolator(self.environment)
            tree = interpolate(document, interpolator, problems) if self.reading.interpolate else document
            for variable, place in interpolator.unset.items():
                warning = f'the variable "{variable}" is not set; a blank string takes its place.'
                self.reading.warnings[f"{place}: {warning}"] = None
            before = len(problems.found)
            check(tree, compose_rule(), problems)
            if len(problems.found) == before:
                found.append(Canonical(base).file(tree, None, problems))
        return found

    def resolve_extends(self, tree: Node, base: FilePath) -> Node:
        """The tree with every service's `extends` carried out."""
        services = tree.get("services")
        if services is None or not any(service.get("extends") for service in services.value.values()):
            return tree
        resolved = {name: self.extend(tree, base, name, ()) for name in services.value}
        return tree.like(tree.value | {"services": services.like(resolved)})

    def extend(self, tree: Node, base: FilePath, name: str, chain: tuple[tuple[FilePath | None, str], ...]) -> Node:
        """One service with what it extends below it."""
        service: Node = tree.value["services"].value[name]
        extends = service.get("extends")
        if extends is None:
            return service
        path: Path = (((None, "services"), name), "extends")
        target = str(extends.value["service"].value)
        file = extends.get("file")
        other_base, other, key = base, tree, None
        if file is not None:
            key = absolute(base, str(file.value))
            other, other_base = self.file(key, file, (path, "file")), key.parent
        if (key, target) in chain or len(chain) > MAX_INCLUDES:
            raise _problem(extends, path, f'the service "{target}" extends itself')
        services = other.get("services")
        if services is None or services.get(target) is None:
            known = tuple(services.value) if services is not None else ()
            problems = Problems()
            problems.add(extends.place, path, f'the service "{target}" does not exist', known, target)
            raise StackError(problems.found)
        below = self.extend(other, other_base, target, (*chain, (key, target)))
        below = below.like({name: child for name, child in below.value.items() if name != "extends"})
        above = service.like({name: child for name, child in service.value.items() if name != "extends"})
        return merge(below, above)

    def file(self, path: FilePath, where: Node, key: Path) -> Node:
        """The canonical tree of a file that is extended from, which stands below `key`; read once."""
        if path not in self.extended:
            trees = self.trees(self.reading.text(path, where, key), str(path), path.parent)
            self.reading.problems.stop_if_any()
            if not trees:
                raise _problem(where, key, f"{path} is empty")
            self.extended[path] = trees[0]
        return self.extended[path]

    def with_includes(self, tree: Node) -> Node:
        """The tree with the resources of its includes added; a name that stands in both is an error."""
        includes = tree.get("include")
        if includes is None:
            return tree
        value = {key: child for key, child in tree.value.items() if key != "include"}
        for entry in includes.value:
            other = self.include(entry)
            for kind in RESOURCES:
                if (found := other.get(kind)) is not None:
                    value[kind] = self._add(value.get(kind), found, kind)
        return tree.like(value)

    def _add(self, own: Node | None, found: Node, kind: str) -> Node:
        if own is None or own.value is None:
            return found
        for name, child in found.value.items():
            mine = own.value.get(name)
            if mine is not None and not _equal(mine, child):
                message = f"is defined here and differently in an included file ({child.place})"
                self.reading.problems.add(mine.key_place or mine.place, ((None, kind), name), message)
        return own.like(found.value | own.value)

    def include(self, entry: Node) -> Node:
        """The tree of one entry of `include`."""
        long = entry.value if isinstance(entry.value, dict) else {"path": entry}
        if "path" not in long:
            raise _problem(entry, (None, "include"), '"path" is missing')
        paths = [absolute(self.base, str(item.value)) for item in _items(long["path"])]
        if not paths:
            raise _problem(entry, (None, "include"), "names no file")
        if any(path in self.reading.chain for path in paths) or len(self.reading.chain) > MAX_INCLUDES:
            raise _problem(entry, (None, "include"), f"{paths[0]} includes itself")
        folder = long.get("project_directory")
        base = absolute(self.base, str(folder.value)) if folder is not None else paths[0].parent
        reading = self.reading
        texts = [Source(str(path), reading.text(path, entry, (None, "include"))) for path in paths]
        inner = replace(reading, chain=(*reading.chain, *paths))
        return Project(inner, self._environment(long.get("env_file"), base), base).load(texts)

    def _environment(self, env_file: Node | None, base: FilePath) -> Mapping[str, str]:
        """The environment of an include: its own files first in rank after what is set here."""
        values: dict[str, str] = {}
        if env_file is None:
            values = dot_env(base, self.environment, self.reading.files)
        else:
            for item in _items(env_file):
                path = absolute(self.base, str(item.value))
                text = self.reading.text(path, item, ((None, "include"), "env_file"))
                found = read_env(text, str(path), {**values, **self.environment})
                values |= {key: value for key, value in found.values.items() if value is not None}
        return {**values, **self.environment}


def _items(node: Node) -> list[Node]:
    return node.value if isinstance(node.value, list) else [node]


def _equal(one: Node, other: Node) -> bool:
    """The same file may be included twice."""
    return one.place == other.place


def _problem(node: Node, path: Path, message: str) -> StackError:
    problems = Problems()
    problems.add(node.place, path, message)
    return StackError(problems.found)


def dot_env(folder: FilePath, environment: Mapping[str, str], files: Files) -> dict[str, str]:
    """The variables of a folder's `.env`; none where there is no such file."""
    try:
        text = files.read(folder / ".env").decode()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise StackError([Problem(Place(str(folder / ".env")), "", f"cannot be read: {error}")]) from None
    found = read_env(text, str(folder / ".env"), environment)
    return {key: value for key, value in found.values.items() if value is not None}


def read_env_file(entry: Node, environment: Mapping[str, str], reading: Reading, key: Path = None) -> EnvFile:
    """The variables of one canonical entry of the `env_file` below `key`; none where it is not required and missing."""
    path = FilePath(str(entry.value["path"].value))
    required = entry.get("required")
    try:
        text = reading.files.read(path).decode()
    except FileNotFoundError:
        if required is not None and required.value is False:
            return EnvFile({})
        raise _problem(entry, key, f"the environment file {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise _problem(entry, key, f"the environment file {path} cannot be read: {reason}") from None
    kind = entry.get("format")
    if kind is not None and kind.value == "raw":
        return read_raw(text, str(path), environment)
    return read_env(text, str(path), environment)
