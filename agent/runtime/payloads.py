"""Which files a task's secrets and configs become: names, contents, owners and modes.

Pure: no I/O, no clock.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from essaim.cluster.container import ConfigReference, ContainerSpec, FileTarget, SecretReference
from essaim.cluster.objects import Config, Secret
from essaim.cluster.templates import TemplateError, expand

from .interface import Rejected, Work
from .templates import context

SECRETS = "/run/secrets"
DEFAULT_MODE = 0o444


@dataclass(frozen=True, slots=True)
class Payload:
    """One file in a task, at the absolute path `target`; `is_secret` or a config. `owner` (uid, gid) as given."""

    target: str
    data: bytes
    owner: tuple[str, str]
    mode: int
    is_secret: bool


def payloads(work: Work) -> list[Payload]:
    """Secrets first, each in the order of the specification. Raises Rejected when one is missing or cannot be made."""
    spec = work.task.spec.container_spec or ContainerSpec()
    found = [_secret(reference, work) for reference in spec.secrets or []]
    found += [_config(reference, work) for reference in spec.configs or [] if reference.file]
    return found


def _secret(reference: SecretReference, work: Work) -> Payload:
    secret = work.secrets.get(reference.secret_id or "")
    if secret is None or secret.spec.data is None:
        raise Rejected(f"the secret {reference.secret_name} was not given to this node")
    data = _filled(secret, work, f"secret {reference.secret_name}")
    return _payload(reference.file, reference.secret_name or "", SECRETS, data, is_secret=True)


def _config(reference: ConfigReference, work: Work) -> Payload:
    config = work.configs.get(reference.config_id or "")
    if config is None or config.spec.data is None:
        raise Rejected(f"the config {reference.config_name} was not given to this node")
    data = _filled(config, work, f"config {reference.config_name}")
    return _payload(reference.file, reference.config_name or "", "", data, is_secret=False)


def _payload(file: FileTarget | None, name: str, base: str, data: bytes, *, is_secret: bool) -> Payload:
    target = (file.name if file else "") or name
    if not target.startswith("/"):
        target = f"{base}/{target}"
    owner = ((file.uid if file else None) or "0", (file.gid if file else None) or "0")
    mode = file.mode if file and file.mode is not None else DEFAULT_MODE
    return Payload(target, data, owner, mode & 0o7777, is_secret)


def _filled(thing: Secret | Config, work: Work, shown: str) -> bytes:
    data = thing.spec.data or b""
    if thing.spec.templating is None:
        return data
    if thing.spec.templating.name != "golang":
        raise Rejected(f"the {shown} asks for the template driver {thing.spec.templating.name}; there is only golang")
    try:
        return expand(data.decode(), context(work.task, work.node), _functions(work)).encode()
    except (TemplateError, UnicodeDecodeError) as error:
        raise Rejected(f"the {shown} could not be filled in: {error}") from error


def _functions(work: Work) -> Mapping[str, Callable[[str], str]]:
    """What a template may ask for: only what the task itself uses, by the name of its target."""
    spec = work.task.spec.container_spec or ContainerSpec()
    values = dict(entry.partition("=")[::2] for entry in spec.env or [])

    def content(
        kind: str, things: Mapping[str, Secret] | Mapping[str, Config], ids: Mapping[str, str]
    ) -> Callable[[str], str]:
        def look_up(name: str) -> str:
            thing = things.get(ids.get(name, ""))
            if thing is None or thing.spec.data is None:
                raise TemplateError(f'{kind} "{name}" is not among what the service uses')
            return thing.spec.data.decode()

        return look_up

    secret_ids = {_target(r.file, r.secret_name): r.secret_id or "" for r in spec.secrets or []}
    config_ids = {_target(r.file, r.config_name): r.config_id or "" for r in spec.configs or []}
    return {
        "env": lambda name: values.get(name, ""),
        "secret": content("secret", work.secrets, secret_ids),
        "config": content("config", work.configs, config_ids),
    }


def _target(file: FileTarget | None, name: str | None) -> str:
    return (file.name if file else "") or name or ""
