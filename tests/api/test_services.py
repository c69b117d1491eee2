"""/services: status codes, wording, versions and what needs new tasks."""

from typing import Any

import pytest
from msgspec.structs import replace

from essaim.cluster.changes import put
from essaim.cluster.service import UpdateStatus
from tests.api.conftest import Served

CONTAINER: dict[str, Any] = {"ContainerSpec": {"Image": "essaim/whoami"}}
RPC = "rpc error: code = "


async def spec_version(served: Served, name: str) -> int:
    manager = served.node.manager
    assert manager is not None
    service = manager.store.services.named(name)
    assert service is not None
    assert service.spec_version is not None
    return service.spec_version.index


async def update(served: Served, name: str, change: dict[str, Any], query: str = "", status: int = 200) -> Any:
    """Read, change, write back, as clients do."""
    current = await served.call("GET", f"/services/{name}")
    spec = current["Spec"] | change
    return await served.call(
        "POST", f"/services/{name}/update?version={current['Version']['Index']}{query}", spec, status
    )


async def test_service_is_found_by_id_name_and_prefix(served: Served) -> None:
    service_id = await served.create("web")
    for reference in (service_id, "web", service_id[:12]):
        assert (await served.call("GET", f"/v1.41/services/{reference}"))["ID"] == service_id
    assert await served.error("GET", "/services/nosuch") == (404, "service nosuch not found")


EXPANDING = RPC + "InvalidArgument desc = expanding "
NO_FOO = 'executing "expansion" at <.Foo>: can\'t evaluate field Foo in type *template.Context'
VOLUME: dict[str, Any] = {"Type": "volume", "Source": "a", "Target": "/x"}
# As Docker 20.10 answers, but for the last: there Go's language has what essaim's part of it does not.
UNFILLABLE: list[tuple[dict[str, Any], str]] = [
    (
        {"Env": ["A={{.Task.Slot}}", 'Q"=é\\ {{.Foo}}'], "Hostname": "{{"},
        f'env failed: expanding env "Q\\"=é\\\\ {{{{.Foo}}}}": template: expansion:1:6: {NO_FOO}',
    ),
    ({"Hostname": "{{.Foo}}"}, f"hostname failed: template: expansion:1:2: {NO_FOO}"),
    (
        {"Mounts": [VOLUME | {"Source": "{{.Foo}}"}], "Hostname": "{{"},
        f'mounts failed: expanding mount source "{{{{.Foo}}}}": template: expansion:1:2: {NO_FOO}',
    ),
    (
        {"Mounts": [VOLUME | {"Target": "/{{.Foo}}"}], "Image": "NO:1"},
        f'mounts failed: expanding mount target "/{{{{.Foo}}}}": template: expansion:1:3: {NO_FOO}',
    ),
    (
        {"Mounts": [VOLUME | {"VolumeOptions": {"Labels": {"k": "{{.Foo}}"}}}]},
        (
            'mounts failed: expanding volume labels: expanding map entry "k"="{{.Foo}}": '
            f"template: expansion:1:2: {NO_FOO}"
        ),
    ),
    (
        {"Mounts": [VOLUME | {"VolumeOptions": {"DriverConfig": {"Options": {"k": "{{.Foo}}"}}}}]},
        (
            'mounts failed: expanding volume driver config: expanding map entry "k"="{{.Foo}}": '
            f"template: expansion:1:2: {NO_FOO}"
        ),
    ),
    (
        {"Env": ["X={{.Task}}"]},
        (
            'env failed: expanding env "X={{.Task}}": the placeholder {{.Task}} is a group of fields; '
            "name one of: ID, Name, Slot"
        ),
    ),
]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"Name": "a b"}, 400, RPC + "InvalidArgument desc = name must be valid as a DNS name component"),
        ({"Name": "a" * 64}, 400, RPC + "InvalidArgument desc = name must be 63 characters or fewer"),
        ({"Mode": {"Global": {}, "Replicated": {}}}, 400, "must specify only one service mode"),
        (
            {"TaskTemplate": {"ContainerSpec": {}}},
            400,
            RPC + "InvalidArgument desc = ContainerSpec: image reference must be provided",
        ),
        ({"TaskTemplate": {**CONTAINER, "Runtime": "plugin"}}, 400, "mismatched Runtime and *Spec fields"),
        (
            {"TaskTemplate": {**CONTAINER, "Resources": {"Limits": {"MemoryBytes": 1}}}},
            400,
            RPC + "InvalidArgument desc = invalid memory value 1: Must be at least 4MiB",
        ),
        (
            {"EndpointSpec": {"Mode": "dnsrr", "Ports": [{"TargetPort": 80, "PublishedPort": 80}]}},
            400,
            RPC + "InvalidArgument desc = EndpointSpec: port published with ingress mode can't be used with dnsrr mode",
        ),
        ({"Networks": [{"Target": "nosuch"}]}, 500, "network nosuch not found"),
        *[
            ({"TaskTemplate": {"ContainerSpec": {"Image": "x", **container}}}, 400, f"{EXPANDING}{words}")
            for container, words in UNFILLABLE
        ],
        (
            {
                "TaskTemplate": {
                    "ContainerSpec": {
                        "Image": "x",
                        "Secrets": [{"SecretID": "n", "SecretName": "n", "File": {"Name": "n"}}],
                    }
                }
            },
            400,
            RPC + "InvalidArgument desc = secret not found: n",
        ),
        (
            {"TaskTemplate": {**CONTAINER, "Placement": {"Constraints": ["node.role"]}}},
            500,
            RPC + "Unknown desc = constraint expected one operator from ==, !=",
        ),
        ({"EndpointSpec": {"Ports": [{"TargetPort": 0}]}}, 400, "invalid TargetPort 0: use 1 to 65535"),
        ({"Mode": {"Replicated": {"Replicas": -1}}}, 400, "invalid Replicas -1: it cannot be negative"),
        ({"UpdateConfig": {"Order": "sideways"}}, 400, "unrecognized update order sideways"),
        ({"TaskTemplate": {}}, 400, "mismatched Runtime and *Spec fields"),
        ({"TaskTemplate": {**CONTAINER, "Runtime": "x"}}, 400, "unsupported runtime"),
        *[
            (
                {"Mode": mode, "UpdateConfig": {"Parallelism": 1}},
                400,
                RPC + "InvalidArgument desc = Jobs may not have an update config",
            )
            for mode in ({"ReplicatedJob": {}}, {"GlobalJob": {}})
        ],
    ],
)
async def test_service_create_with_a_mistake_says_so(
    served: Served, body: dict[str, Any], status: int, message: str
) -> None:
    assert await served.error("POST", "/services/create", {"Name": "web", "TaskTemplate": CONTAINER} | body) == (
        status,
        message,
    )


