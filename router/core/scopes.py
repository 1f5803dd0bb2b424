"""The scopes of limits, once: whose use is counted together.

A request takes from the account of its key, and from those of its tenant, of the models that it asks for and of all
requests, as far as these have limits: from all of them or from none. Everything that handles scopes loops over
``SCOPES``: accounts, refusals, ``quota show``, metrics.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Scope(NamedTuple):
    """``name`` ends up in JSON, metrics and logs. ``section``: where regions.toml has its limits."""

    name: str
    section: str
    words: str  # for one of it, in a refusal and in tables

    def account(self, name: str) -> str:
        """The account in the store of the one of this name. A key has its id instead."""
        return self.name if self is ALL else f"{self.name}:{name}"

    def called(self, name: str) -> str:
        return self.words.format(name)


KEY: Final = Scope("key", "plans", 'key "{}"')
TENANT: Final = Scope("tenant", "tenants", 'tenant "{}"')
MODEL: Final = Scope("model", "models", 'model "{}"')
ALL: Final = Scope("all", "all", "all requests together")

#: In the order in which a request takes from them, and in which a refusal is named.
SCOPES: Final = (KEY, TENANT, MODEL, ALL)
BY_NAME: Final = {scope.name: scope for scope in SCOPES}
#: The table of tenants that have none of their own.
DEFAULT_TENANT = "default"
#: How the account of every tenant begins that came with a JWT. No key of ours has such an id.
JWT_PREFIX = "jwt:"


def is_account(text: str) -> bool:
    """Whether text names an account that is not a key's, as ``tenant:NAME`` and ``all`` do: no key may be named so."""
    return text == ALL.name or text.startswith((TENANT.account(""), MODEL.account(""), JWT_PREFIX))
