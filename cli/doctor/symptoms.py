"""One line of what ``router doctor`` says."""

from __future__ import annotations

from typing import Any, NamedTuple

OK, WARN, FAIL = "ok", "warn", "fail"


class Symptom(NamedTuple):
    """``what`` was looked at, ``text`` is how it is, ``advice`` what to do about it."""

    area: str  # file | store | backends | clock | descriptors | certificates | router
    what: str
    state: str
    text: str
    advice: str = ""

    def document(self) -> dict[str, Any]:
        return self._asdict() | {"advice": self.advice or None}


def good(area: str, what: str, text: str) -> Symptom:
    return Symptom(area, what, OK, text)


def clock(what: str, skew_s: float, *, warn_s: float, fail_s: float, advice: str) -> Symptom:
    """A clock beside ours. ``skew_s``: how far it is ahead."""
    text = f"{abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's clock"
    if abs(skew_s) < warn_s:
        return good("clock", what, f"within {warn_s:g} s of this machine's clock")
    return Symptom("clock", what, FAIL if abs(skew_s) >= fail_s else WARN, text, advice)
