"""Dynamic batching: the explanations of many requests are under way together, and share the runs of the session."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from fusioncam.errors import BusyError, DeadlineError, FusionCamError, UsageError
from fusioncam.runtime.engine import ExplainRequest, RunningTask, Scheduler, Task
from fusioncam.runtime.engine.protocols import Engine
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.service.batching.job import Job
from fusioncam.runtime.service.batching.pending_job import Found, PendingJob
from fusioncam.runtime.service.monitoring.logs import ERRORS
from fusioncam.runtime.service.monitoring.observer import NullObserver, Observer

MAX_BATCH, QUEUE = 8, 64
FORGETTING = 0.2  # how much the latest job counts where the pace is estimated
MOST_PATIENCE = 3600  # seconds; nobody should be told to come back later than that


class Batcher:
    """The queue of one model, and the thread that works on it.

    At most `max_batch` jobs are under way together, and their masked pictures fill the chunks of the session: the
    oldest job's first, then those of the next. Before every run of the session another job may join, and those that
    are over leave. An engine with kernels of its own does one explanation after the other.

    Args:
        name: The model's.
        explainer: Makes the explanations, in a thread of the Batcher's; or makes that, there: engines with CUDA graphs
            have them for the thread that they were made in.
        max_batch: Jobs under way together, at most: bounds the memory.
        queue: Jobs that may wait besides.
        observer: Is told how jobs fare.
        step: Is entered for each step of the work, one run of the session and what belongs to it.

    Raises:
        FusionCamError: `explainer` cannot be made.
    """

    def __init__(
        self,
        name: str,
        explainer: Explainer | Callable[[], Explainer],
        *,
        max_batch: int = MAX_BATCH,
        queue: int = QUEUE,
        observer: Observer | None = None,
        step: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.name, self.max_batch, self.queue = name, max_batch, queue
        self._observer: Observer = observer or NullObserver()
        self._step = step
        self._waiting: deque[PendingJob] = deque()
        self._running: list[tuple[PendingJob, RunningTask[Found], Scheduler[Found]]] = []
        self._schedulers: dict[Engine, Scheduler[Found]] = {}
        self._changed, self._closing = threading.Condition(), False
        self._pace, self._since = 0.0, time.monotonic()  # seconds per job; when the last one left, or the first came
        opened: Future[Explainer] = Future()
        self._thread = threading.Thread(
            target=self._live, args=(explainer, opened), name=f"batcher of {name}", daemon=True
        )
        self._thread.start()
        self.explainer = opened.result()

    @property
    def waiting(self) -> int:
        """Jobs that are not begun."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Jobs under way."""
        return len(self._running)

    @property
    def ready(self) -> bool:
        """Whether it takes jobs, if there is room."""
        return self._thread.is_alive() and not self._closing

    async def explain(self, job: Job) -> Explanation:
        """Explain a picture. Cancelling it stops the work before the next chunk.

        Raises:
            BusyError: As many jobs as may wait do so, or the Batcher is closing.
            DeadlineError: The deadline passed. The work is stopped before the next chunk.
            UsageError: There is no such class, method or budget for this model.
            ImageError: The picture is of another shape, type or content than the model's.
            FusionCamError: The model cannot be run, or gives NaN or infinity.
        """
        (explaining,) = self.explain_all([job])
        return await explaining

    def explain_all(self, jobs: Sequence[Job]) -> list[asyncio.Task[Explanation]]:
        """Explain the pictures of one request: all are let in, or none. What `explain` does is under way for each.

        Raises:
            BusyError: There is no room for all of them now, or the Batcher is closing.
            UsageError: There never is; or there is no such class, method or budget for this model.
        """
        return [asyncio.create_task(self._explained(pending)) for pending in self._let_in(jobs)]

    def submit(self, job: Job) -> "Future[Explanation]":
        """The same for callers without an event loop; what goes wrong once the job is let in is in the future."""
        (pending,) = self._let_in([job])
        return pending.future

    async def close(self) -> None:
        """Refuse new jobs, and finish those that were let in; each has its deadline."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    async def _explained(self, pending: PendingJob) -> Explanation:
        try:
            async with asyncio.timeout(pending.job.deadline - time.monotonic()):
                return await asyncio.wrap_future(pending.future)
        except TimeoutError:
            raise pending.late() from None

    def _let_in(self, jobs: Sequence[Job]) -> list[PendingJob]:
        admitted = [PendingJob(self._checked(job)) for job in jobs]
        with self._changed:
            self._check_room(len(admitted))
            self._waiting.extend(admitted)
            self._observer.queued(self.name, self.waiting)
            self._changed.notify()
        for pending in admitted:
            pending.future.add_done_callback(self._forget)
        return admitted

    def _checked(self, job: Job) -> Job:
        methods, budget = self.explainer.pipeline.check(job.methods, job.budget)
        class_index = self.explainer.pipeline.check_class(job.class_index)
        return replace(job, methods=methods, budget=budget, class_index=class_index)

    def _check_room(self, count: int) -> None:
        """Raise BusyError where so many jobs cannot be let in now, UsageError where they never can."""
        if not self.ready:
            raise BusyError(f"model {self.name!r} takes no requests: it is shutting down, or has failed", 1)
        waiting, running, room = self.waiting, self.running, self.queue + self.max_batch
        if count > room:
            raise UsageError(f"model {self.name!r} takes {room} pictures at a time, not {count}; send fewer at once")
        if waiting + running + count > room:
            patience = self._patience()
            raise BusyError(
                f"model {self.name!r} has as much to do as it takes: {running} explanations under way and "
                f"{waiting} waiting; ask again in {patience} s",
                patience,
            )

    def _patience(self) -> int:
        """Seconds until about half of those that wait have had their turn."""
        return min(max(math.ceil(self._pace * self.waiting / 2), 1), MOST_PATIENCE)

    def _forget(self, future: "Future[Explanation]") -> None:
        """Free the place of a job that was cancelled before its turn came."""
        with self._changed:
            for pending in self._waiting:
                if pending.future is future:
                    self._waiting.remove(pending)
                    self._observer.queued(self.name, self.waiting)
                    return

    def _live(self, explainer: Explainer | Callable[[], Explainer], opened: Future[Explainer]) -> None:
        try:
            opened.set_result(explainer if isinstance(explainer, Explainer) else explainer())
        except Exception as error:
            opened.set_exception(error)
            return
        while self._has_work():
            try:
                with self._step():
                    self._go_on()
            except Exception:
                ERRORS.exception("model %r gave up what it had to do; this is a bug, please report it", self.name)
                self._give_up()

    def _go_on(self) -> None:
        """Begin what there is room for, run the session once, and answer what has ended."""
        self._begin_some()
        self._stop_those_over()
        self._answer()
        for scheduler in self._schedulers.values():
            self._run(scheduler)
        self._answer()

    def _give_up(self) -> None:
        """Fail all jobs: nobody knows which of them is to blame, and those to come shall fare better."""
        with self._changed:
            over = [pending for pending, *_ in self._running] + list(self._waiting)
            self._running.clear()
            self._waiting.clear()
        self._schedulers.clear()
        for pending in over:
            pending.fail(FusionCamError(f"model {self.name!r} failed in a way nobody foresaw; its log has more"))

    def _has_work(self) -> bool:
        """Wait for work; without any, and none to come, it is False."""
        with self._changed:
            if not self._waiting and not self._running:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                self._since = time.monotonic()
            return bool(self._waiting or self._running)

    def _begin_some(self) -> None:
        """Begin one job, which may need no run of the session at all, and as many more as it takes to fill one."""
        begun = self._begin_one()
        while begun is not None and begun.wants_more:
            begun = self._begin_one()

    def _begin_one(self) -> Scheduler[Found] | None:
        """Begin the job that waits longest, if there is room; returns what it shares runs with."""
        with self._changed:
            if not self._waiting or self.running >= self.max_batch:
                return None
            pending = self._waiting.popleft()
        try:
            self._observer.queued(self.name, self.waiting)
            scheduler = self._schedulers[self._engine(pending.job)]
        except Exception as error:
            pending.fail(error)
            return None
        self._running.append((pending, scheduler.start(self._explaining(pending)), scheduler))
        return scheduler

    def _engine(self, job: Job) -> Engine:
        """The one that makes the methods of a job."""
        try:
            engine = self.explainer.pipeline.engine_for(job.methods)
        except FusionCamError:  # it cannot be opened, which the task will say
            engine = self.explainer.pipeline.preferred
        if engine not in self._schedulers:
            self._schedulers[engine] = engine.scheduler(self.max_batch)
        return engine

    def _explaining(self, pending: PendingJob) -> Task[Found]:
        pending.check()
        job = pending.job
        request = ExplainRequest(job.image, [job.class_index], job.methods, job.budget, progress=pending.progress)
        return (yield from self.explainer.pipeline.task(request))

    def _stop_those_over(self) -> None:
        for pending, task, _ in self._running:
            if not task.ended:
                try:
                    pending.check()
                except (CancelledError, DeadlineError) as over:
                    task.fail(over)

    def _run(self, scheduler: Scheduler[Found]) -> None:
        """One run of the session, if anyone waits for it; where it fails, all fail who might have been in it."""
        if not any(task.passes_wanted for task in scheduler.tasks):
            return
        start = time.perf_counter()
        try:
            pictures, size = scheduler.run_once(), self.explainer.chunk
        except Exception as error:
            for each in scheduler.tasks:
                if not each.ended:
                    each.fail(error)
        else:
            self._observer.chunk(self.name, pictures, size, time.perf_counter() - start)

    def _answer(self) -> None:
        """Answer the jobs that have ended."""
        ended = [each for each in self._running if each[1].ended]
        if not ended:
            return
        now = time.monotonic()
        pace = (now - self._since) / len(ended)
        self._pace += (pace - self._pace) * (FORGETTING if self._pace else 1)
        self._since = now
        for pending, task, scheduler in ended:
            scheduler.tasks.remove(task)
            self._running.remove((pending, task, scheduler))
            explanation = pending.answer(task)
            if explanation is not None:
                self._tell(pending.job, explanation)

    def _tell(self, job: Job, explanation: Explanation) -> None:
        """Tell whoever watches of a job that ended well."""
        self._observer.finished(self.name, explanation)
        if job.budget == "auto" and explanation.passes.run and not explanation.passes.missing:
            self._observer.fallback(self.name, "all passes")
        if self.explainer.pipeline.engine_for(job.methods) is not self.explainer.pipeline.preferred:
            self._observer.fallback(self.name, "no kernels")
