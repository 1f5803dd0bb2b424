"""The page of the admin listener in a real browser: one region, five, and twenty, in light and dark."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from itertools import combinations
from pathlib import Path

import aiohttp
import pytest

from tests.integration.conftest import OPEN
from tests.support.backends import ScriptedBackend
from tests.support.browser import CHROMIUM, visit
from tests.support.router import RouterProcess, Site

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")

PLACES = {
    "us-east": (38.9, -77.0), "eu-central": (50.1, 8.7), "ap-northeast": (35.7, 139.7), "sa-east": (-23.5, -46.6),
    "af-south": (-33.9, 18.4), "eu-west": (53.3, -6.3), "eu-west-2": (51.5, -0.1), "eu-west-3": (48.9, 2.4),
    "eu-north": (59.3, 18.1), "eu-south": (45.5, 9.2), "eu-central-2": (47.4, 8.5), "us-west": (45.6, -121.2),
    "us-west-2": (37.4, -122.1), "us-central": (41.3, -95.9), "ca-central": (45.5, -73.6), "ap-south": (19.1, 72.9),
    "ap-southeast": (1.3, 103.8), "ap-southeast-2": (-33.9, 151.2), "ap-northeast-2": (37.6, 127.0),
    "me-south": (26.1, 50.6),
}  # fmt: skip
TOKEN = "a-token-for-the-page"


def sites(url: str, regions: int) -> list[Site]:
    return [Site(name, "a", url, models=["m"], location=PLACES[name]) for name in list(PLACES)[:regions]]


def labels(document: str) -> dict[str, tuple[float, float, float]]:
    """The label of each region on the map: where it begins and ends, and its base line."""
    found = re.findall(r'<text x="([-\d.]+)" y="([-\d.]+)">([^<]+)</text>', document)
    return {unescape(text).split(" ")[0]: (float(x), float(x) + 5.9 * len(text), float(y)) for x, y, text in found}


@pytest.mark.parametrize("regions", [1, 5, 20])
async def test_every_region_is_seen_and_no_label_hides_another(regions: int, http: aiohttp.ClientSession) -> None:
    async with (
        ScriptedBackend() as backend,
        RouterProcess(sites(backend.url, regions), head=f'region = "us-east"\n{OPEN}') as r,
    ):
        for _ in range(3):
            async with http.post(r.url + "/v1/chat/completions", json={"model": "m", "messages": []}) as answer:
                assert answer.status == 200
        document, complaints = await visit(r.admin + "/")
    assert not complaints
    assert ">live<" in document
    rows = document.partition('id="regions"')[2].partition("</table>")[0]
    shown = labels(document)
    for name in list(PLACES)[:regions]:
        assert f"<td>{name}</td>" in rows
        assert name in shown
    for (left, right, y), (left_2, right_2, y_2) in combinations(shown.values(), 2):
        assert right <= left_2 or right_2 <= left or abs(y - y_2) >= 11
    requests = document.partition('id="requests"')[2].partition("</table>")[0]
    assert requests.count("us-east/a") + requests.count("/a</td>") >= 3


BUDGETS = """\
region = "us-east"
[plans.default]
requests_per_minute = 100
budget_usd_day = 0.5
[tenants.acme]
budget_usd_month = 10.0
[all]
requests_per_minute = 1000
[models.m]
price_usd_per_mtok = { input = 1.0, output = 2000.0 }
"""


async def test_limits_of_keys_and_of_groups_stand_beside_decisions_and_events(http: aiohttp.ClientSession) -> None:
    async with (
        ScriptedBackend() as backend,
        RouterProcess(sites(backend.url, 2), head=BUDGETS) as r,
    ):
        key = await asyncio.to_thread(r.ask_admin, "/admin/v1/keys", {"name": "search", "tenant": "acme"})
        headers = {"authorization": f"Bearer {key['key']}"}
        for _ in range(3):
            async with http.post(r.url + "/v1/chat/completions", json={"model": "m"}, headers=headers) as answer:
                assert answer.status == 200
        await asyncio.to_thread(r.ask_admin, "/admin/v1/regions/eu-central/drain", {"reason": "new kernel"})
        document, complaints = await visit(r.admin + "/")
    assert not complaints
    quotas, requests, events = (
        unescape(document.partition(f'id="{part}"')[2].partition("</table>")[0])
        for part in ("quotas", "requests", "events")
    )
    for words in ("search", "tenant acme", "all requests", "dollars, day", "of $0.50", "of $10.00", "of 1000"):
        assert words in quotas, words
    assert requests.count("us-east/a") == 3
    assert "new kernel" in events
    assert "draining" in events


async def test_without_the_token_it_shows_nothing_and_with_it_everything(tmp_path: Path) -> None:
    async with ScriptedBackend() as backend:
        head = 'region = "us-east"\n[auth]\nmode = "open"\nadmin_token_env = "PAGE_TOKEN"\n'
        async with RouterProcess(sites(backend.url, 5), head=head, env={"PAGE_TOKEN": TOKEN}) as r:
            locked, _ = await visit(r.admin + "/")
            wrong, _ = await visit(r.admin + "/#token=guessed")
            document, complaints = await visit(f"{r.admin}/#token={TOKEN}")
            pictures = [tmp_path / "light.png", tmp_path / "dark.png"]
            for picture, dark in zip(pictures, (False, True), strict=True):
                await visit(f"{r.admin}/#token={TOKEN}", dark=dark, picture=picture)
    assert "wants the admin token" in locked
    assert "eu-central" not in locked
    assert "The admin token is missing or wrong." in unescape(wrong)
    assert "eu-central" in document
    assert TOKEN not in document
    assert not complaints
    light, dark_picture = (picture.read_bytes() for picture in pictures)
    assert light.startswith(b"\x89PNG")
    assert light != dark_picture


async def test_trouble_is_said_on_top_and_names_are_never_markup(http: aiohttp.ClientSession) -> None:
    odd = "<img/src=x/onerror=alert(1)>"
    async with ScriptedBackend() as backend:
        there = [
            Site("us-east", "a", backend.url, models=[odd], location=PLACES["us-east"]),
            Site("eu-central", "a", "http://127.0.0.1:1", models=["m"]),
        ]
        async with RouterProcess(there, head=f'region = "us-east"\n{OPEN}') as r:
            async with http.post(r.url + "/v1/chat/completions", json={"model": odd, "messages": []}) as answer:
                assert answer.status == 200
            document, complaints = await visit(r.admin + "/")
    trouble = document.partition('id="troubles"')[2].partition("</section>")[0]
    assert "eu-central/a" in trouble
    assert "No location in the configuration: eu-central" in document
    assert odd in unescape(document)
    assert "<img" not in document
    assert not complaints
