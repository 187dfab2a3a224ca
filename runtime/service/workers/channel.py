"""The channel between a worker and its parent process: short messages, some with an open connection."""

import socket
import struct
import threading
from enum import Enum
from typing import NamedTuple

_HEAD = struct.Struct("!cI")
_DONT_WAIT = getattr(socket, "MSG_DONTWAIT", 0)


class Kind(Enum):
    """The subject of a message."""

    READY = b"R"  # from a worker: its models are loaded
    BEAT = b"B"  # from a worker: a sign of life, with its metric samples as JSON
    ASK = b"?"  # from a worker: the same, and it asks for the samples of all workers
    SAMPLES = b"F"  # to a worker: the samples of all workers
    NOTE = b"N"  # from a worker: number and state of a connection, with the connection itself where it is new
    TAKE = b"T"  # to a worker: a connection to serve
    CHANGE = b"C"  # from a worker: a change of the models that a client asks for
    CHANGED = b"D"  # to a worker: the end of that change
    ORDER = b"O"  # to a worker: a step of a change
    OBEYED = b"Y"  # from a worker: the end of that step


class Message(NamedTuple):
    """A message from the other end.

    Attributes:
        kind: Its subject.
        data: Its content.
        descriptor: An open file that came with it; the receiver closes it.
    """

    kind: Kind
    data: bytes
    descriptor: int | None


class Channel:
    """One end of a pair of sockets. Any thread may send; one thread receives.

    Args:
        end: The socket; `close` closes it.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end, self._lock = end, threading.Lock()

    def send(self, kind: Kind, data: bytes = b"", descriptor: int | None = None) -> None:
        """Send a message, as soon as the other end has room for it.

        Raises:
            OSError: The other end is closed.
        """
        message = _HEAD.pack(kind.value, len(data)) + data
        with self._lock:
            sent = 0 if descriptor is None else socket.send_fds(self._end, [message], [descriptor])
            if sent < len(message):
                self._end.sendall(message[sent:])

    def offer(self, kind: Kind, descriptor: int) -> bool:
        """Send an open file if no wait is needed; return whether it was sent."""
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

    def receive(self) -> Message:
        """Wait for a message and return it.

        Raises:
            EOFError, OSError: No message will come any more.
        """
        head, descriptors = self._read(_HEAD.size)
        kind, length = _HEAD.unpack(head)
        data, _ = self._read(length)
        return Message(Kind(kind), data, descriptors[0] if descriptors else None)

    def _read(self, size: int) -> tuple[bytes, list[int]]:
        data, descriptors = bytearray(), list[int]()
        while len(data) < size:
            part, received, *_ = socket.recv_fds(self._end, size - len(data), 1)
            if not part:
                raise EOFError
            data += part
            descriptors += received
        return bytes(data), descriptors

    def close(self) -> None:
        """Close both directions of the channel."""
        self._end.close()
