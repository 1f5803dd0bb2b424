"""API keys: made, kept as keyed hashes, and looked up in a local snapshot.

A secret has 256 random bits, so one HMAC-SHA256 with the store's pepper is enough: it cannot be guessed, and a copy of
the store alone is useless. A key is looked up by its digest. An attacker cannot choose digests, so the time of a lookup
tells nothing about a secret.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson

from router.config import Plan
from router.errors import RouterError
from router.store.base import SECRET_PREFIX, Key
from router.words import plural

PEPPER_ENV = "ROUTER_KEY_PEPPER"
_CACHE_ENTRIES = 8192
#: Most keys that a line about a missing plan names.
_NAMED_MAX = 5
#: Most secrets of one key that were replaced and still work.
OLDER_MAX = 8

_log = logging.getLogger("router.store")


class Older(NamedTuple):
    """A secret that was replaced."""

    digest: str  # hex
    until_s: float  # wall clock


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as the store keeps it."""

    id: str
    name: str
    tenant: str
    plan: str
    created_s: float
    revoked: bool
    digest: str  # hex
    expires_s: float | None = None
    rotations: int = 0  # how often it was given a new secret
    older: tuple[Older, ...] = ()  # the one that ends first is the first

    def document(self) -> dict[str, Any]:
        """For JSON, with the id. Members that say nothing are left out: older routers can read the rest."""
        found = {name: getattr(self, name) for name in self.__slots__}
        found["older"] = tuple(map(tuple, self.older))
        return {name: value for name, value in found.items() if name not in _LATER or value != _LATER[name]}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> KeyRecord:
        """Raises TypeError or ValueError: this is not a record that a router wrote."""
        older = tuple(Older(str(digest), float(until_s)) for digest, until_s in document.get("older", ()))
        record = cls(**{**document, "older": older})
        float(record.expires_s or 0.0)
        for digest in (record.digest, *(each.digest for each in older)):
            bytes.fromhex(digest)
        return record

    def encode(self) -> bytes:
        document = self.document()
        del document["id"]
        return orjson.dumps(document)

    @classmethod
    def decode(cls, key_id: str, raw: bytes | str) -> KeyRecord | None:
        """None: this is not a record that a router wrote."""
        try:
            return cls.of({**orjson.loads(raw), "id": key_id})
        except (TypeError, ValueError):
            return None

    def corrected(self, known: KeyRecord) -> KeyRecord:
        """This record as it must be, given what a router knows of the key: a revocation and a new secret are never
        taken back."""
        record = replace(self, revoked=True) if known.revoked and not self.revoked else self
        if known.rotations > self.rotations:
            record = replace(record, digest=known.digest, rotations=known.rotations, older=known.older)
        return record


#: Members that older routers do not know, with the values that say nothing.
_LATER = {"expires_s": None, "rotations": 0, "older": ()}


def new_pepper() -> bytes:
    return secrets.token_hex(32).encode()


def fingerprint(pepper: bytes) -> str:
    """A digest by which two peppers can be compared without showing them."""
    return hmac.digest(pepper, b"meridian pepper", hashlib.sha256).hex()[:16]


class Draft(NamedTuple):
    """The random parts of a new key. Who writes the same draft twice has made one key."""

    id: str
    secret: str


def new_draft() -> Draft:
    return Draft("key_" + secrets.token_hex(8), new_secret())


def new_secret() -> str:
    return SECRET_PREFIX + secrets.token_urlsafe(32)


def new_key(
    name: str,
    plan: str,
    tenant: str | None,
    created_s: float,
    pepper: bytes,
    expires_s: float | None = None,
    draft: Draft | None = None,
) -> tuple[KeyRecord, str]:
    """A new record and the secret that belongs to it."""
    key_id, secret = draft or new_draft()
    digest = digest_of(secret, pepper)
    return KeyRecord(key_id, name, tenant or name, plan, created_s, False, digest, expires_s), secret


def rotated(
    record: KeyRecord, overlap_s: float, now_s: float, pepper: bytes, secret: str | None = None
) -> tuple[KeyRecord, str]:
    """The record with a new secret, and that secret. A record that has it already stays as it is. Raises RouterError if
    too many older ones still work."""
    secret = secret or new_secret()
    digest = digest_of(secret, pepper)
    if record.digest == digest:
        return record, secret
    until_s = now_s + overlap_s
    ending = [Older(each.digest, min(each.until_s, until_s)) for each in record.older if each.until_s > now_s]
    if overlap_s > 0:
        ending.append(Older(record.digest, until_s))
    older = tuple(sorted(ending, key=lambda each: each.until_s)) if overlap_s > 0 else ()
    if len(older) > OLDER_MAX:
        detail = f"{OLDER_MAX} older secrets of this key still work. An overlap of 0 ends them."
        raise RouterError("invalid_request", detail, param="overlap")
    return replace(record, digest=digest, rotations=record.rotations + 1, older=older), secret


def digest_of(secret: str, pepper: bytes) -> str:
    """In hex."""
    return hmac.digest(pepper, secret.encode(), "sha256").hex()


