"""A real Redis, for what differs from the Valkey of the tests: TLS, and the words of older versions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.router import ROOT

_UNPACKED = ROOT / ".cache" / "bin"


def redis_server() -> Path:
    """The program, as it is installed or as ``.ci/run`` has unpacked it. Skips the test where there is none."""
    found = shutil.which("redis-server") or shutil.which("redis-server", path=str(_UNPACKED))
    if found is None:
        pytest.skip("redis-server is not installed")
    return Path(found)
