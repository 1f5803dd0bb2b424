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
from dataclasses import dataclass

import orjson

from router.config import Plan
from router.errors import RouterError
from router.store.base import SECRET_PREFIX, Key

PEPPER_ENV = "ROUTER_KEY_PEPPER"
_CACHE_ENTRIES = 8192
#: Most keys that a line about a missing plan names.
_NAMED_MAX = 5

_log = logging.getLogger("router.store")


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

    def encode(self) -> bytes:
        fields = {name: getattr(self, name) for name in ("name", "tenant", "plan", "created_s", "revoked", "digest")}
        return orjson.dumps(fields)

    @classmethod
    def decode(cls, key_id: str, raw: bytes | str) -> KeyRecord | None:
        """None: this is not a record that a router wrote."""
        try:
            record = cls(key_id, **orjson.loads(raw))
            bytes.fromhex(record.digest)
        except (TypeError, ValueError):
            return None
        return record


def new_pepper() -> bytes:
    return secrets.token_hex(32).encode()


def fingerprint(pepper: bytes) -> str:
    """A digest by which two peppers can be compared without showing them."""
    return hmac.digest(pepper, b"meridian pepper", hashlib.sha256).hex()[:16]


def new_key(name: str, plan: str, tenant: str | None, created_s: float, pepper: bytes) -> tuple[KeyRecord, str]:
    """A new record and the secret that belongs to it."""
    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    digest = hmac.digest(pepper, secret.encode(), "sha256").hex()
    return KeyRecord("key_" + secrets.token_hex(8), name, tenant or name, plan, created_s, False, digest), secret


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
        self._by_digest = {bytes.fromhex(r.digest): self._by_id[i] for i, r in self._records.items()}
        self._cache = {}
        self._pepper = pepper
        self.loaded = True
        self._say_missing()

    def put(self, record: KeyRecord) -> Key:
        """Add or replace one key."""
        key = self._key(record)
        self._records[record.id] = record
        self.changes += 1
        self._by_id[record.id] = self._by_digest[bytes.fromhex(record.digest)] = key
        self._cache = {}
        return key

    def set_plans(self, plans: Mapping[str, Plan]) -> None:
        self._plans = dict(plans)
        self._by_id = {i: self._key(r) for i, r in self._records.items()}
        self._by_digest = {bytes.fromhex(r.digest): self._by_id[i] for i, r in self._records.items()}
        self._cache = {}
        self._say_missing()

    def _key(self, record: KeyRecord) -> Key:
        plan = self._plans.get(record.plan)
        missing = plan is None
        if plan is None:
            plan = _no_room(record.plan)
        return Key(record.id, record.name, record.tenant, plan, record.created_s, record.revoked, missing)

    def _say_missing(self) -> None:
        """Log, once for each change, the plans of keys that the configuration does not have."""
        lines = missing_plans((k.plan.name, k.id, k.name) for k in self.all() if k.plan_missing and not k.revoked)
        if lines != self._said_missing:
            self._said_missing = lines
            for line in lines:
                _log.warning("%s", line)


def _no_room(name: str) -> Plan:
    """Stands for a plan that is not in the configuration. Its limits admit nothing, should a check be forgotten."""
    return Plan(name, concurrent=0)


def missing_plans(refused: Iterable[tuple[str, str, str]]) -> list[str]:
    """A line for each plan that the configuration lacks, from (plan, key id, key name) of the keys that have it."""
    missing: dict[str, list[str]] = {}
    for plan, key_id, name in refused:
        missing.setdefault(plan, []).append(f"{key_id} ({name})")
    return [
        f'the plan "{plan}" is not in the configuration: {len(names)} key(s) that have it are refused: '
        + ", ".join(names[:_NAMED_MAX])
        + (" and others" if len(names) > _NAMED_MAX else "")
        for plan, names in sorted(missing.items())
    ]
