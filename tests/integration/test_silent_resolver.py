"""Regions whose names hang in the resolver do not hold up the region that has an address."""

from __future__ import annotations

import time

import aiohttp

from tests.integration.conftest import OPEN
from tests.support.backends import ScriptedBackend
from tests.support.router import RouterProcess, Site

#: Looking up such a name takes 6 s and finds nothing, as with name servers that are silent.
SILENT = """
import runpy, socket, time
real = socket.getaddrinfo
def look_up(host, *args, **options):
    if isinstance(host, str) and host.endswith(".silent.test"):
        time.sleep(6)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return real(host, *args, **options)
socket.getaddrinfo = look_up
runpy.run_module("router", run_name="__main__")
"""


async def test_names_that_hang_delay_no_request(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend() as b:
        sites = [Site(f"silent{n}", "a", f"http://e{n}.silent.test:1", models=["m"]) for n in range(6)]
        sites.append(Site("near", "a", b.url, models=["m"]))
        async with RouterProcess(sites, head=OPEN, command=("-c", SILENT)) as r:
            waits_s = []
            for _ in range(40):
                began_s = time.monotonic()
                async with http.post(r.url + "/v1/chat/completions", json={"model": "m", "messages": []}) as reply:
                    assert reply.status == 200, await reply.text()
                waits_s.append(time.monotonic() - began_s)
            listed = r.ask_admin("/admin/v1/backends")["data"]
            errors = {e["name"]: e["last_error"] for e in listed}
            assert errors.pop("near/a") is None
            assert all("name" in str(text) for text in errors.values()), errors
    assert sorted(waits_s)[-3] < 0.9, "a look-up of 6 s, or a connect time-out of 1 s, would show"
