"""The AsyncExplainer: an Explainer for programs on asyncio, whose requests share the runs of the model."""

import asyncio
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from typing import Any, Self

from fusioncam.errors import UsageError
from fusioncam.input_values import InputValues
from fusioncam.runtime.arguments import Bundles, ClassName, SizeLike, checked_count, one_of
from fusioncam.runtime.budget import Budget
from fusioncam.runtime.engine import MAX_SIZES, Asked, Levels, checked_levels
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.opening import checked_opening
from fusioncam.runtime.photos.model_input import ImageLike
from fusioncam.runtime.prepared import prepare_at
from fusioncam.runtime.providers.spec import Provider
from fusioncam.runtime.service.batching.batcher import MAX_BATCH, Batcher
from fusioncam.runtime.service.batching.job import Job

MOST_TOGETHER = 1 << 10

Watch = Callable[[Sequence[Explanation]], None]


class AsyncExplainer:
    """Explains pictures without blocking the event loop that it is used in.

    Explanations that are awaited at the same time share the runs of the model, as those of the service do, so
    `asyncio.gather` of many is fast. One thread runs the model, and others decode the pictures. A cancelled explanation
    stops before the next run. Use it as `async with AsyncExplainer(...) as explainer`, or `close` it at the end; the
    bundle is opened by `async with`, or by the first explanation.

    Args:
        bundle: As for `Explainer`, like the arguments that follow.
        providers: See `Explainer`.
        methods: See `Explainer`.
        budget: See `Explainer`.
        chunk: See `Explainer`.
        threads: See `Explainer`.
        smooth: See `Explainer`.
        kernels: See `Explainer`.
        allow_cpu: See `Explainer`.
        max_sizes: See `Explainer`.
        bands: See `Explainer`.
        inputs: See `Explainer`.
        seed: See `Explainer`.
        together: Pictures that are worked on at the same time, at most: bounds the memory. The others wait.

    Raises:
        BundleError, UsageError: As of `Explainer`. What fails while the bundle is opened is raised by `async with` or
            by the first explanation.
    """

    def __init__(
        self,
        bundle: Bundles,
        providers: Sequence[Provider] | None = None,
        methods: Sequence[str] | None = None,
        budget: Budget = "exact",
        *,
        chunk: int | None = None,
        threads: int | None = None,
        smooth: Sequence[str] = (),
        kernels: bool = True,
        allow_cpu: bool = False,
        max_sizes: int = MAX_SIZES,
        bands: Sequence[int] | None = None,
        inputs: InputValues | None = None,
        seed: int = 0,
        together: int = MAX_BATCH,
    ) -> None:
        opening = checked_opening(
            bundle, providers, methods, budget, chunk, threads, smooth, kernels, allow_cpu, max_sizes, bands, inputs,
            seed,
        )  # fmt: skip
        self.methods, self._budget, self.manifest, self._holder = opening
        self._together = checked_count("together", together, MOST_TOGETHER) or MAX_BATCH
        # Primitives of asyncio belong to one event loop, and a program may have several, one after the other.
        self._rooms: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]
        self._rooms, self._opening = weakref.WeakKeyDictionary(), threading.Lock()
        self._batcher: Batcher | None = None
        self._closed, self._process = False, os.getpid()

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:  # nobody else closes what is not entered
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Free the sessions, their threads and their memory, once what runs has ended; refuse what has not begun."""
        self._closed = True
        batcher = await asyncio.to_thread(self._opened)
        if batcher is not None:
            await batcher.close()
            self._batcher = None

    def __getstate__(self) -> dict[str, Any]:
        raise UsageError("an AsyncExplainer cannot be pickled: send an Explainer, or make one in each process")

    async def explain(
        self,
        image: ImageLike,
        class_index: ClassName = None,
        *,
        target: Asked = None,
        size: SizeLike = None,
        inputs: InputValues | None = None,
        levels: Levels = "own",
        verify: bool = False,
        keep_photo: bool = True,
    ) -> Explanation:
        """Explain one target of one picture.

        Args:
            image: As for `Explainer.explain`, like the arguments that follow.
            class_index: See `Explainer.explain`.
            target: See `Explainer.explain`.
            size: See `Explainer.explain`.
            inputs: See `Explainer.explain`.
            levels: See `Explainer.explain`.
            verify: See `Explainer.explain`.
            keep_photo: See `Explainer.explain`.

        Raises:
            ImageError, UsageError, FusionCamError: As of `Explainer.explain`; the AsyncExplainer is closed.
        """
        asked = one_of(class_index=class_index, target=target)
        return await self._explain(image, asked, size, inputs, checked_levels(levels), verify, keep_photo, None)

    async def explain_progressively(
        self,
        image: ImageLike,
        class_index: ClassName = None,
        *,
        target: Asked = None,
        size: SizeLike = None,
        inputs: InputValues | None = None,
        levels: Levels = "own",
        verify: bool = False,
        keep_photo: bool = True,
    ) -> AsyncGenerator[Explanation]:
        """Explain one target of one picture, and show the maps while they are made.

        Args:
            image: As for `Explainer.explain`, like the arguments that follow.
            class_index: See `Explainer.explain`.
            target: See `Explainer.explain`.
            size: See `Explainer.explain`.
            inputs: See `Explainer.explain`.
            levels: See `Explainer.explain`.
            verify: See `Explainer.explain`.
            keep_photo: See `Explainer.explain`.

        Yields:
            Preliminary explanations, as `progress_maps` of `Explainer.explain` gets them, and the explanation itself at
            the end. Those that come faster than they are asked for are left out, except for the latest one. Leaving the
            loop stops the work; where the loop is left early, `contextlib.aclosing` does so at once.

        Raises:
            ImageError, UsageError, FusionCamError: As of `explain`.
        """
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        latest: list[Explanation] = []

        def show(explanation: Explanation) -> None:
            latest[:] = [explanation]
            changed.set()

        def watch(explanations: Sequence[Explanation]) -> None:
            loop.call_soon_threadsafe(show, explanations[0])

        asked = one_of(class_index=class_index, target=target)
        explaining = self._explain(image, asked, size, inputs, checked_levels(levels), verify, keep_photo, watch)
        task = asyncio.ensure_future(explaining)
        task.add_done_callback(lambda _: changed.set())
        try:
            while not task.done():
                await changed.wait()
                changed.clear()
                if latest and not task.done():
                    yield latest.pop()
            yield await task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):  # which nobody waits for any more
                await task

    async def _explain(
        self,
        image: ImageLike,
        asked: Asked,
        size: SizeLike,
        inputs: InputValues | None,
        levels: Levels,
        verify: bool,
        keep: bool,
        watch: Watch | None,
    ) -> Explanation:
        arrived = time.monotonic()
        room = self._rooms.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self._together))
        async with room:
            batcher = await self._open()
            target = batcher.pipeline.check_target(asked)
            checked = self._holder.checked_size(size)
            picture = await asyncio.to_thread(prepare_at, image, self.manifest, checked, keep)
            self._check_open()
            job = Job(
                picture.x, [target], self.methods, self._budget, math.inf, verify, arrived,
                progress_maps=watch, photo=picture,
                size=None if checked is None else picture.x.shape[1:], inputs=inputs, levels=levels,
            )  # fmt: skip
            (pending,) = batcher.submit([job])
            (explanation,) = await pending.wait()
            return explanation

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("this AsyncExplainer is closed: make a new one, or close it later")

    async def _open(self) -> Batcher:
        """Return the batcher, which is opened once."""
        if os.getpid() != self._process:
            raise UsageError("an AsyncExplainer cannot be used in a forked process: make a new one there")
        self._check_open()
        batcher = self._batcher
        return await asyncio.to_thread(self._open_once) if batcher is None else batcher

    def _open_once(self) -> Batcher:
        """Open the batcher; whoever is cancelled while he waits for that leaves it to the next one."""
        with self._opening:
            self._check_open()
            batcher = self._batcher
            if batcher is None:
                name, most = self.manifest.source.path, self._together
                # Any queue, as there is room for so many pictures only.
                batcher = self._batcher = Batcher(name, self._holder.open, max_batch=most, queue=sys.maxsize)
            return batcher

    def _opened(self) -> Batcher | None:
        """Return the batcher, once nobody opens it any more."""
        with self._opening:
            return self._batcher
