"""Connections of a worker that is lost: given to another one, or answered here."""

import json
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

from fusioncam.runtime.service.workers.connection_ledger import ConnectionState
from fusioncam.runtime.service.workers.worker_handle import WorkerHandle

RETRY_AFTER = 1  # seconds
LINGER = 2.0  # seconds in which a client may send the rest of a request that is answered already
MOST = 64  # connections to accept at a time
PIECE = 1 << 16
LOST = "the process that worked on the request was lost, and another takes its place; ask again"


class OrphanedConnections:
    """Connections that no worker serves."""

    def __init__(self) -> None:
        self._waiting: list[socket.socket] = []  # for a worker
        self._ending: list[tuple[float, socket.socket]] = []  # for the client to read its answer

    def adopt(self, connections: Iterable[tuple[ConnectionState, socket.socket]]) -> None:
        """Take the connections of a lost worker."""
        for state, connection in connections:
            if state is ConnectionState.IDLE:
                self._waiting.append(connection)
            elif state is ConnectionState.WAITING:
                self._answer(connection)
            else:
                connection.close()

    def accept(self, listening: socket.socket) -> None:
        """Take the connections that wait at a listening socket."""
        with suppress(OSError):  # none waits, or nobody listens yet
            listening.setblocking(False)
            for _ in range(MOST):
                connection, _ = listening.accept()
                self._waiting.append(connection)

    def give(self, workers: Sequence[WorkerHandle]) -> None:
        """Give the waiting connections to workers in turn, and close those whose clients have read their answer."""
        waiting, self._waiting = self._waiting, []
        for n, connection in enumerate(waiting):
            if workers and workers[n % len(workers)].give(connection):
                connection.close()
            else:
                self._waiting.append(connection)
        ending, self._ending = self._ending, []
        for end, connection in ending:
            if time.monotonic() < end and _may_send(connection):  # if closed sooner, the answer might be lost
                self._ending.append((end, connection))
            else:
                connection.close()

    def close(self) -> None:
        """Close all connections that are left."""
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


def _may_send(connection: socket.socket) -> bool:
    """Return whether a client may still send; received data is thrown away."""
    try:
        return bool(connection.recv(PIECE))
    except BlockingIOError:
        return True
    except OSError:
        return False
