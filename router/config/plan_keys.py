"""The keys of plans, of other limits, of prices and of alerts: what clients may use, what it costs, and who is told."""

from __future__ import annotations

from router.config.address import alert_problem
from router.config.model import AlertsSection, AllSection, Plan, PricesSection, Tenant
from router.config.names import date_problem, each, env_problem, jurisdiction_problem, model_problem
from router.config.setting import Section, Setting
from router.core.limits import KINDS, LimitKind
from router.core.types import Priority


def _limit_setting(kind: LimitKind) -> Setting:
    if kind.money:
        return Setting(kind.key, "number", kind.doc, above=0, high=kind.high)
    return Setting(kind.key, "integer", kind.doc, low=1, high=kind.high)


#: The limits of anything that has some.
LIMIT_KEYS: tuple[Setting, ...] = tuple(map(_limit_setting, KINDS))

#: What tokens cost: once, or from several dates on.
PRICE_KEYS: tuple[Setting, ...] = (
    Setting("input", "number", "Prompt tokens.", low=0, high=1e6),
    Setting("output", "number", "Output tokens.", low=0, high=1e6),
    Setting(
        "from",
        "string",
        'The date (UTC) from which it holds, as in "2026-12-01". Default: always.',
        problem=date_problem,
        attr="since_day",
        computed=True,
    ),
)


def price_setting(name: str, doc: str, attr: str = "") -> Setting:
    return Setting(name, "tables or table", doc, attr=attr, inner=PRICE_KEYS)


PLANS = Section(
    "plans",
    "Named limits that API keys refer to. A limit that is left out does not apply.",
    Plan,
    (
        *LIMIT_KEYS,
        Setting(
            "priority",
            "string",
            "Who waits less when every backend is full.",
            choices=tuple(p.name.lower() for p in Priority),
        ),
        Setting(
            "residency",
            "strings",
            "Jurisdictions that may see the data: a hard filter. Empty: any.",
            problem=each(jurisdiction_problem),
        ),
        Setting(
            "models",
            "strings",
            "Models that keys of the plan may ask for, by the names that clients use. Others are answered 403 "
            "`forbidden`, and `/v1/models` does not list them. Empty: all.",
            problem=each(model_problem),
        ),
        Setting(
            "loop_guard",
            "string",
            "A stream that repeats itself to the byte, three times or more: `observe` notes it, `stop` ends it.",
            choices=("off", "observe", "stop"),
        ),
        Setting(
            "show_cost",
            "boolean",
            "Tell clients what a whole answer costs in US dollars, in the header `x-router-cost`. Streams do not have "
            "it: their cost is known at their end.",
        ),
        Setting(
            "degrade",
            "boolean",
            "Requests may get a smaller variant of their model (`[models.NAME] degrade`) while that is overloaded.",
        ),
    ),
    named=True,
)

TENANTS = Section(
    "tenants",
    "Limits of all keys of a tenant together, beside those of each key's plan. A request takes from all of them or "
    "from none. `[tenants.default]` is for each tenant that has no table of its own.",
    Tenant,
    LIMIT_KEYS,
    named=True,
)

ALL = Section("all", "Limits of all requests together, over all routers.", AllSection, LIMIT_KEYS)

PRICES = Section(
    "prices",
    "Prices are charged to budgets by who really answered: the price of the backend if it has one, else of the "
    "model, else of the name that was asked for, else of the dearest name that leads to the model, else this one.",
    PricesSection,
    (price_setting("default", "US dollars per million tokens of everything that has no price of its own."),),
)

ALERTS = Section(
    "alerts",
    "Who is told when 50, 80 or 100 % of a budget are used: see the [runbook](runbook.md#budgets-and-alerts). Without "
    "a webhook the log, the metrics and `router events` tell it.",
    AlertsSection,
    (
        Setting(
            "webhook",
            "string",
            "http:// or https:// address that is sent each alert, signed. Redirects are not followed.",
            problem=alert_problem,
            secret=True,
        ),
        Setting(
            "secret_env",
            "string",
            "Environment variable that holds the secret of the signatures. Required with webhook.",
            problem=env_problem,
            secret=True,
        ),
    ),
)
