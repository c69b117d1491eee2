"""Frames between members: four bytes of length, then a MessagePack array of messages.

Beside the core's messages there are those of the nodes: proposals and membership changes that a follower forwards.
A forwarded proposal belongs to the term that its sender knew; the leader takes it in that term or refuses it. That is
what makes repeating safe: once an entry of a later term is applied, a proposal that was not applied never will be.
"""

import struct
from collections.abc import Sequence

import msgspec

from essaim.raft.core.members import Change
from essaim.raft.core.messages import AnyMessage, Message

FRAME_MAX = 64 << 20
_LENGTH = struct.Struct("<I")


class Forward(Message, frozen=True, tag=20):
    """Proposals (key, command) for the leader of `term`."""

    proposals: list[tuple[int, bytes]]


class ForwardRefused(Message, frozen=True, tag=21):
    """The proposals with these keys, sent in the term `proposed`, were not taken in it, and will not be.

    Their sender may have sent them again in a later term by now, where they may well be taken: `proposed` tells.
    """

    proposed: int
    keys: list[int]


class Control(Message, frozen=True, tag=22):
    """A membership change, or a transfer to a member, for the leader to decide."""

    key: int
    changes: list[Change]
    transfer: int = 0
    force: bool = False


class ControlReply(Message, frozen=True, tag=23):
    """`index`: the entry of the change; or why it is refused. `again`: it may go better a little later."""

    key: int
    index: int
    error: str = ""
    again: bool = False


WireMessage = AnyMessage | Forward | ForwardRefused | Control | ControlReply
_encoder = msgspec.msgpack.Encoder()
_decode = msgspec.msgpack.Decoder(list[WireMessage]).decode


def encode_frame(messages: Sequence[Message]) -> bytearray:
    buffer = bytearray(_LENGTH.size)
    _encoder.encode_into(messages, buffer, _LENGTH.size)
    _LENGTH.pack_into(buffer, 0, len(buffer) - _LENGTH.size)
    return buffer


class FrameReader:
    """Puts frames together from what arrives. `feed` raises `ValueError` on anything that is not a frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[WireMessage]:
        self._buffer += data
        messages: list[WireMessage] = []
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > FRAME_MAX:
                raise ValueError(f"a frame of {length} bytes; {FRAME_MAX} is the limit")
            end = start + _LENGTH.size + length
            if end > len(self._buffer):
                break
            with memoryview(self._buffer) as view:
                messages += _decode(view[start + _LENGTH.size : end])
            start = end
        del self._buffer[:start]
        return messages
