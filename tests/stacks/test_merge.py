"""Several files, extends and include: what wins, what joins, what is removed."""

from collections.abc import Callable
from typing import Any

import pytest

from essaim.stacks.read.load import Document
from essaim.stacks.source.errors import Problem
from essaim.stacks.source.tree import plain

Load = Callable[..., Document]


def merged(load: Load, base: str, over: str) -> dict[str, Any]:
    texts = [f"services:\n  a:\n    image: x\n    {body}\n" for body in (base, over)]
    found: dict[str, Any] = plain(load(*texts).services["a"])
    return found


@pytest.mark.parametrize(
    ("base", "over", "key", "expected"),
    [
        ("user: a", "user: b", "user", "b"),
        ("command: a b", "command: [c]", "command", ["c"]),
        ("environment: [A=1, B=1]", "environment: {B: 2, C: 2}", "environment", {"A": "1", "B": "2", "C": "2"}),
        ("dns: 1.1.1.1", "dns: [8.8.8.8, 1.1.1.1]", "dns", ["1.1.1.1", "8.8.8.8"]),
        ("cap_add: [A]", "cap_add: !override [B]", "cap_add", ["B"]),
        ("cap_add: [A]", "cap_add: !reset []", "cap_add", None),
        ("user: a", "user: !reset null", "user", None),
        ("labels: {a: 1, b: 2}", "labels: {a: !reset null}", "labels", {"b": "2"}),
        ("healthcheck: {test: a, retries: 3}", "healthcheck: {test: b}", "healthcheck",
         {"test": ["CMD-SHELL", "b"], "retries": 3}),
        ("deploy: {replicas: 1, resources: {limits: {cpus: '1', memory: 1m}}}",
         "deploy: {resources: {limits: {cpus: '2'}}}",
         "deploy", {"replicas": 1, "resources": {"limits": {"cpus": "2", "memory": 1048576}}}),
        ("logging: {driver: a, options: {x: y}}", "logging: {driver: b}", "logging", {"driver": "b"}),
        ("logging: {driver: a, options: {x: y}}", "logging: {options: {z: 1}}", "logging",
         {"driver": "a", "options": {"x": "y", "z": "1"}}),
        ("user: a", "user: !reset {x: y}", "user", None),
        ("environment: {A: 1}", "environment: !reset [1, 2]", "environment", None),
        ("cap_add: [A, B]", "cap_add: [!reset A, C]", "cap_add", ["A", "B", "C"]),
        ("tmpfs: /a", "tmpfs: [/b, /a]", "tmpfs", ["/a", "/b"]),
        ("ulimits: {nofile: 1, nproc: 1}", "ulimits: {nofile: {soft: 1, hard: 2}}", "ulimits",
         {"nofile": {"soft": 1, "hard": 2}, "nproc": 1}),
    ],
)  # fmt: skip
def test_later_file_on_top_gives(base: str, over: str, key: str, expected: Any, document_of: Load) -> None:
    assert merged(document_of, base, over).get(key) == expected


def test_reset_of_a_whole_section_or_service_needs_no_shape(document_of: Load) -> None:
    base = "services: {a: {image: x}, b: {image: x}}\nnetworks: {n: {}}"
    document = document_of(base, "services: {b: !reset 5}\nnetworks: !reset text")
    assert (list(document.services), document.networks) == (["a"], {})


def test_ports_with_one_identity_are_replaced_and_others_joined(document_of: Load) -> None:
    found = merged(
        document_of, "ports: ['80:80', '443:443']", "ports: [{target: 80, published: 80, mode: host}, '90:90']"
    )
    ports = [(port["published"], port["mode"]) for port in found["ports"]]
    assert ports == [(80, "host"), (443, "ingress"), (90, "ingress")]


@pytest.mark.parametrize(
    ("below", "above", "count"),
    [
        ("'127.0.0.1:80:80'", "'10.0.0.1:80:80'", 2), ("'80:80/tcp'", "'80:80/udp'", 2), ("'80:80'", "'81:80'", 2),
        ("'80:80'", "'80:81'", 2), ("'127.0.0.1:80:80'", "'127.0.0.1:80:80'", 1),
    ],
)  # fmt: skip
def test_port_is_the_same_by_address_numbers_and_protocol(
    below: str, above: str, count: int, document_of: Load
) -> None:
    assert len(merged(document_of, f"ports: [{below}]", f"ports: [{above}]")["ports"]) == count


def test_mounts_of_one_target_are_replaced(document_of: Load) -> None:
    found = merged(document_of, "volumes: ['/a:/data', '/b:/b']", "volumes: ['/c:/data:ro']")
    assert [(mount["source"], mount["target"]) for mount in found["volumes"]] == [("/c", "/data"), ("/b", "/b")]


