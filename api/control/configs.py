"""Creating, relabelling and removing configs.

Pure: the store and a request in, changes and a result out, or ClusterError in Docker's words.
"""

from msgspec.structs import replace

from essaim.cluster.changes import Change, Delete, put
from essaim.cluster.errors import OutOfSequence
from essaim.cluster.ids import Chance, new_id
from essaim.cluster.objects import Config, ConfigSpec
from essaim.cluster.store import Store
from essaim.secrets import objects

from . import lookup, references
from .errors import exists, invalid
from .services import Created


def create(store: Store, spec: ConfigSpec, *, chance: Chance) -> tuple[list[Change], Created]:
    if error := objects.config_error(spec):
        raise invalid(error)
    if lookup.is_taken(store.configs, spec.name or ""):
        raise exists(f"config {spec.name} already exists")
    config = Config(id=new_id(chance), spec=replace(spec, labels=spec.labels or {}))
    return [put("configs", config, new=True)], Created(config.id)


def update(store: Store, reference: str, version: int, spec: ConfigSpec) -> list[Change]:
    config = lookup.config(store, reference)
    if error := objects.change_error(config.spec, spec):
        raise invalid(error)
    if version != config.version.index:
        raise OutOfSequence
    return [put("configs", replace(config, spec=replace(config.spec, labels=spec.labels or {})))]


def remove(store: Store, reference: str) -> list[Change]:
    config = lookup.config(store, reference)
    if users := references.users_of_config(store, config.id):
        plural = "s" if len(users) > 1 else ""
        raise invalid(f"config '{config.spec.name}' is in use by the following service{plural}: {', '.join(users)}")
    return [Delete("configs", config.id, config.version.index)]
