"""The engine of a GPU: kernels of our own do what the sessions do not."""

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import onnxruntime

from fusioncam.errors import FusionCamError, UsageError
from fusioncam.kernels.arrays import Float32Array
from fusioncam.kernels.captures import CAPTURES
from fusioncam.kernels.device import Device
from fusioncam.manifest import Manifest
from fusioncam.runtime.engine.checks import input_type
from fusioncam.runtime.engine.device.buffers import ClassBuffers, PictureBuffers
from fusioncam.runtime.engine.device.passes import DevicePasses, Lanes
from fusioncam.runtime.engine.device.run import Run, bound
from fusioncam.runtime.engine.device.session_thread import SessionThread
from fusioncam.runtime.engine.device.state import DeviceState
from fusioncam.runtime.engine.device.steps import DeviceSteps
from fusioncam.runtime.engine.pace import Pace, Timer
from fusioncam.runtime.engine.protocols import Forward, LevelSteps
from fusioncam.runtime.engine.request import ExplainRequest, prepared
from fusioncam.runtime.engine.run_sizes import RunSizes
from fusioncam.runtime.engine.scheduler import IN_FLIGHT, RunningTask, Scheduler
from fusioncam.runtime.engine.sketches import sketches_of
from fusioncam.runtime.methods import METHODS
from fusioncam.runtime.picture_inputs import NO_INPUTS, PictureInputs
from fusioncam.runtime.targets.readout import readout_of
from fusioncam.runtime.targets.resolved import TOP
from fusioncam.runtime.targets.sight import Outputs

SMALL = 4  # pictures in a run of the last few passes, for which a whole chunk would be a waste


class DeviceEngine:
    """Explains pictures on one GPU. Threads that share it take turns; one thread of its own runs the sessions for all.

    Args:
        device: The GPU.
        stream: The stream that the sessions run on.
        manifest: The bundle's.
        explain: Session of the explain graph.
        score: Session of the score graph.
        chunk: Masked pictures per run, B.
        one_shape: Whether `score` is run in chunks of B only.
        captured: Whether runs of `score` are captured into CUDA graphs.
        providers: Short names of the providers that run both graphs, in order of preference.

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
        providers: tuple[str, ...] = (),
    ) -> None:
        self.providers = providers
        self.device, self.manifest, self.chunk, self.captured = device, manifest, chunk, captured
        small = chunk if one_shape else min(SMALL, chunk)
        self._explain, self.pace = explain, Pace(chunk, padded=True, small=small)
        self._lanes, self._thread = Lanes(device, stream), SessionThread(device.entered)
        self._lock, self._owner = threading.Lock(), 0
        picture = PictureBuffers(device, manifest, input_type(score), chunk, stream)
        binder = partial(bound, device, self._thread)
        passes = DevicePasses(
            self._lanes, picture, partial(binder, score), RunSizes(chunk, small=small), manifest.ending, captured
        )
        classes, explain_runs = self._for_classes(picture, stream, 1)
        self.state = DeviceState(device, stream, picture, classes, passes, explain_runs)
        for run in (*passes.runs.values(), *explain_runs):
            run.warm_up()
        device.synchronize(stream)

    def __del__(self) -> None:
        held = dict(vars(self))
        vars(self).clear()
        CAPTURES.free(partial(_end, held))

    def _for_classes(self, picture: PictureBuffers, stream: int, count: int) -> tuple[ClassBuffers, list[Run]]:
        """Return buffers for so many classes, and a run of the explain pass for each."""
        buffers = ClassBuffers(self.device, self.manifest, self.chunk, count, stream)
        image, activations = (array.view(1, *array.shape) for array in (picture.image, picture.activations))
        return buffers, [
            bound(
                self.device,
                self._thread,
                self._explain,
                {"image": image, "class_index": buffers.class_index.rows(n, n + 1)},
                {"logits": picture.logits, "activations": activations, "gradients": buffers.gradients.rows(n, n + 1)},
            )
            for n in range(count)
        ]

    def supports(self, methods: Sequence[str], verify: bool = False) -> bool:
        """Return True where there are kernels for all these methods; none makes the pictures of a verdict."""
        return {*methods} <= {*METHODS} and not verify

    def read(self, x: Float32Array, inputs: PictureInputs = NO_INPUTS) -> Outputs:
        """Run the explain pass, and return its logits; see `Engine.read`."""
        with self.forward(ExplainRequest(x, [TOP], ())) as forward:
            assert forward.logits is not None, "kernels serve classifiers"
            return Outputs(forward.logits)

    @contextmanager
    def forward(self, request: ExplainRequest) -> Iterator[Forward]:
        """Run the explain pass of a preprocessed picture; see `Engine.forward`.

        Raises:
            UsageError: The engine's own progress callback asks for an explanation.
        """
        x, targets = prepared(request)
        self._thread.check_process()
        if self._owner == threading.get_ident():
            raise UsageError("an Explainer on a GPU cannot explain from its own progress callback; use another one")
        state = self.state
        with self._lock, self.device.entered():
            try:
                self._owner = threading.get_ident()
                if len(targets) > state.classes.most:
                    most = 1 << (len(targets) - 1).bit_length()  # or each number of classes would be a new one
                    state.classes, state.explain_runs = self._for_classes(state.picture, state.stream, most)
                timer = Timer(self.pace, request, self.chunk)
                state.passes.begin(state.classes, request, timer)
                readout = readout_of(self.manifest, targets)
                steps = DeviceSteps(state, x, readout, request.budget, timer, self.chunk, sketches_of(request))
                request.clock.lap("explain")
                layer = self.manifest.layer
                level = LevelSteps(layer.name, range(len(targets)), steps)
                yield Forward(steps.targets, steps.logits, layer.shape[0], iter([level]))
                timer.end()
            finally:
                self._owner = 0
                state.passes.end()
                for lane in (self._lanes.masks, state.stream):  # what still runs must not meet the next picture
                    with suppress(FusionCamError), self.device.entered():  # another thread may end what was given up
                        self.device.synchronize(lane)

    def scheduler(self, most: int = IN_FLIGHT) -> Scheduler[Any]:
        """Return a scheduler for one task at a time, which runs its passes itself."""
        return Scheduler(_refuse_passes, self.chunk, 1)


def _end(held: dict[str, Any]) -> None:
    """End what an engine held."""
    device = held.get("device")  # it destroys its streams when it goes: the sessions on them go first
    held.clear()
    del device


def _refuse_passes(tasks: Collection[RunningTask[Any]]) -> int:
    raise AssertionError("a task asked for passes that its steps should have run")
