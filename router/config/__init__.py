"""regions.toml: one schema, loaded whole or refused whole.

``model`` the values · ``schema`` every key, once · ``reader`` checks by that table · ``places`` lines of keys ·
``checks`` what no key knows alone · ``advice`` what is allowed and odd · ``loader`` all of these in order ·
``present`` dump and diff · ``jsonschema``.
"""

from __future__ import annotations

from router.config.address import is_loopback, split_address
from router.config.advice import alarms, warnings
from router.config.checks import secret
from router.config.example import EXAMPLE
from router.config.jsonschema import json_schema
from router.config.loader import load, parse
from router.config.model import (
    AuthSection,
    Config,
    CorsSection,
    JournalSection,
    LimitsSection,
    ModelAlias,
    ModelTarget,
    Plan,
    ProbesSection,
    Region,
    ResponsesSection,
    RouterSection,
    StoreSection,
    TimeoutsSection,
    TokensSection,
)
from router.config.present import diff, dump

__all__ = [
    "EXAMPLE",
    "AuthSection",
    "Config",
    "CorsSection",
    "JournalSection",
    "LimitsSection",
    "ModelAlias",
    "ModelTarget",
    "Plan",
    "ProbesSection",
    "Region",
    "ResponsesSection",
    "RouterSection",
    "StoreSection",
    "TimeoutsSection",
    "TokensSection",
    "alarms",
    "diff",
    "dump",
    "is_loopback",
    "json_schema",
    "load",
    "parse",
    "secret",
    "split_address",
    "warnings",
]
