"""HTTP/2's codec by itself: HPACK beside the library hpack, frames at any split of the bytes, settings, priorities, and
the budget beside a naive second version."""

from itertools import pairwise

import hpack
import hpack.table
import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.codec.http2.budget import PER_SECOND, POINTS, PRICES, Budget, Glitch
from essaim.gateway.codec.http2.faults import ConnectionFault, ErrorCode
from essaim.gateway.codec.http2.frames import frame
from essaim.gateway.codec.http2.hpack import STATIC, Decoder, TooLarge, encode
from essaim.gateway.codec.http2.priority import in_order, read_priority
from essaim.gateway.codec.http2.reader import FrameReader
from essaim.gateway.codec.http2.request import trailer_lines
from essaim.gateway.codec.http2.response import fields_block, head_block

NAMES = st.sampled_from([b"a", b"x-long-name-" * 3, b":path", b"cookie", b"accept", b"user-agent", b"set-cookie"])
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=40) | st.sampled_from([b"", b"gzip, deflate", b"y" * 900])))


def test_static_table_is_the_librarys() -> None:
    assert list(STATIC[1:]) == [(bytes(name), bytes(value)) for name, value in hpack.table.HeaderTable.STATIC_TABLE]


@given(st.lists(st.tuples(FIELDS, st.none() | st.integers(0, 4096), st.booleans()), max_size=8))
def test_decoder_reads_what_the_library_writes(
    blocks: list[tuple[list[tuple[bytes, bytes]], int | None, bool]],
) -> None:
    encoder, decoder = hpack.Encoder(), Decoder(1 << 20)
    for fields, size, huffman in blocks:
        if size is not None:
            encoder.header_table_size = size
        before = decoder.generation
        block = encoder.encode([hpack.HeaderTuple(*field) for field in fields], huffman=huffman)
        assert decoder.decode(block) == fields
        if decoder.generation == before:
            # The same bytes mean the same again.
            assert decoder.decode(block) == fields


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6))
def test_decoder_judges_any_bytes_as_the_library_does(blocks: list[bytes]) -> None:
    library, decoder = hpack.Decoder(max_header_list_size=1 << 30), Decoder(1 << 30)
    library.max_allowed_table_size = 4096
    for block in blocks:
        try:
            wanted = [(bytes(name), bytes(value)) for name, value in library.decode(block, raw=True)]
        except hpack.HPACKError:
            wanted = None
        try:
            found = decoder.decode(block)
        except ConnectionFault as fault:
            found = None if fault.code is ErrorCode.COMPRESSION_ERROR else [(b"another fault", b"")]
        assert found == wanted
        if found is None:
            return


@given(FIELDS)
def test_encoded_fields_are_read_by_the_library_and_leave_its_table_alone(fields: list[tuple[bytes, bytes]]) -> None:
    library = hpack.Decoder()
    block = b"".join(encode(name, value) for name, value in fields)
    for _ in range(2):
        assert [(bytes(name), bytes(value)) for name, value in library.decode(block, raw=True)] == fields
    assert not library.header_table.dynamic_entries


def test_block_of_a_response_has_no_fields_of_the_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\nServer: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nX-A:  b \r\n"
    decoded = hpack.Decoder().decode(head_block(head), raw=True)
    assert [tuple(field) for field in decoded] == [(b":status", b"200"), (b"server", b"x"), (b"x-a", b"b")]
    assert head_block(head) is head_block(head)


@given(st.lists(st.tuples(st.sampled_from([b"x-a", b"x-b"]), st.sampled_from([b"", b"v", b"a: b"])), max_size=5))
def test_trailers_go_both_ways_unchanged(fields: list[tuple[bytes, bytes]]) -> None:
    decoded = hpack.Decoder().decode(fields_block(trailer_lines(fields)), raw=True)
    assert [(bytes(name), bytes(value)) for name, value in decoded] == fields


