"""Writes what requests have cost into the books that all routers share, and announces thresholds of budgets.

Once a second, and off the path of requests. The store says which thresholds a batch has reached first, so that each is
announced by one router: in the log, the metrics, the history, and to the webhook. While the store is away costs wait.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from asyncio import Task
from collections import Counter, deque
from collections.abc import Callable, Iterator

import orjson

from router import clock
from router.complaint import Complaint
from router.config import Config
from router.control.budgets import BUDGETS, EVERY_S, Budgeted, Budgets
from router.control.webhook import Alert, Webhook
from router.core.limits import MICRO
from router.core.periods import Period
from router.core.scopes import ALL, KEY, TENANT
from router.core.spending import OTHERS, Charged, Crossing, Spender, Sums
from router.store.base import ANONYMOUS, Store
from router.store.courier import LinkError
from router.store.groups import Groups, LimitGroup
from router.store.spend_book import Batch, day_at
from router.tasks import stop, supervise
from router.telemetry.costs import Asker, OverBudget
from router.telemetry.history import History, iso
from router.telemetry.metrics import GaugeSample
from router.telemetry.sink import Telemetry

_log = logging.getLogger("router.control")

_EVERY_S = 1.0
_TOLD_AGAIN = 2


class Bookkeeper:
    def __init__(
        self,
        store: Store,
        telemetry: Telemetry,
        history: History,
        config: Callable[[], Config],
        *,
        wall_s: Callable[[], float] = clock.wall_s,
    ) -> None:
        self.webhook = Webhook(lambda: config().alerts, wall_s=wall_s)
        #: thresholds that this router has announced, by scope, period and percent
        self.announced: Counter[tuple[str, str, str]] = Counter()
        self._budgets = Budgets(store)
        self._store = store
        self._telemetry = telemetry
        self._history = history
        self._config = config
        self._wall_s = wall_s
        self._groups: tuple[Config, Groups] | None = None
        self._prefix = f"{history.router}-{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)
        self._batches: list[tuple[Batch, dict[str, Budgeted]]] = []  # that the store may not have yet
        #: refusals of the last seconds, the newest last: told again, as other routers may not have written yet that
        #: what was left is spent
        self._refused: deque[set[OverBudget]] = deque([set()], maxlen=1 + _TOLD_AGAIN)
        self._again: set[OverBudget] = set()
        self._lock = asyncio.Lock()
        self._complaint = Complaint()
        self._task: Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Bookkeeper {len(self._batches)} batches to write, {self.announced.total()} thresholds announced>"

    async def start(self) -> None:
        self.webhook.start()
        self._task = supervise(self._loop, name="books")

    async def stop(self) -> None:
        await stop(self._task)
        await self.flush()
        await self.webhook.stop()

    async def _loop(self) -> None:
        looked_s = float("-inf")
        while True:
            await asyncio.sleep(_EVERY_S)
            self._again = set().union(*self._refused)
            self._refused.append(set())
            await self.flush()
            if (now_s := clock.monotonic_s()) - looked_s >= EVERY_S:
                looked_s = now_s
                await self.look()

    async def look(self) -> None:
        """Read how budgets stand, for the metrics."""
        groups = self._groups_of(self._config()).every(())
        await self._budgets.look([_budgeted(group) for group in groups if group.plan.limits.money], self._wall_s())

    async def flush(self) -> None:
        """Write everything that has ended until now, if the store is there."""
        async with self._lock:
            self._telemetry.flush()
            while self._batches or self._take():
                batch, holders = self._batches[0]
                try:
                    crossed = await self._store.spending.add(batch, self._wall_s())
                except LinkError as error:
                    if self._store.state == "up" and self._complaint.worth_a_line(str(error), clock.monotonic_s()):
                        _log.warning("what was spent cannot be written: %s", error)
                    return
                self._complaint.settled()
                self._budgets.seen(holders)
                del self._batches[0]
                for period, crossing in crossed:
                    await self._announce(holders[crossing.account], period, crossing)

    def samples(self) -> Iterator[GaugeSample]:
        yield from self._budgets.samples()
        for labels, times in self.announced.items():
            yield GaugeSample("router_budget_thresholds_total", labels, times)
        for result, times in self.webhook.results.items():
            yield GaugeSample("router_webhooks_total", (result,), times)

    # batches

    def _take(self) -> bool:
        """Make batches of what was spent since the last time. False: nothing was."""
        days, refused = self._telemetry.costs.take()
        today = day_at(self._wall_s())
        self._refused[-1] |= refused
        refused, self._again = refused | self._again, set()
        if refused:
            days.setdefault(today, {})
        self._batches = [self._batch(d, rows, refused if d == today else set()) for d, rows in sorted(days.items())]
        return bool(self._batches)

    def _batch(self, day: int, rows: dict[Asker, Sums], refused: set[OverBudget]) -> tuple[Batch, dict[str, Budgeted]]:
        found: dict[Spender, Sums] = {}
        holders: dict[str, Budgeted] = {}
        spent: Counter[str] = Counter()
        for asker, sums in rows.items():
            spender = asker.spender
            found[spender] = found.get(spender, Sums()).plus(sums)
            for holder in self._payers(asker) if sums.microusd else ():
                holders[holder.account] = holder
                spent[holder.account] += sums.microusd
        full: set[tuple[str, str]] = set()  # accounts, and which of their budgets
        for each in refused:
            for holder in self._payers(each.asker):
                if holder.scope.name == each.scope and (holder.scope is KEY or holder.name == each.name):
                    holders[holder.account] = holder
                    full.add((holder.account, each.limit))
        charged = {
            period.name: tuple(
                Charged(account, spent[account], holder.limits[i], (account, kind) in full)
                for account, holder in holders.items()
            )
            for kind, i, period in BUDGETS
        }
        return Batch(f"{self._prefix}-{next(self._numbers)}", day, found, charged), holders

    def _payers(self, asker: Asker) -> list[Budgeted]:
        """The accounts with budgets that this is charged to."""
        spender, config = asker.spender, self._config()
        groups = self._groups_of(config)
        found = []
        plan = config.plans.get(spender.plan)
        if plan is not None and plan.limits.money:
            account = spender.key_id or ANONYMOUS
            found.append(Budgeted(account, KEY, account, spender.tenant, plan.name, plan.limits))
        tenant_group = groups.tenant(spender.tenant) if spender != OTHERS else None
        models = dict.fromkeys((asker.asked, spender.model))
        paying = (tenant_group, *map(groups.model, models), groups.find(ALL.name))
        return found + [_budgeted(group) for group in paying if group is not None and group.plan.limits.money]

    def _groups_of(self, config: Config) -> Groups:
        if self._groups is None or self._groups[0] is not config:
            self._groups = config, Groups(config)
        return self._groups[1]

    # thresholds

    async def _announce(self, holder: Budgeted, period: Period, crossing: Crossing) -> None:
        limit = holder.limits[_INDEX[period.name]]
        assert limit is not None
        key = await self._store.get_key(holder.account) if holder.scope is KEY else None
        name = key.name if key is not None else holder.name
        spent_usd, limit_usd = crossing.microusd / MICRO, limit / MICRO
        whose = holder.scope.called(name)
        of = f"${_usd(spent_usd)} of ${_usd(limit_usd)} this {period.name}"
        if crossing.percent == 100 and crossing.microusd < limit:
            of += ", and a request did not fit into the rest"
        why = f"{whose}: {of}"
        level = logging.INFO if crossing.percent < 80 else logging.WARNING
        _log.log(level, "%d %% of the budget of %s are used: %s", crossing.percent, whose, of)
        self.announced[holder.scope.name, period.name, str(crossing.percent)] += 1
        self._history.note("budget", holder.account, after=f"{crossing.percent} %", why=why)
        now_s = self._wall_s()
        message_id = f"budget_{secrets.token_hex(12)}"
        document = {
            "id": message_id,
            "type": "budget.threshold",
            "timestamp": iso(now_s),
            "router": self._history.router,
            "data": {
                "percent": crossing.percent,
                "period": period.name,
                "account": holder.account,
                "scope": holder.scope.name,
                "name": name,
                "tenant": key.tenant if key is not None else holder.tenant,
                "plan": holder.plan,
                "spent_usd": spent_usd,
                "limit_usd": limit_usd,
                "resets_at": iso(period.end_us(period.number(int(now_s * MICRO))) / MICRO),
                "text": f"{crossing.percent} % of the budget of {whose} are used: {of}",
            },
        }
        self.webhook.send(Alert(message_id, orjson.dumps(document), f"{crossing.percent} % of {whose}"))


def _budgeted(group: LimitGroup) -> Budgeted:
    tenant = group.name if group.scope is TENANT else None
    return Budgeted(group.id, group.scope, group.name, tenant, None, group.plan.limits)


def _usd(usd: float) -> str:
    return f"{usd:,.2f}" if usd >= 0.1 or not usd else f"{usd:.6f}".rstrip("0")


_INDEX = {period.name: i for _, i, period in BUDGETS}
