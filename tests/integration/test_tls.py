"""TLS on the clients' listener and towards backends: checked, resumed, renewed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.integration.conftest import OPEN
from tests.support.backends import DONE, ScriptedBackend
from tests.support.certificates import Certificate, certificate
from tests.support.router import ROOT, RouterProcess, Site
from tests.support.stopwatch import Stopwatch

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "messages": []}
STREAM = {**ASK, "stream": True}


def tls_head(made: Certificate, workers: int = 1) -> str:
    store = '[store]\nredis = "embedded"\n' if workers > 1 else ""
    return f'tls_cert = "{made.cert}"\ntls_key = "{made.key}"\nworkers = {workers}\n{store}{OPEN}'


def trusting(made: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(made.cert))


async def until_ready(r: RouterProcess, context: ssl.SSLContext) -> None:
    end = time.monotonic() + 10
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < end:
            try:
                async with http.get(f"https://{r.listen}/readyz", ssl=context) as reply:
                    if reply.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.02)
    raise AssertionError(r.log.read_text())


@asynccontextmanager
async def tls_router(sites: list[Site], made: Certificate, workers: int = 1) -> AsyncIterator[RouterProcess]:
    async with RouterProcess(sites, head=tls_head(made, workers), wait=None, probe="admin") as r:
        await until_ready(r, trusting(made))
        yield r


def handshake(r: RouterProcess, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    """A connection over which one request has been answered."""
    host, port = r.listen.split(":")
    tls = context.wrap_socket(
        socket.create_connection((host, int(port)), timeout=30), server_hostname="localhost", session=session
    )
    body = orjson.dumps(ASK)
    tls.sendall(b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
    assert tls.recv(65536).startswith(b"HTTP/1.1 200")
    return tls


@pytest.mark.parametrize("workers", [1, 2])
async def test_clients_are_served_over_tls(tmp_path: Path, workers: int) -> None:
    made = certificate(tmp_path, "one")
    async with ScriptedBackend() as b, tls_router([Site("a", "a", b.url)], made, workers) as r:
        connector = aiohttp.TCPConnector(ssl=trusting(made))
        async with aiohttp.ClientSession(connector=connector) as http:
            for _ in range(10):
                async with http.post(f"https://{r.listen}{CHAT}", json=STREAM) as reply:
                    assert (reply.status, (await reply.read()).endswith(DONE)) == (200, True)
        async with aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await http.get(f"https://{r.listen}/healthz")
            with pytest.raises(aiohttp.ClientError):
                await http.get(f"http://{r.listen}/healthz")
        old = trusting(made)
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(handshake, r, old)


async def test_sessions_resume_and_certificates_are_renewed_by_a_reload(tmp_path: Path) -> None:
    made, other = certificate(tmp_path, "one"), certificate(tmp_path, "two")
    async with ScriptedBackend() as b, tls_router([Site("a", "a", b.url)], made) as r:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = trusting(made)
            context.maximum_version = version
            first = await asyncio.to_thread(handshake, r, context)
            again = await asyncio.to_thread(handshake, r, context, first.session)
            assert (first.session_reused, again.session_reused) == (False, True)
            first.close()
            again.close()
        made.cert.write_bytes(other.cert.read_bytes())
        made.key.write_bytes(other.key.read_bytes())
        r.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 5
        while True:
            try:
                (await asyncio.to_thread(handshake, r, trusting(other))).close()
                break
            except ssl.SSLCertVerificationError:
                assert time.monotonic() < end, "the new certificate is not used"
                await asyncio.sleep(0.05)
        made.key.write_text("no key")
        with pytest.raises(urllib.error.HTTPError) as refused:
            await asyncio.to_thread(r.ask_admin, "/admin/v1/config/reload", method="POST")
        with refused.value as answer:
            assert "tls_cert" in orjson.loads(answer.read())["error"]["problems"][0]
        (await asyncio.to_thread(handshake, r, trusting(other))).close()
        r.errors_allowed = True


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_certificate_stops_the_start_with_a_reason(tmp_path: Path, workers: int) -> None:
    made = certificate(tmp_path, "one")
    made.key.write_bytes(certificate(tmp_path, "two").key.read_bytes())
    file = tmp_path / "regions.toml"
    file.write_text(f'[router]\nlisten = "127.0.0.1:0"\nadmin = "127.0.0.1:0"\n{tls_head(made, workers)}')
    done = subprocess.run(
        [sys.executable, "-m", "router", str(file)], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "tls_key" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("tls_key") == 1, "told once"


class TlsBackend(ScriptedBackend):
    """A ScriptedBackend behind TLS that counts handshakes and resumptions of connections with a POST."""

    def __init__(self, made: Certificate) -> None:
        super().__init__()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(made.cert, made.key)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 26, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]


async def test_backends_are_verified_and_sessions_to_them_resume(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    good, stranger = certificate(tmp_path, "good"), certificate(tmp_path, "stranger")
    wrong = certificate(tmp_path, "wrong", host="elsewhere")
    both = tmp_path / "authorities.crt"
    both.write_bytes(good.cert.read_bytes() + wrong.cert.read_bytes())
    trust = {"SSL_CERT_FILE": str(both)}
    async with TlsBackend(good) as a, TlsBackend(stranger) as b, TlsBackend(wrong) as c:
        sites = [Site(name, "a", x.url, models=["m"]) for name, x in (("good", a), ("stranger", b), ("wrong", c))]
        async with RouterProcess(sites, head=OPEN, env=trust) as r:
            reused = []
            for _ in range(3):
                async with http.post(r.url + CHAT, json=STREAM) as reply:
                    assert (reply.status, (await reply.read()).endswith(DONE)) == (200, True)
                    assert reply.headers["x-router-region"] == "good"
                reused.append(a.calls[-1].writer.get_extra_info("ssl_object").session_reused)
                a.calls[-1].writer.transport.abort()
                await asyncio.sleep(0.1)
            assert reused[0] is False
            assert reused[1:] == [True, True]
            assert (b.calls, c.calls) == ([], [])
            listed = (await asyncio.to_thread(r.ask_admin, "/admin/v1/backends"))["data"]
            errors = {e["name"]: e["last_error"] for e in listed}
            assert errors.pop("good/a") is None
            assert all(text.startswith("TLS failed") for text in errors.values()), errors
            async with http.post(r.url + CHAT, json=ASK, headers={"x-router-region": "stranger"}) as reply:
                assert reply.status in (502, 503)
            assert b.calls == []


async def test_a_client_that_does_not_finish_its_handshake_is_dropped(tmp_path: Path) -> None:
    made = certificate(tmp_path, "one")
    async with ScriptedBackend() as b, tls_router([Site("a", "a", b.url)], made) as r:
        host, port = r.listen.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"\x16\x03\x01")
        began, watch = time.monotonic(), Stopwatch(r.process.pid)
        assert await asyncio.wait_for(reader.read(), 60) == b""
        assert time.monotonic() - began > 5
        assert watch.elapsed_s < 14
        writer.close()
        assert os.path.exists(f"/proc/{r.process.pid}")
