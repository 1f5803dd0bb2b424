"""Why the others lost, in words and in bars."""

from __future__ import annotations

import io
import re

import pytest

from cli import units
from cli.decision_view import _TIES, DecisionTable, changes, in_seconds, term_names, verdict
from cli.output import Output
from cli.route import why_line
from router.core.decisions import Struck
from router.core.policy.ttft import RULES
from tests.cli.conftest import Json


def test_verdicts(decision: Json) -> None:
    assert [verdict(c, decision) for c in decision["candidates"]] == [
        "chosen",
        "as good",
        "+91 ms, rtt",
        "+200 ms, queue",
        "draining",
    ]


def test_what_would_have_to_change(decision: Json) -> None:
    assert changes(decision)[2:] == [
        "  us-east/b: the policy's rule for equal costs had chosen it",
        "  eu-central/a: it had 91 ms less rtt",
        "  us-east/c: it had 200 ms less queue",
        "  ap-northeast/a: it were resumed",
    ]


def test_of_many_terms_the_two_worst_are_named(decision: Json) -> None:
    """The others come as a sum: nobody reads five."""
    chosen, other = decision["candidates"][0], decision["candidates"][2]
    for name, gap_s in (("rtt", 0.050), ("queue", 0.030), ("decode", 0.020), ("toll", 0.010), ("pressure", 0.0002)):
        other["terms"][name] = chosen["terms"].get(name, 0.0) + gap_s
    for name in set(other["terms"]) - {"rtt", "queue", "decode", "toll", "pressure"}:
        other["terms"][name] = chosen["terms"].get(name, 0.0)
    (line,) = [line for line in changes(decision) if "eu-central/a" in line]
    assert line == "  eu-central/a: it had 50 ms less rtt, 30 ms less queue and 30 ms less of other terms"


def test_a_cheaper_one_that_was_not_chosen(decision: Json) -> None:
    decision["candidates"][1]["cost_s"] -= 0.01
    assert verdict(decision["candidates"][1], decision) == "10 ms less"


@pytest.mark.parametrize("struck", Struck)
def test_every_strike_has_words_and_a_remedy(struck: Struck, decision: Json) -> None:
    decision["candidates"][-1]["struck"] = struck.value
    assert verdict(decision["candidates"][-1], decision) != struck.value or struck is Struck.DRAINING
    told = any(line.startswith("  ap-northeast/a: ") for line in changes(decision))
    assert told is (struck is not Struck.KEPT), "only its keeper can go on with a response"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("chance", "chance had picked it: the costs are equal, and chance decides among equals"),
        ("local region", "it stood in the router's region, which comes first among equals"),
        ("lowest cost (panic: too few healthy)", "it cost less: the winner was cheaper, though by less than"),
        ("fewest blocks", "the policy's rule for equal costs had chosen it: fewest blocks"),
    ],
)
def test_a_tie_names_the_rule_that_decided(reason: str, words: str, decision: Json) -> None:
    (line,) = [line for line in changes(decision | {"reason": reason}) if "us-east/b" in line]
    assert words in line


def test_every_rule_for_ties_of_the_default_policy_has_words() -> None:
    assert set(_TIES) == set(RULES)


def test_the_reason_of_a_region_is_that_of_its_best_candidate(decision: Json) -> None:
    full = {"backend": "eu-central/b", "cost_s": None, "terms": {}, "struck": "saturated", "chosen": False}
    decision["candidates"].insert(0, full)
    assert "eu-central +91 ms, rtt" in why_line({"decision": decision, "attempts": []})
    decision["candidates"].append(full | {"backend": "ap-northeast/b"})
    assert "ap-northeast draining and full" in why_line({"decision": decision, "attempts": []})


def test_a_region_that_was_asked_for_is_said_once(decision: Json) -> None:
    for candidate in decision["candidates"]:
        if not candidate["backend"].startswith("us-east/"):
            candidate.update(cost_s=None, terms={}, struck="pin")
    line = why_line({"decision": decision | {"reason": "chance"}, "attempts": []})
    assert line.endswith("[dim] · [/]decided by: chance[dim] · [/]only us-east was asked for")


def test_the_reason_of_a_dry_run_is_told(decision: Json) -> None:
    assert verdict(decision["candidates"][0], decision | {"reason": "knows the prefix"}) == "knows the prefix"


