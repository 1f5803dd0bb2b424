"""Long bodies, pictures and forms through a real router: what the engine gets, what it costs, and whom it holds up."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import time

import aiohttp
import pytest

from router.config import TokensSection
from router.gateway import ingress
from router.gateway.envelope import envelope_of
from router.wire.head import RequestHead
from tests.integration.conftest import OPEN
from tests.support.backends import Call, ScriptedBackend, answer, whole
from tests.support.hostile import JSON, MB, chat, picture
from tests.support.router import RouterProcess, Site

pytestmark = pytest.mark.alone

CHAT = "/v1/chat/completions"
ALIAS = OPEN + '[models.alias]\ntargets = [{ model = "m" }]\n'
PLAN = "[plans.default]\ntokens_per_minute = 3_000\n"
FORM = (
    b'--x\r\ncontent-disposition: form-data; name="prompt"\r\n\r\n{"model": "alias"}\r\n'
    b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\n%b\r\n'
    b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nRIFF%b\r\n--x--\r\n'
)


@pytest.mark.parametrize("size", [100, 400_000, 8 * MB])
async def test_an_alias_changes_the_name_and_no_other_byte(http: aiohttp.ClientSession, size: int) -> None:
    async with ScriptedBackend() as b, RouterProcess([Site("near", "a", b.url)], head=ALIAS) as r:
        text = 'x"\\é\n{"model": "alias"}' * (size // 20)
        for body in (chat(text, "alias"), chat([{"image_url": "data:image/png;base64," + picture(size)}], "alias")):
            async with http.post(
                r.url + CHAT, data=io.BytesIO(body), headers={"content-type": "application/json"}
            ) as reply:
                assert reply.status == 200, await reply.text()
            assert b.calls[-1].body == body.replace(b'"model": "alias", "mess', b'"model": "m", "mess')
        headers = {"content-type": "multipart/form-data; boundary=x"}
        data = FORM % (b"alias", b"\0" * size)
        async with http.post(r.url + "/v1/audio/transcriptions", data=io.BytesIO(data), headers=headers) as reply:
            assert reply.status == 200, await reply.text()
        assert b.calls[-1].body == FORM % (b"m", b"\0" * size)


async def test_a_long_body_is_held_once(http: aiohttp.ClientSession) -> None:
    def peak_mb(r: RouterProcess) -> float:
        with open(f"/proc/{r.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

    async with ScriptedBackend() as b, RouterProcess([Site("near", "a", b.url)], head=ALIAS) as r:
        body = chat([{"image_url": "data:image/png;base64," + picture(22 * MB)}], "alias")
        before = peak_mb(r)
        async with http.post(
            r.url + CHAT, data=io.BytesIO(body), headers={"content-type": "application/json"}
        ) as reply:
            assert reply.status == 200, await reply.text()
        assert peak_mb(r) - before < 2 * len(body) / MB


async def test_counting_tokens_costs_none(http: aiohttp.ClientSession) -> None:
    async def behaviour(call: Call) -> None:
        counting = b"count" in call.head or b"tokenize" in call.head
        await call.send(whole(200, {"input_tokens": 1000, "usage": {"prompt_tokens": 1000}}) if counting else answer())

    head = '[auth]\nmode = "keys"\n[plans.default]\ntokens_per_minute = 2_000\nrequests_per_minute = 100\n'
    async with ScriptedBackend(behaviour) as b, RouterProcess([Site("near", "a", b.url)], head=head) as r:
        key = await asyncio.to_thread(r.create_key, "k", "default")
        headers = {"authorization": f"Bearer {key}"}
        for path in ("/tokenize", "/detokenize", "/v1/messages/count_tokens", "/v1/responses/input_tokens") * 3:
            async with http.post(r.url + path, json={"model": "m", "prompt": "word " * 1500}, headers=headers) as reply:
                assert reply.status == 200, await reply.text()
                assert reply.headers["x-ratelimit-remaining-tokens"] == "2000"
                assert int(reply.headers["x-ratelimit-remaining-requests"]) < 100


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}])
async def test_an_answer_without_usage_costs_its_length(http: aiohttp.ClientSession, usage: object) -> None:
    text = {"choices": [{"index": 0, "message": {"content": "word " * 1600}, "finish_reason": "stop"}], "usage": usage}

    async def behaviour(call: Call) -> None:
        await call.send(whole(200, text))

    head = '[auth]\nmode = "keys"\n' + PLAN
    async with ScriptedBackend(behaviour) as b, RouterProcess([Site("near", "a", b.url)], head=head) as r:
        key = await asyncio.to_thread(r.create_key, "k", "default")
        statuses = []
        for _ in range(6):
            ask = {"model": "m", "messages": []}
            async with http.post(r.url + CHAT, json=ask, headers={"authorization": f"Bearer {key}"}) as reply:
                statuses.append(reply.status)
        assert statuses[0] == 200
        assert statuses[-2:] == [429, 429]


@pytest.mark.soak
@pytest.mark.parametrize("name", JSON)
async def test_nobody_waits_for_32_mb(http: aiohttp.ClientSession, name: str) -> None:
    """Measured, so on a quiet machine only: the longest pause of the loop beside a body of 32 MB, and the CPU time of
    its dearest step."""
    body = JSON[name](31 * MB)
    envelope = envelope_of(RequestHead(b"POST", CHAT.encode(), True, {}, True))
    dearest_s, steps = 0.0, ingress.read_long(envelope, bytearray(body), TokensSection())
    while True:
        began_s = time.thread_time()
        try:
            next(steps)
        except Exception:
            break
        dearest_s = max(dearest_s, time.thread_time() - began_s)
    assert dearest_s <= 0.02
    async with ScriptedBackend() as b:
        async with RouterProcess([Site("near", "a", b.url)], head=OPEN, command=("-m", "router")) as r:
            calm_s = await _longest_wait(r, asyncio.sleep(2))
            posting = http.post(r.url + CHAT, data=io.BytesIO(body), headers={"content-type": "application/json"})
            longest_s = await _longest_wait(r, posting)
    figures = {"body": name, "calm_ms": calm_s * 1000, "longest_ms": longest_s * 1000, "step_ms": dearest_s * 1000}
    print(json.dumps(figures))
    assert longest_s <= 0.02 + 2 * calm_s, figures


async def _longest_wait(r: RouterProcess, until: object) -> float:
    """The longest answer of /healthz until something is done, by a process of its own."""
    script = (
        "import http.client,sys,time\n"
        f"c=http.client.HTTPConnection('{r.listen}');w=0\n"
        "import threading;e=threading.Event();threading.Thread(target=lambda:(sys.stdin.read(),e.set())).start()\n"
        "while not e.is_set():\n"
        " t=time.perf_counter();c.request('GET','/healthz');c.getresponse().read()\n"
        " w=max(w,time.perf_counter()-t);time.sleep(0.002)\n"
        "print(w)"
    )
    pipe = asyncio.subprocess.PIPE
    asker = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdin=pipe, stdout=pipe)
    await asyncio.sleep(0.5)
    await until  # type: ignore[misc]
    out, _ = await asker.communicate(b"")  # without an input, Python 3.11 leaves the pipe open
    return float(out)
