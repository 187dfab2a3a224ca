"""Messages between a worker and the process that started it: short ones, some with an open connection."""

import socket
import struct
import threading
from enum import Enum
from typing import NamedTuple

_HEAD = struct.Struct("!cI")
_DONT_WAIT = getattr(socket, "MSG_DONTWAIT", 0)


class Kind(Enum):
    """The subject of a message."""

    READY = b"R"  # worker: its models are loaded
    BEAT = b"B"  # worker: it lives; its figures, as JSON
    ASK = b"?"  # worker: the same, and it wants those of all
    FIGURES = b"F"  # answer to that
    NOTE = b"N"  # worker: a connection's number and state, with the connection itself where it is new
    TAKE = b"T"  # to a worker: a connection to go on with


class Message(NamedTuple):
    """A message that came.

    Attributes:
        kind: What it is about.
        data: Its content.
        descriptor: An open file that came with it, which is the receiver's to close.
    """

    kind: Kind
    data: bytes
    descriptor: int | None


class Channel:
    """One end of a pair of sockets. Any thread may send; one receives.

    Args:
        end: The socket; closed by `close`.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end, self._lock = end, threading.Lock()

    def send(self, kind: Kind, data: bytes = b"", descriptor: int | None = None) -> None:
        """Send a message, as soon as the other end has room for it; raises OSError where there is none any more."""
        with self._lock:
            self._put(_HEAD.pack(kind.value, len(data)) + data, descriptor)

    def offer(self, kind: Kind, descriptor: int) -> bool:
        """Send an open file if that needs no waiting; return whether it was sent."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            # Not `send_fds`, which takes flags and does not pass them on.
            passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))]
            self._end.sendmsg([_HEAD.pack(kind.value, 0)], passed, _DONT_WAIT)
        except OSError:
            return False
        finally:
            self._lock.release()
        return True

    def _put(self, message: bytes, descriptor: int | None) -> None:
        sent = 0 if descriptor is None else socket.send_fds(self._end, [message], [descriptor])
        if sent < len(message):
            self._end.sendall(message[sent:])

    def receive(self) -> Message:
        """Wait for a message; raises EOFError or OSError where none will come any more."""
        head, descriptors = b"", list[int]()
        while len(head) < _HEAD.size:
            part, came, *_ = socket.recv_fds(self._end, _HEAD.size - len(head), 1)
            descriptors += came
            if not part:
                raise EOFError
            head += part
        kind, length = _HEAD.unpack(head)
        data = bytearray()
        while len(data) < length:
            part = self._end.recv(length - len(data))
            if not part:
                raise EOFError
            data += part
        return Message(Kind(kind), bytes(data), descriptors[0] if descriptors else None)

    def close(self) -> None:
        """End it, for both."""
        self._end.close()
