"""Join tokens: their form, and that only the right ones are taken."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.secrets import tokens

SAMPLE = "SWMTKN-1-5qr0y079crsw02l0llcug4mj4m0juwyqe7lvzfxzs46u29uzbe-6awad1z6kqjuuy5mrj87pgzvb"


@given(st.binary(min_size=32, max_size=32), st.integers())
def test_token_of_any_digest_parses_to_itself(digest: bytes, seed: int) -> None:
    token = tokens.generate(digest, random.Random(seed))
    text = str(token)
    assert len(text) == len(SAMPLE)
    assert tokens.parse(text) == token
    assert token.matches(text)


def test_token_recorded_from_a_swarm_round_trips() -> None:
    assert str(tokens.parse(SAMPLE)) == SAMPLE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bad",
        SAMPLE[:-1],
        SAMPLE + "0",
        SAMPLE.upper(),
        SAMPLE.replace("SWMTKN-1", "SWMTKN-2"),
        SAMPLE.replace("-5qr", "-zzz"),
        SAMPLE.replace("5qr0", "5q-0"),
    ],
)
def test_token_that_is_malformed_is_refused(text: str) -> None:
    with pytest.raises(tokens.InvalidToken, match="invalid join token"):
        tokens.parse(text)


def test_rotated_token_keeps_the_cluster_and_changes_the_secret() -> None:
    rotated = tokens.rotate(SAMPLE, random.Random(1))
    assert tokens.parse(rotated).digest == tokens.parse(SAMPLE).digest
    assert not tokens.parse(SAMPLE).matches(rotated)


def test_token_trusts_only_its_own_root() -> None:
    token = tokens.generate(tokens.root_digest(b"root"), random.Random(1))
    assert token.trusts(b"root")
    assert not token.trusts(b"other")


def test_token_does_not_show_its_secret_in_logs() -> None:
    token = tokens.parse(SAMPLE)
    assert token.secret not in repr(token)


def test_digest_of_wrong_length_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        tokens.generate(b"short", random.Random(1))
