"""Replacements as Go makes them, and answers of the gateway's own that pass the middlewares before."""

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.routing.middlewares.build import make_middleware
from essaim.gateway.routing.middlewares.expansion import Expansion
from essaim.gateway.routing.paths import spelled

from .test_forward_auth_plane import GET, NO, Asking
from .test_middleware_options import made_call


@pytest.mark.parametrize(
    ("pattern", "replacement", "text", "found"),
    [
        ("^/a/(.*)", "/n/$1/m", "/a/b", "/n/b/m"),
        ("^/(a)/", "/${1}x/", "/a/b", "/ax/b"),
        ("^/(a)/", "/$1x/", "/a/b", "//b"),
        ("(?P<x>a)", "<$x>", "aa", "<a><a>"),
        ("(a)(z)?", "[$2]", "a", "[]"),
        ("a", "$$1", "a", "$1"),
        ("a", "$", "a", "$"),
        ("a", "\\1", "a", "\\1"),
        (".*", "x", "abc", "x"),
        ("b*", "-", "abc", "-a-c-"),
        ("", "-", "ab", "-a-b-"),
        ("z", "-", "ab", "ab"),
    ],
)
def test_expansion_is_gos(pattern: str, replacement: str, text: str, found: str) -> None:
    assert Expansion(pattern, replacement).replace(text.encode()).decode() == found


@given(st.text(alphabet="ab/", max_size=8), st.sampled_from(["a*", "b+", "a|", "(a)?b", "/", ""]))
def test_expansion_of_all_that_is_matched_is_the_text_itself(text: str, pattern: str) -> None:
    assert Expansion(f"({pattern})", "$1").replace(text.encode()).decode() == text


@given(st.binary(max_size=30))
def test_spelled_path_is_valid_and_means_the_same(path: bytes) -> None:
    found = spelled(path)
    assert all(0x21 <= byte < 0x7F for byte in found)
    assert unquote_to_bytes(found) == unquote_to_bytes(path)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("redirectregex", {"regex": "^(.*)$", "replacement": "$1"}),
        ("redirectregex", {"regex": "^https://", "replacement": "http://b/"}),
        ("redirectscheme", {"scheme": "http"}),
    ],
)
def test_request_that_is_where_it_belongs_is_not_redirected(kind: str, options: dict[str, str]) -> None:
    make_middleware(kind, options)(made_call())


async def test_answer_of_the_gateway_passes_the_middlewares_that_the_request_had_passed() -> None:
    plane = Asking(first={"customresponseheaders.X-B": "4", "accesscontrolalloworiginlist": "*"})
    plane.ask(GET)
    await plane.reply(NO)
    assert b"\r\nX-B: 4\r\n" in plane.near.written
    assert b"\r\nAccess-Control-Allow-Origin: *\r\n" in plane.near.written
    assert plane.near.written.endswith(b"\r\n\r\nno")
    # A refusal that no middleware has to do with is not touched, whatever the last request had passed.
    plane.connection.data_received(b"GET / HTTP/9.9\r\n\r\n")
    assert plane.near.written.count(b"X-B: 4") == 1
