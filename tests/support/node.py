"""Where Node.js and the official JavaScript client are; `make test` puts the client there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

OPENAI = Path(__file__).parents[2] / ".cache" / "node" / "node_modules" / "openai"


def _missing() -> str | None:
    if shutil.which("node") is None:
        return "Node.js is not installed"
    if not (OPENAI / "package.json").exists():
        return "the openai package of npm is not installed: make node"
    return None


#: For modules with tests that need both. In CI they run whatever is missing, and say so by failing.
NEEDS_NODE = [
    pytest.mark.node,
    pytest.mark.skipif("CI" not in os.environ and _missing() is not None, reason=_missing() or ""),
]
