"""Names in Traefik's labels that clash are said at deploy, to whoever makes them clash."""

from typing import Any

from tests.api.conftest import Served
from tests.gateway.hostile import GROUPS, VALUES, all_of

R, M = "traefik.http.routers.", "traefik.http.middlewares."
USING = {
    R + "x.rule": "Host(`x`)",
    R + "x.middlewares": "auth@swarm",
    "traefik.http.services.x.loadbalancer.server.port": "80",
}


async def made(served: Served, name: str, labels: dict[str, str], stack: str = "") -> list[str]:
    """The warnings of the answer."""
    labels = labels | ({"com.docker.stack.namespace": stack} if stack else {})
    spec = {"Name": name, "Labels": labels, "TaskTemplate": {"ContainerSpec": {"Image": "essaim/whoami"}}}
    answer = await served.call("POST", "/services/create", spec, 201)
    return list(answer.get("Warnings") or [])


def auth(prefix: str) -> dict[str, str]:
    return {M + "auth.addprefix.prefix": prefix}


async def test_name_that_becomes_ambiguous_is_said_to_whoever_made_it_so(served: Served) -> None:
    assert await made(served, "user", USING) == []
    assert await made(served, "one", auth("/a"), "one") == []
    said = "router x is not served: the middleware 'auth' is defined differently by one, two: rename all but one"
    assert await made(served, "two", auth("/b"), "two") == [f"service user: {said}"]
    assert await made(served, "late", USING | {R + "x.rule": "Host(`y`)"}) == [said, f"service user: {said}"]


async def test_update_that_makes_names_clash_or_agree_is_answered_so(served: Served) -> None:
    for name, prefix in (("one", "/a"), ("two", "/a")):
        await made(served, name, auth(prefix), name)
    assert await made(served, "user", USING) == []
    for prefix, clashes in (("/b", True), ("/a", False)):
        now: dict[str, Any] = await served.call("GET", "/services/two")
        spec = now["Spec"] | {"Labels": now["Spec"]["Labels"] | auth(prefix)}
        answer = await served.call("POST", f"/services/two/update?version={now['Version']['Index']}", spec)
        assert bool(answer["Warnings"]) is clashes


async def test_own_and_stack_s_definitions_clash_with_nobody(served: Served) -> None:
    assert await made(served, "one", auth("/a"), "one") == []
    assert await made(served, "two", auth("/b") | USING, "two") == []
    assert await made(served, "three", USING, "two") == []


async def test_hostile_labels_of_another_service_cost_a_deploy_nothing(served: Served) -> None:
    for number, group in enumerate(sorted(set(GROUPS) - {"own"})):
        value = VALUES[number % len(VALUES)].encode("utf-8", "ignore").decode().replace("\0", "")
        await made(served, f"bad{number}", all_of(group, value))
    assert await made(served, "good", auth("/a") | USING, "good") == []


async def test_router_without_a_port_is_said_at_once(served: Served) -> None:
    rule = {R + "x.rule": "Host(`x`)"}
    (said,) = await made(served, "bare", rule)
    assert said.startswith(
        "router x is not served: the service 'bare' has no port that the gateway knows: add the label "
    )
    port = {"traefik.http.services.x.loadbalancer.server.port": "80"}
    assert await made(served, "told", {R + "x.rule": "Host(`y`)"} | port) == []
