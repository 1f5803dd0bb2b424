"""TLS on the clients' listener."""

from __future__ import annotations

import ssl
from pathlib import Path

from router.config import RouterSection
from router.config.certificates import authorities_problem, load_chain
from router.errors import ConfigError


class ServerTls:
    """The certificate of the listener, and who may vouch for clients.

    ``context`` stays the same when the files are read again, and so do the keys of its session tickets: clients resume
    their sessions over a change of the certificate. Only other authorities for clients make a new one: a ticket stands
    for a client's certificate that was accepted."""

    def __init__(self, cert: str, key: str, client_ca: str | None = None) -> None:
        """Raises ConfigError."""
        self._cert = cert
        self._key = key
        self._client_ca = client_ca
        self._authorities = b""
        self.context = self._new_context()
        self.renew()

    @classmethod
    def of(cls, section: RouterSection) -> ServerTls | None:
        """None: plain HTTP. Raises ConfigError."""
        if section.tls_cert is None or section.tls_key is None:
            return None
        return cls(section.tls_cert, section.tls_key, section.tls_client_ca)

    def _new_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        return context

    def renew(self) -> None:
        """Read the files again, for new connections. Raises ConfigError and keeps what it had."""
        authorities = self._read_authorities()
        context = self.context if authorities == self._authorities else self._new_context()
        for trial in (self._new_context(), context):  # a context that has refused a key is not what it was
            if problem := load_chain(trial, self._cert, self._key):
                text = f"[router] tls_cert {self._cert}, tls_key {self._key}: {problem}"
                raise ConfigError(self._cert, [text])
        if context is not self.context:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=authorities.decode("ascii", "ignore"))
        self.context, self._authorities = context, authorities

    def _read_authorities(self) -> bytes:
        path = self._client_ca
        if path is None:
            return b""
        try:
            data = Path(path).read_bytes()
            problem = authorities_problem(path)
        except OSError as error:
            problem = error.strerror or str(error)
        if problem is not None:
            raise ConfigError(path, [f"[router] tls_client_ca {path}: {problem}"])
        return data
