"""The files of certificates, keys and authorities that a configuration names, and checks that they can be used."""

from __future__ import annotations

import ssl

from router.config.model import Config


def certificate_files(config: Config) -> tuple[str, ...]:
    """Each file once, in an order that stays."""
    router = config.router
    named = [router.tls_cert, router.tls_key, router.tls_client_ca]
    for backend in config.backends:
        named += [backend.tls_ca, backend.tls_cert, backend.tls_key]
    for source in config.sources:
        named += [source.tls_ca, source.tls_cert, source.tls_key]
    return tuple(dict.fromkeys(path for path in named if path is not None))


def load_chain(context: ssl.SSLContext, cert: str, key: str) -> str | None:
    """Load a certificate into ``context``. Returns why that fails, or None."""
    try:
        context.load_cert_chain(cert, key, _no_password)
    except (OSError, ValueError) as error:
        return _reason(error)
    return None


def chain_problem(cert: str, key: str) -> str | None:
    """Why a certificate and its key cannot be used, or None."""
    for path in (cert, key):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            return f"{path} cannot be read: {_reason(error)}"
    problem = load_chain(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), cert, key)
    return f"cannot be used with tls_key {key}: {problem}" if problem is not None else None


def authorities_problem(path: str) -> str | None:
    """Why a file of authorities cannot be used, or None."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(path)
    except (OSError, ValueError) as error:
        return _reason(error)
    return None if context.cert_store_stats()["x509_ca"] else "holds no certificate of an authority"


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):  # SSLError is an OSError too, but its text is a place in OpenSSL's code
        return (error.reason or str(error)).replace("_", " ").lower()
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[:1].lower() + text[1:]


def _no_password() -> str:
    """Stands for the prompt for a password: a router cannot ask anybody."""
    raise ValueError("the key is encrypted; a router cannot ask for its password")
