"""TLS towards a backend: verified, TLS 1.2 or newer, with sessions resumed, and with a certificate of ours if asked."""

from __future__ import annotations

import ssl
from typing import Any, Self

from router.config.certificates import authorities_problem, load_chain
from router.core.types import BackendSpec
from router.errors import ConfigError


class ClientTls(ssl.SSLContext):
    """The context of one backend. A new connection resumes the session of an earlier one: that saves the server its
    signature and both sides the certificates, and with TLS 1.2 a round trip.

    Certificates are checked against the system's authorities, or those of ``SSL_CERT_FILE``, or those of ``tls_ca``,
    and the host's name.
    """

    session: ssl.SSLSession | None = None

    def __new__(cls, *, ca: str | None = None) -> Self:
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)  # checks certificates and host names
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_flags |= ssl.create_default_context().verify_flags
        if ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca)
        context.set_alpn_protocols(["http/1.1"])
        return context

    def __init__(self, *, ca: str | None = None) -> None:
        super().__init__()

    def remember(self, connection: Any) -> None:
        """Keep the session of a connection that has been used: with TLS 1.3 it comes after the handshake.

        ``connection`` is the ``ssl_object`` of its transport.
        """
        if connection.context is self:  # not of the files before the last reload
            self.session = connection.session

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        return super().wrap_bio(*args, **(options | {"session": self.session}))


def tls_of(spec: BackendSpec) -> ClientTls | None:
    """How to speak TLS with a backend, from its files as they are now; None: plain HTTP. Raises ConfigError."""
    if not spec.url.lower().startswith("https:"):
        return None
    if spec.tls_ca is not None and (problem := authorities_problem(spec.tls_ca)) is not None:
        raise ConfigError(spec.tls_ca, [f"{spec.name} tls_ca {spec.tls_ca}: {problem}"])
    context = ClientTls(ca=spec.tls_ca)
    cert, key = spec.tls_cert, spec.tls_key
    if cert is not None and key is not None and (problem := load_chain(context, cert, key)) is not None:
        raise ConfigError(cert, [f"{spec.name} tls_cert {cert}, tls_key {key}: {problem}"])
    return context
