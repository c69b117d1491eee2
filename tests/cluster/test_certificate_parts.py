"""Any book comes out of its parts as it went in, whatever was there before."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster import wire
from essaim.cluster.certificate_parts import Assembly, WrongBase, parts_between
from essaim.cluster.certificates import Certificate, CertificateBook, HttpChallenge

CERTIFICATES = st.lists(
    st.builds(
        Certificate,
        name=st.sampled_from([f"secret {letter}" for letter in "abcdefgh"]),
        chain=st.text("c", max_size=30),
        key=st.text("k", max_size=30),
    ),
    unique_by=lambda one: one.name,
).map(lambda some: sorted(some, key=lambda one: one.name))
BOOKS = st.lists(CERTIFICATES, min_size=1, max_size=6)


@given(BOOKS, st.integers(1, 80))
def test_books_come_out_of_their_parts_as_they_went_in(books: list[list[Certificate]], limit: int) -> None:
    assembly, old = Assembly(), None
    for version, certificates in enumerate(books):
        book = CertificateBook(
            version=version,
            certificates=certificates,
            http_challenges=[HttpChallenge(token=f"t{version}", answer="x")],
        )
        made = []
        for part in parts_between(old, book, limit):
            assert sum(len(one.chain) + len(one.key) for one in part.book.certificates[:-1]) <= limit
            message = wire.decode_to_agent(wire.encode(wire.Certificates(part)))
            assert isinstance(message, wire.Certificates)
            made.append(assembly.take(message.part))
        assert made[:-1] == [None] * (len(made) - 1)
        assert made[-1] == book
        old = book


def test_change_of_another_book_is_refused() -> None:
    one = CertificateBook(version=1)
    (part,) = parts_between(one, CertificateBook(version=2))
    with pytest.raises(WrongBase):
        Assembly().take(part)


def test_only_what_is_different_travels() -> None:
    many = [Certificate(name=f"secret {n}", chain="c" * 5000, key="k" * 200) for n in range(1000)]
    old = CertificateBook(version=1, certificates=many)
    new = msgspec.structs.replace(old, version=2, http_challenges=[HttpChallenge(token="t", answer="a")])
    (part,) = parts_between(old, new)
    assert len(wire.encode(wire.Certificates(part))) < 1000
    whole = [len(wire.encode(wire.Certificates(part))) for part in parts_between(None, new)]
    assert len(whole) > 1
    assert max(whole) < 5 << 20
