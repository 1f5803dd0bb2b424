"""One of five regions is cut off from the store while clients there and elsewhere spend the same keys.

While it is cut off, all together may admit (1 + 1 / routers) times what is right (ADR 29). Of that a sum owes all, a
rate the part that the share has not refilled; the excess must not grow afterwards. At the end every router leaves as an
operator would end it, and the account of the budget must come to exactly what was spent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import redis

from bench.quota.fleet import Region
from bench.quota.region import Shift
from bench.quota.rounds import CLIENTS, LEAD_S, account, let_in
from router.config import Plan
from router.core.limits import SLOTS, SUMS
from router.store.scripts import account_keys, head, load_scripts, read_standing
from router.store.shared import LEASE_S

#: Who is cut off, and who goes on.
CUT, OTHER = 3, 1
#: Before the cut, and after it: until what was given out beyond the limit is paid back.
BEFORE_S = 15.0
AFTER_PART = 0.5
AFTER_S = 30.0
#: A budget that is used up in the middle of the partition, for each second of it.
BUDGET_USD_S = 0.03


def play(regions: list[Region], port: int, rounds: Mapping[str, dict[str, Any]], cut_s: float) -> dict[str, Any]:
    """All kinds of limits at once, each with its key and its part of the clients."""
    began_s = time.time() + LEAD_S
    if "budget" in rounds:
        rounds = {**rounds, "budget": {"budget_usd_month": round(BUDGET_USD_S * cut_s, 2)}}
    cut_at_s = began_s + BEFORE_S
    mended_s = cut_at_s + cut_s
    end_s = mended_s + AFTER_S + AFTER_PART * cut_s
    for kind, plan in rounds.items():
        for region in (regions[CUT], regions[OTHER]):
            region.give(Shift(kind, plan, CLIENTS // (2 * len(rounds)), began_s, end_s))
    _until(cut_at_s)
    regions[CUT].line_is("cut")
    _until(mended_s)
    regions[CUT].line_is("through")
    _until(end_s + 1.0)
    for region in regions:
        region.leave()
    time.sleep(1.0)
    return {
        kind: {
            "alone": sum(cut_at_s <= r.begin_s < mended_s for r in let_in([regions[CUT]], kind)),
            "cut": account(kind, most, let_in(regions, kind), began_s, mended_s),
            "end": account(kind, most, let_in(regions, kind), began_s, end_s),
            "parted": 1 + 1 / len(regions),
            "spent_usd": sum(r.microusd for r in let_in(regions, kind)) / 1e6,
            **_ledger(port, kind, Plan("default", **plan)),
        }
        for kind, plan in rounds.items()
        for most in plan.values()
    }


def _until(moment_s: float) -> None:
    time.sleep(max(0.0, moment_s - time.time()))


def _ledger(port: int, account_id: str, plan: Plan) -> dict[str, Any]:
    """The use of an account as the store has it, after everybody has left."""
    with redis.Redis(port=port) as client:
        words = head(plan.limits, int(LEASE_S * 1e6), None)
        reply = client.eval(load_scripts().look.text, 2, *account_keys(account_id), *words)
    used = read_standing(reply).used
    return {"slots": used[SLOTS], "charged_usd": max((used[i] for i, _ in SUMS), default=0) / 1e6}


def wrong(found: Mapping[str, Any]) -> list[str]:
    """The faults that were found, one line each."""
    said = []
    for kind, row in found.items():
        bound = row["parted"] * row["cut"]["allowed"]
        if row["cut"]["admitted"] > bound:
            said.append(f"{kind}: more than {bound:g} was admitted by the end of the partition")
        over, before = (row[at]["admitted"] - row[at]["allowed"] for at in ("end", "cut"))
        if kind in ("requests", "tokens") and over > max(0.0, before):
            said.append(f"{kind}: more was admitted after the partition than is right")
        if row["slots"]:
            said.append(f"{kind}: {row['slots']} places are still taken")
        if kind == "budget" and abs(row["charged_usd"] - row["spent_usd"]) > 1e-9:
            said.append(f"{kind}: {row['charged_usd']:g} are charged and {row['spent_usd']:g} were spent")
    return said


def table(found: Mapping[str, Any]) -> str:
    lines = ["limit           right  by the cut    bound  of them alone | right at end   admitted | charged    spent"]
    for kind, row in found.items():
        cut, end = row["cut"], row["end"]
        bound = row["parted"] * cut["allowed"]
        lines.append(
            f"{kind:10} {cut['allowed']:10.6g} {cut['admitted']:11.6g} {bound:8.6g} {row['alone']:14d} |"
            f" {end['allowed']:12.6g} {end['admitted']:10.6g} | {row['charged_usd']:7.4f} {row['spent_usd']:8.4f}"
        )
    return "\n".join(lines)
