"""What a gateway can serve, and the reason why not."""

import base64
import contextlib
import itertools
import random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from essaim.certificates.pem import BadCertificate, read_authority, read_pair
from tests.certificates import made


def subjects(chain: str) -> list[str]:
    return [one.subject.rfc4514_string() for one in x509.load_pem_x509_certificates(chain.encode())]


def test_pair_is_read_with_names_and_times() -> None:
    found = read_pair(made.pair("Shop.Example.org", "*.shop.example.org", "192.0.2.7"))
    assert found.names == ("*.shop.example.org", "192.0.2.7", "shop.example.org")
    assert found.not_before < found.not_after
    assert len(subjects(found.chain)) == 2
    assert "PRIVATE" not in repr(found)


def test_pair_of_two_files_equals_that_of_one() -> None:
    chain, key = made.issued("a.example.org")
    assert read_pair(b"".join(chain), key) == read_pair(b"".join([*chain, key]))


def test_any_order_of_blocks_gives_the_same_chain() -> None:
    chain, key = made.issued("a.example.org")
    blocks = [*chain, made.root().cert_pem.bytes(), key]
    expected = read_pair(*blocks)
    assert len(subjects(expected.chain)) == 3
    for order in itertools.permutations(blocks):
        assert read_pair(b"some words between\n".join(order)) == expected


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_chain_order_is_what_a_naive_walk_finds(data: st.DataObject) -> None:
    """The naive one: from the leaf to the only certificate whose subject is the issuer, by name alone."""
    depth = data.draw(st.integers(0, 4))
    authorities = AUTHORITIES[:depth]
    leaf = authorities[-1].issue_cert("x.example.org", key_type=made.trustme.KeyType.ECDSA) if authorities else None
    if leaf is None:
        return
    parts = [leaf.cert_chain_pems[0].bytes(), *(one.cert_pem.bytes() for one in authorities)]
    by_subject = {x509.load_pem_x509_certificate(part).subject: part for part in parts}
    naive, seen = [parts[0]], {parts[0]}
    while (following := by_subject.get(x509.load_pem_x509_certificate(naive[-1]).issuer)) and following not in seen:
        naive.append(following)
        seen.add(following)
    random.Random(data.draw(st.integers())).shuffle(parts)
    found = read_pair(*parts, leaf.private_key_pem.bytes())
    expected = [x509.load_pem_x509_certificate(one).subject.rfc4514_string() for one in naive]
    assert subjects(found.chain) == expected


AUTHORITIES = [made.trustme.CA(organization_name="o0", key_type=made.trustme.KeyType.ECDSA)]
for _number in range(3):
    AUTHORITIES.append(AUTHORITIES[-1].create_child_ca(key_type=made.trustme.KeyType.ECDSA))


def test_pair_without_alternative_names_has_its_common_name() -> None:
    assert read_pair(made.self_signed("Intern.example")).names == ("intern.example",)
    assert read_pair(made.self_signed("Some Department")).names == ()


CHAIN, KEY = made.issued("a.example.org")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no certificate in PEM"),
        (KEY, "no certificate in PEM"),
        (b"".join(CHAIN), "no private keys"),
        (b"".join(CHAIN) + made.encrypted(), "is encrypted"),
        (b"".join(CHAIN) + made.encrypted(traditional=True), "is encrypted"),
        (b"".join(CHAIN) + made.issued("b.example.org")[1], "does not belong to the certificate"),
        (b"".join(CHAIN) + KEY + made.issued("b.example.org")[1], "holds 2 private keys"),
        (made.pair("a.example.org") + b"".join(made.issued("b.example.org")[0][:1]), "is of another chain"),
        (made.self_signed("a.example.org", "a.example.org", rsa_bits=1024), "1024 bits"),
        (CHAIN[0].replace(b"MII", b"AAA", 1) + KEY, "certificate 1 in it cannot be read"),
        (b"".join(CHAIN) + KEY.replace(b"M", b"A", 1), "cannot be read: it is damaged"),
        (
            made.pair("a.example.org") + b"-----BEGIN PGP MESSAGE-----\nAA==\n-----END PGP MESSAGE-----\n",
            "'PGP MESSAGE'",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_reason(data: bytes, words: str) -> None:
    with pytest.raises(BadCertificate, match=words) as refusal:
        read_pair(data)
    assert "BEGIN PRIVATE" not in str(refusal.value)


def test_a_serial_number_that_is_not_positive_is_served_without_a_warning() -> None:
    """Some authorities of the nineties made them; OpenSSL takes them."""
    chain, key = made.issued("a.example.org")
    der = bytearray(x509.load_pem_x509_certificate(chain[0]).public_bytes(Encoding.DER))
    serial = der.index(b"\xa0\x03\x02\x01\x02\x02") + 7
    der[serial] |= 0x80
    odd = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(bytes(der)) + b"-----END CERTIFICATE-----\n"
    assert read_pair(odd, key).names == ("a.example.org",)


@given(st.binary(max_size=300), st.integers(0, 3000), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_damage_never_raises_anything_but_the_refusal(junk: bytes, place: int, byte: int) -> None:
    data = bytearray(made.pair("a.example.org"))
    data[place % len(data)] = byte
    for one in (bytes(data), junk, bytes(data[:place]) + junk):
        with contextlib.suppress(BadCertificate):
            read_pair(one)


def test_authorities_are_read_and_leaves_refused() -> None:
    bundle = made.root().cert_pem.bytes() + made.intermediate().cert_pem.bytes()
    assert len(subjects(read_authority(bundle))) == 2
    with pytest.raises(BadCertificate, match="is not an authority's"):
        read_authority(CHAIN[0])
    with pytest.raises(BadCertificate, match="no certificate"):
        read_authority(b"words")