def test_fields_that_are_too_large_are_read_to_their_end_for_the_tables_sake() -> None:
    decoder = Decoder(100)
    with pytest.raises(TooLarge):
        decoder.decode(b"\x40\x01x\x64" + b"y" * 100 + b"\x40\x01z\x01v")
    assert decoder.decode(b"\xbe") == [(b"z", b"v")]


KINDS = st.sampled_from([0, 3, 4, 6, 8, 0x42])
HEAD_FLAGS = st.sampled_from([0, 4, 5, 0x0C, 0x24, 0x2D])
FRAMES = st.lists(
    st.one_of(
        st.tuples(KINDS, st.integers(0, 1), st.just(1), st.binary(max_size=30)),
        st.tuples(st.just(1), HEAD_FLAGS, st.sampled_from([0, 1, 3]), st.binary(max_size=30)),
        st.tuples(st.just(9), st.sampled_from([0, 4]), st.sampled_from([1, 3]), st.binary(max_size=30)),
        st.tuples(st.sampled_from([4, 6, 7]), st.just(0), st.just(0), st.binary(min_size=8, max_size=8)),
    ),
    max_size=8,
)  # fmt: skip


def read(pieces: list[bytes]) -> list[object]:
    """The frames that a reader gives, and the fault that ended it."""
    reader, found = FrameReader(60), list[object]()
    try:
        for piece in pieces:
            found += reader.feed(piece)
    except ConnectionFault as fault:
        found.append((fault.code, fault.reason))
    return found


@given(FRAMES, st.lists(st.integers(0, 400), max_size=12))
def test_frames_are_the_same_at_any_split_of_the_bytes(
    frames: list[tuple[int, int, int, bytes]], cuts: list[int]
) -> None:
    data = b"".join(frame(*one) for one in frames)
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    whole = read([data])
    assert read([data[start:end] for start, end in pairwise(places)]) == whole
    assert read([data[at : at + 1] for at in range(len(data))]) == whole


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b"", (3, False)), (b"u=0", (0, False)), (b"i", (3, True)), (b"u=5, i", (5, True)), (b"i=?0, u=7", (7, False)),
        (b"u=9", (3, False)), (b"u=-1", (3, False)), (b"what, u=2", (2, False)), (b"u=1;x=y, i;z", (1, True)),
        (b"u=1, u=4", (4, False)), (b"\xff;;", (3, False)), (b"ui=1", (3, False)),
    ],
)  # fmt: skip
def test_priority_field_is_read_as_the_standard_has_it(value: bytes, wanted: tuple[int, bool]) -> None:
    assert read_priority(value) == wanted


class Waiting:
    def __init__(self, number: int, urgency: int, incremental: bool) -> None:
        self.id, self.urgency, self.incremental = number, urgency, incremental


@given(st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=9))
def test_order_puts_no_stream_before_a_more_urgent_one(streams: list[tuple[int, bool]]) -> None:
    ordered = in_order([Waiting(number, *one) for number, one in enumerate(streams)])
    for before, after in pairwise(ordered):
        assert before.urgency <= after.urgency
        if before.urgency == after.urgency:
            assert (before.incremental, before.id) < (after.incremental, after.id)


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Glitch)), st.floats(0, 40), st.integers(1, 400)), max_size=20
    )
)  # fmt: skip
def test_budget_is_spent_and_paid_back_as_a_naive_one(steps: list[tuple[Glitch, float, int]]) -> None:
    now, naive = 100.0, POINTS
    budget = Budget(now)
    for glitch, pause, times in steps:
        now += pause
        naive = min(POINTS, naive + pause * PER_SECOND) - PRICES[glitch] * times
        if abs(naive) > 1e-6:
            assert budget.spend(glitch, now, times) == (naive >= 0)
        else:
            budget.spend(glitch, now, times)
    assert budget.glitches == sum(times for _, _, times in steps)
    assert set(PRICES) == set(Glitch)
