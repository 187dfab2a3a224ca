"""The holder of an Explainer's pipeline: closes it, and opens it anew in another process."""

import os
import threading
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from fusioncam.errors import BundleError, UsageError
from fusioncam.runtime.engine.options import EngineOptions
from fusioncam.runtime.engine.pipeline import BundleFolder, Pipeline, read_bundles

CPU_ALONE = "cpu"
KEPT = 2  # pipelines that a process keeps open for Explainers that came from another process


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
        self.kept: OrderedDict[str, Pipeline] = OrderedDict()
        self.holders: weakref.WeakSet[PipelineHolder] = weakref.WeakSet()
        self.lost: list[Pipeline] = []

    def forked(self) -> None:
        """Lose all pipelines, in a process that was just forked; those of the CPU alone are opened anew when needed."""
        self.lock = threading.RLock()
        self.lost += self.kept.values()
        self.kept = OrderedDict()
        for holder in list(self.holders):
            self.lost += holder.forked()


class PipelineHolder:
    """Opens the pipeline of bundles, and gives it up.

    A holder can be pickled. In the process that unpickles it, the pipeline is opened when it is first asked for, and
    shared by all copies of the holder. So it is in a forked process, on the CPU.

    Args:
        bundles: The bundles, as `read_bundles` gives them.
        options: Options of the engines.
        smooth: Further views of every picture.
        rehearsed: Methods to rehearse for a deadline; none for other budgets.
    """

    def __init__(
        self,
        bundles: Sequence[BundleFolder],
        options: EngineOptions,
        smooth: Sequence[str],
        rehearsed: Sequence[str] = (),
    ) -> None:
        self._bundles = [BundleFolder(b.folder.absolute(), b.manifest) for b in bundles]
        self._options, self._smooth, self._rehearsed = options, smooth, rehearsed
        self._key, self._closed = uuid.uuid4().hex, False
        self._pipeline: Pipeline | None = None
        _PROCESS.holders.add(self)

    def open(self) -> Pipeline:
        """Open a pipeline of these bundles.

        Raises:
            ProviderError, DeviceError, BundleError, UsageError: As of `Pipeline.open`.
        """
        pipeline = Pipeline.open(self._bundles, self._options, self._smooth)
        if self._rehearsed:
            pipeline.rehearse(self._rehearsed)
        return pipeline

    def hold(self) -> None:
        """Open the pipeline now; raise the errors of `open`."""
        self._pipeline = self.open()

    def pipeline(self) -> Pipeline:
        """Return the pipeline.

        Raises:
            UsageError: The holder is closed.
            BundleError: A bundle is not as it was when the holder was pickled.
            FusionCamError: The pipeline cannot be opened in this process.
        """
        if self._closed:
            raise UsageError("this Explainer is closed: make a new one, or close it later")
        if self._pipeline is not None:
            return self._pipeline
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
        """Give the pipeline up: its sessions, threads and memory go as soon as nothing runs on them."""
        self._closed, self._pipeline = True, None
        with _PROCESS.lock:
            _PROCESS.kept.pop(self._key, None)

    def forked(self) -> list[Pipeline]:
        """Return the pipeline of the process before the fork, if there is one, and forget one of the CPU.

        Others stay: they say themselves that a forked process cannot use them.
        """
        lost = [] if self._pipeline is None else [self._pipeline]
        if any(pipeline.preferred.providers == (CPU_ALONE,) for pipeline in lost):
            self._pipeline = None
        return lost

    def _check_bundles(self) -> None:
        for bundle, read in zip(self._bundles, read_bundles([b.folder for b in self._bundles]), strict=True):
            if read.manifest != bundle.manifest:
                raise BundleError(f"{bundle.folder} has changed since the Explainer was pickled: make a new one")

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_pipeline": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        _PROCESS.holders.add(self)


_PROCESS = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_PROCESS.forked)
