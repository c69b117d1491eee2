"""Fields of one hop go no further."""

import re

import pytest

from essaim.gateway.codec.hop_by_hop import HOP_BY_HOP

from .plane import Plane


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP - {b"connection", b"upgrade"}))
def test_plane_field_of_one_hop_is_not_sent_to_the_replica_in_either_spelling(name: bytes) -> None:
    plane = Plane()
    under = name.replace(b"-", b"_")
    plane.ask(b"GET / HTTP/1.1\r\nHost: a\r\n" + name + b": 1\r\n" + under + b": 2\r\nX-Kept: 3\r\n\r\n")
    assert b"X-Kept: 3\r\n" in plane.far.written
    assert not re.search(rb"(?mi)^(%b|%b):" % (name, under), plane.far.written)
