"""The prices of a configuration, ready to be asked."""

from __future__ import annotations

from router.config.model import Config
from router.core.prices import PriceList


def price_list(config: Config) -> PriceList:
    return PriceList(
        models={alias.name: alias.prices for alias in config.models.values() if alias.prices},
        leads_to={
            alias.name: (*(target.model for target in alias.targets), *alias.fallbacks)
            for alias in config.models.values()
        },
        backends={b.name: b.prices for b in config.backends if b.prices},
        default=config.prices.default,
    )
