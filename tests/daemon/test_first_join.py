"""`essaimd --join`: what the flags ask for, and how long it is tried."""

from pathlib import Path
from typing import Any

import pytest
import structlog

from essaim.api.node import JoinRequest
from essaim.cluster.errors import InvalidArgument, Unavailable
from essaim.daemon.membership.first_join import PAUSE, join_first, request_of
from essaim.daemon.settings import Settings

REQUEST = JoinRequest(["10.0.0.1:2377"], "SWMTKN-1-a-b")


def settings(**fields: Any) -> Settings:
    return Settings(state_dir=Path("state"), socket=Path("socket"), **fields)


class Node:
    """Answers each attempt with the next outcome; None lets it in."""

    def __init__(self, *outcomes: Exception | None, node_id: str = "") -> None:
        self.node_id = node_id
        self.outcomes = list(outcomes)
        self.asked: list[JoinRequest] = []

    async def join(self, request: JoinRequest) -> None:
        self.asked.append(request)
        outcome = self.outcomes.pop(0)
        if outcome is not None:
            raise outcome
        self.node_id = "n1"


async def join(node: Node) -> list[float]:
    """How long it paused between attempts."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    await join_first(node, REQUEST, sleep, structlog.get_logger())
    return pauses


def test_request_without_flags_is_none() -> None:
    assert request_of(settings()) is None


def test_request_of_both_flags_names_managers_and_token() -> None:
    assert request_of(settings(join=("10.0.0.1:2377",), token="SWMTKN-1-a-b")) == REQUEST


@pytest.mark.parametrize(
    ("fields", "says"),
    [({"join": ("10.0.0.1",)}, "--join needs a token"), ({"token": "t"}, "--token goes with --join")],
)
def test_request_with_half_of_the_flags_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        request_of(settings(**fields))


async def test_join_waits_for_managers_that_are_not_there_yet() -> None:
    node = Node(Unavailable("nobody there"), Unavailable("nobody there"), None)
    assert await join(node) == [PAUSE, PAUSE]
    assert node.asked == [REQUEST] * 3


async def test_join_that_is_refused_is_not_tried_again() -> None:
    node = Node(InvalidArgument("a wrong token"))
    with pytest.raises(InvalidArgument, match="a wrong token"):
        await join(node)
    assert len(node.asked) == 1


async def test_join_of_a_member_asks_nobody() -> None:
    node = Node(node_id="n1")
    assert await join(node) == []
    assert node.asked == []
