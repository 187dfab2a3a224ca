"""Dynamic batching: the explanations of many requests run together, and share the runs of the session."""

import asyncio
import atexit
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import NamedTuple

from fusioncam.errors import BusyError, DeadlineError, FusionCamError, UsageError
from fusioncam.free_size import Size
from fusioncam.runtime.budget import Auto
from fusioncam.runtime.engine import Pipeline, RunningTask, Scheduler, SizedPipelines, Task
from fusioncam.runtime.engine.protocols import Engine
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.service.batching.job import Job, PendingJob
from fusioncam.runtime.service.monitoring.logs import ERRORS
from fusioncam.runtime.service.monitoring.observer import Observer

MAX_BATCH, QUEUE = 8, 64
FORGETTING = 0.2  # weight of the latest job in the estimate of the pace
MOST_PATIENCE = 3600  # seconds; nobody should be told to come back later than that

Explanations = list[Explanation]


class _RunningJob(NamedTuple):
    pending: PendingJob
    task: RunningTask[Explanations]
    scheduler: Scheduler[Explanations]


class Batcher:
    """The queue of one model, and the thread that works on it.

    At most `max_batch` jobs run together, and their masked pictures fill the chunks of the session: the oldest job's
    first, then those of the next. Before every run of the session another job may start, and those that have ended
    leave. An engine with kernels of its own makes one explanation after the other.

    Args:
        name: The model's name.
        open_pipeline: Opens the pipeline, or those of several sizes, in the thread of the batcher: engines with CUDA
            graphs belong to the thread that opens them.
        max_batch: Jobs that run together, at most: bounds the memory.
        queue: Jobs that may wait besides.
        observer: Told how jobs fare.
        step: Entered for each step of the work, one run of the session and what belongs to it.

    Raises:
        FusionCamError: The pipeline cannot be opened.
    """

    def __init__(
        self,
        name: str,
        open_pipeline: Callable[[], Pipeline | SizedPipelines],
        *,
        max_batch: int = MAX_BATCH,
        queue: int = QUEUE,
        observer: Observer | None = None,
        step: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.name, self.max_batch, self.queue = name, max_batch, queue
        self._observer, self._step = observer or Observer(), step
        self._waiting: deque[PendingJob] = deque()
        self._running: list[_RunningJob] = []
        self._schedulers: dict[Engine, Scheduler[Explanations]] = {}
        self._changed, self._closing = threading.Condition(), False
        self._pace, self._since = 0.0, time.monotonic()  # seconds per job; when the last one left, or the first came
        opened: Future[SizedPipelines] = Future()
        self._thread = threading.Thread(
            target=self._work, args=(open_pipeline, opened), name=f"batcher of {name}", daemon=True
        )
        self._thread.start()
        _BATCHERS.add(self)
        self._pipelines = opened.result()
        self.pipeline = self._pipelines.own

    @property
    def waiting(self) -> int:
        """Return the number of jobs that have not started."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Return the number of jobs that run."""
        return len(self._running)

    @property
    def ready(self) -> bool:
        """Return whether jobs are taken, if there is room."""
        return self._thread.is_alive() and not self._closing

    def submit(self, jobs: Sequence[Job]) -> list[PendingJob]:
        """Admit all jobs of a request, or none. The future of each gets its explanations, or its error.

        Raises:
            BusyError: There is no room for all of them now, or the batcher is closing.
            UsageError: There never is room for so many; or there is no such target, method or budget for this model.
        """
        admitted = [PendingJob(self._checked(job)) for job in jobs]
        with self._changed:
            self._check_room(len(admitted))
            self._waiting.extend(admitted)
            self._observer.queued(self.name, len(admitted))
            self._changed.notify()
        for pending in admitted:
            pending.future.add_done_callback(self._forget)
        return admitted

    async def close(self) -> None:
        """Refuse new jobs, and finish the admitted ones; each has its deadline."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    def stop(self) -> None:
        """Cancel all jobs, and wait until the thread has ended: after one run of the session, at most."""
        if not self._thread.is_alive():  # as in a forked process, where its lock may be held for ever
            return
        with self._changed:
            self._closing = True
            jobs = [*(job.pending for job in self._running), *self._waiting]
            self._changed.notify()
        for pending in jobs:
            pending.future.cancel()
        self._thread.join()

    def derive(self, size: Size) -> None:
        """Derive the graphs of another size, in the thread that calls; a job of that size then finds them."""
        self._pipelines.derive(size)

    def _checked(self, job: Job) -> Job:
        methods, budget = self.pipeline.check(job.methods, job.budget)
        asked = job.targets
        targets = asked if callable(asked) else [self.pipeline.check_target(target) for target in asked]
        return replace(job, methods=methods, budget=budget, targets=targets)

    def _check_room(self, count: int) -> None:
        """Raise BusyError where so many jobs cannot be admitted now, UsageError where they never can."""
        if not self.ready:
            raise BusyError(f"model {self.name!r} takes no requests: it is shutting down, or has failed", 1)
        waiting, running, room = self.waiting, self.running, self.queue + self.max_batch
        if count > room:
            raise UsageError(f"model {self.name!r} takes {room} pictures at a time, not {count}; send fewer")
        if waiting + running + count > room:
            # Until then about half of the waiting jobs have had their turn.
            patience = min(max(math.ceil(self._pace * waiting / 2), 1), MOST_PATIENCE)
            raise BusyError(
                f"the queue of model {self.name!r} is full: {running} explanations run and {waiting} wait; "
                f"ask again in {patience} s",
                patience,
            )

    def _forget(self, future: Future[Explanations]) -> None:
        """Free the place of a job that was cancelled while it waited."""
        with self._changed:
            for pending in self._waiting:
                if pending.future is future:
                    self._waiting.remove(pending)
                    self._observer.queued(self.name, -1)
                    return

    def _work(self, open_pipeline: Callable[[], Pipeline | SizedPipelines], opened: Future[SizedPipelines]) -> None:
        """Work on jobs, in the thread of the batcher, until it is closed."""
        try:
            opened.set_result(SizedPipelines.of(open_pipeline()))
        except Exception as error:
            opened.set_exception(error)
            return
        while self._has_work():
            try:
                with self._step():
                    self._run_once()
            except Exception:
                ERRORS.exception("model %r gave up all of its jobs; this is a bug, please report it", self.name)
                self._give_up()

    def _has_work(self) -> bool:
        """Wait for jobs; return False where none will come."""
        with self._changed:
            if not self._waiting and not self._running:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                self._since = time.monotonic()
            return bool(self._waiting or self._running)

    def _run_once(self) -> None:
        """Start jobs that there is room for, run the session once, and answer jobs that have ended."""
        scheduler = self._start_next()  # which may need no run of the session at all
        while scheduler is not None and scheduler.wants_more:
            scheduler = self._start_next()
        self._stop_expired()
        self._answer()
        for scheduler in self._schedulers.values():
            self._run(scheduler)
        self._answer()

    def _give_up(self) -> None:
        """Fail all jobs: nobody knows which of them is to blame, and later ones get a fresh start."""
        with self._changed:
            jobs = [*(job.pending for job in self._running), *self._waiting]
            waited = self.waiting
            self._running.clear()
            self._waiting.clear()
        self._schedulers.clear()
        for pending in jobs:
            pending.fail(FusionCamError(f"model {self.name!r} failed unexpectedly; the log of the service has more"))
        self._observer.queued(self.name, -waited)

    def _start_next(self) -> Scheduler[Explanations] | None:
        """Start the job that waits longest, if there is room; return its scheduler."""
        with self._changed:
            if not self._waiting or self.running >= self.max_batch:
                return None
            pending = self._waiting.popleft()
        try:
            self._observer.queued(self.name, -1)
            pipeline = self._pipelines.at(pending.job.size)
            scheduler = self._scheduler(pipeline, pending.job)
        except Exception as error:
            pending.fail(error)
            return None
        self._running.append(_RunningJob(pending, scheduler.start(self._explain(pipeline, pending)), scheduler))
        return scheduler

    def _scheduler(self, pipeline: Pipeline, job: Job) -> Scheduler[Explanations]:
        """Return the scheduler of the engine for a job."""
        try:
            engine = pipeline.engine_for(job.methods, job.verify)
        except FusionCamError:  # the engine cannot be opened; the task will raise the same error
            engine = pipeline.preferred
        if engine not in self._schedulers:
            self._schedulers[engine] = engine.scheduler(self.max_batch)
        return self._schedulers[engine]

    def _explain(self, pipeline: Pipeline, pending: PendingJob) -> Task[Explanations]:
        pending.check()
        return (yield from pipeline.task(pending.request()))

    def _stop_expired(self) -> None:
        for job in self._running:
            if not job.task.ended:
                try:
                    job.pending.check()
                except (CancelledError, DeadlineError) as error:
                    job.task.fail(error)

    def _run(self, scheduler: Scheduler[Explanations]) -> None:
        """Run the session once, if a task waits for it; where that fails, all of its tasks fail."""
        if not any(task.passes_wanted for task in scheduler.tasks):
            return
        start = time.perf_counter()
        try:
            pictures, size = scheduler.run_once(), self.pipeline.chunk
        except Exception as error:
            for task in scheduler.tasks:
                if not task.ended:
                    task.fail(error)
        else:
            self._observer.chunk(self.name, pictures, size, time.perf_counter() - start)

    def _answer(self) -> None:
        """Answer the jobs that have ended."""
        ended = [job for job in self._running if job.task.ended]
        if not ended:
            return
        now = time.monotonic()
        pace = (now - self._since) / len(ended)
        self._pace += (pace - self._pace) * (FORGETTING if self._pace else 1)
        self._since = now
        for job in ended:
            job.scheduler.tasks.remove(job.task)
            self._running.remove(job)
            if explanations := job.pending.answer(job.task):
                self._report(job.pending.job, explanations[0])
        if any(job.pending.job.size for job in ended):  # or engines of sizes that were given up would stay
            own = self.pipeline.preferred
            self._schedulers = {e: s for e, s in self._schedulers.items() if s.tasks or e is own}

    def _report(self, job: Job, explanation: Explanation) -> None:
        """Tell the observer of a successful job, by its first explanation: its targets have their passes in common."""
        if job.condition is not None and "not_explained" in explanation.flags:
            reason = job.condition.failing(explanation.class_index, explanation.probability)
            self._observer.not_explained(self.name, explanation, reason)
            return
        if "nothing_detected" in explanation.flags:
            self._observer.not_explained(self.name, explanation, "nothing detected")
            return
        self._observer.finished(self.name, explanation)
        if isinstance(job.budget, Auto) and explanation.passes.run and not explanation.passes.missing:
            self._observer.fallback(self.name, "all passes")
        if self.pipeline.engine_for(job.methods, job.verify) is not self.pipeline.preferred:
            self._observer.fallback(self.name, "no kernels")


_BATCHERS: weakref.WeakSet[Batcher] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Stop the batchers that nobody closed: an interpreter that ends while a session runs is aborted."""
    for batcher in list(_BATCHERS):
        batcher.stop()
