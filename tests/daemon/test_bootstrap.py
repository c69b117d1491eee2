"""The first objects of a cluster."""

from essaim.daemon.node.bootstrap import pool_of


def test_pool_is_shown_as_docker_shows_it() -> None:
    assert pool_of([], 0) == ["10.0.0.0/8"]
    assert pool_of([], 24) == []
    assert pool_of(["10.9.0.0/16"], 24) == ["10.9.0.0/16"]
