"""A real browser without a window: Chromium, as Debian ships it."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
#: of the page's own time, which passes as fast as the machine can
_PAGE_MS = 4000
_PATIENCE_S = 100


async def visit(url: str, *, dark: bool = False, picture: Path | None = None, height: int = 1500) -> tuple[str, str]:
    """The document as it is after a few seconds, and what the page complained of. ``picture``: a PNG of it."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--enable-logging=stderr", f"--window-size=1280,{height}", f"--user-data-dir={folder}",
            f"--virtual-time-budget={_PAGE_MS}", f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        ]  # fmt: skip
        options.append("--dump-dom" if picture is None else f"--screenshot={picture}")
        browser = await asyncio.create_subprocess_exec(
            CHROMIUM, *options, url,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "HOME": folder}, start_new_session=True,
        )  # fmt: skip
        try:
            out, log = await asyncio.wait_for(browser.communicate(), _PATIENCE_S)
        finally:
            if browser.returncode is None:
                os.killpg(browser.pid, 9)
                await browser.wait()
    complaints = [line for line in log.decode(errors="replace").splitlines() if "CONSOLE" in line]
    return out.decode(errors="replace"), "\n".join(complaints)
