"""Labels of ours that can never work are refused when a service is made or changed, not met later by every gateway.

- Values of `essaim.*` labels that cannot be read: the sentence is the one that `lb status` would have.
- Misspelt labels, and all of Traefik's, stay warnings in `lb status`: Traefik starts services with such labels, and a
  later release may know them.

Pure: labels in, nothing or an error out.
"""

from essaim.cluster.errors import InvalidArgument
from essaim.gateway.control.plan import MOST_LABELS
from essaim.gateway.protocol.options import unreadable


def check_gateway_labels(labels: dict[str, str] | None) -> None:
    """Raises InvalidArgument."""
    known = labels or {}
    size = sum(len(label) + len(value) for label, value in known.items())
    if size > MOST_LABELS:
        raise InvalidArgument(f"the service's labels have {size} characters, more than the {MOST_LABELS} allowed")
    found = unreadable(known)
    if found:
        raise InvalidArgument(found[0])
