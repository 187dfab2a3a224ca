"""The engine of the host: what onnxruntime does not do is done in NumPy."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import onnxruntime

from fusioncam.errors import UsageError
from fusioncam.forms import ACTIVATIONS, GRADIENTS, of_level
from fusioncam.kernels.arrays import Array, Float32Array
from fusioncam.kernels.cam_methods import GRADIENT_MAPS
from fusioncam.kernels.rise import DETECTIONS, PICTURES
from fusioncam.manifest import Manifest
from fusioncam.runtime.engine.checks import refuse_nan
from fusioncam.runtime.engine.host.head import Head
from fusioncam.runtime.engine.host.passes import MaskedPasses
from fusioncam.runtime.engine.host.random_masks import RandomMaps
from fusioncam.runtime.engine.host.scorer import Scorer
from fusioncam.runtime.engine.host.steps import HostSteps, PictureEvidence
from fusioncam.runtime.engine.levels import Level, levels_of, shared
from fusioncam.runtime.engine.pace import EXPLAIN, Pace, Timer
from fusioncam.runtime.engine.protocols import Forward, LevelSteps
from fusioncam.runtime.engine.request import ExplainRequest, inputs_of, prepared, reserved_passes
from fusioncam.runtime.engine.scheduler import IN_FLIGHT, Scheduler
from fusioncam.runtime.engine.sketches import LevelSketches, sketches_of
from fusioncam.runtime.methods import needs_layer, with_parts
from fusioncam.runtime.picture_inputs import NO_INPUTS, PictureInputs
from fusioncam.runtime.sessions.run import run
from fusioncam.runtime.targets.readout import LOGITS, Readout, readout_of
from fusioncam.runtime.targets.resolved import TOP, ResolvedTarget
from fusioncam.runtime.targets.sight import Outputs


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
        seed: Of the masks of RISE.
    """

    def __init__(
        self,
        manifest: Manifest,
        explain: onnxruntime.InferenceSession,
        scorer: Scorer,
        open_head: Callable[[], Head] | None = None,
        pace: Pace | None = None,
        providers: tuple[str, ...] = (),
        seed: int = 0,
    ) -> None:
        self._sampling, self._seed = DETECTIONS if manifest.detector else PICTURES, seed
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
    def forward(self, request: ExplainRequest) -> Iterator[Forward]:
        """Run the explain pass of a preprocessed picture; see `Engine.forward`."""
        x, targets = prepared(request)
        begun = request.clock.now()
        seen = self._seen(x, targets, inputs_of(request))
        self.pace.took(EXPLAIN, (request.clock.now() - begun) / len(targets))
        request.clock.lap("explain")
        # Without gradients nobody knows which level a detection comes from.
        every = request.levels == "mean" or not self.manifest.gradient
        levels = seen.levels(every) if needs_layer(request.methods) else [seen.whole]
        channels = sum(level.channels for level in levels)
        yield Forward(seen.readout.targets, seen.logits, channels, self._steps(request, seen, levels))

    def _steps(self, request: ExplainRequest, seen: "_Seen", levels: Sequence[Level]) -> Iterator[LevelSteps]:
        """Yield the steps of each level, one after the other."""
        x, _ = prepared(request)
        exact, grain, done = self.manifest.score_precision == "int8", self.scorer.grain, 0
        watched = self._watched(request, seen, levels) if request.sketched and len(levels) > 1 else None
        for n, level in enumerate(levels):
            own = request if len(levels) == 1 else shared(request, levels, n, done)
            own = own if watched is None else replace(own, sketched=watched.of(level))
            evidence = seen.evidence(level)
            timer = Timer(self.pace, own, grain)
            passes = MaskedPasses(x, own.clock, own.progress, exact, timer, evidence.readout, inputs_of(own))
            reserved, sketches = reserved_passes(own), sketches_of(own)
            steps = HostSteps(passes, evidence, own.budget, grain, self._head, timer, reserved, len(levels), sketches)
            yield LevelSteps(self.manifest.layers[level.number].name, level.targets, steps)
            timer.end()
            done += steps.passes.run

    def _watched(self, request: ExplainRequest, seen: "_Seen", levels: Sequence[Level]) -> LevelSketches:
        """Return the sketches of several levels, which have the gradient's maps of all targets from the beginning."""
        assert request.sketched is not None
        sketches = LevelSketches(request.sketched, seen.readout.targets, seen.logits)
        size = prepared(request)[0].shape[1:]
        made = [m for m in GRADIENT_MAPS if m in with_parts(request.methods)]
        for level in levels:
            evidence = seen.evidence(level)
            maps = {m: evidence.gradient_maps(m, size) for m in made}
            sketches.add(level, [{m: of[n] for m, of in maps.items()} for n in range(len(level.targets))])
        return sketches

    def read(self, x: Float32Array, inputs: PictureInputs = NO_INPUTS) -> Outputs:
        """Run the explain graph up to the normal form of its outputs; see `Engine.read`."""
        form, options = self.manifest.form, onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True
        feeds = {"image": x[None], **inputs.rows, **form.placeholders(1)}
        names = [tensor.name for tensor in (form.output, form.prototypes) if tensor is not None]
        found = run(self.explain, names, feeds, options)
        for name, array in zip(names, found, strict=True):
            refuse_nan(array, name)
        return Outputs(*(array[0] for array in found))

    def _seen(self, x: Float32Array, targets: Sequence[ResolvedTarget], inputs: PictureInputs) -> "_Seen":
        """Run the explain pass once for each row: its answer, activations and the gradient of its score."""
        readout, count = readout_of(self.manifest, targets), len(self.manifest.layers)
        names = (ACTIVATIONS, GRADIENTS) if self.manifest.gradient else (ACTIVATIONS,)
        parts = (*readout.outputs, *(of_level(name, level) for name in names for level in range(count)))
        answers, gradients, passed = [], [], dict[bytes, list[Array]]()
        for target in readout.rows:
            feeds = {name: tensor[None] for name, tensor in self._tensors(target).items()}
            key = b"".join(tensor.tobytes() for tensor in feeds.values())
            if key not in passed:
                passed[key] = run(self.explain, parts, {"image": x[None], **inputs.rows, **feeds})
                for name, array in zip(parts, passed[key], strict=True):
                    refuse_nan(array, name)
            outputs, levels = passed[key][: len(readout.outputs)], passed[key][len(readout.outputs) :]
            answers.append(readout.answers(outputs))
            activations, gradient = levels[:count], levels[count:]
            # Without a gradient, all channels are taken to speak for the target alike when scores are guessed.
            own = [g[0] for g in gradient] if gradient else [np.ones_like(a[0]) for a in activations]
            gradients.append(own if target.sign > 0 else [-g for g in own])  # no copy of what is right already
        logits = answers[0][0] if readout.outputs == LOGITS.outputs else None
        settled = readout.settled(answers)
        random = RandomMaps(settled, self._sampling, self._seed)
        return _Seen(settled, logits, [a[0] for a in activations], gradients, random)

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


