"""Addresses of Engines, as flags and DOCKER_HOST write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.agent.runtime.docker.engine import Engine
from essaim.cluster.engine_address import DEFAULT_ENGINE, EngineAddress, parse_engine


@pytest.mark.parametrize(
    ("url", "expected", "authority"),
    [
        (DEFAULT_ENGINE, EngineAddress(socket="/var/run/docker.sock"), "docker"),
        ("unix:///a?b#c", EngineAddress(socket="/a?b#c"), "docker"),
        ("unix://relative.sock", EngineAddress(socket="relative.sock"), "docker"),
        ("tcp://10.0.0.1:2376", EngineAddress(host="10.0.0.1", port=2376), "10.0.0.1:2376"),
        ("tcp://engine.example", EngineAddress(host="engine.example", port=2375), "engine.example:2375"),
        ("http://engine.example/", EngineAddress(host="engine.example", port=2375), "engine.example:2375"),
        ("tcp://[::1]:1", EngineAddress(host="::1", port=1), "[::1]:1"),
        ("tcp://[::1]", EngineAddress(host="::1", port=2375), "[::1]:2375"),
    ],
)
def test_address_in_every_form(url: str, expected: EngineAddress, authority: str) -> None:
    assert parse_engine(url) == expected
    assert expected.authority == authority


@pytest.mark.parametrize(
    "url",
    ["", "unix://", "ftp://x", "ssh://host", "tcp://", "tcp://:1", "tcp://a:b", "tcp://a:99999", "tcp://a:0", "tcp://[::1",
     "http://a/path", "http://a?x=1", "http://user@a", "a:1", "x" * 5000],
)  # fmt: skip
def test_what_is_no_address_says_which_forms_there_are(url: str) -> None:
    with pytest.raises(
        ValueError, match="is no address of a Docker Engine: use unix://PATH, http://HOST:PORT"
    ) as refused:
        parse_engine(url)
    assert len(str(refused.value)) < 350


@given(st.sampled_from(["", "tcp://", "http://", "unix://"]), st.text(max_size=30))
def test_any_text_is_an_address_or_refused(scheme: str, text: str) -> None:
    found, said = None, ""
    try:
        found = parse_engine(scheme + text)
    except ValueError as error:
        said = str(error)
    assert bool(found.socket) != bool(found.host) if found else "is no address of a Docker Engine" in said


def test_client_of_what_is_no_address_is_not_made() -> None:
    with pytest.raises(ValueError, match="is no address"):
        Engine("ftp://x")
