"""The heartbeat of a worker: sent to its parent by a thread of its own, as long as the other threads do their work."""

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from typing import Literal

from fusioncam.errors import BusyError, FusionCamError
from fusioncam.runtime.service.monitoring.logs import ERRORS
from fusioncam.runtime.service.monitoring.samples import MetricSamples
from fusioncam.runtime.service.repository.model_repository import Change
from fusioncam.runtime.service.workers.channel import Channel, Kind
from fusioncam.runtime.service.workers.connection_ledger import NOTE, ConnectionLedger
from fusioncam.runtime.service.workers.model_changes import LOST, Orders, raise_reason

BEAT = 1.0  # seconds between two beats
SILENCE = 10.0  # seconds without a beat, after which a worker is replaced
PATIENCE = 3.0  # seconds to wait for the samples of all workers


class Liveness:
    """Evidence that the threads of a process make progress. Safe to share between threads.

    Args:
        limit: Seconds that one step of work may take: after that, nobody waits for its result.
    """

    def __init__(self, limit: float) -> None:
        self._limit, self._begun = limit, dict[object, float]()
        self._ticked: float | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """Time a step of work."""
        mark = object()
        self._begun[mark] = time.monotonic()
        try:
            yield
        finally:
            del self._begun[mark]

    def tick(self) -> None:
        """Note that the event loop goes round; to be called often."""
        self._ticked = time.monotonic()

    @property
    def alive(self) -> bool:
        """Return whether no step takes too long, and the event loop goes round."""
        now = time.monotonic()
        longest = max((now - begun for begun in list(self._begun.values())), default=0.0)
        return longest <= self._limit and (self._ticked is None or now - self._ticked <= SILENCE)


class Heartbeat:
    """The worker's end of the channel: sends beats, samples and connections, and receives what the parent sends.

    Args:
        channel: The channel to the parent.
        liveness: Beats are sent while it is alive.
        take: Receives connections to serve, in a thread of the heartbeat.
        samples: Returns the metric samples of this process.
        obey: Takes a step of a change of the models, in a thread for it.

    Attributes:
        ledger: The connections to report.
    """

    def __init__(
        self,
        channel: Channel,
        liveness: Liveness,
        take: Callable[[socket.socket], None],
        samples: Callable[[], MetricSamples],
        obey: Callable[[str, Change], None],
    ) -> None:
        self.ledger, self._obey = ConnectionLedger(), obey
        self._changes = Orders()
        self._channel, self._liveness, self._take, self._samples = channel, liveness, take, samples
        self._asking, self._answer = threading.Lock(), Future[MetricSamples]()

    def start(self) -> None:
        """Begin to send and to listen."""
        for name, work in (("heartbeat", self._beat), ("listener", self._listen)):
            threading.Thread(target=work, name=name, daemon=True).start()

    def ready(self) -> None:
        """Report that the models are loaded."""
        with suppress(OSError):
            self._channel.send(Kind.READY)

    def share(self, own: MetricSamples) -> MetricSamples:
        """Send the samples of this process; return those of all workers.

        Raises:
            BusyError: The samples of the others do not come in time.
        """
        with self._asking:
            answer = self._answer = Future[MetricSamples]()
            try:
                self._channel.send(Kind.ASK, json.dumps(own).encode())
                return answer.result(PATIENCE)
            except (OSError, TimeoutError):
                raise BusyError("the figures of all processes are unavailable now; ask again soon", 1) from None

    async def change(self, change: Change) -> None:
        """Have the parent make a change in all workers.

        Raises:
            NotLoadedError: The change was not made.
        """
        number, made = self._changes.enter()
        try:
            self._channel.send(Kind.CHANGE, json.dumps([number, *change]).encode())
        except OSError:
            self._changes.end()
        raise_reason(await asyncio.wrap_future(made))

    def _take_step(self, number: int, step: str, action: Literal["load", "unload"], name: str) -> None:
        reason = None
        try:
            self._obey(step, Change(action, name))
        except CancelledError:  # the worker ends
            reason = LOST
        except Exception as error:
            if not isinstance(error, FusionCamError):
                ERRORS.exception("a change of a model failed unexpectedly; this is a bug, please report it")
            reason = str(error)
        with suppress(OSError):  # the parent is gone
            self._channel.send(Kind.OBEYED, json.dumps([number, reason]).encode())

    def _beat(self) -> None:
        due, samples = 0.0, b"{}"
        with suppress(OSError):  # the parent is gone
            while True:
                self.ledger.changed.wait(max(due - time.monotonic(), 0.0))
                for number, (state, copy) in self.ledger.take().items():
                    try:
                        self._channel.send(Kind.NOTE, NOTE.pack(number, state.value), copy)
                    finally:
                        if copy is not None:
                            os.close(copy)
                if time.monotonic() < due:
                    continue
                with suppress(Exception):  # a failure to count must not end the process
                    samples = json.dumps(self._samples()).encode()
                if self._liveness.alive:
                    self._channel.send(Kind.BEAT, samples)
                due = time.monotonic() + BEAT

    def _listen(self) -> None:
        with suppress(OSError, EOFError):
            while True:
                kind, data, descriptor = self._channel.receive()
                if kind is Kind.SAMPLES:
                    with suppress(Exception):  # nobody waits for the answer any more
                        self._answer.set_result(json.loads(data))
                elif kind is Kind.TAKE and descriptor is not None:
                    self._take(socket.socket(fileno=descriptor))
                elif kind is Kind.CHANGED:
                    self._changes.answer(*json.loads(data))
                elif kind is Kind.ORDER:
                    step = threading.Thread(target=self._take_step, args=json.loads(data), name="change", daemon=True)
                    step.start()
        self._changes.end()
