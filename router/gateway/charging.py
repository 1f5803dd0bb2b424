"""What a request costs its key: reserved before it is sent anywhere, settled when it is over."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from router.core.candidates import may_answer
from router.core.fleet import Fleet
from router.core.limits import MICRO, Amounts
from router.core.outcomes import Charge
from router.core.prices import DayPrices, Leg, Price, microusd
from router.core.tokens import TokenEstimator, charged, guessed_microusd, longest, worst_microusd
from router.core.types import Request, Usage
from router.errors import RouterError
from router.gateway import responses
from router.gateway.exchange import Exchange
from router.gateway.ingress import Ask
from router.gateway.settings import InForce
from router.store import together
from router.store.answers import whose
from router.store.base import Holder, Key, Refusal, Reservation, Store
from router.store.groups import Company
from router.tasks import spawn, wait_for
from router.telemetry.journal import Record

_log = logging.getLogger("router.gateway")

_ACTUAL, _DELIVERED, _REFUND = Charge.ACTUAL, Charge.DELIVERED, Charge.REFUND
_NO_TOKENS = Usage()
#: Names and pins are what clients choose: no more combinations of them are remembered.
_WHERE_MAX = 1024


class Charging:
    """Reserves and settles, and learns from what engines report how many tokens requests take."""

    def __init__(self, force: InForce, store: Store, fleet: Fleet, tokens: TokenEstimator) -> None:
        self._force = force
        self._store = store
        self._fleet = fleet
        self._tokens = tokens
        self._unpriced: set[str] = set()  # models that were told to have no price
        #: the dearest price, by name, models, residency and pins of a request; of these prices and this fleet
        self._dearest_of: dict[tuple[object, ...], Price | None] = {}
        self._dearest_as_of: tuple[DayPrices | None, int] = (None, 0)

    def reserve_now(self, x: Exchange, key: Key, need: Request) -> Reservation | None:
        """Take it from what this router may give by itself. None: the store must be asked. Raises RouterError
        (quota_exhausted)."""
        usual, most = self._amounts(x, key, need)
        if x.company is None:
            taken = self._store.reserve_now(key, usual, need.request_id, x.arrival_s, most)
        else:
            holders: tuple[Holder, ...] = (key, *x.company.groups)
            taken = together.reserve_now(self._store, holders, usual, need.request_id, x.arrival_s, most)
        return self._allowed(x, key, taken) if isinstance(taken, Refusal) else taken

    def _amounts(self, x: Exchange, key: Key, need: Request) -> tuple[Amounts, Amounts | None]:
        """The amounts that it is expected to use, and those that it may use if they are more and count."""
        prompt, output = need.prompt_tokens, need.max_output_tokens
        limits, company, ask = key.plan.limits, x.company, x.ask
        budgets, rates, counts_output = limits.budgets, limits.answers, limits.counts_output
        if company is not None:
            budgets, rates = budgets + company.budgets, rates + company.answers
            counts_output = counts_output or company.counts_output
        price = self._dearest(x, need) if budgets else None
        if need.light or ask is None or not ask.envelope.generates or not counts_output:
            usual = Amounts(1, prompt, output, microusd(price, prompt, output))
            return usual, None if price is None else _worst(price, usual, None, ask, budgets)
        least = None if ask.max_tokens is not None else Amounts(1, prompt, 0, microusd(price, prompt, 0))
        usual = Amounts(1, prompt, output, _reserved(price, prompt, output, budgets, least), least)
        output = longest(ask.max_tokens, ask.choices, output, prompt, rates)
        most = None
        if output > need.max_output_tokens:
            most = Amounts(1, prompt, output, _reserved(price, prompt, output, budgets, least), least)
        return usual, most if price is None else _worst(price, usual, most, ask, budgets)

    def _dearest(self, x: Exchange, need: Request) -> Price | None:
        """The most that a token may cost at the backends that this request may go to."""
        fleet, prices = self._fleet, self._force.settings.prices.on(x.record.arrival_s)
        now = (prices, fleet.bulletin.generation)
        if now != self._dearest_as_of:
            self._dearest_as_of = now
            self._dearest_of.clear()
        where = (need.model, x.models, need.residency, need.pin_region, need.pin_backend)
        if where not in self._dearest_of:
            if len(self._dearest_of) >= _WHERE_MAX:
                self._dearest_of.clear()
            backends = fleet.backends.values()
            places = [(model, b.name) for model in x.models for b in may_answer(backends, need, model)]
            self._dearest_of[where] = prices.most(need.model, places or [(model, "") for model in x.models])
        return self._dearest_of[where]

    async def reserve(self, x: Exchange, key: Key, need: Request) -> Reservation:
        """One script call in a task of its own. If the client leaves meanwhile, what was taken is given back. Raises
        RouterError (quota_exhausted, store_unavailable)."""
        usual, most = self._amounts(x, key, need)
        if x.company is None:
            asking = self._store.reserve(key, usual, need.request_id, most)
        else:
            holders: tuple[Holder, ...] = (key, *x.company.groups)
            asking = together.reserve(self._store, holders, usual, need.request_id, x.arrival_s, most)
        give_back = partial(together.give_back_later, self._store)
        taken = await wait_for(spawn(asking, name=f"reserve {need.request_id}"), give_back)
        return self._allowed(x, key, taken)

    def _allowed(self, x: Exchange, key: Key, taken: Reservation | Refusal) -> Reservation:
        if isinstance(taken, Reservation):
            return taken
        record = x.record
        record.limit, record.refusal = taken.limit, taken.detail
        record.limit_never = taken.retry_after_s is None
        if taken.limit == "store":
            raise RouterError("store_unavailable", taken.detail, retry_after_s=taken.retry_after_s)
        holder = taken.holder or key
        record.limit_scope, record.limit_of = holder.scope.name, holder.name
        record.refusal = f"{taken.detail} {whose(taken.limit, holder)}"
        raise RouterError(
            "quota_exhausted",
            record.refusal,
            retry_after_s=taken.retry_after_s,
            # OpenAI's clients give up by themselves beyond two minutes; tell the others
            should_retry=taken.retry_after_s is not None and taken.retry_after_s <= 120,
            headers=responses.header_pairs(responses.rate_limit_lines(taken)),
        )

    def settle(self, x: Exchange) -> None:
        """The request is over: charge what was used, give back the rest, and learn from it. Never raises."""
        usage, record, reservation = x.usage, x.record, x.reservation
        ask, key, charge = x.ask, x.key, x.charge
        if record.first_byte_s is not None and ask is not None and key is not None:
            if ask.envelope.counting:
                usage = _NO_TOKENS
            elif usage is None or not usage.reported or not usage.prompt_tokens:
                usage = self._counted(key, ask, record, usage)
            elif charge is _ACTUAL:
                text_bytes = None if ask.item_tokens else ask.prompt_bytes
                self._tokens.learn(key.id, ask.model, text_bytes, usage, writes=ask.envelope.generates)
        if usage is not None:
            record.output_tokens, record.usage_reported = usage.output_tokens, usage.reported
            record.cached_tokens = usage.cached_tokens
            if usage.prompt_tokens:
                record.prompt_tokens = usage.prompt_tokens
        if reservation is None:
            return
        if charge is _REFUND or (charge is _DELIVERED and usage is None and x.relay is None):
            together.settle(self._store, reservation, None)
            return
        # Who leaves before the answer pays for the prompt, once a backend has it: it may have been computed.
        prompt, output = record.prompt_tokens, record.output_tokens
        company = x.company
        money = (key is not None and key.plan.limits.money) or (company is not None and company.money)
        spent = 0
        if money or not self._force.settings.prices.empty:
            spent = self._price(x, prompt, output, budgets=money)
            record.cost_usd = spent / MICRO
        used = Amounts(1, prompt, output, spent)
        self._store.settle(reservation, used)
        if company is not None:
            self._settle_company(x, company, reservation, used)

    def _settle_company(self, x: Exchange, company: Company, reservation: Reservation, used: Amounts) -> None:
        """Charge the groups. A model that was to be tried first and did not answer gets its reservation back; the one
        that did is charged."""
        served = x.record.served_model
        answered = self._force.settings.groups.model(served) if served is not None else None
        others = {other.account: other for other in reservation.others}
        if company.model is not None and (answered is None or answered.id != company.model):
            self._store.settle(others.pop(company.model), None)
        for other in others.values():
            self._store.settle(other, used)
        if answered is not None and answered.id not in others:
            self._store.charge(answered, used)

    def _price(self, x: Exchange, prompt: int, output: int, *, budgets: bool) -> int:
        """What the answer costs, by who gave it, at the prices of the day on which it was asked for. ``budgets``: it is
        charged to some."""
        record = x.record
        prices = self._force.settings.prices.on(record.arrival_s)
        spent, unpriced = prices.charge(record.model or "", prompt, _legs(x, output))
        if budgets and unpriced is not None and unpriced not in self._unpriced:
            self._unpriced.add(unpriced)
            who = record.plan or "default"
            _log.warning('budgets (plan %s) are charged nothing for "%s": it has no price_usd_per_mtok', who, unpriced)
        return spent

    def _counted(self, key: Key, ask: Ask, record: Record, usage: Usage | None) -> Usage:
        """The tokens of an answer that has begun, and says nothing or not enough about them."""
        text_bytes = record.reply_bytes if ask.envelope.writes else 0
        bytes_per_token = self._tokens.bytes_per_token(key.id, ask.model)
        found = charged(usage, record.prompt_tokens, text_bytes, bytes_per_token)
        if ask.max_tokens is not None and not found.reported:  # there cannot be more
            found.output_tokens = min(found.output_tokens, ask.choices * ask.max_tokens)
        return found


def _reserved(price: Price | None, prompt: int, output: int, budgets: Sequence[int], least: Amounts | None) -> int:
    """The most that these tokens may cost, in millionths of a dollar."""
    if least is None:
        return microusd(price, prompt, output)
    return guessed_microusd(price, prompt, output, budgets)


def _worst(
    price: Price, usual: Amounts, most: Amounts | None, ask: Ask | None, budgets: Sequence[int]
) -> Amounts | None:
    """``most``, or more if its prompt may cost more than was guessed. The certain part then goes by the guess."""
    if ask is None or not usual.prompt_tokens:
        return most
    top = most or usual
    worst = worst_microusd(price, top.microusd, top.prompt_tokens, ask.prompt_bytes, ask.item_tokens, budgets)
    if worst == top.microusd:
        return most
    return Amounts(1, top.prompt_tokens, top.output_tokens, worst, top.least or top)


def _legs(x: Exchange, output_tokens: int) -> list[Leg]:
    """Who gave the answer: the legs that broke off, and the last one."""
    record, legs, before = x.record, [], 0
    for leg in x.legs:
        legs.append(leg._replace(output_tokens=leg.output_tokens - before))
        before = leg.output_tokens
    backend = x.relay.pool.spec.name if x.relay is not None else record.backend
    legs.append(Leg(backend or "", record.served_model or record.model or "", max(0, output_tokens - before)))
    return legs
