"""Clients that are answered while they still send."""

import pytest

from .plane import Plane


def test_plane_early_response_closes_after_it() -> None:
    plane = Plane()
    plane.ask(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx")
    far = plane.far
    plane.answer(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
    assert plane.near.written == b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert plane.near.ended
    assert far.closed


@pytest.mark.parametrize(("pieces", "ends"), [(0, 2.0), (5, 7.0), (100, 30.0)])
def test_plane_client_that_goes_on_sending_is_read_from_until_it_pauses(pieces: int, ends: float) -> None:
    """Ended at once, the connection would be reset, and the client might never see its answer."""
    plane = Plane()
    plane.ask(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx")
    plane.answer(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
    for _ in range(pieces):
        if plane.deadlines.now + 1 >= plane.connection.deadline:
            break
        plane.deadlines.now += 1
        plane.connection.data_received(b"y" * 100)
    assert plane.connection.deadline == ends
    plane.connection.expire()
    assert plane.near.closed
