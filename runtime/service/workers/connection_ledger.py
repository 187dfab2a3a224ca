"""The connections of a worker, told to whoever started it: should it hang or die, their clients still get an answer."""

import os
import socket
import struct
import threading
from contextlib import suppress
from enum import Enum
from typing import Any, ClassVar

NOTE = struct.Struct("!Ic")  # of a connection: its number, and its state


class ConnectionState(Enum):
    """Events on a connection.

    Where a worker is lost, another goes on with those between requests; those whose request was read get an answer that
    says so; the others end.
    """

    IDLE = b"I"  # between requests
    WAITING = b"W"  # a request is being read or worked on
    ANSWERING = b"A"  # its answer is under way
    CLOSED = b"C"


class ConnectionLedger:
    """A ledger of connections: of each the latest state, however long nobody takes it. Safe between threads.

    Attributes:
        some: Set while there is something to be told.
    """

    def __init__(self) -> None:
        self.some = threading.Event()
        self._lock, self._count = threading.Lock(), 0
        self._notes: dict[int, tuple[ConnectionState, int | None]] = {}

    def opened(self, descriptor: int) -> int | None:
        """Enter a new connection; returns its number, or None where it cannot be told of: too many files are open."""
        try:
            copy = os.dup(descriptor)
        except OSError:
            return None
        with self._lock:
            self._count += 1
            self._put(self._count, ConnectionState.IDLE, copy)
            return self._count

    def note(self, number: int, state: ConnectionState) -> None:
        """Enter that a connection has come to another state."""
        with self._lock:
            _, copy = self._notes.pop(number, (None, None))
            if copy is not None and state is ConnectionState.CLOSED:
                os.close(copy)  # nobody has heard of it
            else:
                self._put(number, state, copy)

    def _put(self, number: int, state: ConnectionState, copy: int | None) -> None:
        self._notes[number] = state, copy
        self.some.set()

    def take(self) -> dict[int, tuple[ConnectionState, int | None]]:
        """Take what is to be told, each with a copy of the connection where it is new; the caller closes those."""
        with self._lock:
            self.some.clear()
            taken, self._notes = self._notes, {}
            return taken


class _Transport:
    """A transport that says when an answer begins."""

    def __init__(self, transport: Any, begun: Any) -> None:
        self._transport, self._begun = transport, begun

    def write(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/1.1 100"):
            self._begun()
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class LedgerMixin:
    """A line in a ledger for each connection, which uvicorn's protocols lack. To be mixed in before one of them."""

    ledger: ClassVar[ConnectionLedger]
    cycle: Any
    transport: Any

    def connection_made(self, transport: Any) -> None:
        """Enter a client that has come."""
        self._state = ConnectionState.IDLE
        self._number = self.ledger.opened(transport.get_extra_info("socket").fileno())
        super().connection_made(_Transport(transport, self._answering))  # type: ignore[misc]

    def data_received(self, data: bytes) -> None:
        """Part of a request is there."""
        if self._state is ConnectionState.IDLE:
            self._turn(ConnectionState.WAITING)
        super().data_received(data)  # type: ignore[misc]

    def on_response_complete(self) -> None:
        """An answer is done; the next request may be there already."""
        super().on_response_complete()  # type: ignore[misc]
        self._turn(ConnectionState.IDLE if self.cycle.response_complete else ConnectionState.WAITING)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ends, which the copy of it elsewhere must not delay."""
        with suppress(OSError), socket.socket(fileno=os.dup(self._descriptor())) as copy:
            copy.shutdown(socket.SHUT_RDWR)
        self._turn(ConnectionState.CLOSED)
        super().connection_lost(exc)  # type: ignore[misc]

    def _descriptor(self) -> int:
        return int(self.transport.get_extra_info("socket").fileno())

    def _answering(self) -> None:
        if self._state is ConnectionState.WAITING:
            self._turn(ConnectionState.ANSWERING)

    def _turn(self, state: ConnectionState) -> None:
        self._state = state
        if self._number is not None:
            self.ledger.note(self._number, state)
