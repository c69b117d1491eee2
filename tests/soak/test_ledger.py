"""The book against a naive second one: what a manager must, may and must not show."""

from hypothesis import given
from hypothesis import strategies as st

from .ledger import Book

NAMES = [f"n{number}" for number in range(6)]


def test_book_finds_a_lost_write_and_an_undone_removal() -> None:
    book = Book()
    for name in ("a", "b"):
        book.began(name)
        book.made(name, f"id of {name}")
    book.removing("b")
    book.gone("b")
    assert book.differences(["a"]) == []
    assert book.differences([]) == ["1 acknowledged writes are lost, a first"]
    assert book.differences(["a", "b"]) == ["1 acknowledged removals are undone, b first"]
    assert book.differences(["a", "x"]) == ["1 objects that nobody wrote, x first"]
    assert book.differences(["a", "a"]) == ["a name is shown twice"]


@given(
    fates=st.lists(st.sampled_from(["began", "made", "removing", "gone"]), min_size=6, max_size=6),
    shown=st.sets(st.sampled_from(NAMES)),
)
def test_book_agrees_with_a_table_of_fates(fates: list[str], shown: set[str]) -> None:
    book = Book()
    for name, fate in zip(NAMES, fates, strict=True):
        book.began(name)
        if fate != "began":
            book.made(name, name)
        if fate in ("removing", "gone"):
            book.removing(name)
        if fate == "gone":
            book.gone(name)
    must = {"began": None, "made": True, "removing": None, "gone": False}
    right = all(must[fate] in (None, name in shown) for name, fate in zip(NAMES, fates, strict=True))
    assert (book.differences(sorted(shown)) == []) == right