def test_terms_that_are_nothing_get_no_column(decision: Json) -> None:
    assert term_names(decision) == ["rtt", "queue", "prefill"]


def test_a_policy_that_counts_requests_is_not_shown_in_seconds() -> None:
    def candidate(name: str, requests: float, *, chosen: bool) -> Json:
        return {"backend": name, "cost_s": requests, "terms": {"requests": requests}, "struck": None, "chosen": chosen}

    decision = {
        "policy": "p2c",
        "candidates": [candidate("a/a", 1.0, chosen=True), candidate("b/a", 4.0, chosen=False)],
    }
    assert not in_seconds(decision)
    assert verdict(decision["candidates"][1], decision) == "+3"  # type: ignore[index]
    assert why_line({"decision": decision, "attempts": []}) == "cost 1 = requests 1[dim] · [/]b +3"


def test_why_line_groups_regions_by_their_verdict(decision: Json) -> None:
    assert why_line({"decision": decision, "attempts": []}) == (
        "cost 21 ms = rtt 1.0 ms + prefill 20 ms[dim] · [/]eu-central +91 ms, rtt[dim] · [/]ap-northeast draining"
    )


def test_bars_are_as_long_as_costs(decision: Json) -> None:
    stream = io.StringIO()
    out = Output(stream, env={"FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "140"})
    out.line(DecisionTable(decision, bars=True))
    lengths = [line.count("━") for line in stream.getvalue().splitlines()[1:]]
    assert lengths == [2, 2, 13, 26, 0]


def test_no_winner_no_verdict(decision: Json) -> None:
    for candidate in decision["candidates"]:
        candidate["chosen"] = False
    assert [verdict(c, decision) for c in decision["candidates"]] == ["", "", "", "", "draining"]
    assert why_line({"decision": decision, "attempts": []}) == "policy ttft"


#: every term of the policy ttft, as operators of a loaded fleet see it
TERMS = ("rtt", "overhead", "queue", "prefill", "pressure", "residual", "risk", "decode", "toll")


def loaded() -> Json:
    def candidate(backend: str, scale: float, *, chosen: bool = False) -> Json:
        terms = {name: scale * (3.3 + 37.0 * number) / 1000 for number, name in enumerate(TERMS)}
        return {"backend": backend, "cost_s": sum(terms.values()), "terms": terms, "struck": None, "chosen": chosen}

    struck = {"backend": "eu-central/a", "cost_s": None, "terms": {}, "struck": "ejected", "chosen": False}
    names = ("us-east/b", "ap-northeast/a", "ap-northeast/b", "sa-east/long-name")
    others = [candidate(name, 1.2 + number) for number, name in enumerate(names)]
    return {"policy": "ttft", "candidates": [candidate("us-east/c", 1.0, chosen=True), *others, struck]}


@pytest.mark.parametrize("tty", [True, False])
@pytest.mark.parametrize("columns", [30, 40, 60, 80, 100, 120, 160, 200])
def test_no_number_is_cut_at_any_width(columns: int, tty: bool) -> None:
    decision = loaded()
    stream = io.StringIO()
    env = {"NO_COLOR": "1", "TERM": "xterm", "COLUMNS": str(columns)} | ({"FORCE_COLOR": "1"} if tty else {})
    Output(stream, env=env).line(DecisionTable(decision, bars=tty))
    shown = re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue())
    assert "…" not in shown
    assert "▶" in shown
    assert max(map(len, shown.splitlines())) <= columns
    words = shown.split()
    for name in TERMS:
        assert name in words, f"{name} has no place"
    numbers = [units.seconds(v) for c in decision["candidates"] for v in (c["cost_s"], *c["terms"].values()) if v]
    joined = " ".join(words)
    for number in numbers:
        assert joined.count(number) >= numbers.count(number), number
    for candidate in decision["candidates"]:
        assert candidate["backend"] in shown


def test_without_room_the_picture_goes_first(decision: Json) -> None:
    stream = io.StringIO()
    out = Output(stream, env={"FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "70"})
    out.line(DecisionTable(decision, bars=True))
    head, *rows = re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue()).splitlines()
    assert head.split() == ["backend", "cost", "rtt", "queue", "prefill"]
    assert not any("━" in row for row in rows)
    assert rows[0].startswith("▶")
