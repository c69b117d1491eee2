"""What is sealed comes back whole or not at all, and no nonce is used twice."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from essaim.secrets import sealing
from essaim.secrets.sealing import COUNT_BYTES, FRAME, MAGIC, SALT_BYTES, Sealer, Unreadable, new_data_key

KEY = bytes(range(32))
HEAD = len(MAGIC) + SALT_BYTES


@given(st.binary(max_size=2000))
def test_sealer_opens_what_any_sealer_of_its_key_sealed(text: bytes) -> None:
    sealed = Sealer(KEY, "log").seal(text)
    assert Sealer(KEY, "log").open(sealed) == text
    assert len(text) < 8 or text not in sealed[HEAD + COUNT_BYTES :]


@pytest.mark.parametrize("size", [0, 1, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, 2 * FRAME + 5])
def test_sealer_at_the_edges_of_frames_gives_back_the_text(size: int) -> None:
    text = bytes(size)
    assert Sealer(KEY, "log").open(Sealer(KEY, "log").seal(text)) == text


@given(st.binary(min_size=1, max_size=300), st.data())
def test_sealer_refuses_what_was_changed_cut_or_lengthened(text: bytes, data: st.DataObject) -> None:
    sealed = bytearray(Sealer(KEY, "log").seal(text))
    place = data.draw(st.integers(0, len(sealed) - 1))
    match data.draw(st.sampled_from(["change", "cut", "lengthen"])):
        case "change":
            sealed[place] ^= data.draw(st.integers(1, 255))
        case "cut":
            del sealed[place:]
        case _:
            sealed += data.draw(st.binary(min_size=1, max_size=50))
    with pytest.raises(Unreadable):
        Sealer(KEY, "log").open(bytes(sealed))


def test_sealer_refuses_another_key_another_kind_and_plain_text() -> None:
    sealed = Sealer(KEY, "log").seal(b"text")
    for other, words in ((Sealer(new_data_key(), "log"), "another key"), (Sealer(KEY, "snapshot"), "another key")):
        with pytest.raises(Unreadable, match=words):
            other.open(sealed)
    with pytest.raises(Unreadable, match="without encryption"):
        Sealer(KEY, "log").open(b"\x93\x93\x01\x02\x03")


def test_sealer_refuses_frames_that_were_swapped_or_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "FRAME", 10)
    monkeypatch.setattr(sealing, "_SEALED_FRAME", 10 + COUNT_BYTES + 16)
    sealed = Sealer(KEY, "log").seal(bytes(range(30)))
    head, size = sealed[:HEAD], 10 + COUNT_BYTES + 16
    one, two, three = (sealed[HEAD + i * size : HEAD + (i + 1) * size] for i in range(3))
    assert Sealer(KEY, "log").open(head + one + two + three) == bytes(range(30))
    for wrong in (two + one + three, one + three, one + two, two + three, b""):
        with pytest.raises(Unreadable):
            Sealer(KEY, "log").open(head + wrong)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=30))
def test_sealer_never_repeats_a_nonce_under_one_key(sizes: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "FRAME", 10)
        seen: list[bytes] = []
        for sealer in (Sealer(KEY, "log"), Sealer(KEY, "log")):
            for size in sizes:
                sealed = sealer.seal(bytes(size))
                salt, place = sealed[len(MAGIC) : HEAD], HEAD
                for frame in range(max(1, -(-size // 10))):
                    seen.append(salt + sealed[place : place + COUNT_BYTES])
                    place += COUNT_BYTES + min(10, size - frame * 10) + 16
                assert place == len(sealed)
        assert len(set(seen)) == len(seen)
