"""A document with public keys (RFC 7517), and which of them may check a signature.

Each key is bound to the algorithms of its kind, so that the head of a JWT cannot choose how its own signature is read:
no secret of ours is ever one, and a public key is never taken for a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jwt
import orjson

#: More are not read.
KEYS_MAX = 100
DOCUMENT_BYTES_MAX = 256 * 1024
_RSA_BITS_MIN = 2048
#: Algorithms by the kind of key, or by its curve.
_OF_RSA: tuple[str, ...] = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_OF_CURVES: dict[tuple[str, str], tuple[str, ...]] = {
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
#: Two names of one (RFC 9864).
_SAME = {"Ed25519": "EdDSA"}


class PublicKey(NamedTuple):
    kid: str | None
    algorithms: tuple[str, ...]
    key: Any  # of the library


class KeySet:
    """``skipped`` says why a key of the document is not used."""

    def __init__(self, keys: list[PublicKey], skipped: list[str]) -> None:
        self._keys = keys
        self.skipped = skipped

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"<KeySet {[key.kid for key in self._keys]}>"

    def candidates(self, kid: str | None, algorithm: str) -> list[PublicKey]:
        """The keys that a JWT with this head may have been signed with. One without ``kid`` may be of any."""
        fit = [key for key in self._keys if algorithm in key.algorithms]
        return fit if kid is None else [key for key in fit if key.kid == kid]


def read_keys(document: bytes) -> KeySet:
    """Raises ValueError, with a reason for operators: this is no such document, or no key in it can be used."""
    if len(document) > DOCUMENT_BYTES_MAX:
        raise ValueError(f"is over {DOCUMENT_BYTES_MAX // 1024} KiB")
    try:
        found = orjson.loads(document)
    except orjson.JSONDecodeError:
        raise ValueError("is not JSON") from None
    entries = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise ValueError('has no list "keys"')
    keys, skipped = [], []
    for entry in entries[:KEYS_MAX]:
        made = _key(entry) if isinstance(entry, dict) else "is not an object"
        if isinstance(made, str):
            skipped.append(made)
        else:
            keys.append(made)
    if not keys:
        raise ValueError("has no key that can check a signature" + (f": one {skipped[0]}" if skipped else ""))
    return KeySet(keys, skipped)


def _key(entry: Mapping[str, Any]) -> PublicKey | str:
    """The key, or why it is not used."""
    kid, kind, usage, operations = entry.get("kid"), entry.get("kty"), entry.get("use"), entry.get("key_ops")
    if usage not in (None, "sig") or (isinstance(operations, list) and "verify" not in operations):
        return "is not for signatures"
    algorithms = _OF_RSA if kind == "RSA" else _OF_CURVES.get((str(kind), str(entry.get("crv"))), ())
    if not algorithms:
        return "is of a kind that is not used"
    said = entry.get("alg")
    if said is not None:
        named = _SAME.get(said, said) if isinstance(said, str) else None
        algorithms = tuple(name for name in algorithms if name == named)
        if not algorithms:
            return "is for another algorithm than its kind has"
    public = {name: value for name, value in entry.items() if name not in ("d", "p", "q", "dp", "dq", "qi", "oth")}
    try:
        key = jwt.PyJWK.from_dict(public, algorithm=algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return "cannot be read"
    if kind == "RSA" and key.key_size < _RSA_BITS_MIN:
        return f"has fewer than {_RSA_BITS_MIN} bits"
    return PublicKey(kid if isinstance(kid, str) else None, algorithms, key)