def test_generic_device_reservations_are_joined(document_of: Load) -> None:
    body = "deploy: {resources: {reservations: {devices: [{capabilities: [%s]}]}}}"
    found = merged(document_of, body % "gpu", body % "tpu")
    assert len(found["deploy"]["resources"]["reservations"]["devices"]) == 2


def test_second_document_of_a_file_is_merged_like_a_second_file(document_of: Load) -> None:
    assert plain(document_of("services: {a: {image: x}}\n---\nservices: {a: {user: u}}").services["a"])["user"] == "u"


def test_extends_takes_over_and_adds(document_of: Load) -> None:
    text = """
services:
  base: {image: x, environment: {A: 1, B: 1}, command: one}
  mid: {extends: base, environment: {B: 2}}
  top: {extends: {service: mid}, environment: {C: 3}, command: two}
"""
    found = plain(document_of(text).services["top"])
    assert found["environment"] == {"A": "1", "B": "2", "C": "3"}
    assert found["command"] == ["two"]
    assert "extends" not in found


def test_extends_of_another_file_starts_relative_paths_there(document_of: Load) -> None:
    files = {"sub/base.yml": "services: {b: {image: x, volumes: ['./d:/d'], env_file: e}}", "sub/e": "A=1\n"}
    text = "services: {a: {extends: {file: sub/base.yml, service: b}, volumes: ['./f:/f']}}"
    found = plain(document_of(text, files=files).services["a"])
    assert [mount["source"] for mount in found["volumes"]] == ["/project/sub/d", "/project/f"]
    assert found["environment"] == {"A": "1"}


def test_extends_over_several_folders_starts_in_that_of_each_file(document_of: Load) -> None:
    files = {
        "b/common.yml": "services: {m: {extends: {file: ../c/deep.yml, service: o}, volumes: ['./m:/m']}}",
        "c/deep.yml": "services: {o: {image: deep, volumes: ['./o:/o']}}",
    }
    found = document_of("services: {a: {extends: {file: b/common.yml, service: m}}}", files=files).services["a"]
    assert [mount["source"] for mount in plain(found)["volumes"]] == ["/project/c/o", "/project/b/m"]


def test_extends_in_a_circle_over_files_is_refused(problems_of: Callable[..., list[Problem]]) -> None:
    files = {"b.yml": "services: {b: {extends: {file: c.yml, service: c}}}",
             "c.yml": "services: {c: {extends: {file: b.yml, service: b}}}"}  # fmt: skip
    found = problems_of("services: {a: {extends: {file: b.yml, service: b}}}", files=files)
    assert "extends itself" in found[0].message


def test_include_adds_resources_with_paths_and_variables_of_its_folder(document_of: Load) -> None:
    files = {
        "sub/c.yml": "services: {b: {image: 'x:${TAG}', volumes: ['./d:/d']}}\nnetworks: {n: {}}",
        "sub/.env": "TAG=7\n",
    }
    document = document_of("include: [sub/c.yml]\nservices: {a: {image: y, networks: [n]}}", files=files)
    assert list(document.services) == ["b", "a"]
    assert plain(document.services["b"])["image"] == "x:7"
    assert plain(document.services["b"])["volumes"][0]["source"] == "/project/sub/d"


def test_include_in_long_form_takes_its_environment_file_and_folder(document_of: Load) -> None:
    files = {"sub/c.yml": "services: {b: {image: 'x:${TAG}', volumes: ['./d:/d']}}", "e": "TAG=9\n"}
    text = "include: [{path: [sub/c.yml], env_file: e, project_directory: other}]\nservices: {a: {image: y}}"
    found = plain(document_of(text, files=files).services["b"])
    assert (found["image"], found["volumes"][0]["source"]) == ("x:9", "/project/other/d")


def test_include_twice_by_two_ways_is_one(document_of: Load) -> None:
    files = {"b.yml": "include: [d.yml]", "c.yml": "include: [d.yml]", "d.yml": "services: {d: {image: x}}"}
    assert list(document_of("include: [b.yml, c.yml]", files=files).services) == ["d"]


def test_include_that_defines_a_name_again_is_refused(problems_of: Callable[..., list[Problem]]) -> None:
    files = {"b.yml": "services: {a: {image: z}}"}
    (found,) = problems_of("include: [b.yml]\nservices: {a: {image: y}}", files=files)
    assert "differently in an included file" in found.message


def test_include_in_a_circle_is_refused(problems_of: Callable[..., list[Problem]]) -> None:
    files = {"b.yml": "include: [c.yml]", "c.yml": "include: [b.yml]"}
    (found,) = problems_of("include: [b.yml]", files=files)
    assert "includes itself" in found.message
