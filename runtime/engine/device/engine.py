"""A GPU as an engine, with kernels of our own beside the sessions."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import onnxruntime

from fusioncam.errors import FusionCamError, UsageError
from fusioncam.kernels.arrays import Float32Array
from fusioncam.kernels.device import Device
from fusioncam.manifest import Manifest
from fusioncam.runtime.budget import Budget
from fusioncam.runtime.engine.device.buffers import ClassBuffers, PictureBuffers, Run, bound
from fusioncam.runtime.engine.device.passes import DevicePasses, Lanes
from fusioncam.runtime.engine.device.steps import DeviceSteps
from fusioncam.runtime.engine.host.engine import HostEngine
from fusioncam.runtime.engine.host.scorer import input_type
from fusioncam.runtime.engine.scheduler import Clock, Found, Progress, Together, UnderWay, Work
from fusioncam.runtime.methods import METHODS

REST = 4  # pictures in a run of the few passes that come one by one: a whole chunk would be a waste
WARM_UP = 3  # runs until onnxruntime has captured a CUDA graph

# Of all engines: while one is made, onnxruntime captures, and memory that another takes would spoil that.
_ALLOCATION = threading.Lock()


class DeviceEngine:
    """Explains pictures on one GPU. Threads that share it take turns; only the one that made it gets CUDA graphs.

    Args:
        device: The GPU.
        stream: The stream that the sessions run on.
        manifest: The bundle's.
        explain: Session of the explain graph.
        score: Session of the score graph.
        chunk: Masked pictures per run, B.
        one_shape: Whether `score` takes chunks of B only.
        captured: Whether runs of `score` are captured into CUDA graphs.
        open_beside: Opens another engine on the same hardware, for methods that there are no kernels for.

    Raises:
        DeviceError: There is not enough memory.
        FusionCamError: A session does not run.
    """

    def __init__(
        self,
        device: Device,
        stream: int,
        manifest: Manifest,
        explain: onnxruntime.InferenceSession,
        score: onnxruntime.InferenceSession,
        chunk: int,
        one_shape: bool,
        captured: bool = False,
        open_beside: Callable[[], HostEngine] | None = None,
    ) -> None:
        self._open_beside, self._beside = open_beside, list[HostEngine]()
        self.device, self.stream, self.manifest, self.captured = device, stream, manifest, captured
        self._explain, self.chunk = explain, chunk
        self._lanes = Lanes(device, stream)
        self._lock, self._opening, self._owner = threading.Lock(), threading.Lock(), 0
        with _ALLOCATION:
            self.picture = PictureBuffers(device, manifest, input_type(score), chunk, stream)
            rest = chunk if one_shape else min(REST, chunk)
            self.passes = DevicePasses(self._lanes, self.picture, score, chunk, rest, manifest.ending)
            for run in (*self.passes.chunk_runs, self.passes.rest_run):
                for _ in range(WARM_UP if captured else 1):
                    run()
            self.classes, self.explain_runs = self._for_classes(1)
            self.explain_runs[0]()
            device.synchronize(stream)

    def __del__(self) -> None:
        device = getattr(self, "device", None)  # it destroys its streams when it goes: the sessions on them go first
        vars(self).clear()
        del device

    def _for_classes(self, count: int) -> tuple[ClassBuffers, list[Run]]:
        """Buffers for so many classes, and a run of the explain pass for each."""
        p, b = self.picture, ClassBuffers(self.device, self.manifest, self.chunk, count, self.stream)
        image, activations = (array.view(1, *array.shape) for array in (p.image, p.activations))
        return b, [
            bound(
                self.device,
                self._explain,
                {"image": image, "class_index": b.class_index.rows(n, n + 1)},
                {"logits": p.logits, "activations": activations, "gradients": b.gradients.rows(n, n + 1)},
            )
            for n in range(count)
        ]

    def serving(self, methods: Sequence[str]) -> "DeviceEngine | HostEngine":
        """Itself, or an engine with masks and maps made on the host, which takes the weights a second time."""
        if {*methods} <= {*METHODS} or self._open_beside is None:
            return self
        with self._opening:  # not the lock of the work: a progress callback may ask
            if not self._beside:
                self._beside.append(self._open_beside())
            return self._beside[0]

    @contextmanager
    def look(
        self,
        x: Float32Array,
        classes: Sequence[int],
        clock: Clock,
        progress: Progress | None = None,
        budget: Budget = "exact",
    ) -> Iterator[DeviceSteps]:
        """Run the explain pass on a preprocessed picture; see `HostEngine.look`.

        Raises:
            UsageError: It is called while it works, by its own progress callback.
        """
        if self._owner == threading.get_ident():
            raise UsageError("an Explainer on a GPU cannot explain from its own progress callback; use another one")
        with self._lock, self.device.entered():
            try:
                self._owner = threading.get_ident()
                if len(classes) > self.classes.most:
                    with _ALLOCATION:  # powers of two, or each number of classes would be a new one
                        self.classes, self.explain_runs = self._for_classes(1 << (len(classes) - 1).bit_length())
                self.passes.begin(self.classes, len(classes), clock, progress)
                steps = DeviceSteps(self, x, classes, budget)
                clock.lap("explain")
                yield steps
            finally:
                self._owner = 0
                self.passes.end()
                for lane in (self._lanes.masks, self.stream):  # what is under way must not meet the next picture
                    with suppress(FusionCamError):
                        self.device.synchronize(lane)

    def finish(self, works: Iterable[Work[Found]]) -> Iterator[Found]:
        """Do the work for many pictures, one after the other: none asks for passes, the steps run them."""
        return self.together(1).finish(works)

    def together(self, most: int) -> Together[Any]:
        """Room for one work, which is done as soon as it is begun."""
        return Together(_nobody_asks, self.chunk, 1)


def _nobody_asks(begun: Collection[UnderWay[Any]]) -> int:
    raise AssertionError("a work asked for passes that its steps should have run")
