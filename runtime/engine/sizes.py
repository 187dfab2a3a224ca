"""Pipelines of one model for several sizes of its input, each opened when its size is first asked for."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import islice

from fusioncam.errors import UsageError
from fusioncam.free_size import PHOTO, Size, sides
from fusioncam.manifest import Manifest
from fusioncam.runtime.engine.bundles import BundleFolder
from fusioncam.runtime.engine.pipeline import Pipeline
from fusioncam.runtime.engine.request import ExplainRequest
from fusioncam.runtime.engine.scheduler import IN_FLIGHT
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.prepared import prepare_at

MAX_SIZES = 4  # pipelines that are kept open beside that of the bundle's own size, unless told otherwise
BLOCK = 4  # times so many pictures as run together are looked at, to find those of one size

SizeChoice = Size | str | None
"""A size that was checked, `photo`, or None for the bundle's own."""


class SizedPipelines:
    """The pipeline of a bundle's own size, and those of other sizes that were used last.

    May be used from several threads: one opens a pipeline, others that want the same wait for it. A pipeline that is
    given up goes as soon as nothing runs on it.

    Args:
        own: The pipeline of the bundle's own size.
        derive: Derives the bundles of another size, and returns them.
        open_bundles: Opens a pipeline.
        most: Pipelines to keep beside the first.
    """

    def __init__(
        self,
        own: Pipeline,
        derive: Callable[[Size], list[BundleFolder]],
        open_bundles: Callable[[list[BundleFolder]], Pipeline],
        most: int = MAX_SIZES,
    ) -> None:
        self.own, self._derive, self._open, self._most = own, derive, open_bundles, most
        self._others: OrderedDict[Size, Future[Pipeline]] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def of(cls, opened: "Pipeline | SizedPipelines") -> "SizedPipelines":
        """Return pipelines as they are; one alone explains at its own size only."""
        return opened if isinstance(opened, SizedPipelines) else cls(opened, _no_other, Pipeline.open)

    @property
    def open_sizes(self) -> list[Size]:
        """Return the other sizes whose pipelines are open, or are being opened; the last used comes last."""
        with self._lock:
            return list(self._others)

    def at(self, size: Size | None) -> Pipeline:
        """Return the pipeline of a size that was checked; None stands for the bundle's own.

        Raises:
            FusionCamError: The graphs of this size cannot be derived or opened.
        """
        if size is None or size == self.own.manifest.preprocessing.size:
            return self.own
        with self._lock:
            future = self._others.pop(size, None)
            opens, future = future is None, future or Future()
            self._others[size] = future
            while len(self._others) > self._most:
                self._others.popitem(last=False)
        if opens:
            try:
                future.set_result(self._open(self._derive(size)))
            except BaseException as error:  # whoever waits shall hear of it; the next one tries again
                with self._lock:
                    if self._others.get(size) is future:
                        del self._others[size]
                future.set_exception(error)
        return future.result()

    def derive(self, size: Size) -> None:
        """Derive the graphs of a size, unless its pipeline is open; they are kept on the disk."""
        if size != self.own.manifest.preprocessing.size and size not in self.open_sizes:
            self._derive(size)

    def run(
        self,
        requests: Iterable[ExplainRequest],
        size: SizeChoice,
        methods: Sequence[str],
        verify: bool = False,
        most: int = IN_FLIGHT,
    ) -> Iterator[list[Explanation]]:
        """Yield the explanations of requests in order; those of one size share runs of the model.

        Args:
            requests: The requests. With `photo`, some are drawn ahead and sorted by size.
            size: For all of them.
            methods: The methods that they ask for.
            verify: Whether they want verdicts.
            most: Requests that run together.
        """
        if not isinstance(size, str):
            pipeline = self.at(size)  # to the end, even if another thread gives it up meanwhile
            yield from pipeline.run(map(pipeline.task, requests), methods, verify, most)
            return
        waiting = iter(requests)
        while block := list(islice(waiting, most * BLOCK if most > 1 else 1)):
            sized = [_at_photo_size(request, self.own.manifest) for request in block]
            made: dict[int, list[Explanation]] = {}
            for one in dict.fromkeys(of_photo for of_photo, _ in sized):
                numbers = [n for n, (of_photo, _) in enumerate(sized) if of_photo == one]
                pipeline = self.at(one)
                tasks = (pipeline.task(sized[n][1]) for n in numbers)
                made.update(zip(numbers, pipeline.run(tasks, methods, verify, most), strict=True))
            yield from (made[n] for n in range(len(block)))


def _no_other(size: Size) -> list[BundleFolder]:
    raise UsageError(f"this pipeline is of one size, not of {sides(size)}")


def _at_photo_size(request: ExplainRequest, manifest: Manifest) -> tuple[Size, ExplainRequest]:
    """Return the size of a request's photo, as the model takes it, and the request with the picture prepared for it."""
    request.clock.resume()
    picture = prepare_at(request.x, manifest, PHOTO, request.keep_photo)
    request.clock.lap("preprocess")
    return picture.x.shape[1:], replace(request, x=picture)
