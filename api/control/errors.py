"""Swarm's errors as an Engine words them: what comes from the manager carries gRPC's prefix and code.

Pure: messages only.
"""

from essaim.cluster.errors import AlreadyExists, ClusterError, FailedPrecondition, InvalidArgument, NotFound, NotYet


def _rpc(code: str, message: str) -> str:
    return f"rpc error: code = {code} desc = {message}"


def invalid(message: str) -> InvalidArgument:
    return InvalidArgument(_rpc("InvalidArgument", message))


def precondition(message: str) -> FailedPrecondition:
    return FailedPrecondition(_rpc("FailedPrecondition", message))


def exists(message: str) -> AlreadyExists:
    return AlreadyExists(_rpc("AlreadyExists", message))


def unimplemented(message: str) -> NotYet:
    return NotYet(_rpc("Unimplemented", message))


def unknown(message: str) -> ClusterError:
    return ClusterError(_rpc("Unknown", message))


def missing(noun: str, reference: str) -> NotFound:
    """No such service, task, node, secret, config or network."""
    return NotFound(f"{noun} {reference} not found")
