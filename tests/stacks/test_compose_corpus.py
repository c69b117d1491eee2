"""Shapes of public Compose files that no stack was made for: they deploy unchanged, and say what they lose."""

from pathlib import Path
from typing import Any

import pytest

from essaim.stacks.convert.convert import Stack, convert
from essaim.stacks.read.load import Document, Source, load
from essaim.stacks.render import render

from .test_compose import comparable, docker_compose_config

FOLDER = Path(__file__).parent / "corpus" / "compose"
VARIABLES = {
    "TZ": "UTC", "DBNAME": "mail", "CHECK_INTERVAL": "30s", "CHECK_TIMEOUT": "1m30s", "CHECK_RETRIES": "10",
    "BROKER_IMAGE": "example/broker:7", "PASSED_ON": "yes", "PIPE_UID": "1000",
}  # fmt: skip
NAMES = sorted(path.stem for path in FOLDER.glob("*.yml"))


def document(name: str, **options: Any) -> Document:
    return load([Source(f"{name}.yml", (FOLDER / f"{name}.yml").read_text())], VARIABLES, FOLDER, **options)


def stack(name: str) -> Stack:
    return convert(document(name), "ns")


@pytest.mark.parametrize("name", NAMES)
def test_corpus_reads_back_from_what_config_prints(name: str) -> None:
    first = document(name)
    again = load([Source("printed", render(first))], {}, Path("/elsewhere"))
    assert render(again) == render(first)
    services = {spec.name: spec for spec in convert(first, "ns").services}
    assert {spec.name: spec for spec in convert(again, "ns").services} == services


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mail", ["networks.mail.driver", "services.imap.volumes[0].bind.selinux",
                  "services.resolver.networks.mail.ipv4_address"]),
        ("tracker", ["services.web.build"]),
        ("pipeline", []),
    ],
)  # fmt: skip
def test_corpus_says_what_it_loses_and_nothing_else(name: str, said: list[str]) -> None:
    paths = [warning.split(": ")[1] for warning in stack(name).warnings]
    kinds = {path.rpartition(".")[2] for path in said}
    assert {path.rpartition(".")[2] for path in paths} == kinds
    assert len(paths) == len(said)


def test_addresses_and_ports_out_of_variables() -> None:
    found = {spec.name: spec for spec in stack("mail").services}
    ports = [found[name].endpoint_spec.ports for name in ("ns_sql", "ns_web")]  # type: ignore[union-attr]
    assert [(p.host_ip, p.published_port, p.target_port) for some in ports for p in some or ()] == [
        ("127.0.0.1", 13306, 3306), (None, 443, 443),
    ]  # fmt: skip


def test_dependencies_through_merge_keys_give_the_order() -> None:
    assert [spec.name for spec in stack("tracker").services] == [
        "ns_cache", "ns_broker", "ns_consumer", "ns_web", "ns_cron",
    ]  # fmt: skip
    needs = stack("pipeline").dependencies["ns_scheduler"]
    assert {(need.service, need.condition) for need in needs} == {
        ("ns_redis", "service_healthy"), ("ns_init", "service_completed_successfully"),
    }  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize("name", NAMES)
def test_corpus_is_what_docker_compose_makes_of_it(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.yml").write_text((FOLDER / f"{name}.yml").read_text())
    (tmp_path / "app").mkdir()
    variables = VARIABLES | {"HTTPS_BIND": "127.0.0.1"}  # it knows no empty address
    theirs = docker_compose_config(tmp_path, variables, f"{name}.yml")
    ours = load([Source("f", (tmp_path / f"{name}.yml").read_text())], variables, tmp_path)
    for section in ("services", "volumes", "networks"):
        mine, others = comparable(ours, section), comparable(theirs, section)
        different = {
            f"{name}.{key}": (own.get(key), others[name].get(key))
            for name, own in mine.items()
            for key in own | others[name]
            if own.get(key) != others[name].get(key)
        }
        assert different == {}
        assert set(mine) == set(others)
