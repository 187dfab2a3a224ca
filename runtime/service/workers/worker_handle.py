"""The parent's handle of a worker process: starts it, listens to it, ends it."""

import json
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace

from fusioncam.runtime.service.monitoring.samples import MetricSamples
from fusioncam.runtime.service.repository.model_repository import Change
from fusioncam.runtime.service.workers.channel import Channel, Kind, Message
from fusioncam.runtime.service.workers.connection_ledger import NOTE, ConnectionState
from fusioncam.runtime.service.workers.model_changes import ModelChanges, Orders
from fusioncam.runtime.service.workers.worker_config import WorkerConfig

MOMENT = 2.0  # seconds to read the last messages of a process that has ended


class WorkerHandle:
    """A process that answers requests.

    Args:
        config: Its configuration.
        module: The module that it runs, which calls `run_worker`.
        listening: The socket that its connections come from.
        at_once: Whether it answers while it loads, that it is not ready; if there are others, they answer better.
        all_samples: Returns the metric samples of all workers.
        changes: Makes the changes of the models that clients of the worker ask for.

    Attributes:
        ready: Whether its models are loaded.
        heard: When it last gave a sign of life, in seconds of `time.monotonic()`.
        hung: Whether it was killed because it gave no sign of life.
        samples: Its latest metric samples.
    """

    def __init__(
        self,
        config: WorkerConfig,
        module: str,
        listening: socket.socket,
        at_once: bool,
        all_samples: Callable[[], MetricSamples],
        changes: ModelChanges,
    ) -> None:
        self.ready, self.heard, self.hung, self.samples = False, time.monotonic(), False, MetricSamples()
        self._all_samples, self._connections = all_samples, dict[int, tuple[ConnectionState, socket.socket]]()
        self._changes, self._orders = changes, Orders()
        ours, theirs = socket.socketpair()
        self._channel = Channel(ours)
        numbers = [str(int(number)) for number in (listening.fileno(), theirs.fileno(), at_once)]
        # A process group of its own: Ctrl-C must not reach it directly.
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *numbers],
            stdin=subprocess.PIPE,
            pass_fds=(listening.fileno(), theirs.fileno()),
            process_group=0,
        )
        theirs.close()
        self._listener = threading.Thread(target=self._listen, name="worker's messages", daemon=True)
        self._listener.start()
        assert self.process.stdin is not None
        with suppress(OSError):  # it is dead already; `status` will say so
            self.process.stdin.write(pickle.dumps(replace(config, absent=changes.absent)))
            self.process.stdin.flush()  # and stays open: the end of it tells the worker that its parent is gone

    @property
    def status(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        return self.process.poll()

    def give(self, connection: socket.socket) -> bool:
        """Hand a connection over to the process; return whether it was sent."""
        return self._channel.offer(Kind.TAKE, connection.fileno())

    @property
    def loading(self) -> bool:
        """Return whether the process opens models, which may silence it for long."""
        return not self.ready or len(self._orders) > 0

    def order(self, step: str, change: Change) -> Future[str | None]:
        """Have the process take a step of a change; the future gets the reason why it did not."""
        number, future = self._orders.enter()
        try:
            self._channel.send(Kind.ORDER, json.dumps([number, step, *change]).encode())
        except OSError:
            self._orders.end()
        return future

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send the process a signal to end."""
        with suppress(OSError):
            self.process.send_signal(number)

    def close(self) -> list[tuple[ConnectionState, socket.socket]]:
        """Release the resources of a process that has ended; return the connections that it left behind."""
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
                self._handle(self._channel.receive())
        self._orders.end()

    def _handle(self, message: Message) -> None:
        if message.kind is Kind.NOTE:
            number, state = NOTE.unpack(message.data)
            self._note(number, ConnectionState(state), message.descriptor)
        elif message.kind is Kind.READY:
            self.ready, self.heard = True, time.monotonic()
        elif message.kind in (Kind.BEAT, Kind.ASK):
            self.heard, self.samples = time.monotonic(), json.loads(message.data)
        if message.kind is Kind.ASK:
            self._channel.send(Kind.SAMPLES, json.dumps(self._all_samples()).encode())
        elif message.kind is Kind.OBEYED:
            self.heard = time.monotonic()
            self._orders.answer(*json.loads(message.data))
        elif message.kind is Kind.CHANGE:
            number, action, name = json.loads(message.data)
            self._changes.ask(
                Change(action, name),
                lambda reason: self._channel.send(Kind.CHANGED, json.dumps([number, reason]).encode()),
            )

    def _note(self, number: int, state: ConnectionState, descriptor: int | None) -> None:
        connection = None if descriptor is None else socket.socket(fileno=descriptor)
        if connection is None and number in self._connections:
            _, connection = self._connections.pop(number)
        if connection is None:  # it could not be sent: too many files are open
            return
        if state is ConnectionState.CLOSED:
            connection.close()
        else:
            self._connections[number] = state, connection
