"""Several processes of the service: started, watched, replaced where one dies or hangs, and ended together."""

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from fusioncam.errors import FusionCamError
from fusioncam.runtime.commands import console
from fusioncam.runtime.service.http.sockets import raise_file_limit
from fusioncam.runtime.service.monitoring.samples import MetricSamples, drop_gauges, total
from fusioncam.runtime.service.workers.heartbeat import SILENCE
from fusioncam.runtime.service.workers.orphaned_connections import OrphanedConnections
from fusioncam.runtime.service.workers.worker_config import ENDING, WorkerConfig
from fusioncam.runtime.service.workers.worker_handle import WorkerHandle

LOOK = 0.1  # seconds between two looks at the workers
PATIENCE = 0.5  # seconds before a worker that died is replaced, doubled for each that was not ready by then
MOST_DOUBLINGS = 7  # so that it is tried again every minute
MOST_FAILURES = 3  # workers in a row that die before they are ready, where none is
LAST_GRACE = 5  # seconds beyond the grace of the config, after which workers are killed
LATE = 2.5  # seconds without a sign of life, after which others answer a worker's new connections
LOADING = 120.0  # seconds without one, for a worker that is not ready; a model is read in one go


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerPool:
    """All processes of the service.

    Args:
        config: What each of them does.
        sockets: One for each, or one for all.
        count: How many.
        ready: Called once, when the first is ready.
    """

    def __init__(
        self, config: WorkerConfig, sockets: Sequence[socket.socket], count: int, ready: Callable[[], None]
    ) -> None:
        self._config, self._ready = config, ready
        self._sockets = [sockets[n % len(sockets)] for n in range(count)]
        self._workers: dict[int, WorkerHandle] = {}
        self._due: dict[int, float] = {}  # when to start those that are not there
        self._failures, self._asked, self._said = 0, 0, False
        self._orphans, self._gone = OrphanedConnections(), MetricSamples()
        self._looked = time.monotonic()

    def run(self) -> int:
        """Keep them running until a signal says to end; then have them finish what they have begun.

        Returns:
            The exit status.

        Raises:
            FusionCamError: They die before they are ready.
        """
        for number in ENDING:
            signal.signal(number, self._told_to_end)
        raise_file_limit()
        try:
            return self._keep()
        finally:
            self._end()

    def _told_to_end(self, *_: object) -> None:
        self._asked += 1

    def _keep(self) -> int:
        """The first is started alone: others would disturb what it may have to measure, or fail for the same reason."""
        self._due = {0: 0.0}
        while not self._asked:
            self._start_those_due()
            self._replace_those_that_hang()
            for n, worker in list(self._workers.items()):
                was_ready, status = worker.ready, worker.look()
                if worker.ready and not was_ready:
                    self._failures = 0
                if worker.ready and not self._said:
                    self._said = True
                    self._ready()
                    self._due |= dict.fromkeys(range(1, len(self._sockets)), 0.0)
                if status is not None:
                    if not self._said and status > 0:  # it has said why
                        return status
                    self._bury(n, status)
            self._stand_in()
            time.sleep(LOOK)
        return console.DONE

    def _start_those_due(self) -> None:
        for n in [n for n, due in self._due.items() if time.monotonic() >= due]:
            del self._due[n]
            self._workers[n] = WorkerHandle(self._config, self._sockets[n], not self._said, self._figures)

    def _figures(self) -> MetricSamples:
        """Return what all processes have counted, those that have ended included."""
        return total([self._gone, *(worker.figures for worker in list(self._workers.values()))])

    def _replace_those_that_hang(self) -> None:
        """Kill workers that have given no sign of life, while we were there to hear it."""
        now = time.monotonic()
        away, self._looked = now - self._looked, now
        for worker in self._workers.values():
            if away > 1:  # we were stopped, or the whole machine was
                worker.heard += away
            if now - worker.heard > (SILENCE if worker.ready else LOADING):
                worker.hung = True
                worker.end(signal.SIGKILL)

    def _bury(self, n: int, status: int) -> None:
        """Have another take the place of one that has died.

        Raises:
            FusionCamError: Too many died before they were ready, and none is.
        """
        worker = self._workers[n]
        self._orphans.adopt(worker.close())
        gone = total([self._gone, drop_gauges(worker.figures)])
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
        with suppress(OSError):  # nothing to write it to: a full disk
            console.complain(f"worker {worker.process.pid} {how}; another takes its place", "warning")
        self._due[n] = time.monotonic() + PATIENCE * 2 ** min(self._failures, MOST_DOUBLINGS)

    def _stand_in(self) -> None:
        """Give connections that nobody answers to workers that do."""
        well = [worker for worker in self._workers.values() if worker.ready and not self._is_late(worker)]
        if well and len(set(self._sockets)) == len(self._sockets):  # else others take what one does not
            for n, listening in enumerate(self._sockets):
                if self._workers.get(n) not in well:
                    self._orphans.accept(listening)
        self._orphans.give(well)

    def _is_late(self, worker: WorkerHandle) -> bool:
        return time.monotonic() - worker.heard > LATE

    def _end(self) -> None:
        """End all: at once if asked twice, else when they have finished what they have begun."""
        for listening in self._sockets:
            listening.close()  # or new connections would wait here for nobody
        for worker in self._workers.values():
            worker.end()
        last = time.monotonic() + self._config.grace + LAST_GRACE
        while any(worker.look() is None for worker in self._workers.values()):
            if self._asked > 1 or time.monotonic() > last:
                for worker in self._workers.values():
                    worker.end(signal.SIGKILL)
            time.sleep(LOOK / 2)
        for worker in self._workers.values():
            self._orphans.adopt(worker.close())
        self._orphans.close()
