import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from essaim.daemon.merge import merge


async def numbers(*values: int, error: Exception | None = None) -> AsyncIterator[int]:
    for value in values:
        await asyncio.sleep(0)
        yield value
    if error:
        raise error


async def forever(closed: list[bool]) -> AsyncIterator[int]:
    try:
        while True:
            await asyncio.sleep(0)
            yield 0
    finally:
        closed.append(True)


async def test_merge_gives_everything_of_all_streams() -> None:
    assert sorted([item async for item in merge([numbers(1, 2), numbers(), numbers(3)])]) == [1, 2, 3]


async def test_merge_passes_an_error_on() -> None:
    with pytest.raises(ValueError, match="broken"):
        [item async for item in merge([numbers(1, error=ValueError("broken")), numbers(2)])]


async def test_merge_closed_early_closes_its_sources() -> None:
    closed: list[bool] = []
    async with aclosing(merge([forever(closed)])) as merged:
        assert await anext(merged) == 0
    assert closed == [True]
