"""A wire between a client and a server, which can be cut."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from types import TracebackType

_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: whoever is at the other end gets a reset, as from a firewall that forgot about it."""


class Wire:
    """Hands on what comes to a port of its own. A context manager.

    Args:
        port: where the server listens, on this machine.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._ends: list[socket.socket] = []

    def __enter__(self) -> Wire:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End every connection, without a word."""
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                # A thread that reads from it would keep it open.
                end.shutdown(socket.SHUT_RD)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._ends += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._hand_on, args=pair, daemon=True).start()

    def _hand_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        # Who hangs up properly is heard at the other end.
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
