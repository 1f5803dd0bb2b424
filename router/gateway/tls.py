"""TLS on the clients' listener."""

from __future__ import annotations

import ssl

from router.config import RouterSection
from router.errors import ConfigError


class ServerTls:
    """The certificate of the listener. ``context`` stays the same when the files are read again, and so do the keys of
    its session tickets: clients resume their sessions over a change of the certificate."""

    def __init__(self, cert: str, key: str) -> None:
        """Raises ConfigError."""
        self._cert = cert
        self._key = key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self.renew()

    @classmethod
    def of(cls, section: RouterSection) -> ServerTls | None:
        """None: plain HTTP. Raises ConfigError."""
        if section.tls_cert is None or section.tls_key is None:
            return None
        return cls(section.tls_cert, section.tls_key)

    def renew(self) -> None:
        """Read the files again, for new connections. Raises ConfigError and keeps what it had."""
        try:
            trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            trial.load_cert_chain(self._cert, self._key, _no_password)
            self.context.load_cert_chain(self._cert, self._key, _no_password)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            if isinstance(error, ssl.SSLError):
                reason = error.reason or reason
            text = f"[router] tls_cert {self._cert}, tls_key {self._key}: {reason}"
            raise ConfigError(self._cert, [text]) from None


def _no_password() -> str:
    """A router that starts by itself cannot ask anybody."""
    raise ValueError("the key is encrypted; a router cannot ask for its password")
