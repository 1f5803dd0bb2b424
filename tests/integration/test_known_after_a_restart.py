"""A router that is killed and started again still tells what happened before, and which router it was."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.conftest import OPEN
from tests.support.backends import ScriptedBackend
from tests.support.cli import router
from tests.support.ports import free_port
from tests.support.router import ROOT, RouterProcess, Site

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": []}


def cli(at: RouterProcess, *words: str) -> str:
    """The answer that the program prints, then its remarks."""
    done = router(*words, "--admin-url", at.admin, env={"COLUMNS": "160"})
    assert done.code == 0, done.err
    return done.out + done.err


def usage(at: RouterProcess) -> dict[str, Any]:
    return dict(json.loads(cli(at, "traffic", "stats", "--since", "1h", "--by", "region,backend", "--json"))["total"])


async def until_written(folder: Path, *texts: str) -> None:
    """Each of these stands in a file of the diary."""
    for _ in range(600):
        written = "".join(file.read_text() for file in folder.glob("diary.*"))
        if all(text in written for text in texts):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the diary was not written")


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
async def test_it_knows_its_requests_minutes_and_events_after_it(
    http: aiohttp.ClientSession, tmp_path: Path, kill: bool
) -> None:
    head = OPEN + f'[journal]\ndiary = "{tmp_path / "diary"}"\n'
    async with ScriptedBackend() as a:
        sites = [Site("us", "a", a.url, models=["m"])]
        async with RouterProcess(sites, head=head) as one:
            for _ in range(3):
                async with http.post(one.url + CHAT, json=BODY) as reply:
                    assert reply.status == 200
                    request_id = reply.headers["x-request-id"]
            await asyncio.to_thread(one.ask_admin, "/admin/v1/regions/us/drain", {"reason": "new kernel"})
            await asyncio.to_thread(one.ask_admin, "/admin/v1/regions/us/resume", {})
            before = await asyncio.to_thread(one.record, request_id)
            counted = await asyncio.to_thread(usage, one)
            assert (counted["requests"], before["recalled"]) == (3, False)
            if kill:
                await until_written(tmp_path, request_id, "new kernel")
                one.process.kill()
                await asyncio.to_thread(one.process.wait)
        for file in tmp_path.glob("diary*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        async with RouterProcess(sites, head=head) as two:
            assert await asyncio.to_thread(usage, two) == counted
            after = await asyncio.to_thread(two.record, request_id)
            assert after == before | {"recalled": True}
            shown = await asyncio.to_thread(cli, two, "traffic", "show", request_id)
            assert "router test, before it was restarted" in shown
            assert "this router only: test" in await asyncio.to_thread(cli, two, "traffic", "stats", "--since", "1h")
            assert "new kernel" in await asyncio.to_thread(cli, two, "events", "--kind", "drain")
            async with http.post(two.url + CHAT, json=BODY) as reply:
                new = await asyncio.to_thread(two.record, reply.headers["x-request-id"])
            assert (await asyncio.to_thread(usage, two))["requests"] == 4
            assert not new["recalled"]
        async with RouterProcess(sites, head=head) as three:
            assert (await asyncio.to_thread(usage, three))["requests"] == 4
            assert [r["request_id"] for r in await asyncio.to_thread(three.records)][:2] == [
                new["request_id"],
                request_id,
            ]
            starts = await asyncio.to_thread(three.ask_admin, "/admin/v1/events?kind=router")
            assert [e["to"] for e in starts["data"]].count("started") == 3


def test_a_diary_that_cannot_be_written_ends_the_start_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    file = tmp_path / "regions.toml"
    ports = f'[router]\nlisten = "127.0.0.1:{free_port()}"\nadmin = "127.0.0.1:{free_port()}"\n'
    diary = f'[journal]\ndiary = "{tmp_path / "file" / "diary"}"\n'
    file.write_text(f'{ports}{diary}[[regions]]\nname = "r"\nbackends = []\n')
    done = subprocess.run([sys.executable, "-m", "router", str(file)], cwd=ROOT, capture_output=True, timeout=60)
    text = done.stderr.decode()
    assert done.returncode == 1
    assert "[journal] diary" in text
    assert "Traceback" not in text
