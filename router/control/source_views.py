"""Sources of backends as the JSON of the admin API: how each is, and what it says of a backend."""

from __future__ import annotations

from typing import Any

from router.control.plane import ControlPlane
from router.core.backend import Backend
from router.core.roll import FILE, Origin


def source_of(control: ControlPlane, b: Backend) -> dict[str, Any]:
    """The word of its source about a backend, apart from all measurements."""
    origin = control.sources.call.origins.get(b.name, Origin(FILE))
    report = control.sources.reports.get(origin.source)
    registration = control.registrations.of(b.name)
    found = origin.source != FILE
    return {
        "name": origin.source,
        "kind": report.kind if report is not None else origin.source,
        "says": _says(control, b, origin),
        "since_s": max(0.0, control.now_s() - origin.since_s) if found else None,
        "heard_s": max(0.0, control.now_s() - report.heard_s) if found and report and report.heard_s else None,
        "lease_s": max(0.0, registration.until_s - control.now_s()) if registration is not None else None,
        "renew_s": registration.renew_s if registration is not None else None,
        "facts": dict(origin.facts),
    }


def _says(control: ControlPlane, b: Backend, origin: Origin) -> str:
    """``ready``, ``not_ready``, ``leaving``, or ``not_listed``: it is named no more."""
    if not origin.listed:
        return "not_listed"
    if b.name in control.sources.call.notices:
        return "leaving"
    return "ready" if origin.ready else "not_ready"


def sources(control: ControlPlane) -> list[dict[str, Any]]:
    """Every source, the file first."""
    call, now_s = control.sources.call, control.now_s()
    documents = []
    for name, report in control.sources.reports.items():
        doubted_s = control.sources.roll.doubted_since_s(name)
        members = [backend for backend, origin in call.origins.items() if origin.source == name]
        documents.append(
            {
                "name": name,
                "kind": report.kind,
                "region": report.region,
                "state": _state(name, report.heard_s, report.problem, doubted_s),
                "heard_s": max(0.0, now_s - report.heard_s) if report.heard_s is not None else None,
                "problem": report.problem,
                "remarks": list(report.remarks),
                "backends": len(members),
                "in_use": sum(m not in call.notices and m not in call.unready for m in members),
                "left_out": [text for text in call.left_out if text.partition(" of ")[2].split(" ")[0] == name],
            }
        )
    return documents


def _state(name: str, heard_s: float | None, problem: str | None, doubted_s: float | None) -> str:
    """``heard``; ``away``: what it said holds; ``doubted``: it suddenly names nobody; ``waiting``: not heard yet."""
    if problem is not None:
        return "away"
    if doubted_s is not None:
        return "doubted"
    return "heard" if heard_s is not None or name in (FILE, "registered") else "waiting"
