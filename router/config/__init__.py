"""regions.toml: one schema, loaded whole or refused whole.

schema        every key of the file, once
model_keys    the keys of a model
jwt_schema    the keys of [jwt]
plan_keys     those of plans and prices
tracing_keys  those of [tracing]
setting       one key, and one table, as the schema describes them
names         what names, hosts, origins and paths may be
model         what the file says, as frozen values with their defaults
loader        from a text to a Config: the files below in order
reader        checks parsed TOML against the schema and collects every problem
places        finds the line of each key
checks        problems between keys: names, secrets, settings that clash
sources       the same for sources of backends
advice        settings that are allowed and probably not meant
address       checks of addresses and URLs
certificates  checks of certificate files
redis_url     the parts and options of the store's URL
selectors     label selectors of Kubernetes
present       a Config as a document without secrets, and the difference of two
price_list    the prices of a Config, ready to be asked
example       the file that ``router config init`` writes
jsonschema    the JSON schema for editors
reference     the tables of docs/config.md
"""

from __future__ import annotations

from router.config.address import is_loopback, split_address
from router.config.advice import alarms, warnings
from router.config.checks import exposed, secret, signing_key
from router.config.example import EXAMPLE
from router.config.jsonschema import json_schema
from router.config.loader import load, parse
from router.config.model import (
    AlertsSection,
    AllSection,
    AuthSection,
    AutoscalingSection,
    Config,
    CorsSection,
    HedgeSection,
    JournalSection,
    JwtSection,
    Limited,
    LimitsSection,
    ModelAlias,
    ModelTarget,
    Plan,
    PlanOfClaim,
    PricesSection,
    ProbesSection,
    Region,
    ResponsesSection,
    RouterSection,
    Source,
    StoreSection,
    Tenant,
    TimeoutsSection,
    TokensSection,
    TracingSection,
    WakeSection,
    part_of,
)
from router.config.present import diff, dump, fingerprint, pending
from router.config.price_list import price_list

__all__ = [
    "EXAMPLE",
    "AlertsSection",
    "AllSection",
    "AuthSection",
    "AutoscalingSection",
    "Config",
    "CorsSection",
    "HedgeSection",
    "JournalSection",
    "JwtSection",
    "Limited",
    "LimitsSection",
    "ModelAlias",
    "ModelTarget",
    "Plan",
    "PlanOfClaim",
    "PricesSection",
    "ProbesSection",
    "Region",
    "ResponsesSection",
    "RouterSection",
    "Source",
    "StoreSection",
    "Tenant",
    "TimeoutsSection",
    "TokensSection",
    "TracingSection",
    "WakeSection",
    "alarms",
    "diff",
    "dump",
    "exposed",
    "fingerprint",
    "is_loopback",
    "json_schema",
    "load",
    "parse",
    "part_of",
    "pending",
    "price_list",
    "secret",
    "signing_key",
    "split_address",
    "warnings",
]
