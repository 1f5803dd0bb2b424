"""What a request costs its key: reserved before it is sent anywhere, settled when it is over."""

from __future__ import annotations

import asyncio

from router.core.limits import Amounts
from router.core.outcomes import Charge
from router.core.tokens import TokenEstimator, charged, longest
from router.core.types import Request, Usage
from router.errors import RouterError
from router.gateway import responses
from router.gateway.exchange import Exchange
from router.gateway.ingress import Ask
from router.gateway.settings import InForce
from router.store.base import Key, Refusal, Reservation, Store
from router.tasks import spawn
from router.telemetry.journal import Record

_ACTUAL, _DELIVERED, _REFUND = Charge.ACTUAL, Charge.DELIVERED, Charge.REFUND
_NO_TOKENS = Usage()


class Charging:
    """Reserves and settles, and learns from what engines report how many tokens requests take."""

    def __init__(self, force: InForce, store: Store, tokens: TokenEstimator) -> None:
        self._force = force
        self._store = store
        self._tokens = tokens

    def reserve_now(self, x: Exchange, key: Key, need: Request) -> Reservation | None:
        """Take it from what this router may give by itself. None: the store must be asked. Raises RouterError
        (quota_exhausted)."""
        usual, most = self._amounts(x, key, need)
        taken = self._store.reserve_now(key, usual, need.request_id, x.arrival_s, most)
        return self._allowed(x, taken) if isinstance(taken, Refusal) else taken

    def _amounts(self, x: Exchange, key: Key, need: Request) -> tuple[Amounts, Amounts | None]:
        """The amounts that it is expected to use, and those that it may use if they are more and count."""
        prompt, output = need.prompt_tokens, need.max_output_tokens
        limits, microusd = key.plan.limits, self._force.settings.aliases.microusd
        usual = Amounts(1, prompt, output, microusd(need.model, prompt, output) if limits.money else 0)
        if not limits.counts_output or need.light or x.ask is None:
            return usual, None
        output = longest(x.ask.max_tokens, x.ask.choices, output, prompt, key.plan.tokens_per_minute)
        if output <= need.max_output_tokens:
            return usual, None
        return usual, Amounts(1, prompt, output, microusd(need.model, prompt, output) if limits.money else 0)

    async def reserve(self, x: Exchange, key: Key, need: Request) -> Reservation:
        """One script call in a task of its own. If the client leaves meanwhile, what was taken is given back. Raises
        RouterError (quota_exhausted, store_unavailable)."""
        usual, most = self._amounts(x, key, need)
        asking = self._store.reserve(key, usual, need.request_id, most)
        task = spawn(asking, name=f"reserve {need.request_id}")
        try:
            taken = await task
        except BaseException:
            task.add_done_callback(self._give_back)
            raise
        return self._allowed(x, taken)

    def _give_back(self, task: asyncio.Task[Reservation | Refusal]) -> None:
        if not task.cancelled() and task.exception() is None and isinstance(taken := task.result(), Reservation):
            self._store.settle(taken, None)

    def _allowed(self, x: Exchange, taken: Reservation | Refusal) -> Reservation:
        if isinstance(taken, Reservation):
            return taken
        x.record.limit, x.record.refusal = taken.limit, taken.detail
        if taken.limit == "store":
            raise RouterError("store_unavailable", taken.detail, retry_after_s=taken.retry_after_s)
        raise RouterError(
            "quota_exhausted",
            taken.detail,
            retry_after_s=taken.retry_after_s,
            # OpenAI's clients give up by themselves beyond two minutes; tell the others
            should_retry=taken.retry_after_s is not None and taken.retry_after_s <= 120,
            headers=responses.header_pairs(responses.rate_limit_lines(taken)),
        )

    def settle(self, x: Exchange) -> None:
        """The request is over: charge what was used, give back the rest, and learn from it. Never raises."""
        usage, record, reservation, ask, key, charge = x.usage, x.record, x.reservation, x.ask, x.key, x.charge
        if record.first_byte_s is not None and ask is not None and key is not None:
            if ask.envelope.counting:
                usage = _NO_TOKENS
            elif usage is None or not usage.reported or not usage.prompt_tokens:
                usage = self._counted(key, ask, record, usage)
            elif charge is _ACTUAL:
                self._tokens.learn(key.id, ask.model, None if ask.item_tokens else ask.prompt_bytes, usage)
        if usage is not None:
            record.output_tokens, record.usage_reported = usage.output_tokens, usage.reported
            record.cached_tokens = usage.cached_tokens
            if usage.prompt_tokens:
                record.prompt_tokens = usage.prompt_tokens
        if reservation is None:
            return
        if charge is _REFUND or (charge is _DELIVERED and usage is None and x.relay is None):
            self._store.settle(reservation, None)
            return
        # Who leaves before the answer pays for the prompt, once a backend has it: it may have been computed.
        prompt, output = record.prompt_tokens, record.output_tokens
        microusd = 0
        if key is not None and key.plan.limits.money:
            aliases, model = self._force.settings.aliases, record.model or ""
            microusd = aliases.microusd(model, prompt, output)
            if not microusd and prompt + output:
                aliases.say_unpriced(model, key.plan.name)
        self._store.settle(reservation, Amounts(1, prompt, output, microusd))

    def _counted(self, key: Key, ask: Ask, record: Record, usage: Usage | None) -> Usage:
        """The tokens of an answer that has begun, and says nothing or not enough about them."""
        text_bytes = record.reply_bytes if ask.envelope.writes else 0
        bytes_per_token = self._tokens.bytes_per_token(key.id, ask.model)
        found = charged(usage, record.prompt_tokens, text_bytes, bytes_per_token)
        if ask.max_tokens is not None and not found.reported:  # there cannot be more
            found.output_tokens = min(found.output_tokens, ask.choices * ask.max_tokens)
        return found
