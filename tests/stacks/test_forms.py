"""Short and long forms mean the same; typed values; ports and mounts in all spellings."""

from collections.abc import Callable
from typing import Any

import pytest

from essaim.stacks.canonical.ports import parse_short
from essaim.stacks.read.load import Document
from essaim.stacks.source.tree import plain

Load = Callable[..., Document]


def service(load: Load, body: str, **options: Any) -> dict[str, Any]:
    text = f"services:\n  a:\n    image: x\n    {body}\n"
    text += "networks: {n: {}}\nvolumes: {v: {}}\nsecrets: {s: {file: f}}"
    found: dict[str, Any] = plain(load(text, **options).services["a"])
    return found


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("environment: [A=1, B=, 'C=x=y']", "environment: {A: 1, B: '', C: x=y}"),
        ("labels: [a=b, c]", "labels: {a: b, c: }"),
        ("command: sh -c 'echo a'", "command: [sh, -c, echo a]"),
        ("healthcheck: {test: curl x}", "healthcheck: {test: [CMD-SHELL, curl x]}"),
        ("dns: 1.1.1.1", "dns: [1.1.1.1]"),
        ("networks: [n]", "networks: {n: }"),
        ("secrets: [s]", "secrets: [{source: s}]"),
        ("ports: ['8080:80']", "ports: [{target: 80, published: 8080, protocol: tcp, mode: ingress}]"),
        ("ports: [80]", "ports: [{target: 80}]"),
        ("ports: ['80-81']", "ports: [{target: 80}, {target: 81}]"),
        ("ports: ['90-91:80-81/udp']", "ports: [{target: 80-81, published: 90-91, protocol: udp}]"),
        ("ports: ['10.0.0.5:443:80']", "ports: [{target: 80, published: '10.0.0.5:443'}]"),
        ("ports: ['10.0.0.5:443:80']", "ports: [{target: 80, published: '443', host_ip: 10.0.0.5}]"),
        ("ports: ['[::1]:443:80']", "ports: [{target: 80, published: '[::1]:443'}]"),
        ("ports: ['8080:80/http']", "ports: [{target: 80, published: 8080, app_protocol: http}]"),
        ("volumes: ['v:/x:ro']", "volumes: [{type: volume, source: v, target: /x, read_only: true}]"),
        ("volumes: ['./v:/x']", "volumes: [{type: bind, source: /project/v, target: /x}]"),
        ("volumes: [/x]", "volumes: [{type: volume, target: /x}]"),
        ("volumes: ['/a:/b:rslave']", "volumes: [{type: bind, source: /a, target: /b, bind: {propagation: rslave}}]"),
        ("volumes: ['v:/x:nocopy']", "volumes: [{type: volume, source: v, target: /x, volume: {nocopy: true}}]"),
        ("devices: ['/dev/a']", "devices: [{source: /dev/a, target: /dev/a, permissions: rwm}]"),
        ("devices: ['/dev/a:/dev/b:r']", "devices: [{source: /dev/a, target: /dev/b, permissions: r}]"),
        ("devices: ['/dev/a:rw']", "devices: [{source: /dev/a, permissions: rw}]"),
        ("extra_hosts: ['h=1.2.3.4', 'i:[::1]']", "extra_hosts: {h: 1.2.3.4, i: '::1'}"),
        ("gpus: all", "gpus: [{count: -1, capabilities: [gpu]}]"),
        ("build: ./x", "build: {context: ./x}"),
        ("mem_limit: 1g", "mem_limit: 1073741824"),
        ("stop_grace_period: 90s", "stop_grace_period: 1m30s"),
        ("privileged: 'true'", "privileged: true"),
        ("privileged: ${YES}", "privileged: true"),
        ("deploy: {replicas: '${TWO}'}", "deploy: {replicas: 2}"),
        ("ports: [{target: '${TWO}'}]", "ports: [{target: 2}]"),
        ("ulimits: {nofile: '${TWO}'}", "ulimits: {nofile: 2}"),
        ("secrets: [{source: s, mode: '0440'}]", "secrets: [{source: s, mode: 0440}]"),
        ("user: 1000", "user: '1000'"),
        ("expose: [80]", "expose: ['80']"),
        ("tmpfs: /run", "tmpfs: [/run]"),
        ("sysctls: [a.b=1]", "sysctls: {a.b: 1}"),
    ],
)
def test_two_spellings_are_one_meaning(short: str, long: str, document_of: Load) -> None:
    env = {"YES": "true", "TWO": "2"}
    assert service(document_of, short, env=env) == service(document_of, long, env=env)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [(80, None, "tcp")]), ("8080:80", [(80, 8080, "tcp")]),
        ("3000-3001", [(3000, None, "tcp"), (3001, None, "tcp")]),
        ("9000-9001:90", [(90, 9000, "tcp"), (90, 9001, "tcp")]), ("127.0.0.1::80", [(80, None, "tcp")]),
        ("53:53/UDP", [(53, 53, "udp")]), (":80", [(80, None, "tcp")]), ("0:80", [(80, None, "tcp")]),
    ],
)  # fmt: skip
def test_port_short_form_is_these_ports(text: str, expected: list[tuple[int, int | None, str]]) -> None:
    assert [(entry["target"], entry.get("published"), entry["protocol"]) for entry in parse_short(text)] == expected