@dataclass(frozen=True)
class _Seen:
    """The explain passes of a picture.

    Attributes:
        readout: The readout of its targets, settled.
        logits: See `Forward`.
        activations: A (K, h, w) of each level.
        gradients: The derivative (K, h, w) of the score of each row by each level.
        random: RISE of all targets.
    """

    readout: Readout
    logits: Float32Array | None
    activations: Sequence[Float32Array]
    gradients: Sequence[Sequence[Float32Array]]
    random: RandomMaps

    @property
    def whole(self) -> Level:
        """Return one level for all targets, of methods that need none."""
        return Level(0, range(len(self.readout.targets)), len(self.activations[0]))

    def levels(self, every: bool) -> list[Level]:
        """Return the levels that explain the targets, see `levels_of`."""
        seen = np.array([[g.any() for g in of_level] for of_level in zip(*self.gradients, strict=True)])
        rows = [len(target.rows) for target in self.readout.targets]
        return levels_of(seen, rows, [len(a) for a in self.activations], every)

    def evidence(self, level: Level) -> PictureEvidence:
        """Return the evidence at one level, for its targets."""
        of_rows = iter(gradients[level.number] for gradients in self.gradients)
        parts = [list(islice(of_rows, len(target.rows))) for target in self.readout.targets]
        of_targets = [of[0] if len(of) == 1 else np.sum(of, axis=0) for of in (parts[n] for n in level.targets)]
        readout = self.readout if len(parts) == len(level.targets) else self.readout.of(level.targets)
        activations = self.activations[level.number]
        return PictureEvidence(readout, self.logits, activations, of_targets, level.targets, self.random)
