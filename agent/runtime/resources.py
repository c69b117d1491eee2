"""A node's generic resources that a task was given, in its environment.

Pure: no I/O, no clock.
"""

from essaim.cluster.service import GenericResource


def generic_resource_env(resources: list[GenericResource]) -> list[str]:
    """Swarm's way to tell a task which of the node's generic resources are its own."""
    found: dict[str, list[str]] = {}
    for resource in resources:
        if resource.named_resource_spec:
            found.setdefault(resource.named_resource_spec.kind, []).append(resource.named_resource_spec.value)
        elif resource.discrete_resource_spec:
            discrete = resource.discrete_resource_spec
            found.setdefault(discrete.kind, []).append(str(discrete.value))
    return [f"DOCKER_RESOURCE_{kind.upper()}={','.join(values)}" for kind, values in sorted(found.items())]
