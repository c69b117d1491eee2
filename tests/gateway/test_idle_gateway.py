"""A gateway that is to serve nothing (label `essaim.gateway=false` of its node), and one that is to again."""

import asyncio
import contextlib
from pathlib import Path

from msgspec.structs import replace

from essaim.cluster.certificates import CertificateBook
from essaim.gateway.control.supervisor import Gateway
from tests.ports import free_port

from .authority import TestAuthority
from .conftest import Backends, endpoint, entry_points, gateway_with, http_get, service, table, until


async def is_open(port: int) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False


async def test_gateway_that_is_idle_listens_nowhere_and_serves_again_when_it_is_not(
    tmp_path: Path, backends: Backends, ports: dict[str, int]
) -> None:
    published, tcp = free_port(), free_port()
    labels = {"traefik.http.routers.a.rule": "Host(`127.0.0.1`)"}
    web = service("web", published, [endpoint("t", await backends.web("t"))], "http", labels)
    routes = table(1, web, service("l4", tcp, [endpoint("e", await backends.echo("e"))]))
    listening = [published, tcp, ports["web"]]
    async with gateway_with(tmp_path, entry_points(ports)) as gateway:
        await gateway.apply(routes)
        assert [await is_open(port) for port in listening] == [True] * 3
        await gateway.apply(replace(routes, version=2, gateways=[], idle=["n1"]))
        assert [await is_open(port) for port in listening] == [False] * 3
        status = await gateway.status()
        assert (status["serves"], status["listeners"]) == (False, [])
        # What the configurations of balancers are made of concerns the other nodes, too.
        assert [point.name for point in gateway.points] == ["web", "websecure"]
        await gateway.apply(replace(routes, version=3))
        assert (await http_get(published))[0] == (await http_get(ports["web"]))[0] == 200
        assert (await gateway.status())["serves"]


async def test_gateway_that_is_idle_still_finds_out_whether_its_own_tasks_are_fit(
    gateway: Gateway, backends: Backends
) -> None:
    good, deaf = endpoint("good", await backends.echo("good")), endpoint("deaf", free_port())
    routes = replace(table(1, service("web", free_port(), [good, deaf])), gateways=[], idle=["n1"])
    await gateway.apply(routes)
    await until(lambda: gateway.unfit() == ["deaf"])


async def test_gateway_forgets_keys_that_are_taken_from_it(gateway: Gateway, authority: TestAuthority) -> None:
    certificate = authority.certificate("own", "a.example")
    await gateway.set_certificates(CertificateBook(version=5, certificates=[certificate]))
    assert len((await gateway.status())["certificates"]) == 1
    # The same version: the store has not changed, but what this node may know has.
    await gateway.set_certificates(CertificateBook(version=5))
    assert (await gateway.status())["certificates"] == []
    assert gateway.certificates.certificates == []
