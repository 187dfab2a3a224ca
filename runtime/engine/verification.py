"""Verification: verdicts on the maps of one picture, by passes in the chunks of the masked passes."""

from collections.abc import Sequence

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import Manifest
from fusioncam.runtime.engine.host.passes import MaskedPasses
from fusioncam.runtime.engine.protocols import Engine
from fusioncam.runtime.engine.recipe import TargetMaps, ViewResult, mean
from fusioncam.runtime.engine.request import ExplainRequest, inputs_of, prepared, reserved_passes
from fusioncam.runtime.engine.scheduler import Task
from fusioncam.runtime.engine.smoothing import View, mirror
from fusioncam.runtime.engine.target_resolver import TargetResolver
from fusioncam.runtime.methods import REGION, recipe
from fusioncam.runtime.probes.likeness import correlation
from fusioncam.runtime.probes.probe import Key, Maker, Subject
from fusioncam.runtime.probes.verdict import (
    STEPS,
    Circumstances,
    Trial,
    Verdict,
    judge,
    of_blank,
    scaled,
)
from fusioncam.runtime.targets.readout import readout_of
from fusioncam.runtime.targets.resolved import ResolvedTarget


class Verification:
    """The verification of the maps of one picture.

    Args:
        engine: An engine of the host, which runs the task.
        manifest: That of the engine's bundle.
        request: The preprocessed picture, and the methods in order.
        own: The result of the picture itself, by this engine, without other views.

    Attributes:
        passes: Passes run.
    """

    def __init__(self, engine: Engine, manifest: Manifest, request: ExplainRequest, own: ViewResult) -> None:
        self._engine, self._manifest, self._request, self._own = engine, manifest, request, own
        self._ending, self._readout = manifest.ending, readout_of(manifest, own.targets)
        self._x, _ = prepared(request)
        self._inputs = inputs_of(request)
        self.passes = 0

    def run(self, made: Sequence[TargetMaps]) -> Task[list[Verdict]]:
        """Return one verdict per target, on the first map of the request that is not blank.

        Args:
            made: The maps of each target.

        Raises:
            FusionCamError: The model cannot be run, or gives NaN or infinity.
        """
        methods = self._request.methods
        chosen = [next((m for m in methods if of_target.maps[m].any()), None) for of_target in made]
        subject = Subject(self._x, STEPS)
        trials = {
            n: Trial(subject, f"target {n}", of_target.maps[method].astype(np.float32))
            for n, (of_target, method) in enumerate(zip(made, chosen, strict=True))
            if method is not None
        }
        if not trials:
            return [of_blank(methods[0]) for _ in made]
        self._afford()
        turns = self._manifest.gradient and not self._has_direction
        flips = self._flips() if turns else [None] * len(made)
        chances = yield from self._passed({key: m for trial in trials.values() for key, m in trial.pictures.items()})
        verdicts = []
        for n, method in enumerate(chosen):
            if method is None:
                verdicts.append(of_blank(methods[0]))
                continue
            figures = trials[n].figures(self._known(chances, n))
            verdicts.append(judge(method, figures, self._circumstances(n, method, made[n], flips[n], turns)))
        return verdicts

    def _afford(self) -> None:
        """Raise UsageError where a number as the budget is too small: steps with passes see to it themselves."""
        budget, needed = self._request.budget, self._own.passes.run + reserved_passes(self._request)
        if isinstance(budget, int) and needed > budget:
            raise UsageError(f"a budget of {budget} passes is too small: {needed} are needed")

    def _passed(self, makers: dict[Key, Maker]) -> Task[dict[Key, Array]]:
        """Return the confidences (T,) of pictures, by key."""
        in_order = list(makers.values())
        passes = MaskedPasses(
            self._x, self._request.clock, self._request.progress, readout=self._readout, inputs=self._inputs
        )
        exact = self._manifest.score_precision == "int8"  # else the verdict would be on the quantised model's map
        rows = yield from passes.of_pictures(len(in_order), lambda i: in_order[i](), exact)
        self.passes = passes.done
        return dict(zip(makers, self._readout.confidences(rows), strict=True))

    def _known(self, chances: dict[Key, Array], n: int) -> dict[Key, float]:
        """Return the confidences of target n, by key."""
        known = {key: float(of_targets[n]) for key, of_targets in chances.items()}
        return scaled(known) if self._ending == "value" else known

    @property
    def _has_direction(self) -> bool:
        """Return whether a mirror makes another question: time does not run backwards, a left ear is a right one."""
        keypoints = any(target.kind == "keypoint" for target in self._own.targets)
        return self._manifest.preprocessing.kind == "signals" or keypoints

    def _flips(self) -> list[float | None]:
        """Return the correlation of Grad-CAM with that of the mirrored picture, for each target that is there, too."""
        view = mirror(self._x)
        turned = TargetResolver(self._manifest, self._engine).seen_in(view, self._own.targets, self._inputs)
        found = [n for n, target in enumerate(turned) if target.is_found]
        if not found:
            return [None] * len(turned)
        upright = [self._own.made[n].maps.get("grad_cam") for n in found]
        known = [m for m in upright if m is not None]
        same = len(known) == len(found)
        own = known if same else self._grad_cams(View(self._x), [self._own.targets[n] for n in found])
        mirrored = self._grad_cams(view, [turned[n] for n in found])
        flips = {n: correlation(a, b) for n, a, b in zip(found, own, mirrored, strict=True)}
        return [flips.get(n) for n in range(len(turned))]

    def _grad_cams(self, view: View, targets: Sequence[ResolvedTarget]) -> list[Array]:
        """Return the Grad-CAM of each target of a view, by explain passes alone."""
        inputs, clock = view.inputs(self._inputs), self._request.clock
        levels = self._request.levels
        request = ExplainRequest(view.x, targets, ("grad_cam",), clock=clock, inputs=inputs, levels=levels)
        of_levels: list[list[TargetMaps]] = [[] for _ in targets]
        with self._engine.forward(request) as forward:
            for _, numbers, steps in forward.levels:
                arrays = steps.fetch(steps.gradient_map("grad_cam"), "gradients")
                for n, array in zip(numbers, arrays, strict=True):
                    of_levels[n].append(TargetMaps({"grad_cam": array}))
        return [view.back(mean(made).maps["grad_cam"]) for made in of_levels]

    def _circumstances(self, n: int, method: str, made: TargetMaps, flip: float | None, turns: bool) -> Circumstances:
        maps, target, logits = self._own.made[n].maps, self._own.targets[n], self._own.logits
        region = next((maps[m] for m in REGION if m in maps), None)
        gradient = maps.get("grad_cam")
        return Circumstances(
            probability=None if self._ending == "value" else target.confidence,
            top=logits is None or self._ending in ("sigmoid", "value") or target.score == float(logits.max()),
            mixed="mixed_contributions" in made.flags and recipe(method) is not None,
            flip=flip,
            agreement=None if gradient is None or region is None else correlation(gradient, region),
            lost=turns and flip is None,
        )
