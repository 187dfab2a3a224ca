"""The sign of life of a worker: sent by a thread of its own, as long as the others do what they are there for."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress

from fusioncam.errors import BusyError
from fusioncam.runtime.service.monitoring.samples import MetricSamples
from fusioncam.runtime.service.workers.channel import Channel, Kind
from fusioncam.runtime.service.workers.connection_ledger import NOTE, ConnectionLedger

BEAT = 1.0  # seconds between two signs of life
SILENCE = 10.0  # seconds without one, after which a worker is replaced
PATIENCE = 3.0  # seconds for the figures of all processes


class Liveness:
    """The signs that the threads of a process go on. Safe to share between them.

    Args:
        limit: Seconds that one step of work may take: beyond, nobody waits for what it gives.
    """

    def __init__(self, limit: float) -> None:
        self._limit, self._begun = limit, dict[object, float]()
        self._turn: float | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """A step of work, which ends in time if all is well."""
        mark = object()
        self._begun[mark] = time.monotonic()
        try:
            yield
        finally:
            del self._begun[mark]

    def turn(self) -> None:
        """The event loop goes round; to be called often."""
        self._turn = time.monotonic()

    @property
    def sound(self) -> bool:
        """Return whether no step takes too long, and the event loop goes round."""
        now = time.monotonic()
        longest = max((now - begun for begun in list(self._begun.values())), default=0.0)
        return longest <= self._limit and (self._turn is None or now - self._turn <= SILENCE)


class Heartbeat:
    """Tells whoever started the process that it lives, and what it has counted; hands over what comes from there.

    Args:
        channel: To there.
        liveness: Whether there is life to be told of.
        take: Is given connections to go on with, in a thread of its own.
    """

    def __init__(self, channel: Channel, liveness: Liveness, take: Callable[[socket.socket], None]) -> None:
        self.ledger = ConnectionLedger()
        self._channel, self._liveness, self._take = channel, liveness, take
        self._figures: Callable[[], MetricSamples] = dict
        self._asking, self._answer = threading.Lock(), Future[MetricSamples]()

    def start(self) -> None:
        """Begin to beat."""
        for name, work in (("heartbeat", self._beat), ("listener", self._listen)):
            threading.Thread(target=work, name=name, daemon=True).start()

    def watch(self, figures: Callable[[], MetricSamples]) -> None:
        """Have it tell these figures from now on."""
        self._figures = figures

    def ready(self) -> None:
        """Tell that the models are loaded."""
        with suppress(OSError):
            self._channel.send(Kind.READY)

    def share(self, own: MetricSamples) -> MetricSamples:
        """Return the figures of all processes.

        Args:
            own: Those of this one.

        Raises:
            BusyError: They do not come in time.
        """
        with self._asking:
            answer = self._answer = Future[MetricSamples]()
            try:
                self._channel.send(Kind.ASK, json.dumps(own).encode())
                return answer.result(PATIENCE)
            except (OSError, TimeoutError):
                raise BusyError("the figures of all processes cannot be had now; ask again soon", 1) from None

    def _beat(self) -> None:
        due, figures = 0.0, b"{}"
        with suppress(OSError):  # whoever started us is gone
            while True:
                self.ledger.some.wait(max(due - time.monotonic(), 0.0))
                for number, (state, copy) in self.ledger.take().items():
                    try:
                        self._channel.send(Kind.NOTE, NOTE.pack(number, state.value), copy)
                    finally:
                        if copy is not None:
                            os.close(copy)
                if time.monotonic() < due:
                    continue
                with suppress(Exception):  # what cannot be counted must not end anything
                    figures = json.dumps(self._figures()).encode()
                if self._liveness.sound:
                    self._channel.send(Kind.BEAT, figures)
                due = time.monotonic() + BEAT

    def _listen(self) -> None:
        with suppress(OSError, EOFError):
            while True:
                kind, data, descriptor = self._channel.receive()
                if kind is Kind.FIGURES:
                    with suppress(Exception):  # nobody waits for it any more
                        self._answer.set_result(json.loads(data))
                elif kind is Kind.TAKE and descriptor is not None:
                    self._take(socket.socket(fileno=descriptor))
