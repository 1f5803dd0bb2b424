"""docs/errors.md and router/errors.py say the same."""

from __future__ import annotations

import re
from pathlib import Path

from router.errors import CODES, Blame

DOCUMENT = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")


def table() -> str:
    """CODES as the table of docs/errors.md."""
    lines = ["| code | status | blame | `error.type` | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| `{code}` | {e.status} | {e.blame.value} | `{e.type}` | {e.summary} |"
        for blame in Blame
        for code, e in CODES.items()
        if e.blame is blame
    ]
    return "\n".join(lines)


def test_the_table_is_the_code() -> None:
    assert table() in DOCUMENT, f"docs/errors.md should hold this table:\n\n{table()}\n"


def test_every_code_has_advice_and_no_other_has() -> None:
    advice = re.findall(r"^- ((?:`\w+`(?:, )?)+):", DOCUMENT, re.MULTILINE)
    codes = [code for line in advice for code in re.findall(r"`(\w+)`", line)]
    assert sorted(codes) == sorted(CODES)
