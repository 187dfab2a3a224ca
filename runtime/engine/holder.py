"""The holder of an Explainer's pipelines: closes them, and opens them anew in another process."""

import os
import threading
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fusioncam.errors import BundleError, UsageError
from fusioncam.free_size import Size
from fusioncam.runtime.arguments import checked_size
from fusioncam.runtime.engine.bundles import BundleFolder, read_bundles
from fusioncam.runtime.engine.options import EngineOptions
from fusioncam.runtime.engine.pipeline import Pipeline
from fusioncam.runtime.engine.sizes import MAX_SIZES, SizeChoice, SizedPipelines
from fusioncam.size_cache import sized_bundle

CPU_ALONE = "cpu"
KEPT = 2  # Explainers that came from another process, whose pipelines a process keeps open


class _Process:
    """The pipelines of this process.

    Attributes:
        lock: Held while a pipeline is opened for an Explainer that came from another process.
        kept: The pipelines that were opened so, the last used at the end. A pool of processes sends its function with
            every few tasks: without this, each time would open the bundle anew.
        holders: All holders.
        lost: Pipelines of the process that this one was forked from. They are never freed, as a session waits for its
            threads at its end, and a forked process has none of them.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.kept: OrderedDict[str, SizedPipelines] = OrderedDict()
        self.holders: weakref.WeakSet[PipelineHolder] = weakref.WeakSet()
        self.lost: list[SizedPipelines] = []

    def forked(self) -> None:
        """Lose all pipelines, in a process that was just forked; those of the CPU alone are opened anew when needed."""
        self.lock = threading.RLock()
        self.lost += self.kept.values()
        self.kept = OrderedDict()
        for holder in list(self.holders):
            self.lost += holder.forked()


@dataclass(frozen=True)
class _Opener:
    """Opens pipelines of bundles. Apart from the holder: pipelines keep it, and a circle would keep sessions alive.

    Attributes:
        bundles: The bundles, of their own size.
        options: Options of the engines.
        smooth: Further views of every picture.
        rehearsed: Methods to rehearse for a deadline.
    """

    bundles: Sequence[BundleFolder]
    options: EngineOptions
    smooth: Sequence[str]
    rehearsed: Sequence[str]

    def derived(self, size: Size) -> list[BundleFolder]:
        """Return the bundles of another size, which are derived where they are not kept."""
        sized = (BundleFolder(*sized_bundle(*bundle, size)) for bundle in self.bundles)
        shown = self.bundles[0].manifest.preprocessing.shown_bands
        return [b._replace(manifest=b.manifest.showing(shown)) for b in sized]

    def opened(self, bundles: Sequence[BundleFolder]) -> Pipeline:
        """Return the pipeline of bundles of any size, rehearsed where that is wanted."""
        pipeline = Pipeline.open(bundles, self.options, self.smooth, [b.folder for b in self.bundles])
        if self.rehearsed:
            pipeline.rehearse(self.rehearsed)
        return pipeline


class PipelineHolder:
    """Opens the pipelines of bundles, and gives them up.

    A holder can be pickled. In the process that unpickles it, the pipelines are opened when they are first asked for,
    and shared by all copies of the holder. So they are in a forked process, on the CPU.

    Args:
        bundles: The bundles, as `read_bundles` gives them.
        options: Options of the engines.
        smooth: Further views of every picture.
        rehearsed: Methods to rehearse for a deadline; none for other budgets.
        max_sizes: Pipelines of other sizes to keep open, at most.
    """

    def __init__(
        self,
        bundles: Sequence[BundleFolder],
        options: EngineOptions,
        smooth: Sequence[str],
        rehearsed: Sequence[str] = (),
        max_sizes: int = MAX_SIZES,
    ) -> None:
        self._bundles = [BundleFolder(b.folder.absolute(), b.manifest) for b in bundles]
        self._opener, self._max_sizes = _Opener(self._bundles, options, smooth, rehearsed), max_sizes
        self._key, self._closed = uuid.uuid4().hex, False
        self._pipelines: SizedPipelines | None = None
        _PROCESS.holders.add(self)

    def open(self) -> SizedPipelines:
        """Open the pipeline of the bundles' own size, and prepare to open others.

        Raises:
            ProviderError, DeviceError, BundleError, UsageError: As of `Pipeline.open`.
        """
        opener = self._opener
        return SizedPipelines(opener.opened(self._bundles), opener.derived, opener.opened, self._max_sizes)

    def hold(self) -> None:
        """Open the pipeline now; raise the errors of `open`."""
        self._pipelines = self.open()

    def pipeline(self) -> Pipeline:
        """Return the pipeline of the bundles' own size; raise the errors of `pipelines`."""
        return self.pipelines().own

    def checked_size(self, size: Any) -> SizeChoice:
        """Return a size of the input, see `checked_size`; raise UsageError where the bundles do not take it."""
        return checked_size(size, [b.manifest for b in self._bundles])

    def pipelines(self) -> SizedPipelines:
        """Return the pipelines.

        Raises:
            UsageError: The holder is closed.
            BundleError: A bundle is not as it was when the holder was pickled.
            FusionCamError: The pipeline cannot be opened in this process.
        """
        if self._closed:
            raise UsageError("this Explainer is closed: make a new one, or close it later")
        if self._pipelines is not None:
            return self._pipelines
        with _PROCESS.lock:
            kept = _PROCESS.kept
            if self._key not in kept:
                self._check_bundles()
                kept[self._key] = self.open()
            kept.move_to_end(self._key)
            while len(kept) > KEPT:
                kept.popitem(last=False)
            return kept[self._key]

    def close(self) -> None:
        """Give the pipelines up: their sessions, threads and memory go as soon as nothing runs on them."""
        self._closed, self._pipelines = True, None
        with _PROCESS.lock:
            _PROCESS.kept.pop(self._key, None)

    def forked(self) -> list[SizedPipelines]:
        """Return the pipelines of the process before the fork, if there are any, and forget those of the CPU.

        Others stay: they say themselves that a forked process cannot use them.
        """
        lost = [] if self._pipelines is None else [self._pipelines]
        if any(pipelines.own.preferred.providers == (CPU_ALONE,) for pipelines in lost):
            self._pipelines = None
        return lost

    def _check_bundles(self) -> None:
        for bundle, read in zip(self._bundles, read_bundles([b.folder for b in self._bundles]), strict=True):
            if read.manifest.showing(()) != bundle.manifest.showing(()):
                raise BundleError(f"{bundle.folder} has changed since the Explainer was pickled: make a new one")

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_pipelines": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        _PROCESS.holders.add(self)


_PROCESS = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_PROCESS.forked)
