"""Prices of tokens in US dollars: by the backend and the model that answered, from dates on. Pure.

The first of these that has a price counts: the backend, the model that answered, the name that was asked for, the
dearest name that leads to the model, the default. So a model has the same price under each of its names.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

DAY_S = 86_400
_DAYS_MAX = 3


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens, which is millionths of a dollar per token. ``since_day``: the day (UTC) from which
    it holds, counted from 1970-01-01; 0: always."""

    input: float = 0.0
    output: float = 0.0
    since_day: int = 0


#: Prices of one thing; on each day the one with the latest date holds.
Tariff = tuple[Price, ...]


class Leg(NamedTuple):
    """The part of an answer that one backend gave. Tokens of the prompt are charged to the first."""

    backend: str
    model: str
    output_tokens: int


def in_force(tariff: Tariff, day: int) -> Price | None:
    """The price on this day. None: there is none, or none yet."""
    return max((price for price in tariff if price.since_day <= day), key=lambda price: price.since_day, default=None)


def microusd(price: Price | None, prompt_tokens: int, output_tokens: int) -> int:
    """The price of these tokens in millionths of a dollar, rounded up."""
    return 0 if price is None else math.ceil(prompt_tokens * price.input + output_tokens * price.output)


def dearest(prices: Iterable[Price | None]) -> Price | None:
    """The most that a token can cost at any of these prices; None: there is none."""
    known = [price for price in prices if price is not None]
    return Price(max(p.input for p in known), max(p.output for p in known)) if known else None


class PriceList:
    """``models``: tariffs by name. ``leads_to``: the models that may answer for a name. ``backends``: the tariffs of
    backends that have one."""

    def __init__(
        self,
        models: Mapping[str, Tariff] | None = None,
        leads_to: Mapping[str, Collection[str]] | None = None,
        backends: Mapping[str, Tariff] | None = None,
        default: Tariff = (),
    ) -> None:
        self._models = dict(models or {})
        self._leads_to = dict(leads_to or {})
        self._backends = dict(backends or {})
        self._default = default
        self._days: dict[int, DayPrices] = {}
        self.empty = not (default or self._backends or any(self._models.values()))

    def on(self, wall_s: float) -> DayPrices:
        """The prices of that day (UTC)."""
        number = int(wall_s // DAY_S)
        found = self._days.get(number)
        if found is None:
            while len(self._days) >= _DAYS_MAX:
                del self._days[next(iter(self._days))]
            found = self._days[number] = self._day(number)
        return found

    def _day(self, day: int) -> DayPrices:
        models = {name: price for name, tariff in self._models.items() if (price := in_force(tariff, day))}
        reached: dict[str, list[Price]] = {}
        for name, price in models.items():
            for model in self._leads_to.get(name, ()):
                reached.setdefault(model, []).append(price)
        by_name = {model: most for model, prices in reached.items() if (most := dearest(prices)) is not None}
        backends = {
            name: price for name, tariff in self._backends.items() if (price := in_force(tariff, day)) is not None
        }
        return DayPrices(models, by_name, backends, in_force(self._default, day))


class DayPrices:
    """The prices of one day."""

    __slots__ = ("_backends", "_by_name", "_default", "_models")

    def __init__(
        self,
        models: Mapping[str, Price],
        by_name: Mapping[str, Price],
        backends: Mapping[str, Price],
        default: Price | None,
    ) -> None:
        self._models = models
        self._by_name = by_name
        self._backends = backends
        self._default = default

    def of_model(self, asked: str, model: str) -> Price | None:
        """The price of a model that answers for ``asked``, wherever the backend has none of its own."""
        models = self._models
        return models.get(model) or models.get(asked) or self._by_name.get(model) or self._default

    def of(self, asked: str, model: str, backend: str) -> Price | None:
        """The price of what this backend answers. None: nobody has said one."""
        return self._backends.get(backend) or self.of_model(asked, model)

    def most(self, asked: str, places: Iterable[tuple[str, str]]) -> Price | None:
        """The most that a request may be charged which one of these answers: a model, and a backend that serves it. An
        empty name stands for any backend without a price of its own."""
        return dearest(self.of(asked, model, backend) for model, backend in places)

    def charge(self, asked: str, prompt_tokens: int, legs: Sequence[Leg]) -> tuple[int, str | None]:
        """The price of an answer in millionths of a dollar, whoever gave its parts; and a model whose part has no
        price."""
        total, unpriced = 0.0, None
        for leg in legs:
            price = self.of(asked, leg.model, leg.backend)
            if price is not None:
                total += prompt_tokens * price.input + leg.output_tokens * price.output
            elif prompt_tokens or leg.output_tokens:
                unpriced = leg.model
            prompt_tokens = 0
        return math.ceil(total), unpriced
