"""Several processes of the service: started, watched, replaced where one dies, and ended together."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from fusioncam.errors import FusionCamError
from fusioncam.runtime import console
from fusioncam.runtime.service.plan import ENDING, Plan

LOOK = 0.1  # seconds between two looks at the workers
PATIENCE = 0.5  # seconds before a worker that died is replaced, doubled for each that was not ready by then
MOST_DOUBLINGS = 7  # so that it is tried again every minute
MOST_FAILURES = 3  # workers in a row that die before they are ready, where none is
LAST_GRACE = 5  # seconds beyond the plan's, after which workers are killed


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Worker:
    """A process that answers requests.

    Args:
        plan: What it does.
        listening: Where its connections come from.
        at_once: Whether it answers while it loads, that it is not ready; where there are others, they do better.
    """

    def __init__(self, plan: Plan, listening: socket.socket, at_once: bool) -> None:
        self._listening, self.ready = listening, False
        self._pipe, theirs = os.pipe()
        os.set_blocking(self._pipe, False)
        told = [str(int(number)) for number in (listening.fileno(), theirs, at_once)]
        # A group of its own, or Ctrl-C would reach it past us.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fusioncam.runtime.service.worker", *told],
            stdin=subprocess.PIPE,
            pass_fds=(listening.fileno(), theirs),
            process_group=0,
        )
        os.close(theirs)
        assert self.process.stdin is not None
        with suppress(OSError):  # it is dead already, which will be seen
            self.process.stdin.write(pickle.dumps(plan))
            self.process.stdin.flush()  # and kept open: its end tells the worker that we are gone

    def look(self) -> int | None:
        """The exit status, if it has ended; sees whether it has become ready."""
        if not self.ready:
            with suppress(BlockingIOError):
                self.ready = bool(os.read(self._pipe, 1))
        return self.process.poll()

    def end(self, number: int = signal.SIGTERM) -> None:
        """Tell it to end."""
        with suppress(OSError):
            self.process.send_signal(number)

    def close(self) -> None:
        """Let go of what belongs to a process that has ended."""
        os.close(self._pipe)
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()
        self.process.wait()


class Workers:
    """All processes of the service.

    Args:
        plan: What each of them does.
        sockets: One for each, or one for all.
        count: How many.
        ready: Called once, when the first is ready.
    """

    def __init__(self, plan: Plan, sockets: Sequence[socket.socket], count: int, ready: Callable[[], None]) -> None:
        self._plan, self._ready = plan, ready
        self._sockets = [sockets[n % len(sockets)] for n in range(count)]
        self._workers: dict[int, Worker] = {}
        self._due: dict[int, float] = {}  # when to start those that are not there
        self._failures, self._asked, self._said = 0, 0, False

    def run(self) -> int:
        """Keep them running until a signal says to end; then have them finish what they have begun.

        Returns:
            The exit status.

        Raises:
            FusionCamError: They die before they are ready.
        """
        for number in ENDING:
            signal.signal(number, self._told_to_end)
        with tempfile.TemporaryDirectory(prefix="fusioncam-") as folder:
            from fusioncam.runtime.service import metrics

            os.environ[metrics.SHARED] = folder
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
            time.sleep(LOOK)
        return console.DONE

    def _start_those_due(self) -> None:
        for n in [n for n, due in self._due.items() if time.monotonic() >= due]:
            del self._due[n]
            self._workers[n] = Worker(self._plan, self._sockets[n], not self._said)

    def _bury(self, n: int, status: int) -> None:
        """Have another take the place of one that has died.

        Raises:
            FusionCamError: Too many died before they were ready, and none is.
        """
        from fusioncam.runtime.service.metrics import process_ended

        worker = self._workers.pop(n)
        worker.close()
        process_ended(worker.process.pid)
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        self._failures += not worker.ready
        healthy = worker.ready or any(other.ready for other in self._workers.values())
        if self._failures >= MOST_FAILURES and not healthy:
            raise FusionCamError(
                f"{self._failures} workers in a row died before they were ready, the last one {how}; look at the "
                "memory there is, or try with --workers 1"
            )
        console.complain(f"worker {worker.process.pid} {how}; another takes its place", "warning")
        self._due[n] = time.monotonic() + PATIENCE * 2 ** min(self._failures, MOST_DOUBLINGS)

    def _end(self) -> None:
        """End all: at once if asked twice, else when they have finished what they have begun."""
        for listening in self._sockets:
            listening.close()  # or new connections would wait here for nobody
        for worker in self._workers.values():
            worker.end()
        last = time.monotonic() + self._plan.grace + LAST_GRACE
        while any(worker.look() is None for worker in self._workers.values()):
            if self._asked > 1 or time.monotonic() > last:
                for worker in self._workers.values():
                    worker.end(signal.SIGKILL)
            time.sleep(LOOK / 2)
        for worker in self._workers.values():
            worker.close()
