"""The holder of an Explainer's pipeline: closes it, and opens it anew in another process."""

import os
import threading
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from fusioncam.errors import BundleError, UsageError
from fusioncam.runtime.engine.options import EngineOptions
from fusioncam.runtime.engine.pipeline import BundleFolder, Pipeline, read_bundles

KEPT = 2  # pipelines that a process keeps open for Explainers that came from another process


class _Kept:
    """The pipelines that this process has opened for Explainers from another process, the last used at the end.

    A pool of processes sends its function with every few tasks: without this, each time would open the bundle anew.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.pipelines: OrderedDict[str, Pipeline] = OrderedDict()


_KEPT = _Kept()
if hasattr(os, "register_at_fork"):
    # The lock may be held by a thread that a forked process does not have.
    os.register_at_fork(after_in_child=_KEPT.__init__)  # type: ignore[misc]


class PipelineHolder:
    """Opens the pipeline of bundles, and gives it up.

    A holder can be pickled. In the process that unpickles it, the pipeline is opened when it is first asked for, and
    shared by all copies of the holder.

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
        with _KEPT.lock:
            kept = _KEPT.pipelines
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
        with _KEPT.lock:
            _KEPT.pipelines.pop(self._key, None)

    def _check_bundles(self) -> None:
        for bundle, read in zip(self._bundles, read_bundles([b.folder for b in self._bundles]), strict=True):
            if read.manifest != bundle.manifest:
                raise BundleError(f"{bundle.folder} has changed since the Explainer was pickled: make a new one")

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_pipeline": None}
