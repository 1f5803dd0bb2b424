"""Words that nothing says: labels, codes, members and metrics that are declared and never made."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from router.core.limits import NAMES
from router.core.outcomes import Outcome
from router.errors import CODES
from router.telemetry.journal import AttemptRecord, Record
from router.telemetry.metrics import METRICS, SPECS
from tests.tidy.tree import python, text, tree


def calls(name: str) -> Iterator[ast.Call]:
    """Where the router's own code calls a class by this name."""
    for path in python("router"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name:
                yield node


def words(node: ast.AST | None) -> set[str]:
    """The string constants of an expression that can be its value."""
    match node:
        case ast.Constant(value=str(text)):
            return {text}
        case ast.IfExp():
            return words(node.body) | words(node.orelse)
    return set()


def argument(call: ast.Call, kind: type[Any], name: str) -> ast.AST | None:
    at = kind.__struct_fields__.index(name)
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    return call.args[at] if at < len(call.args) else named.get(name)


def test_every_word_that_is_promised_for_a_label_is_made_and_no_other() -> None:
    promised = {(spec.name, label): set(values) for spec in METRICS for label, values in spec.values}
    for name, label in promised:
        assert label in SPECS[name].labels
    made = set().union(*(words(argument(call, AttemptRecord, "kind")) for call in calls("AttemptRecord")))
    assert made == {"first", *promised["router_retries_total", "kind"]}
    causes = set().union(*(words(argument(call, Record, "cause")) for call in calls("Record")))
    assert causes <= promised["router_requests_total", "cause"]
    outcomes = {outcome.value for outcome in Outcome}
    assert promised["router_attempts_total", "outcome"] == outcomes
    assert promised["router_requests_total", "cause"] == outcomes | causes
    assert promised["router_quota_refusals_total", "limit"] == {"store", *NAMES}
    constants = {
        node.value
        for path in python("router")
        if path.parent.name != "telemetry"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    by_telemetry = ("router_spans_dropped_total", "gen_ai_client_token_usage")
    for (name, label), values in promised.items():
        if label not in ("direction", "file", "percent") and name not in by_telemetry:
            assert values <= constants, f"{name} {label}: nothing outside of telemetry says {values - constants}"


def test_every_error_code_is_given() -> None:
    said = {word for path in python("router") if path.name != "errors.py" for word in _constants(tree(path))}
    assert CODES.keys() <= said, f"nothing fails with {CODES.keys() - said}"


def test_every_member_of_an_enum_is_used() -> None:
    """By its name, somewhere in ``router``, unless the class is gone through as a whole."""
    texts = [text(path) or "" for path in python("router")]
    dead = []
    for path in python("router"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and any("Enum" in ast.unparse(base) for base in node.bases):
                members = (item.targets[0] for item in node.body if isinstance(item, ast.Assign))
                for member in members:
                    if isinstance(member, ast.Name) and not member.id.startswith("__"):
                        use = re.compile(rf"\b{node.name}\.{member.id}\b")
                        dead += [f"{node.name}.{member.id}"] * (not any(use.search(t) for t in texts))
    assert not dead, f"nothing says {', '.join(dead)}"


def test_every_metric_gets_values() -> None:
    """Its name stands where values are made, besides the table of metrics."""
    said = "\n".join(text(path) or "" for path in python("router"))
    assert not [spec.name for spec in METRICS if len(re.findall(rf"\b{spec.name}\b", said)) < 2]


def _constants(node: ast.AST) -> Iterator[str]:
    for child in ast.walk(node):
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value