def test_port_like_a_number_of_base_sixty_stays_a_port(document_of: Load) -> None:
    (port,) = service(document_of, "ports: [22:22]")["ports"]
    assert (port["published"], port["target"]) == (22, 22)


def test_windows_path_is_one_word(document_of: Load) -> None:
    (mount,) = service(document_of, "volumes: ['C:\\data:D:\\in:ro']")["volumes"]
    assert (mount["type"], mount["source"], mount["target"], mount["read_only"]) == ("bind", "C:\\data", "D:\\in", True)


def test_extension_fields_are_allowed_everywhere(document_of: Load) -> None:
    text = "x-a: 1\nservices: {a: {image: x, x-b: 1, deploy: {x-c: 1}, ports: [{target: 1, x-d: 1}]}}\n"
    text += "networks: {n: {x-e: 1}}"
    assert plain(document_of(text).extensions["x-a"]) == 1


def test_environment_file_gives_way_to_the_environment(document_of: Load) -> None:
    files = {"one.env": "A=1\nB=1\nC=1\n", "two.env": "B=2\nC=2\n"}
    body = "env_file: [one.env, {path: two.env, required: false}, {path: no.env, required: false}]\n"
    body += "    environment: {C: 3, D: }"
    found = service(document_of, body, files=files, env={"D": "4"})
    assert found["environment"] == {"A": "1", "B": "2", "C": "3", "D": "4"}


def test_environment_file_in_raw_format_is_taken_as_it_stands(document_of: Load) -> None:
    files = {"e": 'A="q" # c\nB=$HOME\n'}
    found = service(document_of, "env_file: [{path: e, format: raw}]", files=files)
    assert found["environment"] == {"A": '"q" # c', "B": "$HOME"}


def test_environment_file_whose_raw_reading_differs_is_warned_about(document_of: Load) -> None:
    text = "services: {a: {image: x, env_file: e}}"
    (warning,) = document_of(text, files={"e": 'PASS="x"\nOK=y\n'}).warnings
    assert "/project/e" in warning
    assert "(PASS)" in warning


def test_label_file_gives_way_to_labels(document_of: Load) -> None:
    found = service(document_of, "label_file: l\n    labels: {b: own}", files={"l": "a=1\nb=2\n"})
    assert found["labels"] == {"a": "1", "b": "own"}


def test_unset_variable_is_warned_about_once(document_of: Load) -> None:
    assert len(document_of("services: {a: {image: 'x${NOPE}', user: '$NOPE'}}").warnings) == 1


@pytest.mark.parametrize(
    ("profiles", "env", "names"),
    [
        (None, {}, ["a"]), (("dev",), {}, ["a", "b"]), (("*",), {}, ["a", "b", "c"]),
        (None, {"COMPOSE_PROFILES": "ops, dev"}, ["a", "b", "c"]),
    ],
)  # fmt: skip
def test_profiles_choose_services(
    profiles: tuple[str, ...] | None, env: dict[str, str], names: list[str], document_of: Load
) -> None:
    text = "services: {a: {image: x}, b: {image: x, profiles: [dev]}, c: {image: x, profiles: [ops]}}"
    assert list(document_of(text, profiles=profiles, env=env).services) == names
