"""Reads the answers of metadata services of clouds: is the machine to go away, and when? Pure.

    AWS      spot/instance-action           404, or {"action": "terminate", "time": "..."}
    Google   instance/preempted             FALSE, or TRUE
             instance/maintenance-event     NONE, or TERMINATE_ON_HOST_MAINTENANCE
    Azure    metadata/scheduledevents       {"Events": [{"EventType": "Preempt", "NotBefore": "..."}]}

An agent of one's own may answer with a time alone, with {"in_s": 120}, or with 204 or nothing while all is well.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

#: When no time is told: what Google and Azure give.
SOON_S = 30.0
#: Without these Google and Azure do not answer; the others do not mind them.
HEADERS = {"Metadata-Flavor": "Google", "Metadata": "true"}
_YES = frozenset({"true", "terminate_on_host_maintenance"})
_NO = frozenset({"", "false", "none", "null", "{}", "migrate_on_host_maintenance"})
_ENDINGS = frozenset({"Preempt", "Terminate", "Redeploy", "Reboot"})


class Word(Enum):
    STAYS = "stays"
    UNKNOWN = "unknown"


def read_notice(status: int, body: bytes, wall_s: float) -> float | Word:
    """In how many seconds the machine goes away; or that it stays, or that the answer cannot be understood."""
    if status in (204, 404):
        return Word.STAYS
    if status != 200:
        return Word.UNKNOWN
    text = body.decode("utf-8", "replace").strip()
    if text.lower() in _NO:
        return Word.STAYS
    if text.lower() in _YES:
        return SOON_S
    if (at_s := wall_of(text)) is not None:
        return max(0.0, at_s - wall_s)
    try:
        document = json.loads(text)
    except ValueError:
        return Word.UNKNOWN
    return _of_document(document, wall_s) if isinstance(document, dict) else Word.UNKNOWN


def _of_document(document: dict[str, Any], wall_s: float) -> float | Word:
    if isinstance(events := document.get("Events"), list):
        found = [e for e in events if isinstance(e, dict) and e.get("EventType") in _ENDINGS]
        ends = [wall_of(str(e.get("NotBefore") or "")) for e in found]
        in_s = [SOON_S if at_s is None else max(0.0, at_s - wall_s) for at_s in ends]
        return min(in_s) if in_s else Word.STAYS
    given = document.get("in_s")
    if isinstance(given, (int, float)) and not isinstance(given, bool) and math.isfinite(given):
        return max(0.0, float(given))
    if "time" in document or "action" in document:
        at_s = wall_of(str(document.get("time", "")))
        return SOON_S if at_s is None else max(0.0, at_s - wall_s)
    return Word.UNKNOWN


def wall_of(text: str) -> float | None:
    """A time as Unix seconds, as RFC 3339 or as mail has it; None: it is not one."""
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if 1e9 <= number < 1e11:
        return number
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        try:
            at = parsedate_to_datetime(text)
        except (TypeError, ValueError, IndexError):
            return None
    return at.timestamp() if at.tzinfo is not None else None
