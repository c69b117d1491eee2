"""The numbers for Prometheus at a port of their own: read-only, and nothing else is to be had there.

`/essaim/v1/metrics` shows the same, but whoever may ask there commands the cluster. Here anybody on the network may
read: names of services and nodes' states are shown, nothing that is secret. However many ask, one page is made at a
time, and it is good for a second, or four times as long as it took to make.
"""

import asyncio
from collections.abc import Callable

from aiohttp import web

from . import metrics
from .middleware import SERVER
from .node import LocalNode

PATH = "/metrics"
FRESH_SECONDS = 1.0
SHARE = 4.0
HEADS = {"max_headers": 64, "max_line_size": 4096, "max_field_size": 4096}


class MetricsPage:
    """`monotonic` is a clock in seconds."""

    def __init__(self, node: LocalNode, monotonic: Callable[[], float]) -> None:
        self._node, self._monotonic = node, monotonic
        self._making = asyncio.Lock()
        self._text = b""
        self._good_until = float("-inf")

    async def text(self) -> bytes:
        """Prometheus' text format."""
        async with self._making:
            began = self._monotonic()
            if began >= self._good_until:
                self._text = await metrics.whole(self._node)
                now = self._monotonic()
                self._good_until = now + max(FRESH_SECONDS, SHARE * (now - began))
            return self._text


def metrics_app(page: MetricsPage) -> web.Application:
    """GET and HEAD of `/metrics`."""

    async def show(_: web.Request) -> web.Response:
        headers = {"Server": SERVER, "Cache-Control": "no-store"}
        return web.Response(body=await page.text(), content_type="text/plain", charset="utf-8", headers=headers)

    app = web.Application(client_max_size=0)
    app.router.add_get(PATH, show)
    return app
