"""The page for a browser: one file with everything in it, which asks the other routes with the token it is given."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from aiohttp import web

from router import land
from router.control.plane import ControlPlane
from router.control.route import Route

_FILE = Path(__file__).parents[1] / "page" / "index.html"
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


@cache
def page() -> tuple[str, str]:
    """The page, and its content security policy: its own script runs, and nothing from elsewhere is loaded."""
    text = _FILE.read_text("utf-8").replace("{{LAND}}", base64.b64encode(land.bits()).decode())
    script = _SCRIPT.search(text)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy


async def show_page(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    text, policy = page()
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(text=text, content_type="text/html", charset="utf-8", headers=headers)


ROUTES: tuple[Route, ...] = (
    Route("GET", "/", "page", "A page for a browser: the fleet, live.", show_page, content_type="text/html", open=True),
)
