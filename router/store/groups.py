"""Whose limits a request takes from besides its key's: its tenant's, those of models, and those of all requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from router.config import Config, Limited
from router.core.scopes import ALL, DEFAULT_TENANT, MODEL, TENANT, Scope

#: Tenants and models are names that others choose: no more combinations of them are remembered.
_KNOWN_MAX = 4096


@dataclass(frozen=True, slots=True)
class LimitGroup:
    """Requests whose use is counted together (a Holder)."""

    id: str  # of its account
    scope: Scope
    name: str
    plan: Limited

    @classmethod
    def of(cls, scope: Scope, name: str, plan: Limited) -> LimitGroup:
        return cls(scope.account(name), scope, name, plan)


@dataclass(frozen=True, slots=True)
class Company:
    """The groups that a request belongs to. ``budgets``, ``counts_output``, ``answers``: as of Limits, of any of them.
    ``model``: the account of the model that is tried first, unless it was asked for by this name."""

    groups: tuple[LimitGroup, ...]
    budgets: tuple[int, ...]
    counts_output: bool
    answers: tuple[tuple[int, bool], ...]
    model: str | None = None

    @property
    def money(self) -> bool:
        return bool(self.budgets)


class Groups:
    """The groups of one configuration. Those without limits do not exist. ``any``: there is one."""

    def __init__(self, config: Config) -> None:
        self._tenants = {
            name: LimitGroup.of(TENANT, name, tenant)
            for name, tenant in config.tenants.items()
            if not tenant.limits.unlimited
        }
        self._named = frozenset(config.tenants)
        default = config.tenants.get(DEFAULT_TENANT)
        self._default = default if default is not None and not default.limits.unlimited else None
        self._models = {
            name: LimitGroup.of(MODEL, name, alias)
            for name, alias in config.models.items()
            if not alias.limits.unlimited
        }
        self._all = None if config.all.limits.unlimited else LimitGroup.of(ALL, ALL.name, config.all)
        self.any = bool(self._tenants or self._models or self._all)
        self._known: dict[tuple[str, str, str], Company] = {}

    def company(self, tenant: str, asked: str, model: str) -> Company:
        """``asked``: the name that the client used; ``model``: that is tried first for it."""
        key = (tenant, asked, model)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            found = self._known[key] = self._company(*key)
        return found

    def tenant(self, name: str) -> LimitGroup | None:
        if name in self._named:
            return self._tenants.get(name)
        return None if self._default is None else LimitGroup.of(TENANT, name, self._default)

    def model(self, name: str) -> LimitGroup | None:
        return self._models.get(name)

    def find(self, account: str) -> LimitGroup | None:
        """The group that has this account."""
        scope, _, name = account.partition(":")
        if account == ALL.name:
            return self._all
        return self.tenant(name) if scope == TENANT.name else self.model(name) if scope == MODEL.name else None

    def every(self, tenants: Iterable[str]) -> list[LimitGroup]:
        """All of them. ``tenants``: those that have keys."""
        names = sorted({*tenants, *self._tenants} - {DEFAULT_TENANT}) + [DEFAULT_TENANT] * (DEFAULT_TENANT in tenants)
        of_tenants = [group for name in names if (group := self.tenant(name)) is not None]
        return [*of_tenants, *self._models.values(), *([self._all] if self._all is not None else [])]

    def _company(self, tenant: str, asked: str, model: str) -> Company:
        behind = self._models.get(model) if model != asked else None
        found = (self.tenant(tenant), self._models.get(asked), behind, self._all)
        groups = tuple(group for group in found if group is not None)
        limits = [group.plan.limits for group in groups]
        return Company(
            groups,
            tuple(limit for each in limits for limit in each.budgets),
            any(each.counts_output for each in limits),
            tuple(rate for each in limits for rate in each.answers),
            None if behind is None else behind.id,
        )
