"""The policies: how to rank the backends that may take a request. One file each, all pure.

``POLICIES`` is the registry. Policies named after other projects follow the algorithms that these publish, so that a
replay compares with what is in use elsewhere.

base            what a policy is
token_counts    tokens in flight at each backend, for policies that count them
ttft            the soonest predicted first token; the default
nearest         the lowest round trip
least_inflight  the fewest requests in flight
p2c             the better of two random backends
round_robin     each in turn
prefix          the longest cached prefix
cheapest        the lowest price that is quick enough
session_hash    one backend for each session
peak_ewma       Linkerd's balancer
cache_aware     SGLang's router
gie             the Gateway API inference extension until August 2026
llmd            llm-d's baseline since August 2026
dynamo          NVIDIA Dynamo's KV router
gorgo           GORGO
gorgo2          GORGO, second version
prequal         Prequal
"""

from __future__ import annotations

from router.core.params import Params
from router.core.policy.base import Policy, Ranking
from router.core.policy.cache_aware import CacheAware
from router.core.policy.cheapest import Cheapest
from router.core.policy.dynamo import Dynamo
from router.core.policy.gie import Gie
from router.core.policy.gorgo import Gorgo
from router.core.policy.gorgo2 import Gorgo2
from router.core.policy.least_inflight import LeastInflight
from router.core.policy.llmd import Llmd
from router.core.policy.nearest import Nearest
from router.core.policy.p2c import PowerOfTwo
from router.core.policy.peak_ewma import PeakEwma
from router.core.policy.prefix import Prefix
from router.core.policy.prequal import Prequal
from router.core.policy.round_robin import RoundRobin
from router.core.policy.session_hash import SessionHash
from router.core.policy.ttft import Ttft

__all__ = ["POLICIES", "Policy", "Ranking", "list_policies", "make_policy"]

#: name -> the class, which is its factory: ``POLICIES[name](params)``
POLICIES: dict[str, type[Policy]] = {
    policy.name: policy
    for policy in (
        Ttft,
        Nearest,
        LeastInflight,
        PowerOfTwo,
        RoundRobin,
        Prefix,
        Cheapest,
        PeakEwma,
        SessionHash,
        CacheAware,
        Gie,
        Llmd,
        Dynamo,
        Gorgo,
        Gorgo2,
        Prequal,
    )
}


def make_policy(name: str, params: Params) -> Policy:
    """Raises ``KeyError`` when there is none of that name."""
    return POLICIES[name](params)


def list_policies() -> list[tuple[str, str, str]]:
    """(name, summary, source) of each, the default first."""
    return [(p.name, p.summary, p.source) for p in POLICIES.values()]
