"""The engine of the host: what onnxruntime does not do is done in NumPy."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import onnxruntime

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array, Float32Array
from fusioncam.manifest import Manifest
from fusioncam.runtime.engine.checks import refuse_nan
from fusioncam.runtime.engine.host.head import Head
from fusioncam.runtime.engine.host.passes import MaskedPasses
from fusioncam.runtime.engine.host.scorer import Scorer
from fusioncam.runtime.engine.host.steps import HostSteps, PictureEvidence
from fusioncam.runtime.engine.pace import EXPLAIN, Pace, Timer
from fusioncam.runtime.engine.request import ExplainRequest, inputs_of, prepared, reserved_passes
from fusioncam.runtime.engine.scheduler import IN_FLIGHT, Scheduler
from fusioncam.runtime.engine.sketches import sketches_of
from fusioncam.runtime.picture_inputs import NO_INPUTS, PictureInputs
from fusioncam.runtime.sessions.run import run
from fusioncam.runtime.targets.readout import LOGITS, readout_of
from fusioncam.runtime.targets.resolved import TOP, ResolvedTarget

PARTS = ("logits", "activations", "gradients")  # of the explain graph of a classifier


class HostEngine:
    """Explains pictures on the host, around sessions of onnxruntime. Safe to share between threads.

    Args:
        manifest: The bundle's.
        explain: Session of the explain graph.
        scorer: Runs the score graph.
        open_head: Opens the head graph when Recipro-CAM, which alone needs it, is first asked for; None where there is
            no such graph.
        pace: The costs of its work, where another engine on the same hardware knows them; by default nothing is known.
        providers: Short names of the providers that run both graphs, in order of preference.
    """

    def __init__(
        self,
        manifest: Manifest,
        explain: onnxruntime.InferenceSession,
        scorer: Scorer,
        open_head: Callable[[], Head] | None = None,
        pace: Pace | None = None,
        providers: tuple[str, ...] = (),
    ) -> None:
        self.manifest, self.explain, self.scorer, self.providers = manifest, explain, scorer, providers
        self.pace = pace or Pace(scorer.chunk, scorer.pad)
        self._open_head, self._heads, self._lock = open_head, list[Head](), threading.Lock()

    @property
    def chunk(self) -> int:
        """Return the number of masked pictures per run."""
        return self.scorer.chunk

    def supports(self, methods: Sequence[str], verify: bool = False) -> bool:
        """Return True: every method can be made on the host, and any picture passed."""
        return True

    def scheduler(self, most: int = IN_FLIGHT) -> Scheduler[Any]:
        """Return a scheduler for so many tasks, which share chunks."""
        return self.scorer.scheduler(most)

    @contextmanager
    def forward(self, request: ExplainRequest) -> Iterator[HostSteps]:
        """Run the explain pass of a preprocessed picture; see `Engine.forward`."""
        x, targets = prepared(request)
        begun = request.clock.now()
        inputs = inputs_of(request)
        evidence = self._evidence(x, targets, inputs)
        self.pace.took(EXPLAIN, (request.clock.now() - begun) / len(targets))
        request.clock.lap("explain")
        timer, reserved = Timer(self.pace, request, self.scorer.grain), reserved_passes(request)
        exact, grain = self.manifest.score_precision == "int8", self.scorer.grain
        passes = MaskedPasses(x, request.clock, request.progress, exact, timer, evidence.readout, inputs)
        sketches = sketches_of(request)
        yield HostSteps(passes, evidence, request.budget, grain, self._head, timer, reserved, sketches)
        timer.end()

    def read(self, x: Float32Array, inputs: PictureInputs = NO_INPUTS) -> Float32Array:
        """Run the explain graph up to the normal form of its outputs; see `Engine.read`."""
        form, options = self.manifest.form, onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True
        feeds = {"image": x[None], **inputs.rows, **form.placeholders(1)}
        (found,) = run(self.explain, [form.output.name], feeds, options)
        refuse_nan(found, form.output.name)
        read: Float32Array = found[0]
        return read

    def _evidence(self, x: Float32Array, targets: Sequence[ResolvedTarget], inputs: PictureInputs) -> PictureEvidence:
        """Run the explain pass once for each target: its answer, activations and the gradient of its score."""
        readout = readout_of(self.manifest, targets)
        parts = (*readout.outputs, *(PARTS[1:] if self.manifest.gradient else PARTS[1:2]))
        answers, gradients, passed = [], [], dict[bytes, list[Array]]()
        for target in readout.rows:
            feeds = {name: tensor[None] for name, tensor in self._tensors(target).items()}
            key = b"".join(tensor.tobytes() for tensor in feeds.values())
            if key not in passed:
                passed[key] = run(self.explain, parts, {"image": x[None], **inputs.rows, **feeds})
                for name, array in zip(parts, passed[key], strict=True):
                    refuse_nan(array, name)
            outputs, (activations, *gradient) = passed[key][: len(readout.outputs)], passed[key][len(readout.outputs) :]
            answers.append(readout.answers(outputs))
            # Without a gradient, all channels are taken to speak for the target alike when scores are guessed.
            own = gradient[0][0] if gradient else np.ones_like(activations[0])
            gradients.append(own if target.sign > 0 else -own)  # no copy of what is right already
        logits = answers[0][0] if readout.outputs == LOGITS.outputs else None
        of_rows = iter(gradients)
        of_targets = [_added(list(islice(of_rows, len(target.rows)))) for target in targets]
        return PictureEvidence(readout.settled(answers), logits, activations[0], of_targets)

    def _tensors(self, target: ResolvedTarget) -> Mapping[str, Array]:
        """Return what the explain graph takes of a target; without a gradient all classes have the same pass."""
        return target.tensors if self.manifest.gradient or self.manifest.form.scored else TOP.tensors

    def _head(self) -> Head:
        with self._lock:
            if not self._heads:
                if self._open_head is None:
                    raise UsageError("recipro_cam runs a graph that is not in the repository")
                self._heads.append(self._open_head())
            return self._heads[0]


def _added(gradients: Sequence[Float32Array]) -> Float32Array:
    """Return the gradient of a sum."""
    return gradients[0] if len(gradients) == 1 else np.sum(gradients, axis=0)
