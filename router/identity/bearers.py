"""Checks JWTs, and remembers those that are good by their digest until they expire.

A JWT is looked up by its digest, as a key is. A new one costs the check of one signature. The library is given one
algorithm, which the file names and the issuer's key is for.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jwt

from router.config import JwtSection, Plan
from router.errors import RouterError
from router.identity.claims import account_of, bearer_of
from router.identity.issuer import Issuer
from router.store.base import Key
from router.store.keys import no_room

_CACHE_ENTRIES = 8192
#: As many keys are tried for a JWT that does not say which one signed it.
_TRIED_MAX = 4
_RETRY_S = 1.0
#: What the library raises for what anybody may send.
_UNREADABLE = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


class Bearers:
    """Who the bearers of one issuer's JWTs are, by one configuration."""

    def __init__(
        self, section: JwtSection, plans: Mapping[str, Plan], issuer: Issuer, *, wall_s: Callable[[], float]
    ) -> None:
        self._section = section
        self._plans = plans
        self._issuer = issuer
        self._wall_s = wall_s
        self._known: dict[bytes, tuple[Key, float]] = {}
        self._known_by = issuer.changes

    def __repr__(self) -> str:
        return f"<Bearers of {self._section.issuer} {len(self._known)} known>"

    def key_of(self, token: bytes, *, last: bool = False) -> Key | asyncio.Future[None]:
        """The key that stands for the tenant of this JWT. A future: ask again, for the last time, when it is done.
        Raises RouterError("unauthorized", "forbidden" or "identity_unavailable")."""
        digest = hashlib.sha256(token).digest()
        if self._known_by != self._issuer.changes:
            self._known, self._known_by = {}, self._issuer.changes
        known = self._known.get(digest)
        if known is not None:
            key, until_s = known
            if self._wall_s() < until_s:
                return key
            del self._known[digest]
            raise _refused("has expired")
        found = self._check(token)
        if found is None:
            return (None if last else self._issuer.seek()) or self._give_up()
        self._remember(digest, *found)
        return found[0]

    async def key_soon(self, token: bytes) -> Key:
        """Waits once for the issuer's keys, if that may help, for ``issuer.WAIT_S`` at most."""
        found = self.key_of(token)
        if isinstance(found, Key):
            return found
        await found
        found = self.key_of(token, last=True)
        assert isinstance(found, Key)
        return found

    def _check(self, token: bytes) -> tuple[Key, float] | None:
        """The key, and until when it is good. None: none of the issuer's keys that are known has signed it."""
        section = self._section
        try:
            head = jwt.get_unverified_header(token)
        except _UNREADABLE:
            raise _refused("cannot be read") from None
        algorithm, kid = head.get("alg"), head.get("kid")
        if algorithm not in section.algorithms or "crit" in head:
            raise _refused("is signed in a way that is not accepted here")
        keys = self._issuer.keys
        candidates = keys.candidates(kid, algorithm)[:_TRIED_MAX] if keys is not None else []
        for candidate in candidates:
            claims = self._claims(token, candidate.key, algorithm)
            if claims is not None:
                return self._key(claims), float(claims["exp"]) + section.leeway
        if candidates and kid is not None:
            raise _refused("has a signature that is wrong")
        return None

    def _claims(self, token: bytes, key: Any, algorithm: str) -> dict[str, Any] | None:
        """None: another key signed it."""
        section = self._section
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=list(section.audience),
                issuer=section.issuer,
                leeway=section.leeway,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.InvalidSignatureError:
            return None
        except _UNREADABLE as error:
            raise _refused(_why(error)) from None
        return claims

    def _key(self, claims: Mapping[str, Any]) -> Key:
        tenant, plan_name, name = bearer_of(claims, self._section)
        plan = self._plans.get(plan_name)
        return Key(
            account_of(tenant),
            name,
            tenant,
            plan if plan is not None else no_room(plan_name),
            created_s=0.0,
            revoked=False,
            plan_missing=plan is None,
        )

    def _remember(self, digest: bytes, key: Key, until_s: float) -> None:
        if len(self._known) >= _CACHE_ENTRIES:
            now_s = self._wall_s()
            self._known = {d: entry for d, entry in self._known.items() if entry[1] > now_s}
            for old in list(self._known)[: max(0, len(self._known) - _CACHE_ENTRIES // 2)]:
                del self._known[old]
        self._known[digest] = (key, until_s)

    def _give_up(self) -> NoReturn:
        """No key is known that could have signed it."""
        if self._issuer.keys is None:
            detail = "JWTs cannot be checked: the keys of their issuer are not known yet."
        elif self._issuer.problem is not None:
            detail = "The JWT is signed with a key that is not known here, and its issuer cannot be asked now."
        else:
            raise _refused("is signed with a key that its issuer does not publish")
        raise RouterError("identity_unavailable", detail, retry_after_s=_RETRY_S, should_retry=True)


def _refused(why: str) -> RouterError:
    return RouterError("unauthorized", f"The JWT {why}.")


def _why(error: Exception) -> str:
    for kind, why in _REASONS.items():
        if isinstance(error, kind):
            return f"lacks the claim {error.claim}" if isinstance(error, jwt.MissingRequiredClaimError) else why
    return "is not one that this router accepts"


_REASONS: dict[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: "has expired",
    jwt.ImmatureSignatureError: "is not valid yet",
    jwt.InvalidAudienceError: "is for another audience",
    jwt.InvalidIssuerError: "is of another issuer",
    jwt.MissingRequiredClaimError: "lacks a claim",
    jwt.DecodeError: "cannot be read",
}