async def test_service_create_with_a_taken_name_or_port_names_the_owner(served: Served) -> None:
    ports = {"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]}
    service_id = await served.create("web", EndpointSpec=ports)
    taken = await served.error("POST", "/services/create", {"Name": "web", "TaskTemplate": CONTAINER})
    message = RPC + "AlreadyExists desc = name conflicts with an existing object: service web already exists"
    assert taken == (409, message)
    body = {"Name": "b", "TaskTemplate": CONTAINER, "EndpointSpec": ports}
    message = f"port '8080' is already in use by service 'web' ({service_id}) as an ingress port"
    assert await served.error("POST", "/services/create", body) == (400, RPC + "InvalidArgument desc = " + message)


async def test_ports_on_different_addresses_or_protocols_do_not_collide(served: Served) -> None:
    port = {"TargetPort": 80, "PublishedPort": 8080}
    await served.create("a", EndpointSpec={"Ports": [port | {"HostIP": "127.0.0.1"}]})
    await served.create("b", EndpointSpec={"Ports": [port | {"HostIP": "127.0.0.2"}]})
    await served.create("c", EndpointSpec={"Ports": [port | {"Protocol": "udp"}]})


async def test_port_left_open_is_chosen_and_kept_by_updates(served: Served) -> None:
    await served.create("a", EndpointSpec={"Ports": [{"TargetPort": 80}]})
    await served.create("b", EndpointSpec={"Ports": [{"TargetPort": 80}]})
    a, b = [await served.call("GET", f"/services/{name}") for name in "ab"]
    assert a["Endpoint"]["Ports"][0]["PublishedPort"] == 30000
    assert b["Endpoint"]["Ports"][0]["PublishedPort"] == 30001
    assert "PublishedPort" not in b["Spec"]["EndpointSpec"]["Ports"][0]
    await served.call("DELETE", "/services/a")
    await update(served, "b", {"Labels": {"x": "y"}})
    assert (await served.call("GET", "/services/b"))["Endpoint"] == b["Endpoint"]


async def test_service_without_a_name_is_given_one(served: Served) -> None:
    made = await served.call("POST", "/services/create", {"TaskTemplate": CONTAINER}, 201)
    assert (await served.call("GET", f"/services/{made['ID']}"))["Spec"]["Name"]


async def test_update_at_a_stale_version_is_out_of_sequence(served: Served) -> None:
    await served.create("web")
    status, message = await served.error("POST", "/services/web/update?version=1", {"TaskTemplate": CONTAINER})
    assert (status, message) == (500, "rpc error: code = Unknown desc = update out of sequence")
    status, message = await served.error("POST", "/services/web/update", {"TaskTemplate": CONTAINER})
    assert (status, message) == (400, "invalid service version '': strconv.ParseUint: parsing \"\": invalid syntax")


async def test_progress_of_an_update_makes_no_reading_stale(served: Served) -> None:
    """A script that updates a service twice used to be turned away when the scheduler began with the first update."""
    await served.create("web")
    read = (await served.call("GET", "/services/web"))["Version"]["Index"]
    manager = served.node.manager
    assert manager is not None
    service = manager.store.services.named("web")
    assert service is not None
    begun = UpdateStatus(state="updating", message="update in progress")
    await manager.writer.commit([put("services", replace(service, update_status=begun))])
    assert (await served.call("GET", "/services/web"))["Version"]["Index"] > read
    await served.call("POST", f"/services/web/update?version={read}", {"TaskTemplate": CONTAINER})
    stale = await served.error("POST", f"/services/web/update?version={read}", {"TaskTemplate": CONTAINER})
    assert stale == (500, f"{RPC}Unknown desc = update out of sequence")


async def test_rename_and_mode_change_are_refused(served: Served) -> None:
    await served.create("web")
    version = (await served.call("GET", "/services/web"))["Version"]["Index"]
    for body, message in (
        ({"Name": "other"}, "renaming services is not supported"),
        ({"Name": "web", "Mode": {"Global": {}}}, "service mode change is not allowed"),
    ):
        got = await served.error("POST", f"/services/web/update?version={version}", {"TaskTemplate": CONTAINER} | body)
        assert got == (501, f"{RPC}Unimplemented desc = {message}")


@pytest.mark.parametrize(
    ("change", "fresh"),
    [
        ({}, False),
        ({"Mode": {"Replicated": {"Replicas": 7}}}, False),
        ({"Labels": {"a": "b"}}, False),
        ({"Labels": {"traefik.http.services.web.loadbalancer.server.port": "80"}}, False),
        ({"Labels": {"traefik.http.services.web.loadbalancer.server.port": "81"}}, True),
        ({"Labels": {"traefik.http.middlewares.web.forwardauth.address": "http://web:81/"}}, True),
        ({"Labels": {"traefik.http.middlewares.web.forwardauth.address": "http://other:81/"}}, False),
        ({"UpdateConfig": {"Parallelism": 2}}, False),
        ({"EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 9090}]}}, False),
        ({"EndpointSpec": {"Ports": [{"TargetPort": 81, "PublishedPort": 8080}]}}, True),
        ({"TaskTemplate": {"ContainerSpec": {"Image": "essaim/whoami:2"}}}, True),
        ({"TaskTemplate": {**CONTAINER, "ForceUpdate": 1}}, True),
    ],
)
async def test_update_needs_new_tasks_only_when_tasks_differ(
    served: Served, change: dict[str, Any], fresh: bool
) -> None:
    await served.create("web", EndpointSpec={"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]})
    before = await spec_version(served, "web")
    assert await update(served, "web", change) == {"Warnings": None}
    assert (await spec_version(served, "web") > before) is fresh


async def test_rollback_exchanges_the_specifications_and_their_versions(served: Served) -> None:
    await served.create("web")
    first = await spec_version(served, "web")
    original = (await served.call("GET", "/services/web"))["Spec"]
    await update(served, "web", {"TaskTemplate": {"ContainerSpec": {"Image": "essaim/whoami:2"}}})
    second = await spec_version(served, "web")
    await update(served, "web", {}, "&rollback=previous")
    rolled = await served.call("GET", "/services/web")
    assert rolled["Spec"] == original
    assert rolled["PreviousSpec"]["TaskTemplate"]["ContainerSpec"]["Image"] == "essaim/whoami:2"
    assert rolled["UpdateStatus"]["State"] == "rollback_started"
    assert await spec_version(served, "web") == first
    await update(served, "web", {"TaskTemplate": {"ContainerSpec": {"Image": "essaim/whoami:3"}}})
    assert await spec_version(served, "web") > second
    assert "UpdateStatus" not in await served.call("GET", "/services/web")


async def test_rollback_without_a_previous_spec_is_refused(served: Served) -> None:
    service_id = await served.create("web")
    version = (await served.call("GET", "/services/web"))["Version"]["Index"]
    got = await served.error("POST", f"/services/web/update?version={version}&rollback=previous", {})
    assert got == (400, f"{RPC}FailedPrecondition desc = service {service_id} does not have a previous spec")


async def test_list_is_filtered_in_both_forms_and_ordered_by_id(served: Served) -> None:
    await served.create("web", Labels={"l1": "a"})
    await served.create("glob", Mode={"Global": {}})
    names = [s["Spec"]["Name"] for s in await served.call("GET", "/services")]
    ids = [s["ID"] for s in await served.call("GET", "/services")]
    assert set(names) == {"web", "glob"}
    assert ids == sorted(ids)
    for filters, expected in (
        ('{"name":["we"]}', ["web"]),
        ('{"name":{"we":true}}', ["web"]),
        ('{"label":{"l1=a":true},"mode":{"replicated":true}}', ["web"]),
        ('{"mode":["global"]}', ["glob"]),
        ('{"id":["nosuch"]}', []),
    ):
        found = await served.call("GET", f"/services?filters={filters}")
        assert [s["Spec"]["Name"] for s in found] == expected
    assert await served.error("GET", '/services?filters={"x":["y"]}') == (400, "Invalid filter 'x'")
    status, message = await served.error("GET", "/services?filters=nonsense")
    assert status == 400
    assert "invalid filter" in message


async def test_inner_fields_stay_inside(served: Served) -> None:
    await served.create("web")
    shown = await served.call("GET", "/services/web")
    assert set(shown) == {"ID", "Version", "CreatedAt", "UpdatedAt", "Spec", "Endpoint"}
    assert shown["Endpoint"] == {"Spec": {}}
    assert shown["CreatedAt"].endswith("Z")


async def test_old_clients_do_not_get_newer_fields(served: Served) -> None:
    await served.create("job", Mode={"ReplicatedJob": {"MaxConcurrent": 1}})
    new = await served.call("GET", "/v1.41/services/job")
    old = await served.call("GET", "/v1.40/services/job")
    assert "ReplicatedJob" in new["Spec"]["Mode"]
    assert "JobStatus" in new
    assert "ReplicatedJob" not in old["Spec"]["Mode"]
    assert "JobStatus" not in old


async def test_status_counts_tasks(served: Served) -> None:
    await served.create("web", Mode={"Replicated": {"Replicas": 3}})
    found = await served.call("GET", "/services?status=true")
    assert found[0]["ServiceStatus"] == {"RunningTasks": 0, "DesiredTasks": 3, "CompletedTasks": 0}


async def test_write_without_quorum_is_unavailable(served: Served) -> None:
    assert served.node.log is not None
    served.node.log.lost = True
    status, message = await served.error("POST", "/services/create", {"Name": "a", "TaskTemplate": CONTAINER})
    assert status == 503
    assert "does not have a leader" in message


async def test_registry_credentials_are_kept_hidden_and_follow_the_specification(served: Served) -> None:
    body = {"Name": "web", "TaskTemplate": CONTAINER}
    headers = {"X-Registry-Auth": "c2VjcmV0LW9uZQ=="}
    async with served.client.post("http://essaim/services/create", json=body, headers=headers) as reply:
        assert reply.status == 201
    manager = served.node.manager
    assert manager is not None

    def stored() -> str | None:
        service = manager.store.services.named("web")
        assert service is not None
        return service.registry_auth

    assert stored() == "c2VjcmV0LW9uZQ=="
    assert "c2VjcmV0LW9uZQ" not in str(await served.call("GET", "/services/web"))
    await update(served, "web", {"TaskTemplate": {**CONTAINER, "ForceUpdate": 1}}, "&registryAuthFrom=spec")
    assert stored() == "c2VjcmV0LW9uZQ=="
    status, message = await served.error("POST", "/services/web/update?version=1&registryAuthFrom=x", body)
    assert (status, "registryAuthFrom" in message) == (400, True)


async def test_defaults_are_shown_when_asked_for_and_only_then(served: Served) -> None:
    await served.create("web")
    plain = (await served.call("GET", "/services/web"))["Spec"]
    full = (await served.call("GET", "/services/web?insertDefaults=true"))["Spec"]
    listed = (await served.call("GET", "/services?insertDefaults=1"))[0]["Spec"]
    assert full == listed
    assert "UpdateConfig" not in plain
    assert "RestartPolicy" not in plain["TaskTemplate"]
    assert full["TaskTemplate"]["RestartPolicy"] == {"Condition": "any", "Delay": 5 * 10**9, "MaxAttempts": 0}
    assert full["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"] == 10 * 10**9
    for name in ("UpdateConfig", "RollbackConfig"):
        assert (full[name]["Parallelism"], full[name]["Monitor"], full[name]["FailureAction"]) == (
            1,
            5 * 10**9,
            "pause",
        )
