"""Certificates on both sides: clients show one to the router, the router shows one to backends."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import time
from pathlib import Path

import aiohttp
import pytest

from router.config import parse
from router.errors import ConfigError
from tests.integration.conftest import OPEN
from tests.integration.test_tls import ASK, CHAT, STREAM, TlsBackend, trusting
from tests.support.backends import DONE, ScriptedBackend
from tests.support.certificates import Certificate, certificate
from tests.support.router import RouterProcess, Site


def showing(server: Certificate, own: Certificate) -> ssl.SSLContext:
    context = trusting(server)
    context.load_cert_chain(own.cert, own.key)
    return context


def session_of(
    r: RouterProcess, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLSession | None, bool]:
    """The session of a connection over which a request was answered, and whether it resumed one."""
    host, port = r.listen.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as plain:
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as tls:
            tls.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
            if not tls.recv(65536).startswith(b"HTTP/1.1 200"):
                raise ConnectionError("closed")
            return tls.session, bool(tls.session_reused)


async def refused(r: RouterProcess, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> bool:
    try:
        await asyncio.to_thread(session_of, r, context, session)
    except (ssl.SSLError, ConnectionError):  # with TLS 1.3 the client learns of it when it reads
        return True
    return False


async def test_only_clients_with_a_certificate_of_the_authority_are_served(tmp_path: Path) -> None:
    server, friend, stranger = (certificate(tmp_path, name) for name in ("server", "friend", "stranger"))
    ca = tmp_path / "clients.crt"
    ca.write_bytes(friend.cert.read_bytes())
    head = f'tls_cert = "{server.cert}"\ntls_key = "{server.key}"\ntls_client_ca = "{ca}"\n{OPEN}'
    async with ScriptedBackend() as b:
        site = Site("a", "a", b.url, models=["m"])
        async with RouterProcess([site], head=head, wait=None, probe="admin") as r:
            await r.until("/readyz")
            context = showing(server, friend)
            context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose sessions are there after the handshake
            session, _ = await asyncio.to_thread(session_of, r, context)
            session, resumed = await asyncio.to_thread(session_of, r, context, session)
            assert resumed
            assert not await refused(r, showing(server, friend))
            assert await refused(r, trusting(server))
            assert await refused(r, showing(server, stranger))
            ca.write_bytes(stranger.cert.read_bytes())
            r.process.send_signal(signal.SIGHUP)
            end_s = time.monotonic() + 20
            while await refused(r, showing(server, stranger)):
                assert time.monotonic() < end_s, "the new authority is not used"
            assert await refused(r, showing(server, friend))
            assert await refused(r, context, session), "a session is no way around it"


async def test_a_backend_is_shown_a_certificate_and_checked_by_its_own_authority_and_name(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    engine, own = certificate(tmp_path, "engine", host="engine.internal"), certificate(tmp_path, "own")
    async with TlsBackend(engine) as a, TlsBackend(engine) as b:
        for backend in (a, b):
            backend.context.verify_mode = ssl.CERT_REQUIRED
            backend.context.load_verify_locations(own.cert)
        trust = f'tls_ca = "{engine.cert}"\ntls_server_name = "engine.internal"\n'
        good = Site("good", "a", a.url, extra=f'{trust}tls_cert = "{own.cert}"\ntls_key = "{own.key}"')
        bare = Site("bare", "a", b.url, models=["m"], extra=trust)
        nameless = Site("nameless", "a", a.url, models=["m"], extra=f'tls_ca = "{engine.cert}"')
        unknown = Site("unknown", "a", a.url, models=["m"])
        async with RouterProcess([good, bare, nameless, unknown], head=OPEN) as r:
            for _ in range(4):
                async with http.post(r.url + CHAT, json=STREAM) as reply:
                    assert (reply.status, (await reply.read()).endswith(DONE)) == (200, True)
                    assert reply.headers["x-router-region"] == "good"
            assert b.calls == []
            listed = (await asyncio.to_thread(r.ask_admin, "/admin/v1/backends"))["data"]
            errors = {e["name"]: e["last_error"] for e in listed}
            assert errors["good/a"] is None
            assert "another name" in errors["nameless/a"]
            assert "self-signed" in errors["unknown/a"]
            for region in ("bare", "nameless", "unknown"):
                async with http.post(r.url + CHAT, json=ASK, headers={"x-router-region": region}) as reply:
                    assert reply.status in (502, 503)


def test_a_region_speaks_for_its_backends_and_a_backend_for_itself(tmp_path: Path) -> None:
    one, two = certificate(tmp_path, "one"), certificate(tmp_path, "two")
    text = f"""
[[regions]]
name = "r"
tls_ca = "{one.cert}"
tls_cert = "{one.cert}"
tls_key = "{one.key}"
[[regions.backends]]
name = "a"
url = "https://h"
[[regions.backends]]
name = "b"
url = "https://i"
tls_cert = "{two.cert}"
tls_key = "{two.key}"
"""
    a, b = parse(text, "x").backends
    assert (a.tls_ca, a.tls_cert, a.tls_key) == (str(one.cert), str(one.cert), str(one.key))
    assert (b.tls_ca, b.tls_cert, b.tls_key) == (str(one.cert), str(two.cert), str(two.key))
    two.key.write_bytes(one.key.read_bytes())
    with pytest.raises(ConfigError) as caught:
        parse(text, "x")
    assert len(caught.value.problems) == 1
    assert "tls_key" in caught.value.problems[0]
    assert "mismatch" in caught.value.problems[0]
    assert parse(text, "x", secrets=False).backends, "files need not be there where only the text is checked"
