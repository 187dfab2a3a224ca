"""A worker as the process sees it that has started it."""

import json
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from fusioncam.runtime.service.monitoring.samples import MetricSamples
from fusioncam.runtime.service.workers.channel import Channel, Kind, Message
from fusioncam.runtime.service.workers.connection_ledger import NOTE, ConnectionState
from fusioncam.runtime.service.workers.worker_config import WorkerConfig

MOMENT = 2.0  # seconds in which all is read that a process has said before it ended


class WorkerHandle:
    """A process that answers requests.

    Args:
        config: What it does.
        listening: Where its connections come from.
        at_once: Whether it answers while it loads, that it is not ready; where there are others, they do better.
        figures: Gives those of all processes.

    Attributes:
        ready: Whether its models are loaded.
        heard: When it last gave a sign of life, in seconds of `time.monotonic()`.
        hung: Whether it was killed because it gave none.
        figures: What it has counted, as far as it has said.
    """

    def __init__(
        self, config: WorkerConfig, listening: socket.socket, at_once: bool, figures: Callable[[], MetricSamples]
    ) -> None:
        self.ready, self.heard, self.hung, self.figures = False, time.monotonic(), False, MetricSamples()
        self._all, self._connections = figures, dict[int, tuple[ConnectionState, socket.socket]]()
        ours, theirs = socket.socketpair()
        self._channel = Channel(ours)
        told = [str(int(number)) for number in (listening.fileno(), theirs.fileno(), at_once)]
        # A group of its own, or Ctrl-C would reach it past us.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fusioncam.runtime.service.workers.worker", *told],
            stdin=subprocess.PIPE,
            pass_fds=(listening.fileno(), theirs.fileno()),
            process_group=0,
        )
        theirs.close()
        self._listener = threading.Thread(target=self._listen, name="worker's messages", daemon=True)
        self._listener.start()
        assert self.process.stdin is not None
        with suppress(OSError):  # it is dead already, which will be seen
            self.process.stdin.write(pickle.dumps(config))
            self.process.stdin.flush()  # and kept open: its end tells the worker that we are gone

    def look(self) -> int | None:
        """The exit status, if it has ended."""
        return self.process.poll()

    def give(self, connection: socket.socket) -> bool:
        """Have it go on with a connection; returns whether it was told so."""
        return self._channel.offer(Kind.TAKE, connection.fileno())

    def end(self, number: int = signal.SIGTERM) -> None:
        """Tell it to end."""
        with suppress(OSError):
            self.process.send_signal(number)

    def close(self) -> list[tuple[ConnectionState, socket.socket]]:
        """Let go of what belongs to a process that has ended; returns the connections it has left behind."""
        self._listener.join(MOMENT)
        self._channel.close()
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()
        self.process.wait()
        return list(self._connections.values())

    def _listen(self) -> None:
        with suppress(OSError, EOFError):
            while True:
                self._hear(self._channel.receive())

    def _hear(self, message: Message) -> None:
        if message.kind is Kind.NOTE:
            number, state = NOTE.unpack(message.data)
            self._note(number, ConnectionState(state), message.descriptor)
        elif message.kind is Kind.READY:
            self.ready, self.heard = True, time.monotonic()
        elif message.kind in (Kind.BEAT, Kind.ASK):
            self.heard, self.figures = time.monotonic(), json.loads(message.data)
        if message.kind is Kind.ASK:
            self._channel.send(Kind.FIGURES, json.dumps(self._all()).encode())

    def _note(self, number: int, state: ConnectionState, descriptor: int | None) -> None:
        connection = None if descriptor is None else socket.socket(fileno=descriptor)
        if connection is None and number in self._connections:
            _, connection = self._connections.pop(number)
        if connection is None:  # of one that did not come: too many files are open
            return
        if state is ConnectionState.CLOSED:
            connection.close()
        else:
            self._connections[number] = state, connection
