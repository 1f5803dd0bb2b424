"""The answers of the core to where a request should go: Dispatch, Wait or Reject, each with its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from router.core.types import Lease, Value


class Struck(Enum):
    """Why a backend was not a candidate. The values are shown to operators: keep them stable."""

    MODEL = "model"  # does not serve it
    DENIED = "denied"  # says it does not have the model, and others do
    RESIDENCY = "residency"
    PIN = "pin"
    KEPT = "kept"  # another backend keeps the response that it continues
    DRAINING = "draining"
    ASLEEP = "asleep"  # its engine sleeps, until a request wakes it
    LEAVING = "leaving"  # goes away at a known time, or has gone
    NOT_READY = "not_ready"  # its source says so
    EJECTED = "ejected"
    PROBATION = "probation"  # on its way back, trial places taken
    BURNING_IN = "burning_in"  # new, and has not proved itself
    NOT_BEFORE = "not_before"  # asked us to come later
    SATURATED = "saturated"  # at max_inflight or at the learned limit
    FAILING = "failing"  # its latest attempts failed, or its probe does and nothing comes: others come first
    CONTINUES = "continues"  # cannot continue an answer that another backend began
    TRIED = "tried"  # this request was there already
    SHUNNED = "shunned"  # beside a backend that could not be reached or died of this request: asked last


class Candidate(NamedTuple):
    """One backend as it stood at the moment of the decision. All terms in seconds, lower is better.

    ``terms`` names the parts of ``cost_s``, e.g. ``(("rtt", 0.08), ("queue", 0.0), ("prefill", 0.2))``; a policy
    that does not think in seconds gives its score as ``cost_s`` and names its unit in the terms.
    """

    backend: str
    cost_s: float | None
    terms: tuple[tuple[str, float], ...]
    struck: Struck | None


class RejectReason(Enum):
    """The values are error codes of errors.py."""

    UNKNOWN_MODEL = "unknown_model"
    NO_BACKEND = "no_backend"
    RESIDENCY = "residency_unsatisfiable"


class Dispatch(Value):
    """Go to ``lease.backend``; the lease is already counted.

    ``candidates`` is made when it is first read, from what stood at the decision: read it off the hot path.
    """

    lease: Lease
    policy: str
    candidates: Sequence[Candidate]
    reason: str = "lowest cost"


@dataclass(slots=True)
class Wait:
    """Hold the request until a place is free or ``until_s`` has come; ``reason`` says what is in the way.

    ``again_s``: ask again then, even if no place was reported free; a backend may be back by itself.
    ``wakes``: nothing runs, and a backend is to be woken or started for it.
    """

    until_s: float
    candidates: Sequence[Candidate] = ()
    again_s: float = float("inf")
    reason: str = "every usable backend is full"
    wakes: bool = False


@dataclass(slots=True)
class Reject:
    reason: RejectReason
    detail: str
    retry_after_s: float | None = None
    candidates: Sequence[Candidate] = ()


Decision = Dispatch | Wait | Reject
