"""Connections whose worker is lost: given to another, or answered here that it is lost."""

import json
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from fusioncam.runtime.service.workers.connection_ledger import ConnectionState

RETRY_AFTER = 1  # seconds
LINGER = 2.0  # seconds in which a client may send the rest of a request that is answered already
MOST = 64  # connections that are accepted at a time
PIECE = 1 << 16
LOST = "the process that worked on the request was lost, and another takes its place; ask again"


class ConnectionTaker(Protocol):
    """Takes connections, as a `WorkerHandle` does."""

    def give(self, connection: socket.socket) -> bool:
        """Have it go on with a connection; returns whether it was told so."""


class OrphanedConnections:
    """Connections that nobody answers."""

    def __init__(self) -> None:
        self._waiting: list[socket.socket] = []  # for a worker
        self._ending: list[tuple[float, socket.socket]] = []  # for the client to have read its answer

    def adopt(self, left: Iterable[tuple[ConnectionState, socket.socket]]) -> None:
        """Take what a worker has left behind."""
        for state, connection in left:
            if state is ConnectionState.IDLE:
                self._waiting.append(connection)
            elif state is ConnectionState.WAITING:
                self._answer(connection)
            else:
                connection.close()

    def accept(self, listening: socket.socket) -> None:
        """Take connections that wait at a socket."""
        with suppress(OSError):  # there is none, or nobody listens yet
            listening.setblocking(False)
            for _ in range(MOST):
                connection, _ = listening.accept()
                self._waiting.append(connection)

    def give(self, workers: Sequence[ConnectionTaker]) -> None:
        """Give what waits to workers in turn; what cannot be given waits on."""
        waiting, self._waiting = self._waiting, []
        for n, connection in enumerate(waiting):
            if workers and workers[n % len(workers)].give(connection):
                connection.close()
            else:
                self._waiting.append(connection)
        self._see_off()

    def close(self) -> None:
        """Nobody will take them any more."""
        for connection in (*self._waiting, *(connection for _, connection in self._ending)):
            connection.close()

    def _answer(self, connection: socket.socket) -> None:
        body = json.dumps({"error": LOST}).encode()
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
            f"Retry-After: {RETRY_AFTER}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            connection.setblocking(False)
            connection.send(head.encode() + body)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            connection.close()
        else:
            self._ending.append((time.monotonic() + LINGER, connection))

    def _see_off(self) -> None:
        """Close connections whose clients have hung up, or had their time: sooner, the answer might be lost."""
        ending, self._ending = self._ending, []
        for end, connection in ending:
            if time.monotonic() < end and _reads_on(connection):
                self._ending.append((end, connection))
            else:
                connection.close()


def _reads_on(connection: socket.socket) -> bool:
    """Return whether a client may still send; what it has sent is thrown away."""
    try:
        return bool(connection.recv(PIECE))
    except BlockingIOError:
        return True
    except OSError:
        return False
