"""The host as an engine: what onnxruntime does not do is done in NumPy."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnxruntime

from fusioncam.kernels.arrays import Float32Array
from fusioncam.manifest import Manifest
from fusioncam.runtime.budget import Budget
from fusioncam.runtime.engine.host.head import Head
from fusioncam.runtime.engine.host.passes import MaskedPasses
from fusioncam.runtime.engine.host.scorer import Scorer, refuse_nan
from fusioncam.runtime.engine.host.steps import Explained, HostSteps
from fusioncam.runtime.engine.scheduler import Clock, Found, Progress, Together, Work
from fusioncam.runtime.sessions.run import run

PARTS = ("logits", "activations", "gradients")


class HostEngine:
    """Explains pictures with the host doing all that onnxruntime does not. Safe to share between threads.

    Args:
        manifest: The bundle's.
        explain: Session of the explain graph.
        scorer: Runs the score graph.
        open_head: Opens the head graph, which only Recipro-CAM needs: so not before that is asked for.
    """

    def __init__(
        self,
        manifest: Manifest,
        explain: onnxruntime.InferenceSession,
        scorer: Scorer,
        open_head: Callable[[], Head],
    ) -> None:
        self.manifest, self.explain, self.scorer = manifest, explain, scorer
        self._open_head, self._heads, self._lock = open_head, list[Head](), threading.Lock()

    @property
    def chunk(self) -> int:
        """Masked pictures per run."""
        return self.scorer.chunk

    def serving(self, methods: Sequence[str]) -> "HostEngine":
        """Itself: every method can be made here."""
        return self

    def finish(self, works: Iterable[Work[Found]]) -> Iterator[Found]:
        """Do the work for many pictures, which share chunks; see `Scorer.finish`."""
        return self.scorer.finish(works)

    def together(self, most: int) -> Together[Any]:
        """Room for so many works, which share chunks."""
        return self.scorer.together(most)

    @contextmanager
    def look(
        self,
        x: Float32Array,
        classes: Sequence[int],
        clock: Clock,
        progress: Progress | None = None,
        budget: Budget = "exact",
    ) -> Iterator["HostSteps"]:
        """Run the explain pass on a preprocessed picture x (3, H, W), and go on from there.

        Args:
            x: The picture.
            classes: One or more; -1 for the top class.
            clock: Gets the seconds per stage.
            progress: Called with (done, all) masked passes after every chunk.
            budget: Masked passes to spend.

        Raises:
            FusionCamError: The model cannot be run, or gives NaN or infinity.
        """
        evidence = list(self._evidence(x, classes))
        clock.lap("explain")
        passes = MaskedPasses(x, clock, progress)
        yield HostSteps(passes, evidence, self.manifest.ending, budget, self.scorer.grain, self._head)

    def _evidence(self, x: Float32Array, classes: Sequence[int]) -> Iterator[Explained]:
        """The explain pass, once for each class: logits, activations and the gradient of the class's logit."""
        parts = PARTS if self.manifest.gradient else PARTS[:2]
        passed = {}
        for asked in classes:
            c = asked if self.manifest.gradient else -1  # without a gradient all classes have the same pass
            if c not in passed:
                feeds = {"image": x[None], "class_index": np.array([c], np.int64)}
                results = run(self.explain, parts, feeds)
                for name, array in zip(parts, results, strict=True):
                    refuse_nan(array, name)
                passed[c] = [array[0] for array in results]
            logits, activations, *gradients = passed[c]
            # What is guessed without a gradient is guessed as if all channels spoke for the class alike.
            gradient = gradients[0] if gradients else np.ones_like(activations)
            yield Explained(asked if asked >= 0 else int(logits.argmax()), logits, activations, gradient)

    def _head(self) -> Head:
        with self._lock:
            if not self._heads:
                self._heads.append(self._open_head())
            return self._heads[0]
