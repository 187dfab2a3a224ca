"""The connections of a worker, reported to its parent: when the worker is lost, their clients still get an answer."""

import os
import socket
import struct
import threading
from contextlib import suppress
from enum import Enum
from typing import Any, ClassVar

NOTE = struct.Struct("!Ic")  # number and state of a connection


class ConnectionState(Enum):
    """The state of a connection.

    When a worker is lost, another one takes its idle connections; clients that wait get an answer that says so; the
    other connections end.
    """

    IDLE = b"I"  # between requests
    WAITING = b"W"  # a request is being read or worked on
    ANSWERING = b"A"  # the answer is being sent
    CLOSED = b"C"


class ConnectionLedger:
    """The latest state of each connection, kept until somebody takes it. Safe to share between threads.

    Attributes:
        changed: Set while there is something to take.
    """

    def __init__(self) -> None:
        self.changed = threading.Event()
        self._lock, self._count = threading.Lock(), 0
        self._notes: dict[int, tuple[ConnectionState, int | None]] = {}

    def opened(self, descriptor: int) -> int | None:
        """Enter a new connection; return its number, or None where too many files are open to report it."""
        try:
            copy = os.dup(descriptor)
        except OSError:
            return None
        with self._lock:
            self._count += 1
            self._put(self._count, ConnectionState.IDLE, copy)
            return self._count

    def note(self, number: int, state: ConnectionState) -> None:
        """Enter the new state of a connection."""
        with self._lock:
            _, copy = self._notes.pop(number, (None, None))
            if copy is not None and state is ConnectionState.CLOSED:
                os.close(copy)  # it was never reported
            else:
                self._put(number, state, copy)

    def _put(self, number: int, state: ConnectionState, copy: int | None) -> None:
        self._notes[number] = state, copy
        self.changed.set()

    def take(self) -> dict[int, tuple[ConnectionState, int | None]]:
        """Return the states to report by number, each with a copy of a new connection, which the caller closes."""
        with self._lock:
            self.changed.clear()
            taken, self._notes = self._notes, {}
            return taken


class _Transport:
    """A transport that tells when an answer begins."""

    def __init__(self, transport: Any, begun: Any) -> None:
        self._transport, self._begun = transport, begun

    def write(self, data: bytes) -> None:
        """Write data; anything but "100 Continue" begins the answer."""
        if not data.startswith(b"HTTP/1.1 100"):
            self._begun()
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        """Return everything else from the transport itself."""
        return getattr(self._transport, name)


class LedgerMixin:
    """A mixin for the protocol classes of uvicorn that enters each connection into a ledger."""

    ledger: ClassVar[ConnectionLedger]
    cycle: Any
    transport: Any

    def connection_made(self, transport: Any) -> None:
        """Enter a new client."""
        self._state = ConnectionState.IDLE
        self._number = self.ledger.opened(transport.get_extra_info("socket").fileno())
        super().connection_made(_Transport(transport, self._answering))  # type: ignore[misc]

    def data_received(self, data: bytes) -> None:
        """Note that part of a request is there."""
        if self._state is ConnectionState.IDLE:
            self._turn(ConnectionState.WAITING)
        super().data_received(data)  # type: ignore[misc]

    def on_response_complete(self) -> None:
        """Note that an answer is complete; the next request may be there already."""
        super().on_response_complete()  # type: ignore[misc]
        self._turn(ConnectionState.IDLE if self.cycle.response_complete else ConnectionState.WAITING)

    def connection_lost(self, exc: Exception | None) -> None:
        """Shut the connection down, which the copy of it in the parent must not delay."""
        descriptor = self.transport.get_extra_info("socket").fileno()
        with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as copy:
            copy.shutdown(socket.SHUT_RDWR)
        self._turn(ConnectionState.CLOSED)
        super().connection_lost(exc)  # type: ignore[misc]

    def _answering(self) -> None:
        if self._state is ConnectionState.WAITING:
            self._turn(ConnectionState.ANSWERING)

    def _turn(self, state: ConnectionState) -> None:
        self._state = state
        if self._number is not None:
            self.ledger.note(self._number, state)
