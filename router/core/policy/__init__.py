"""The policies: how to rank the backends that may take a request. One file each, all pure.

``POLICIES`` is the registry; what a policy is stands in ``base``. Those named after other projects follow the published
algorithms of these, so that a replay compares with what is in use elsewhere.
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
