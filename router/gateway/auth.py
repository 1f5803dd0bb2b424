"""Whose request is it? A lookup in the local snapshot of keys: no I/O, one constant refusal. The store is asked
only before a key of ours is refused: another router may have made it a moment ago."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from router import clock
from router.config import AuthSection, Plan
from router.errors import RouterError
from router.moments import iso_of
from router.store.base import ANONYMOUS, SECRET_PREFIX, Key, KeyRing

if TYPE_CHECKING:
    from router.identity.bearers import Bearers

_BEARER = b"bearer "
_PREFIX = SECRET_PREFIX.encode()
_MAX_SECRET_BYTES = 512
_MAX_JWT_BYTES = 8192
_UNKNOWN = "Missing or invalid API key."


def anonymous_key(plan: Plan) -> Key:
    """Who everybody without a key is when ``[auth] mode = "open"``."""
    return Key(id=ANONYMOUS, name=ANONYMOUS, tenant=ANONYMOUS, plan=plan, created_s=0.0, revoked=False)


class Authenticator:
    """Turns the secret of a request into a Key. Raises RouterError("unauthorized"), with the same body whether a secret
    is missing, wrong or revoked, and with the reason if it has expired or was replaced; and "forbidden" for a key whose
    plan is not in the configuration: no other plan may stand in for its limits.

    Open mode is for those without a key of ours. One that is wrong or revoked is refused there, too: whoever lost it
    would otherwise lose its residency and its limits.
    """

    def __init__(
        self,
        section: AuthSection,
        plans: dict[str, Plan],
        keys: KeyRing,
        bearers: Bearers | None = None,
        *,
        newer_keys: Callable[[], Awaitable[None]] | None = None,
        wall_s: Callable[[], float] = clock.wall_s,
    ) -> None:
        self._keys = keys
        self._bearers = bearers
        self._newer_keys = newer_keys
        self._wall_s = wall_s
        self._open = section.mode == "open"
        self._anonymous = anonymous_key(plans["default"])

    def key_of(self, secret: bytes | None, *, last: bool = False) -> Key | None:
        """None, unless it is ``last``: the store, or the issuer of a JWT, must be asked first; call ``key_soon``."""
        if secret is not None and secret.startswith(_PREFIX):
            key = self._keys.lookup(secret)
            if key is not None and not key.revoked:
                why = None if key.expires_s is None and key.replaced_until_s is None else self._over(key)
                if why is None:
                    return _permitted(key) if key.plan_missing else key
            else:
                why = _UNKNOWN
            if self._newer_keys is not None and not last and (key is None or not key.revoked):
                return None
            raise RouterError("unauthorized", why)
        if secret is not None and self._bearers is not None and is_jwt(secret):
            found = self._bearers.key_of(secret)
            return _permitted(found) if isinstance(found, Key) else None
        elif self._open:
            return self._anonymous
        raise RouterError("unauthorized", _UNKNOWN)

    async def key_soon(self, secret: bytes | None) -> Key:
        """The same, after a short wait for the keys that other routers made, or for those of a JWT's issuer."""
        if secret is not None and self._newer_keys is not None and secret.startswith(_PREFIX):
            await self._newer_keys()
            found = self.key_of(secret, last=True)
            assert found is not None
            return found
        if secret is None or self._bearers is None:
            raise RouterError("unauthorized", _UNKNOWN)
        return _permitted(await self._bearers.key_soon(secret))

    def _over(self, key: Key) -> str | None:
        """Who has the secret may know why it does not work any more."""
        now_s = self._wall_s()
        if key.expires_s is not None and now_s >= key.expires_s:
            return f"This API key expired at {iso_of(key.expires_s)}."
        if key.replaced_until_s is not None and now_s >= key.replaced_until_s:
            since = iso_of(key.replaced_until_s)
            return f"This API key was given a new secret; the old one ended at {since}."
        return None


def _permitted(key: Key) -> Key:
    if key.plan_missing:
        detail = f'The plan "{key.plan.name}" of this key is not in the configuration of this router.'
        raise RouterError("forbidden", detail)
    return key


def is_jwt(secret: bytes) -> bool:
    """It looks like a JSON Web Token: three parts, the first of which is base64 of ``{"``."""
    return secret.startswith(b"eyJ") and secret.count(b".") == 2


def secret_of(headers: dict[bytes, bytes]) -> bytes | None:
    """The secret in ``authorization: Bearer``, ``x-api-key`` or ``api-key``: the first that can be a key of ours, else
    the first; None if there is none. SDKs want some key, and people who give the real one in another header invent it.

    An ``authorization`` that cannot be a key of ours is passed over: Basic is meant for a proxy before us, an SDK that
    was given no token writes an empty Bearer, and one of over 512 bytes is somebody else's, unless it is a JWT.
    """
    value = headers.get(b"authorization")
    value = value[7:].strip() if value is not None and value[:7].lower() == _BEARER else None
    others = headers.get(b"x-api-key"), headers.get(b"api-key")
    given = [v for v in (value, *others) if v and (len(v) <= _MAX_SECRET_BYTES or _is_long_jwt(v))]
    return next((v for v in given if v.startswith(_PREFIX)), given[0] if given else None)


def _is_long_jwt(value: bytes) -> bool:
    return len(value) <= _MAX_JWT_BYTES and is_jwt(value)
