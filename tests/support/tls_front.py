"""A port in front of a server without TLS that speaks TLS with those who do, and passes all others on as they are."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

from tests.support.certificates import Certificate


@contextlib.contextmanager
def tls_front(server_port: int, made: Certificate, *, clients: Certificate | None = None) -> Iterator[int]:
    """The port. ``made`` is what it shows; clients must show a certificate of the authority ``clients``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.cert)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        threading.Thread(target=_accept, args=(listener, server_port, context), daemon=True).start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # a close alone does not wake the thread


def _accept(listener: socket.socket, server_port: int, context: ssl.SSLContext) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(client, server_port, context), daemon=True).start()


def _serve(client: socket.socket, server_port: int, context: ssl.SSLContext) -> None:
    with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", server_port)) as server:
        if client.recv(1, socket.MSG_PEEK) == b"\x16":  # the first byte of a handshake
            client = context.wrap_socket(client, server_side=True)
        with client:
            threading.Thread(target=_copy, args=(server, client), daemon=True).start()
            _copy(client, server)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
