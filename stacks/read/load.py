"""Entry point: Compose and stack files to a `Document`, the one tree that is shown, planned and converted."""

from collections.abc import Collection, Mapping
from pathlib import Path as FilePath

from essaim.stacks.check.references import check_references
from essaim.stacks.check.support import TOP_LEVEL
from essaim.stacks.source.document import Document
from essaim.stacks.source.errors import Place, Problem, StackError
from essaim.stacks.source.files import DiskFiles, Files
from essaim.stacks.source.tree import Node, Path, path_text

from .project import Project, Reading, Source, dot_env, read_env_file

__all__ = ["Document", "Source", "load", "read_environment"]


def read_environment(
    working_dir: FilePath, environ: Mapping[str, str], env_files: Collection[FilePath] = (), files: Files | None = None
) -> dict[str, str]:
    """The variables for `load`: those of `.env` (or of `env_files`, in order), overridden by `environ`."""
    files = files or DiskFiles()
    if not env_files:
        return dot_env(working_dir, environ, files) | dict(environ)
    values: dict[str, str] = {}
    for path in env_files:
        place = Place(str(path))
        entry = Node({"path": Node(str(working_dir / path), place)}, place)
        found = read_env_file(entry, {**values, **environ}, Reading(files))
        values |= {key: value for key, value in found.values.items() if value is not None}
    return values | dict(environ)


def load(
    sources: list[Source],
    environment: Mapping[str, str],
    working_dir: FilePath,
    profiles: Collection[str] | None = None,
    files: Files | None = None,
    interpolate: bool = True,
) -> Document:
    """Read, merge and check. `profiles` defaults to COMPOSE_PROFILES of the environment; `*` is all of them. Without
    `interpolate` variables stay as they are written (a typed value such as a port must then not hold one).

    Raises `StackError` with everything that was found wrong at the stage where reading had to stop.
    """
    reading = Reading(files or DiskFiles(), interpolate=interpolate)
    base = working_dir.absolute()
    texts = {name: _as_text(value) for name, value in environment.items()}
    try:
        tree = Project(reading, texts, base).load(sources)
        if profiles is None:
            profiles = [name.strip() for name in texts.get("COMPOSE_PROFILES", "").split(",") if name.strip()]
        document = _document(tree, texts, environment, set(profiles), reading)
        check_references(document, reading.problems)
        if (models := tree.get("models")) is not None:
            reading.problems.add(
                models.key_place or models.place, (None, "models"), f"is not supported: {TOP_LEVEL['models'].note}"
            )
        reading.problems.stop_if_any()
    except RecursionError:
        name = sources[0].name if sources else "-"
        raise StackError([Problem(Place(name), "", "values are nested too deeply")]) from None
    return document


def _as_text(value: str) -> str:
    """Bytes that are no UTF-8 (Python keeps them as surrogates) become U+FFFD, as in what Docker's client sends.
    Secrets and configs take a variable as it is."""
    return value if value.isascii() else value.encode(errors="surrogateescape").decode(errors="replace")


def _document(
    tree: Node, texts: Mapping[str, str], environment: Mapping[str, str], profiles: set[str], reading: Reading
) -> Document:
    def section(name: str) -> dict[str, Node]:
        found = tree.get(name)
        if found is None:
            return {}
        return {
            key: _named(key, node if node.value is not None else node.like({})) for key, node in found.value.items()
        }

    services = section("services")
    enabled = {name: node for name, node in services.items() if _enabled(node, profiles)}
    for name, node in enabled.items():
        enabled[name] = _with_environment(node, (((None, "services")), name), texts, reading)
    title = tree.get("name")
    return Document(
        services={
            name: _without_absent(node, ((None, "services"), name), services, enabled, reading)
            for name, node in enabled.items()
        },
        networks=section("networks"),
        volumes=section("volumes"),
        secrets=section("secrets"),
        configs=section("configs"),
        extensions={key: node for key, node in tree.value.items() if key.startswith("x-")},
        name=str(title.value) if title is not None else None,
        name_place=title.key_place if title is not None else None,
        warnings=list(reading.warnings),
        environment=environment,
        files=reading.files,
        interpolated=reading.interpolate,
    )


def _named(key: str, node: Node) -> Node:
    """An external object without a name of its own has its key's."""
    external = node.get("external")
    if external is None or external.value is not True or node.get("name") is not None:
        return node
    return node.like(node.value | {"name": external.like(key)})


def _enabled(service: Node, profiles: set[str]) -> bool:
    wanted = service.get("profiles")
    if wanted is None or not wanted.value or "*" in profiles:
        return True
    return any(item.value in profiles for item in wanted.value)


def _without_absent(
    service: Node, path: Path, services: Mapping[str, Node], enabled: Collection[str], reading: Reading
) -> Node:
    """The service without dependencies that need not be there and are not."""
    needs = service.get("depends_on")
    if needs is None or needs.value.keys() <= set(enabled):
        return service
    kept = dict(needs.value)
    for name, need in needs.value.items():
        required = need.get("required")
        place = need.key_place or need.place
        if name in enabled:
            continue
        if required is not None and required.value is False:
            del kept[name]
            if name not in services:
                where = f"{place}: {path_text((path, 'depends_on'))}"
                reading.warnings[
                    f"{where}: there is no service {name}; it need not be there, and is not waited for."
                ] = None
        elif name in services:
            del kept[name]
            profiles = ", ".join(str(item.value) for item in services[name].value["profiles"].value)
            message = (
                f'the service "{name}" is only in the profiles {profiles}, and none of them is enabled: name one '
                "(--profile, COMPOSE_PROFILES), or say required: false"
            )
            reading.problems.add(place, (path, "depends_on"), message)
    return service.like(service.value | {"depends_on": needs.like(kept)})


def _with_environment(service: Node, path: Path, environment: Mapping[str, str], reading: Reading) -> Node:
    """The service with `env_file` and `label_file` read into `environment` and `labels`, and values taken over from
    the environment. A variable that is set nowhere keeps its null."""
    value = dict(service.value)
    own = service.get("environment")
    found: dict[str, Node] = {}
    for entry in _list(service.get("env_file")):
        variables = read_env_file(entry, environment, reading, (path, "env_file"))
        _warn_differences(entry, variables.differs, path, reading)
        found |= {name: entry.like(text) for name, text in variables.values.items() if text is not None}
    if own is not None:
        found |= {
            name: node if node.value is not None else node.like(environment.get(name))
            for name, node in own.value.items()
        }
    if own is not None or found:
        value["environment"] = (own or service).like(dict(sorted(found.items())))
    if service.get("label_file") is not None:
        value["labels"] = _labels(service, path, environment, reading)
    return service.like(value)


def _labels(service: Node, path: Path, environment: Mapping[str, str], reading: Reading) -> Node:
    files = service.value["label_file"]
    found: dict[str, Node] = {}
    for item in files.value:
        variables = read_env_file(item.like({"path": item}), environment, reading, (path, "label_file"))
        found |= {name: item.like(text or "") for name, text in variables.values.items()}
    own = service.get("labels")
    return (own or files).like(found | (own.value if own is not None else {}))


def _list(node: Node | None) -> list[Node]:
    return node.value if node is not None else []


def _warn_differences(entry: Node, names: tuple[str, ...], path: Path, reading: Reading) -> None:
    """`docker stack deploy` takes lines raw; who relied on that must hear that quotes are read here."""
    if names:
        file = entry.value["path"].value
        reading.warnings[
            f"{file}: quotes, comments and variables are read by Compose's rules ({', '.join(names)}); "
            f"docker stack deploy takes lines as they stand, as `format: raw` does."
        ] = None
