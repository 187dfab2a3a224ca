"""The part of a request for explanations that every protocol shares: admitted, worked on in threads, explained."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from starlette.exceptions import HTTPException

from fusioncam.errors import BusyError, DeadlineError, NotFiniteError, UsageError
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.service.batching.job import PendingJob
from fusioncam.runtime.service.errors import RETRY_AFTER
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.protocol.prepared_request import PreparedRequest
from fusioncam.runtime.service.served_model import ServedModel
from fusioncam.runtime.service.settings import Settings

T = TypeVar("T")

GRACE = 1.0  # seconds in which a batcher, which looks at the time between runs, may report itself that it is late


class RequestRunner:
    """The runner of requests for explanations, a bounded number at a time; heavy work is done in threads.

    Args:
        settings: Limits.
        metrics: Counts.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._pool = ThreadPoolExecutor(settings.decoders, "fusioncam-decode")
        self._requests = 0

    def close(self) -> None:
        """End the threads, without waiting for the photos that they decode: nobody can stop that."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def enter(self) -> None:
        """Count a request more; `leave` ends it, once its answer is sent.

        Raises:
            BusyError: `concurrency` requests are being worked on.
        """
        if self._requests >= self._settings.concurrency:
            raise BusyError(f"{self._requests} requests are being worked on; ask again later", RETRY_AFTER)
        self._requests += 1

    def leave(self) -> None:
        """Count a request less."""
        self._requests -= 1

    @contextmanager
    def timed(self, model: ServedModel, begun: float) -> Iterator[None]:
        """Count the request as one that uses the model, and in the end as a success or a failure in the metrics.

        Args:
            model: The model.
            begun: Time of the request, in seconds of `time.monotonic()`.
        """
        outcome = "fail"
        try:
            with model.usage.one():
                yield
            outcome = "success"
        finally:
            self._metrics.inferred(model.name, outcome, time.monotonic() - begun)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Return the result of work that is done in a thread for it, when its turn comes."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def explain(self, model: ServedModel, prepared: PreparedRequest, begun: float) -> list[list[Explanation]]:
        """Return the explanations of each picture of a request; if one fails, the others are cancelled.

        Raises:
            DeadlineError: The time of the request is up.
            FusionCamError: An explanation fails.
        """
        self._metrics.stage(model.name, "decode", prepared.seconds)
        return await self.in_its_time(self._explain(model, prepared), prepared, begun)

    async def in_its_time(self, work: Awaitable[T], prepared: PreparedRequest, begun: float) -> T:
        """Return the result of work for a request, which ends within the time of the request; else stop the work.

        Raises:
            DeadlineError: The time of the request is up.
        """
        deadline = prepared.jobs[0].deadline
        return await in_time(work, deadline + GRACE, deadline - begun)

    async def explain_in_steps(
        self, model: ServedModel, prepared: PreparedRequest
    ) -> AsyncGenerator[Sequence[Explanation]]:
        """Yield preliminary explanations of the only picture of a request, one per target, and then the last ones.

        A reader that is slow gets fewer of them. Closing the generator stops the work.

        Raises:
            UsageError: There is more than one picture.
            FusionCamError: The explanation fails.
        """
        if len(prepared.jobs) != 1:
            raise UsageError(f"a stream of events is about one picture, not {len(prepared.jobs)}: send one")
        self._metrics.stage(model.name, "decode", prepared.seconds)
        latest = _Latest()
        watched = replace(prepared, jobs=[replace(prepared.jobs[0], progress_maps=latest.put)])
        working = asyncio.create_task(self._explain(model, watched))
        try:
            while not working.done():
                await _first_of(working, latest)
                if not working.done() and (preliminary := latest.get()) is not None:
                    yield preliminary
            yield working.result()[0]
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _explain(self, model: ServedModel, prepared: PreparedRequest) -> list[list[Explanation]]:
        async def timed(pending: PendingJob) -> list[Explanation]:
            explanations = await pending.wait()
            worked = sum(explanations[0].timing.values()) if explanations else 0.0
            waited = time.monotonic() - start - worked
            self._metrics.stage(model.name, "queue", max(waited, 0.0))
            return explanations

        start = time.monotonic()
        tasks = [asyncio.create_task(timed(pending)) for pending in model.batcher.submit(prepared.jobs)]
        try:
            return await asyncio.gather(*tasks)
        except NotFiniteError as error:
            if prepared.preprocessed:  # the numbers are the client's, and no picture has them
                raise UsageError(str(error)) from error
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def in_time(work: Awaitable[T], deadline: float, seconds: float, status: int = 504) -> T:
    """Return the result of work that ends before the deadline, in seconds of `time.monotonic()`; else stop the work.

    Raises:
        DeadlineError: The work does not end in time.
        HTTPException: The same, where the status is another than 504.
    """
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await work
    except TimeoutError:
        if status != 504:
            raise HTTPException(
                status, f"the request did not arrive within {seconds:g} seconds; send it again"
            ) from None
        raise DeadlineError(
            f"the explanation was not done within {seconds:g} seconds; ask for less (budget, method), or allow more "
            "time"
        ) from None


class _Latest:
    """The latest preliminary explanations, from the thread that makes them to the loop; earlier ones are dropped."""

    def __init__(self) -> None:
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        self._explanations: Sequence[Explanation] | None = None

    def put(self, explanations: Sequence[Explanation]) -> None:
        """Take the explanations of one picture, in any thread."""
        self._loop.call_soon_threadsafe(self._take, explanations)

    def _take(self, explanations: Sequence[Explanation]) -> None:
        self._explanations = explanations
        self._changed.set()

    async def arrival(self) -> None:
        """Wait until there are some."""
        await self._changed.wait()

    def get(self) -> Sequence[Explanation] | None:
        """Return the latest ones, once."""
        explanations, self._explanations = self._explanations, None
        self._changed.clear()
        return explanations


async def _first_of(working: "asyncio.Task[Any]", latest: _Latest) -> None:
    """Wait until the work is done, or there is something to show."""
    arrival = asyncio.create_task(latest.arrival())
    try:
        await asyncio.wait((working, arrival), return_when=asyncio.FIRST_COMPLETED)
    finally:
        arrival.cancel()
