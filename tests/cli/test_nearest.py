"""Mistyped commands and flags get the nearest known one offered; docker's own commands are told apart."""

from typing import Any

import pytest

from essaim.cli.nearest import did_you_mean


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (("srvice", "ls"), "essaim: unknown command: essaim srvice. Did you mean service?"),
        (("service", "lst"), "essaim: unknown command: essaim service lst. Did you mean ls?"),
        (("service", "create", "--contraint", "a==b", "x"), "unknown flag: --contraint. Did you mean --constraint?"),
        (("node", "ls", "--fliter", "a=b"), "unknown flag: --fliter. Did you mean --filter?"),
        (("ps",), "essaim: unknown command: essaim ps. `docker ps` is about one host's containers"),
        (("qqq",), "essaim: unknown command: essaim qqq\n"),
        (("service", "ls", "--qqq"), "unknown flag: --qqq\n"),
    ],
)
async def test_mistyped_word_is_answered_with_the_nearest(essaim: Any, typed: tuple[str, ...], offered: str) -> None:
    done = await essaim(*typed)
    assert done.err.startswith(offered)
    assert done.code in (1, 125)


def test_nearest_offers_nothing_that_is_not_alike() -> None:
    assert did_you_mean("service", []) == did_you_mean("rm", ["ls", "inspect"]) == ""
