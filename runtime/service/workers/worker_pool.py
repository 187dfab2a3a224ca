"""Several worker processes: started, watched, replaced where one dies or hangs, and ended together."""

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from fusioncam.errors import FusionCamError
from fusioncam.runtime.service.http.sockets import raise_file_limit
from fusioncam.runtime.service.monitoring.samples import MetricSamples, drop_gauges, sum_samples
from fusioncam.runtime.service.repository.model_repository import Change
from fusioncam.runtime.service.workers.hangup import on_hangup
from fusioncam.runtime.service.workers.heartbeat import SILENCE
from fusioncam.runtime.service.workers.model_changes import ModelChanges
from fusioncam.runtime.service.workers.orphaned_connections import OrphanedConnections
from fusioncam.runtime.service.workers.worker_config import END_SIGNALS
from fusioncam.runtime.service.workers.worker_handle import WorkerHandle

POLL = 0.1  # seconds between two looks at the workers
PAUSE = 0.5  # seconds before a dead worker is replaced, doubled for each that died before it was ready
MOST_DOUBLINGS = 7  # so that a start is tried again every minute
MOST_FAILURES = 3  # workers in a row that die before they are ready, where none is ready
LAST_GRACE = 5  # seconds beyond the workers' own grace, after which they are killed
LATE = 2.5  # seconds without a beat, after which others answer a worker's new connections
LOADING = 120.0  # seconds without a beat, for a worker that loads; a model is read in one go

