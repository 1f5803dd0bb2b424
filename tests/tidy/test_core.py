"""Who may alter what in the decision core."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.tidy.tree import ROOT, name, python, tree

#: Classes whose fields nobody but themselves assigns to: a counter goes up and down in one place.
ALTER_THEMSELVES = {
    "backend.py": ("Backend",),
    "capacity.py": ("Capacity",),
    "configured.py": ("Configured",),
    "lane.py": ("Lane", "Habit"),
    "prompts.py": ("Prompts",),
    "others.py": ("Others",),
    "reputation.py": ("Reputation",),
    "health.py": ("Health",),
    "learn/first_token.py": ("TtftFit",),
    "learn/backlog.py": ("Backlog",),
    "learn/service.py": ("Service",),
    "learn/rtt.py": ("RttEstimate",),
}


#: Variables of the core that hold other things, with fields of the same names.
OTHER_THINGS = {"account", "roster", "request", "self.request"}
#: What variables that hold a backend or a part of one are called elsewhere.
BACKENDS = {"b", "backend", "lane", "fit", "health", "reputation", "service", "prompts", "others", "capacity"}
#: A backend sets the quotes of its lanes: it has the counts that they are made of.
TOGETHER = {"router/core/backend.py", "router/core/lane.py"}


def fields() -> set[str]:
    return {
        slot
        for file, classes in ALTER_THEMSELVES.items()
        for node in ast.walk(tree(ROOT / "router" / "core" / file))
        if isinstance(node, ast.ClassDef) and node.name in classes
        for statement in node.body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__slots__"
        for slot in ast.literal_eval(statement.value)
    }


def assigned(path: Path) -> Iterator[ast.Attribute]:
    """The attributes of other objects that this file assigns to or deletes."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load) and ast.unparse(node.value) != "self":
            yield node


def may_be_a_backend(path: Path, value: ast.expr) -> bool:
    if name(path).startswith("router/core/"):
        return ast.unparse(value) not in OTHER_THINGS
    last = value.value if isinstance(value, ast.Subscript) else value
    return re.split(r"[._]", ast.unparse(last))[-1] in BACKENDS | {"backends"}


def test_a_backend_alters_itself() -> None:
    """Neither the fleet nor a policy writes into a backend or a part of it: it is told what happened."""
    own = fields()
    assert {"inflight", "limit", "quote", "failure_chance", "residual_s"} <= own, "the fields are no longer found"
    wrong = [
        f"{name(path)}:{node.lineno} assigns to {ast.unparse(node)}"
        for path in python("router", "sim")
        for node in assigned(path)
        if node.attr in own and name(path) not in TOGETHER and may_be_a_backend(path, node.value)
    ]
    assert not wrong, "\n".join(wrong)
