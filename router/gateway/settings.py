"""What a configuration gives the request path."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.config import Config, TimeoutsSection, TokensSection, price_list
from router.core.policy import Policy
from router.core.prices import PriceList
from router.gateway.aliases import Aliases
from router.gateway.auth import Authenticator
from router.gateway.cors import Cors
from router.store.groups import Groups


@dataclass(slots=True)
class Settings:
    """Made whole from one configuration, and replaced whole by a reload."""

    config: Config
    authenticator: Authenticator
    aliases: Aliases
    policies: dict[str, Policy]
    cors: Cors = field(init=False)
    policy: Policy = field(init=False)  # where the client asks for no other
    timeouts: TimeoutsSection = field(init=False)
    items: TokensSection = field(init=False)  # tokens of what is not text
    prices: PriceList = field(init=False)
    groups: Groups = field(init=False)

    def __post_init__(self) -> None:
        self.policy = self.policies[self.config.router.policy]
        self.timeouts = self.config.timeouts
        self.cors = Cors(self.config.cors.origins)
        self.items = self.config.tokens
        self.prices = price_list(self.config)
        self.groups = Groups(self.config)


class InForce:
    """Holds the settings in force for all parts of the request path. A request that has begun may see two of them."""

    __slots__ = ("settings",)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
