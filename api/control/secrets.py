"""Creating, relabelling and removing secrets.

Pure: the store and a request in, changes and a result out, or ClusterError in Docker's words.
"""

from msgspec.structs import replace

from essaim.cluster.changes import Change, Delete, put
from essaim.cluster.errors import OutOfSequence
from essaim.cluster.ids import Chance, new_id
from essaim.cluster.objects import Secret, SecretSpec
from essaim.cluster.store import Store
from essaim.secrets import objects

from . import lookup, references
from .errors import exists, invalid, unknown
from .services import Created


def create(store: Store, spec: SecretSpec, *, chance: Chance) -> tuple[list[Change], Created]:
    if error := objects.secret_error(spec):
        raise invalid(error)
    if spec.driver is not None and spec.driver.name:
        raise unknown(f'plugin "{spec.driver.name}" not found')
    if lookup.is_taken(store.secrets, spec.name or ""):
        raise exists(f"secret {spec.name} already exists")
    secret = Secret(id=new_id(chance), spec=replace(spec, labels=spec.labels or {}))
    return [put("secrets", secret, new=True)], Created(secret.id)


def update(store: Store, reference: str, version: int, spec: SecretSpec) -> list[Change]:
    secret = lookup.secret(store, reference)
    if error := objects.change_error(secret.spec, spec):
        raise invalid(error)
    if version != secret.version.index:
        raise OutOfSequence
    return [put("secrets", replace(secret, spec=replace(secret.spec, labels=spec.labels or {})))]


def remove(store: Store, reference: str) -> list[Change]:
    secret = lookup.secret(store, reference)
    if users := references.users_of_secret(store, secret.id):
        plural = "s" if len(users) > 1 else ""
        raise invalid(f"secret '{secret.spec.name}' is in use by the following service{plural}: {', '.join(users)}")
    return [Delete("secrets", secret.id, secret.version.index)]
