import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.errors import InvalidArgument, Unauthorized
from essaim.secrets.unlock import new_unlock_key, parse_unlock_key, unwrap, wrap


@given(st.integers(), st.binary(max_size=200))
def test_unlock_key_opens_what_it_wrapped_and_nothing_else(seed: int, text: bytes) -> None:
    chance = random.Random(seed)
    key, other = new_unlock_key(chance), new_unlock_key(chance)
    wrapped = wrap(text, key, chance)
    assert unwrap(wrapped, key) == text
    assert unwrap(wrapped, f" {key}\n") == text
    with pytest.raises(Unauthorized, match="swarm could not be unlocked: invalid key provided"):
        unwrap(wrapped, other)
    with pytest.raises(Unauthorized):
        unwrap(wrapped[:-1], key)


def test_unlock_key_has_swarms_form() -> None:
    key = new_unlock_key(random.Random(1))
    assert key.startswith("SWMKEY-1-")
    assert len(key) == len("SWMKEY-1-7c37Cc8654o6p38HnroywCi19pllOnGtbdZEgtKxZu8")
    assert len(parse_unlock_key(key)) == 32


@pytest.mark.parametrize("text", ["", "x", "SWMKEY-1-", "SWMKEY-1-aaa*aa/", "SWMKEY-2-" + "A" * 43, "SWMKEY-1-é"])
def test_unlock_key_in_another_form_is_refused_in_an_engines_words(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid key string"):
        parse_unlock_key(text)