class Ring:
    """The snapshot of all keys (a KeyRing). ``load`` replaces all of it; a lookup is one or two dictionary hits.

    Only secrets that were found are cached, so that guesses cannot push out keys in use.
    """

    __slots__ = (
        "_by_digest",
        "_by_id",
        "_cache",
        "_pepper",
        "_plans",
        "_records",
        "_said_missing",
        "changes",
        "loaded",
    )

    def __init__(self, plans: Mapping[str, Plan]) -> None:
        self._plans = dict(plans)
        self._pepper = b""
        self._records: dict[str, KeyRecord] = {}
        self._by_id: dict[str, Key] = {}
        self._by_digest: dict[bytes, Key] = {}
        self._cache: dict[bytes, Key] = {}
        self._said_missing: list[str] = []
        self.changes = 0  # of the records, so far
        self.loaded = False

    def __repr__(self) -> str:
        return f"<Ring {len(self._records)} keys{'' if self.loaded else ', never loaded'}>"

    @property
    def records(self) -> Mapping[str, KeyRecord]:
        return self._records

    @property
    def pepper(self) -> bytes:
        return self._pepper

    def lookup(self, secret: bytes) -> Key | None:
        key = self._cache.get(secret)
        if key is not None:
            return key
        if not self.loaded:
            raise RouterError(
                "store_unavailable", "API keys cannot be checked yet: the store is away.", retry_after_s=1.0
            )
        key = self._by_digest.get(hmac.digest(self._pepper, secret, "sha256"))
        if key is not None:
            if len(self._cache) >= _CACHE_ENTRIES:
                self._cache.clear()
            self._cache[secret] = key
        return key

    def get(self, key_id: str) -> Key | None:
        return self._by_id.get(key_id)

    def all(self) -> list[Key]:
        """Oldest first."""
        return sorted(self._by_id.values(), key=lambda k: (k.created_s, k.id))

    def load(self, records: Iterable[KeyRecord], pepper: bytes) -> None:
        """Replace the snapshot. Keys that have not changed are kept as they are."""
        before, keys = self._records, self._by_id
        self._records = {r.id: r for r in records}
        self.changes += self._records != before or pepper != self._pepper
        self._by_id = {i: keys[i] if before.get(i) == r else self._key(r) for i, r in self._records.items()}
        self._index_all()
        self._pepper = pepper
        self.loaded = True
        self._say_missing()

    def put(self, record: KeyRecord) -> Key:
        """Add or replace one key."""
        key = self._key(record)
        if (before := self._records.get(record.id)) is not None:
            for digest in (before.digest, *(each.digest for each in before.older)):
                self._by_digest.pop(bytes.fromhex(digest), None)
        self._records[record.id] = record
        self.changes += 1
        self._by_id[record.id] = key
        self._index(record, key)
        self._cache = {}
        return key

    def set_plans(self, plans: Mapping[str, Plan]) -> None:
        self._plans = dict(plans)
        self._by_id = {i: self._key(r) for i, r in self._records.items()}
        self._index_all()
        self._say_missing()

    def _index_all(self) -> None:
        self._by_digest, self._cache = {}, {}
        for key_id, record in self._records.items():
            self._index(record, self._by_id[key_id])

    def _index(self, record: KeyRecord, key: Key) -> None:
        self._by_digest[bytes.fromhex(record.digest)] = key
        for older in record.older:
            self._by_digest[bytes.fromhex(older.digest)] = replace(key, replaced_until_s=older.until_s)

    def _key(self, record: KeyRecord) -> Key:
        plan = self._plans.get(record.plan)
        missing = plan is None
        if plan is None:
            plan = no_room(record.plan)
        return Key(
            record.id,
            record.name,
            record.tenant,
            plan,
            record.created_s,
            record.revoked,
            missing,
            record.expires_s,
            older_until_s=tuple(older.until_s for older in record.older),
        )

    def _say_missing(self) -> None:
        """Log, once for each change, the plans of keys that the configuration does not have."""
        lines = missing_plans((k.plan.name, k.id, k.name) for k in self.all() if k.plan_missing and not k.revoked)
        if lines != self._said_missing:
            self._said_missing = lines
            for line in lines:
                _log.warning("%s", line)


def no_room(name: str) -> Plan:
    """Stands for a plan that is not in the configuration. Its limits admit nothing, should a check be forgotten."""
    return Plan(name, concurrent=0)


def missing_plans(refused: Iterable[tuple[str, str, str]]) -> list[str]:
    """A line for each plan that the configuration lacks, from (plan, key id, key name) of the keys that have it."""
    missing: dict[str, list[str]] = {}
    for plan, key_id, name in refused:
        missing.setdefault(plan, []).append(f"{key_id} ({name})")
    return [
        f'the plan "{plan}" is not in the configuration: {plural(len(names), "key")} of it may do nothing: '
        + ", ".join(names[:_NAMED_MAX])
        + (" and others" if len(names) > _NAMED_MAX else "")
        for plan, names in sorted(missing.items())
    ]
