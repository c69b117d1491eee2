"""Entry points from the command line."""

import re

import pytest

from essaim.daemon.settings import read_entry_points


def test_entry_points_are_added_moved_and_switched_off() -> None:
    assert read_entry_points(()) == {"web": 80, "websecure": 443}
    assert read_entry_points(("web=8080", "Mail = 25", "websecure=off")) == {"web": 8080, "mail": 25}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("web", "is not NAME=PORT"),
        ("=80", "is not NAME=PORT"),
        ("web=http", "'http' is neither a port nor off"),
        ("web=0", "is neither a port nor off"),
        ("other=443", "the entry points websecure and other have the same port 443"),
    ],
)
def test_entry_points_that_cannot_be_read_say_why(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        read_entry_points((text,))
