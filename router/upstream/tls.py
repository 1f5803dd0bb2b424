"""TLS towards a backend: verified, TLS 1.2 or newer, and with sessions resumed."""

from __future__ import annotations

import ssl
from typing import Any, Self


class ClientTls(ssl.SSLContext):
    """The context of one backend. A new connection resumes the session of an earlier one: that saves the server its
    signature and both sides the certificates, and with TLS 1.2 a round trip.

    Certificates are checked against the system's authorities, or those of ``SSL_CERT_FILE``, and the host's name.
    """

    session: ssl.SSLSession | None = None

    def __new__(cls) -> Self:
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)  # checks certificates and host names
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_flags |= ssl.create_default_context().verify_flags
        context.load_default_certs()
        context.set_alpn_protocols(["http/1.1"])
        return context

    def remember(self, connection: Any) -> None:
        """Keep the session of a connection that has been used: with TLS 1.3 it comes after the handshake.

        ``connection`` is the ``ssl_object`` of its transport.
        """
        self.session = connection.session

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        return super().wrap_bio(*args, **(options | {"session": self.session}))
