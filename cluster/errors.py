"""What can go wrong with a request to the cluster, each with the HTTP status by which an Engine reports it."""


class ClusterError(Exception):
    """The message is shown to users as it is: what, where, and what to do."""

    status = 500


class InvalidArgument(ClusterError):
    status = 400


class NotFound(ClusterError):
    status = 404


class Forbidden(ClusterError):
    status = 403


class Unauthorized(ClusterError):
    status = 401


class AlreadyExists(ClusterError):
    status = 409


class FailedPrecondition(ClusterError):
    """The request is well formed but the cluster's state forbids it (swarm answers 400)."""

    status = 400


class OutOfSequence(ClusterError):
    """Somebody else changed the object first."""

    status = 500

    def __init__(self) -> None:
        super().__init__("rpc error: code = Unknown desc = update out of sequence")


class Unavailable(ClusterError):
    """Not in a swarm, not a manager, or no quorum."""

    status = 503


class NotYet(ClusterError):
    """A command that exists in Docker and that essaim does not carry out yet."""

    status = 501
