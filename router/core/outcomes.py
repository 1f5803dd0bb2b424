"""How an attempt can end, and what follows from each ending.

The one table that health, estimator, retry and quota obey. Whether *we* try again is
decided here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """The end of one attempt. The values are metric labels and journal words: keep them stable."""

    OK = "ok"
    CLIENT_ERROR = "client_error"
    MODEL_MISSING = "model_missing"
    UNSUPPORTED = "unsupported"
    OVERLOADED = "overloaded"
    OWN_SHORTAGE = "own_shortage"
    UNREACHABLE = "unreachable"
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"  # noqa: S105
    SERVER_ERROR = "server_error"
    TRUNCATED = "truncated"
    MOVED = "moved"  # by this router: the backend is to go away
    SUPERSEDED = "superseded"  # by a hedge, or by the attempt that it was to help
    CLIENT_GONE = "client_gone"

    # By identity and in C: CONSEQUENCES is looked up once per attempt.
    __hash__ = object.__hash__


class OnHealth(Enum):
    """The effect of an outcome on the health of the backend."""

    NONE = "none"
    RESETS = "resets"  # a success: clears consecutive failures
    HARD = "hard"
    SOFT = "soft"  # counts half


class Lesson(Enum):
    """The lesson of an outcome about times."""

    NONE = "none"
    TTFT = "ttft"
    CENSORED = "censored"  # it took at least this long
    ITL_ONLY = "itl_only"


class Retry(Enum):
    """Whether another backend is asked."""

    NO = "no"
    YES = "yes"
    IN_BUDGET = "in_budget"
    CONTINUE = "continue"  # before the first token: start over; after it: go on elsewhere if that is safe


class Charge(Enum):
    """The tokens that the tenant pays for."""

    ACTUAL = "actual"
    DELIVERED = "delivered"
    REFUND = "refund"


@dataclass(frozen=True, slots=True)
class Consequence:
    on_health: OnHealth
    lesson: Lesson
    retry: Retry
    charge: Charge


CONSEQUENCES: dict[Outcome, Consequence] = {
    Outcome.OK: Consequence(OnHealth.RESETS, Lesson.TTFT, Retry.NO, Charge.ACTUAL),
    Outcome.CLIENT_ERROR: Consequence(OnHealth.NONE, Lesson.NONE, Retry.NO, Charge.REFUND),
    # The next one has it, or can do it: nobody is at fault, and what it costs is a round trip.
    Outcome.MODEL_MISSING: Consequence(OnHealth.NONE, Lesson.NONE, Retry.YES, Charge.REFUND),
    Outcome.UNSUPPORTED: Consequence(OnHealth.NONE, Lesson.NONE, Retry.IN_BUDGET, Charge.REFUND),
    # Another backend may have a connection that is open already.
    Outcome.OWN_SHORTAGE: Consequence(OnHealth.NONE, Lesson.NONE, Retry.YES, Charge.REFUND),
    Outcome.OVERLOADED: Consequence(OnHealth.NONE, Lesson.NONE, Retry.IN_BUDGET, Charge.REFUND),
    Outcome.UNREACHABLE: Consequence(OnHealth.HARD, Lesson.NONE, Retry.YES, Charge.REFUND),
    Outcome.FIRST_TOKEN_TIMEOUT: Consequence(OnHealth.SOFT, Lesson.CENSORED, Retry.IN_BUDGET, Charge.REFUND),
    Outcome.SERVER_ERROR: Consequence(OnHealth.HARD, Lesson.NONE, Retry.IN_BUDGET, Charge.REFUND),
    Outcome.TRUNCATED: Consequence(OnHealth.HARD, Lesson.ITL_ONLY, Retry.CONTINUE, Charge.DELIVERED),
    Outcome.MOVED: Consequence(OnHealth.NONE, Lesson.ITL_ONLY, Retry.CONTINUE, Charge.DELIVERED),
    Outcome.SUPERSEDED: Consequence(OnHealth.NONE, Lesson.CENSORED, Retry.NO, Charge.REFUND),
    Outcome.CLIENT_GONE: Consequence(OnHealth.NONE, Lesson.NONE, Retry.NO, Charge.DELIVERED),
}