Start = Callable[[socket.socket, bool, Callable[[], MetricSamples], ModelChanges], WorkerHandle]


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerPool:
    """All worker processes of the service.

    Args:
        start: Starts a worker, from the last four arguments of `WorkerHandle`.
        sockets: One listening socket for each worker, or one for all.
        count: The number of workers.
        grace: Seconds in which a worker finishes its requests when it is told to end.
        ready: Called once, when the first worker is ready.
        warn: Called with a line for the user when a worker is replaced, or a model cannot be loaded anew.
        models: Names of the models, for the signal SIGHUP, which loads them anew.

    Attributes:
        changes: Makes changes of the models in all workers.
    """

    def __init__(
        self,
        start: Start,
        sockets: Sequence[socket.socket],
        count: int,
        grace: float,
        ready: Callable[[], None],
        warn: Callable[[str], None],
        models: Sequence[str] = (),
    ) -> None:
        self._start, self._grace, self._ready, self._warn, self._models = start, grace, ready, warn, models
        self._sockets = [sockets[n % len(sockets)] for n in range(count)]
        self._workers: dict[int, WorkerHandle] = {}
        self._ready_workers: list[WorkerHandle] = []
        self._due: dict[int, float] = {}  # when to start the missing workers
        self._failures, self._signals, self._reported_ready, self._replaced = 0, 0, False, False
        self._orphans, self._gone = OrphanedConnections(), MetricSamples()
        self._polled = time.monotonic()
        self.changes = ModelChanges(lambda: list(self._workers.values()))

    def run(self) -> int:
        """Keep the workers running until a signal says to end; then have them finish their requests.

        Returns:
            The exit status.

        Raises:
            FusionCamError: The workers die before they are ready.
        """
        for number in END_SIGNALS:
            signal.signal(number, self._count_signal)
        on_hangup(self._reload, self._count_signal)
        raise_file_limit()
        try:
            return self._keep()
        finally:
            self._end()

    def _count_signal(self, *_: object) -> None:
        self._signals += 1

    def _reload(self) -> None:
        for name in self._models:
            if name not in self.changes.absent:
                self.changes.ask(Change("load", name), lambda reason: None if reason is None else self._warn(reason))

    def _keep(self) -> int:
        """Watch the workers until a signal comes; return the exit status.

        The first worker is started alone: others would disturb its measurements, or fail for the same reason.
        """
        self._due = {0: 0.0}
        while not self._signals:
            self._start_due_workers()
            self._kill_hung_workers()
            self._forgive()
            for n, worker in list(self._workers.items()):
                status = worker.status
                if worker.ready and not self._reported_ready:
                    self._reported_ready = True
                    self._ready()
                    self._due |= dict.fromkeys(range(1, len(self._sockets)), 0.0)
                if status is not None:
                    if not self._reported_ready and status > 0:  # the worker has printed why
                        return status
                    self._replace(n, status)
            self._redistribute_connections()
            time.sleep(POLL)
        return 0

    def _forgive(self) -> None:
        """Forget the failures in a row where a worker has become ready.

        One that takes another's place has opened what the disk has now, so the others load it, too.
        """
        ready = [worker for worker in self._workers.values() if worker.ready]
        if any(worker not in self._ready_workers for worker in ready):
            self._failures = 0
            if self._replaced:
                self._reload()
        self._ready_workers = ready

    def _start_due_workers(self) -> None:
        for n in [n for n, due in self._due.items() if time.monotonic() >= due]:
            del self._due[n]
            self._workers[n] = self._start(self._sockets[n], not self._reported_ready, self._all_samples, self.changes)

    def _all_samples(self) -> MetricSamples:
        """Return the metric samples of all workers, including those that have ended."""
        return sum_samples([self._gone, *(worker.samples for worker in list(self._workers.values()))])

    def _kill_hung_workers(self) -> None:
        """Kill workers that have given no sign of life, while this process ran itself."""
        now = time.monotonic()
        away, self._polled = now - self._polled, now
        for worker in self._workers.values():
            if away > 1:  # this process was stopped, or the whole machine was
                worker.heard += away
            if now - worker.heard > (LOADING if worker.loading else SILENCE):
                worker.hung = True
                worker.end(signal.SIGKILL)

    def _replace(self, n: int, status: int) -> None:
        """Plan the start of another worker in place of one that has died.

        Raises:
            FusionCamError: Too many died before they were ready, and none is ready.
        """
        worker, self._replaced = self._workers[n], True
        self._orphans.adopt(worker.close())
        gone = sum_samples([self._gone, drop_gauges(worker.samples)])
        del self._workers[n]
        self._gone = gone
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        if worker.hung:
            how = "gave no sign of life and was killed"
        self._failures += not worker.ready
        healthy = worker.ready or any(other.ready for other in self._workers.values())
        if self._failures >= MOST_FAILURES and not healthy:
            raise FusionCamError(
                f"{self._failures} workers in a row died before they were ready, the last one {how}; look at the "
                "memory there is, or try with --workers 1"
            )
        with suppress(OSError):  # a full disk
            self._warn(f"worker {worker.process.pid} {how}; another takes its place")
        self._due[n] = time.monotonic() + PAUSE * 2 ** min(self._failures, MOST_DOUBLINGS)

    def _redistribute_connections(self) -> None:
        """Give the connections of late and missing workers to healthy ones."""
        now = time.monotonic()
        healthy = [worker for worker in self._workers.values() if worker.ready and now - worker.heard <= LATE]
        # On a shared socket the others accept the connections that one leaves waiting.
        if healthy and len(set(self._sockets)) == len(self._sockets):
            for n, listening in enumerate(self._sockets):
                if self._workers.get(n) not in healthy:
                    self._orphans.accept(listening)
        self._orphans.give(healthy)

    def _end(self) -> None:
        """End all workers: at once after a second signal, else when they have finished their requests."""
        for listening in self._sockets:
            listening.close()  # or new connections would wait here for nobody
        for worker in self._workers.values():
            worker.end()
        last = time.monotonic() + self._grace + LAST_GRACE
        while any(worker.status is None for worker in self._workers.values()):
            if self._signals > 1 or time.monotonic() > last:
                for worker in self._workers.values():
                    worker.end(signal.SIGKILL)
            time.sleep(POLL / 2)
        for worker in self._workers.values():
            self._orphans.adopt(worker.close())
        self._orphans.close()
