"""The regions.toml that ``router config init`` writes."""

from __future__ import annotations

from router.core.traits import ENGINES

EXAMPLE = f"""\
# regions.toml: where the engines are and who may use them.
# Check it with `router config check`. Saving it reloads a running router; a file with a mistake is refused whole
# and the router keeps what it has.

[router]
# name  = "edge-us-1"            # default: the host name
region  = "us-east"              # where this router stands: policies prefer it
listen  = "127.0.0.1:8080"       # clients; 0.0.0.0:8080 for every interface
admin   = "127.0.0.1:9090"       # operators: admin API, /metrics, /healthz, /readyz
workers = 1                      # processes; more than one needs [store] redis
policy  = "ttft"                 # `router policies list` explains each

[store]                          # what routers share: keys, quotas, drains
# redis = "redis://127.0.0.1:6379/0"   # or "env:REDIS_URL", or "embedded"; absent: this process's memory
on_down = "share"                # while redis is away: share | deny | allow

[auth]
mode = "open"                    # "keys" asks clients for a key of `router keys create`;
                                 # "open" is refused on an address that other machines can reach
# operators = "operators.toml"   # tokens with names and roles; the first start makes it. A token of some kind is
                                 # needed as soon as `admin` is not loopback

[plans.default]                  # limits of a key; leave one out for no limit
requests_per_minute = 600
tokens_per_minute   = 200_000
concurrent          = 64
# budget_usd_month  = 500.0
priority            = "standard" # interactive | standard | batch
residency           = []         # e.g. ["eu"]: only regions of these jurisdictions, whatever happens

# models            = ["chat"]   # only these may be asked for

# [tenants.default]              # limits of all keys of a tenant together, unless it has a table of its own
# tokens_per_minute = 1_000_000
# budget_usd_day    = 50.0

# [all]                          # limits of all requests together, over all routers
# concurrent = 2000

# [models.chat]                  # an alias: weighted variants, fallbacks, price, limits
# targets   = [{{ model = "llama-3.1-8b", weight = 95 }}, {{ model = "llama-3.1-8b-fp8", weight = 5 }}]
# fallbacks = ["llama-3.2-3b"]
# price_usd_per_mtok = [{{ input = 0.05, output = 0.15 }}, {{ from = "2027-01-01", input = 0.04, output = 0.12 }}]
# output_tokens_per_minute = 500_000

# [prices]
# default = {{ input = 0.5, output = 1.5 }}   # of what has no price of its own: nothing is free by accident

[timeouts]                       # seconds
connect      = 1.0
first_token  = 60.0
token_gap    = 60.0
request_body = 30.0
drain        = 300.0             # for streams to finish when the router stops

[continuation]                   # streams that break off
enabled = true                   # another backend continues them where that is safe

[hedge]                          # streams whose first token is late
enabled = false                  # a second backend is asked, too, and the first content token wins

[[regions]]
name         = "us-east"
location     = [38.9, -77.0]     # latitude, longitude
jurisdiction = "us"

  [[regions.backends]]
  name   = "a"                   # addressed as us-east/a
  url    = "http://127.0.0.1:8000"
  engine = "vllm"                # {" | ".join(ENGINES)}
  # models = ["llama-3.1-8b"]    # default: asked from /v1/models
  max_inflight  = 256
  cost_usd_hour = 2.5
  # key_env = "US_EAST_A_KEY"    # the environment variable that holds the engine's API key

[[regions]]
name         = "eu-west"
location     = [53.3, -6.2]
jurisdiction = "eu"

  [[regions.backends]]
  name   = "a"
  url    = "http://127.0.0.1:8001"
  engine = "vllm"
"""
