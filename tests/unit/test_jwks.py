"""Which keys of a document may check a signature, and of which algorithm."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("jwt")

from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import example, given
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from router.identity.jwks import DOCUMENT_BYTES_MAX, KeySet, read_keys
from tests.support.issuer import SigningKey

RSA, EC, ED = SigningKey("RS256", "rsa"), SigningKey("ES256", "ec"), SigningKey("EdDSA", "ed")


def keys_of(*documents: Any) -> KeySet:
    return read_keys(json.dumps({"keys": documents}).encode())


def test_each_key_is_bound_to_the_algorithms_of_its_kind() -> None:
    found = keys_of(RSA.document, EC.document, ED.document)
    fits = {
        algorithm: [key.kid for key in found.candidates(None, algorithm)]
        for algorithm in ("RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA", "HS256", "none", "")
    }
    assert {algorithm: kids for algorithm, kids in fits.items() if kids} == {
        "RS256": ["rsa"],
        "RS512": ["rsa"],
        "PS256": ["rsa"],
        "ES256": ["ec"],
        "EdDSA": ["ed"],
    }
    assert [key.kid for key in found.candidates("ec", "ES256")] == ["ec"]
    assert found.candidates("ec", "RS256") == []
    assert found.candidates("other", "ES256") == []


@pytest.mark.parametrize(
    ("said", "fits"),
    [("RS256", ["RS256"]), ("PS256", ["PS256"]), (None, ["RS256", "PS256"])],
)
def test_a_key_may_say_its_one_algorithm(said: str | None, fits: list[str]) -> None:
    found = keys_of(RSA.document | ({"alg": said} if said else {}))
    assert [algorithm for algorithm in ("RS256", "PS256") if found.candidates(None, algorithm)] == fits


def test_ed25519_has_two_names() -> None:
    assert keys_of(ED.document | {"alg": "Ed25519"}).candidates("ed", "EdDSA")


SMALL = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True) | {"key_ops": ["verify"]}
NOT_FOR_SIGNATURES = ED.document | {"crv": "X25519"}


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}, "kind"),
        (EC.document | {"use": "enc"}, "not for signatures"),
        (EC.document | {"key_ops": ["encrypt"]}, "not for signatures"),
        (EC.document | {"alg": "HS256"}, "another algorithm"),
        (RSA.document | {"alg": "none"}, "another algorithm"),
        (EC.document | {"x": "!"}, "cannot be read"),
        (EC.document | {"y": EC.document["x"]}, "cannot be read"),
        ({"kty": "EC", "crv": "P-256", "kid": "x"}, "cannot be read"),
        (RSA.document | {"n": 5}, "cannot be read"),
        (SMALL, "2048 bits"),
        (NOT_FOR_SIGNATURES, "kind"),
        ("key", "not an object"),
        ({}, "kind"),
        ({"kty": ["RSA"]}, "kind"),
    ],
)
def test_keys_that_are_not_used(entry: Any, why: str) -> None:
    found = keys_of(entry, EC.document)
    assert (len(found), len(found.skipped)) == (1, 1)
    assert why in found.skipped[0]
    with pytest.raises(ValueError, match=why):
        keys_of(entry)


@pytest.mark.parametrize(
    "document",
    [b"", b"<html>", b"[]", b"{}", b'{"keys": {}}', b'{"keys": []}', b"\xff", b" " * (DOCUMENT_BYTES_MAX + 1)],
)
def test_what_is_no_such_document(document: bytes) -> None:
    with pytest.raises(ValueError):
        read_keys(document)


def test_a_private_key_that_was_published_by_mistake_is_read_without_its_private_part() -> None:
    private = RSAAlgorithm.to_jwk(RSA.private, as_dict=True)
    del private["key_ops"]
    found = keys_of(private | {"kid": "oops"})
    assert not hasattr(found.candidates("oops", "RS256")[0].key, "sign")


entries = st.dictionaries(
    st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "use", "kid", "key_ops", "d"]),
    st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "AQAB", "ES256", "", "sig"])
    | st.integers()
    | st.none()
    | st.lists(st.text(max_size=3), max_size=2),
)


@given(st.lists(entries, max_size=4))
@example([{"kty": "RSA", "alg": []}])
@example([{"kty": "EC", "crv": [], "use": {}}])
def test_no_document_is_a_fault(documents: list[dict[str, Any]]) -> None:
    try:
        found = keys_of(*documents, EC.document)
    except ValueError:
        raise AssertionError("the good key is used, whatever stands beside it") from None
    assert found.candidates("ec", "ES256")
