"""Every boolean label is read as Go reads booleans, as Traefik's and Docker's tools do: no `0` or `F` switches on."""

import pytest

from essaim.cluster.booleans import FALSE, TRUE
from essaim.gateway.control.plan import Planned, Planner
from essaim.gateway.protocol.numbers import flag
from essaim.gateway.protocol.options import LABELS, STICKY_LABELS, read_options
from essaim.gateway.protocol.routes import RoutePort, RouteService, RouteTable
from essaim.gateway.routing.middlewares.build import make_middleware
from essaim.gateway.routing.middlewares.vocabulary import OPTIONS

from .conftest import endpoint, entry_points

H = "traefik.http."
S = H + "services.web.loadbalancer."
RULE = {H + "routers.web.rule": "Host(`a`)", S + "server.port": "80"}
OFF = sorted(FALSE | {"", " false "})
NEITHER = ["yes", "on", "2", "\u00b2", "true false"]
OWN = [f"essaim.{name}" for name, (_, read) in LABELS.items() if read is flag]
COOKIE = [name for name, (_, read) in STICKY_LABELS.items() if read is flag]


def planned(labels: dict[str, str]) -> Planned:
    port = RoutePort(protocol="tcp", target_port=80, published_port=0, endpoints=[endpoint("web.1", 9)])
    table = RouteTable(version=1, services=[RouteService(id="w", name="web", labels=labels, ports=[port])])
    return Planner("127.0.0.1", entry_points({"web": 80, "websecure": 443})).plan(table)


def routers(labels: dict[str, str]) -> int:
    return len(planned(RULE | labels).services["w"].routers)


def test_the_tables_have_booleans() -> None:
    assert "essaim.proxyprotocol.accept" in OWN
    assert COOKIE == ["secure", "httponly"]


@pytest.mark.parametrize("label", [*OWN, *(f"{S}sticky.cookie.{name}" for name in COOKIE)])
def test_boolean_options_know_go_s_spellings_and_no_others(label: str) -> None:
    base = {"essaim.trusted": "10.0.0.0/8"}
    on, off = (read_options(base | {label: value})[0] for value in ("true", "false"))
    assert on != off
    for spellings, meant in ((TRUE, on), (OFF, off)):
        for value in spellings:
            assert read_options(base | {label: value}) == (meant, [])
    for value in NEITHER:
        assert "must be true or false" in read_options(base | {label: value})[1][0]


def test_enable_switches_a_service_s_routers_off_in_every_spelling() -> None:
    assert [routers({"traefik.enable": value}) for value in sorted(TRUE)] == [1] * len(TRUE)
    assert [routers({"traefik.enable": value}) for value in OFF] == [0] * len(OFF)
    for value in NEITHER:
        found = planned(RULE | {"traefik.enable": value})
        assert found.services["w"].routers == []
        assert "must be true or false" in found.warnings["w"][0]


def test_tls_of_a_router_is_a_boolean_and_any_option_of_it_switches_it_on() -> None:
    def is_secure(**options: str) -> bool:
        labels = {f"{H}routers.web.{name.replace('_', '.')}": value for name, value in options.items()}
        (router,) = planned(RULE | labels).services["w"].routers
        return router.tls is not None

    assert all(is_secure(tls=value) for value in TRUE)
    assert not any(is_secure(tls=value) for value in OFF)
    assert is_secure(tls_certresolver="le")
    assert is_secure(**{"tls_domains[0]_main": "a"})
    assert not is_secure()
    assert "its tls 'yes' must be true or false" in planned(RULE | {H + "routers.web.tls": "yes"}).warnings["w"][0]


def test_any_option_of_sticky_or_healthcheck_switches_it_on() -> None:
    def options(**labels: str) -> tuple[str, str]:
        found = read_options({S + name.replace("_", "."): value for name, value in labels.items()})[0]
        return found.sticky_cookie, found.health.kind

    assert options() == ("", "tcp")
    assert options(sticky_cookie="true") == options(sticky_cookie_secure="true") == ("essaim", "tcp")
    assert options(sticky_cookie_samesite="lax")[0] == "essaim"
    assert options(sticky_cookie_name="x", sticky_cookie_httponly="1")[0] == "x"
    assert all(options(sticky_cookie=value)[0] == "" for value in OFF)
    assert options(healthcheck_interval="5s") == ("", "http")
    assert options(healthcheck_path="/x") == ("", "http")


NEEDED = {
    "addprefix": {"prefix": "/a"}, "basicauth": {"users": "a:{SHA}x="}, "forwardauth": {"address": "http://a"},
    "redirectregex": {"regex": "a", "replacement": "b"}, "redirectscheme": {"scheme": "https"},
    "stripprefix": {"prefixes": "/a"}, "inflightreq": {"amount": "1"}, "ratelimit": {"average": "1"},
}  # fmt: skip


def takes(kind: str, option: str, value: str) -> bool:
    try:
        make_middleware(kind, NEEDED.get(kind, {}) | {option: value})
    except ValueError:
        return False
    return True


BOOLEANS = [
    (kind, option)
    for kind, options in OPTIONS.items()
    for option, reason in options.items()
    if not reason and kind in NEEDED.keys() | {"headers"}
    if takes(kind, option, "true") and takes(kind, option, "false") and not takes(kind, option, "maybe")
]


def test_middlewares_have_booleans() -> None:
    assert {("basicauth", "removeheader"), ("redirectscheme", "permanent"), ("headers", "stspreload")} <= set(BOOLEANS)


@pytest.mark.parametrize(("kind", "option"), BOOLEANS)
def test_boolean_options_of_middlewares_know_go_s_spellings(kind: str, option: str) -> None:
    assert [value for value in (*TRUE, *OFF) if not takes(kind, option, value)] == []
    assert [value for value in NEITHER if takes(kind, option, value)] == []
