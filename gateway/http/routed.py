"""A request at an entry point: which route is for it, which backend answers it, and the call that middlewares see.

Raises Answer where the gateway answers instead of a replica.
"""

import re

from essaim.gateway.codec.message import Request
from essaim.gateway.protocol.options import ServiceOptions
from essaim.gateway.routing.call import Answer, Call
from essaim.gateway.routing.matchers import Asked
from essaim.gateway.routing.paths import normal
from essaim.gateway.routing.router import Route, Router
from essaim.gateway.upstream.backend import Backend

from .client import Client

TARGET = re.compile(rb"/[!\"$-~]*")
ACME_PATH = b"/.well-known/acme-challenge/"


def body_limit(call: Call | None, options: ServiceOptions) -> int:
    """Bytes of a request's body; 0: no limit. The router's limit goes before the service's."""
    return (call.max_body if call else 0) or options.max_body


class Routed:
    """The path of a request, and who is to answer it. `route` None: the service that is published here, or nobody;
    `backend` None: the route's service is not there."""

    __slots__ = ("backend", "path", "query", "route")

    def __init__(self, client: Client, router: Router, request: Request) -> None:
        """Raises Answer for an ACME server's question (HTTP-01, RFC 8555, 8.3): before any router and its
        middlewares, as who asks is to be sent nowhere else."""
        listener = client.listener
        path, _, self.query = request.target.partition(b"?")
        if listener.answers and path.startswith(ACME_PATH):
            answer = listener.answers.get(path[len(ACME_PATH) :])
            if answer is not None:
                raise Answer(200, "", b"", answer)
        self.path = normal(path)
        if request.forwarded:
            # Rules are asked by whom the entry point trusts, not by whom the last request's service does.
            client.believe(listener.backend.options, request)
        self.route: Route | None = router.find(Asked(request, self.path, self.query, client.called_from))
        self.backend: Backend | None = (
            listener.backend if self.route is None else listener.backends.get(self.route.port_key)
        )
        if self.backend is not None:
            client.believe(self.backend.options, request)

    def call(self, client: Client, request: Request, started: float, known: Call | None) -> Call:
        """What the route's middlewares see and change: the `known` one, if they were interrupted and are still the
        same. `started`: seconds of `perf_counter`."""
        chain = self.route.chain if self.route else ()
        if known is not None:
            if known.chain is chain:
                return known
            known.end(0, 0.0)
        return Call(
            request, self.path, self.query, request.fields, client.called_from, request.authority or b"", started,
            client.spoke(request), client.trusted, client.port, client.tls is not None, chain=chain,
            peer=client.address,
        )  # fmt: skip

    def admit(self, client: Client, call: Call) -> None:
        """Let the call pass its middlewares. Raises Answer and Undecided."""
        route, backend = self.route, self.backend
        if backend is None:
            raise Answer(503, "the service of this route is not there")
        if route is not None:
            client.check_guard(route.tls)
            call.proceed()
            if route.chain and not TARGET.fullmatch(call.target):
                raise Answer(500, "a middleware has made a path that is not valid")
        elif client.listener.alone or backend.tls != (client.tls is not None):
            raise Answer(404, "no route for this host and path")
        else:
            client.check_guard(backend.options.tls.policy)
