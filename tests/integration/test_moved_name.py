"""The address of a backend's host name changes under load: requests follow it within its age, and none fails."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.integration.conftest import OPEN
from tests.support.backends import Call, ScriptedBackend, answer
from tests.support.router import RouterProcess, Site
from tests.support.takeover import Load

#: The address of engine.test stands in a file.
NAMED = """
import os, runpy, socket
real = socket.getaddrinfo
def look_up(host, *args, **options):
    return real(open(os.environ["ZONE"]).read() if host == "engine.test" else host, *args, **options)
socket.getaddrinfo = look_up
runpy.run_module("router", run_name="__main__")
"""
NAME_AGE_S = 1.0


async def _talk(call: Call) -> None:
    if b'"stream":true' in call.body:
        await call.stream(*["word "] * 10, gap_s=0.03)
    else:
        await call.send(answer())


async def test_requests_follow_a_name_and_none_fails(tmp_path: Path) -> None:
    zone = tmp_path / "zone"
    zone.write_text("127.0.0.1")
    async with ScriptedBackend(_talk) as before:
        after = ScriptedBackend(_talk)
        after.host, after.port = "127.0.0.2", before.port
        async with after:
            site = Site("near", "a", f"http://engine.test:{before.port}", models=["m"])
            head = f"{OPEN}[timeouts]\nname_age = {NAME_AGE_S}\n"
            env = {"ZONE": str(zone)}
            async with RouterProcess([site], head=head, command=("-c", NAMED), env=env) as r:
                async with Load(r.listen, kept=4, fresh=2, streams=2) as load, asyncio.timeout(60):
                    await before.called(50)
                    assert not after.calls
                    zone.write_text("127.0.0.2")
                    changed_s = time.monotonic()
                    await after.called(50)
                    await asyncio.sleep(changed_s + NAME_AGE_S + 5 - time.monotonic())
                    old = len(before.calls)
                    await before.shut()  # whoever is still there would fail
                    await after.called(len(after.calls) + 50)
    assert load.failed == []
    last_s = max(call.at_s for call in before.calls) - changed_s
    assert last_s <= NAME_AGE_S + 5, f"the old address was used for {last_s:.1f} s"
    assert len(before.calls) == old
