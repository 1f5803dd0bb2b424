"""The page is one file that loads nothing from elsewhere."""

from __future__ import annotations

import re

from router.control.routes.page import page
from tests.support.control import Admin


async def test_the_page_is_open_and_asks_for_what_needs_the_token(admin: Admin) -> None:
    async with admin.session.get(admin.url + "/") as answer:
        text = await answer.text()
        assert answer.status == 200
        assert answer.content_type == "text/html"
        policy = answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    assert "<title>Meridian</title>" in text


def test_it_is_small_and_holds_everything_it_needs() -> None:
    text, _ = page()
    assert len(text.encode()) <= 200_000
    assert "{{" not in text
    assert not re.search(r"""(?:src|href)\s*=|@import|url\(""", text)
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "innerHTML" not in text, "names of backends and models are text, never markup"
