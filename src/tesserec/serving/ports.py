"""Free ports that stay ours until the server has bound them."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def reserve(wished: Sequence[tuple[str, int]]) -> Iterator[list[int]]:
    """Bind one port for each wished (host, port), 0 being any free one, while the server starts.

    The sockets never listen, and have SO_REUSEADDR as the server's have: so the server may bind
    the same ports, while the kernel gives them to nobody who asks for "any".

    Raises:
        OSError: a wished port is taken; the message names it.
    """
    sockets: list[socket.socket] = []
    try:
        for host, port in wished:
            holder = socket.socket(_family(host), socket.SOCK_STREAM)
            sockets.append(holder)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                holder.bind((host, port))
            except OSError as error:
                raise OSError(error.errno, f"port {port} of {host}: {error.strerror}") from None
        yield [holder.getsockname()[1] for holder in sockets]
    finally:
        for holder in sockets:
            holder.close()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
