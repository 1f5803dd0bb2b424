"""A streaming proxy in 40 lines of aiohttp: proxy40.py PORT BACKEND-URL..."""

import itertools
import sys
from collections.abc import AsyncIterator

import aiohttp
import orjson
import uvloop
from aiohttp import web

port, urls = int(sys.argv[1]), itertools.cycle(sys.argv[2:])


async def chat(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    stream = orjson.loads(body).get("stream")
    headers = {"content-type": "application/json"}
    async with request.app[SESSION].post(next(urls) + request.path, data=body, headers=headers) as answer:
        if not stream:
            return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)
        out = web.StreamResponse(status=answer.status, headers={"content-type": answer.headers["content-type"]})
        await out.prepare(request)
        async for chunk in answer.content.iter_any():
            await out.write(chunk)
        await out.write_eof()
        return out


async def health(request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def session(app: web.Application) -> AsyncIterator[None]:
    limits = aiohttp.ClientTimeout(total=None)
    app[SESSION] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=limits)
    yield
    await app[SESSION].close()


SESSION = web.AppKey("session", aiohttp.ClientSession)
app = web.Application(client_max_size=64 << 20)
app.add_routes([web.post("/v1/chat/completions", chat), web.get("/health", health)])
app.cleanup_ctx.append(session)
web.run_app(app, host="127.0.0.1", port=port, backlog=4096, access_log=None, loop=uvloop.new_event_loop())
