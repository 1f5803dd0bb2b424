"""What a request asks of the core: the key's plan and the ask of the client, narrowed down to one ``Request``."""

from __future__ import annotations

from router import clock
from router.config import ModelAlias
from router.core.backend import Backend
from router.core.degrading import Degrading, Smaller, Variant
from router.core.fleet import Fleet
from router.core.tokens import TokenEstimator, guessed
from router.core.types import Priority, Request, Rng
from router.errors import RouterError
from router.gateway import ingress
from router.gateway.exchange import Exchange
from router.gateway.failures import not_in_plan
from router.gateway.ingress import Ask, Kept
from router.gateway.keepers import Keeper, Keepers, gone
from router.gateway.settings import InForce
from router.store.base import Key
from router.store.groups import Company
from router.tasks import spawn, wait_for

_INFINITE_S = float("inf")
_PRIORITIES = {priority.name.lower(): priority for priority in Priority}


class Demand:
    """Turns what clients ask into the core's words."""

    def __init__(self, force: InForce, fleet: Fleet, keepers: Keepers, tokens: TokenEstimator, rng: Rng) -> None:
        self._force = force
        self._fleet = fleet
        self._keepers = keepers
        self._tokens = tokens
        self._rng = rng
        self.degrading = Degrading(fleet)

    def understand(self, x: Exchange, key: Key, ask: Ask) -> Request:
        """Turn the ask into the core's words and note it in the record. Raises RouterError (invalid_request,
        forbidden)."""
        envelope, record, plan = ask.envelope, x.record, key.plan
        if envelope.policy is not None and not self._may_choose(envelope.policy):
            raise RouterError("invalid_request", "x-router-policy is not allowed here or names no policy.")
        settings = self._force.settings
        x.models = self.models_of(ask, x.keeper) if x.keeper else settings.aliases.route(ask.model, self._rng)
        if plan.degrade and x.keeper is None:
            self._degrade(x, key, ask)
        if settings.groups.any:
            x.company = settings.groups.company(key.tenant, ask.model, x.models[0])
        need = self.need_of(key, ask, record.request_id, x.arrival_s, x.company)
        record.key_id, record.tenant, record.plan = key.id, key.tenant, plan.name
        record.model, record.stream = ask.model, ask.stream
        record.priority = plan.priority if envelope.priority is None else need.priority.name.lower()
        if need.residency is not None:
            record.residency = tuple(sorted(need.residency))
        record.prompt_tokens, record.max_output_tokens = need.prompt_tokens, need.max_output_tokens
        record.prefix_blocks, record.tokens_per_block = ask.blocks, need.tokens_per_block
        if plan.models and not plan.permits(ask.model) and (ask.kept is None or ask.kept.param is not None):
            raise not_in_plan(plan, ask.model)
        return need

    def _degrade(self, x: Exchange, key: Key, ask: Ask) -> None:
        """A smaller variant comes first while the model is overloaded, then the model itself."""
        alias = self._force.settings.aliases.get(ask.model)
        if alias is None or not alias.degrade or ask.envelope.counting:
            return
        need = self.need_of(key, ask, x.record.request_id, x.arrival_s)
        found = self.smaller(need, alias, clock.monotonic_s())
        if found is not None:
            x.models = found.before(x.models)
            x.record.degraded = str(found)

    def smaller(self, need: Request, alias: ModelAlias, now_s: float, *, dry_run: bool = False) -> Variant | None:
        """The smaller variant that answers for the model, if any does."""
        if alias.target_ttft_s is None:
            return None
        rule = Smaller(alias.name, alias.degrade, alias.target_ttft_s)
        return self.degrading.choose(need, rule, now_s, dry_run=dry_run)

    async def follow(self, x: Exchange, key: Key, ask: Ask) -> Request:
        """Understand a request that only one backend can serve: it continues or asks about what that one keeps. Raises
        RouterError (forbidden, previous_response_not_found, response_not_found, store_unavailable)."""
        kept = ask.kept
        assert kept is not None
        finding = self._keepers.find(key.tenant, kept.id)
        name = f"find keeper for {x.record.request_id}"
        keeper = await wait_for(spawn(finding, name=name, expected=(RouterError,)))
        backend = None if keeper is None else self._fleet.backends.get(keeper.backend)
        if keeper is None or backend is None:
            if self._may_go_anywhere(kept):
                return self.understand(x, key, ask)
            raise gone(kept)
        if kept.param is None:
            ask.model = keeper.model
        elif not self._keeps_model(backend, self.models_of(ask, keeper)):
            raise gone(kept)
        x.keeper = keeper
        need = self.understand(x, key, ask)
        need.pin_backend = keeper.backend
        if kept.param is None:  # nothing is computed
            need.light = True
            need.prompt_tokens = need.max_output_tokens = x.record.prompt_tokens = x.record.max_output_tokens = 0
        return need

    def _keeps_model(self, backend: Backend, models: tuple[str, ...]) -> bool:
        """False: others serve these models, and this backend does not."""
        if backend.models is None or any(map(backend.serves, models)):
            return True
        return not any(model in self._fleet.models() for model in models)

    def _may_go_anywhere(self, kept: Kept) -> bool:
        """Conversations may be made elsewhere; and nothing is known when no notes are made."""
        notes_are_made = self._force.settings.config.responses.ttl_s > 0
        return kept.param == "conversation" or (kept.param is not None and not notes_are_made)

    def models_of(self, ask: Ask, keeper: Keeper | None) -> tuple[str, ...]:
        """The models to try, in order. Who continues a response stays with the model that made it, if it may."""
        if keeper is not None and self._force.settings.aliases.may_be(ask.model, keeper.model):
            return (keeper.model,)
        return self._force.settings.aliases.route(ask.model, self._rng)

    def _may_choose(self, policy: str) -> bool:
        return self._force.settings.config.router.policy_header and policy in self._force.settings.policies

    def need_of(self, key: Key, ask: Ask, request_id: str, arrival_s: float, company: Company | None = None) -> Request:
        """The request as the core sees it: the key's plan and the ask narrow each other down."""
        envelope, plan = ask.envelope, key.plan
        residency = envelope.residency
        if plan.residency:
            allowed = frozenset(plan.residency)
            residency = allowed if residency is None else allowed & residency
        priority = _PRIORITIES[plan.priority]
        if envelope.priority is not None:
            priority = max(priority, envelope.priority)  # a request may stand back, never push forward
        if envelope.counting:
            prompt_tokens = output_tokens = 0
        else:
            prompt_tokens, output_tokens = self._tokens.estimate(key.id, ask.model, ask.prompt_bytes, ask.max_tokens)
            prompt_tokens += ask.item_tokens
            output_tokens *= ask.choices if envelope.generates else 0
            if ask.max_tokens is None:
                rates = plan.limits.answers if company is None else plan.limits.answers + company.answers
                output_tokens = guessed(output_tokens, prompt_tokens, rates)
        return Request(
            request_id,
            ask.model,
            key.tenant,
            prompt_tokens,
            output_tokens,
            () if envelope.counting else ask.blocks,
            prompt_tokens * ingress.PREFIX_BLOCK_BYTES / ask.prefix_bytes if ask.blocks else 0.0,
            residency,
            envelope.pin_region,
            envelope.affinity,
            priority,
            arrival_s,
            arrival_s + envelope.timeout_s if envelope.timeout_s is not None else _INFINITE_S,
            ask.stream,
            light=envelope.counting,
        )
