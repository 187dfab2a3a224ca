"""The steps of Fusion-CAM in NumPy, with masked passes through sessions that take arrays of the host."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnxruntime

from fusioncam.kernels import reference
from fusioncam.kernels.masks import MaskMaker
from fusioncam.manifest import Manifest
from fusioncam.runtime.budget import Budget, Evidence, plan_for
from fusioncam.runtime.budget.plan import Everything, Plan
from fusioncam.runtime.explanation import Passes
from fusioncam.runtime.image import UInt8Array
from fusioncam.runtime.masked_passes import MaskedPasses
from fusioncam.runtime.scoring import Ending, Scorer, probabilities, refuse_nan
from fusioncam.runtime.session import run
from fusioncam.runtime.work import Array, Clock, Floats, Found, Progress, Work

PARTS = ("logits", "activations", "gradients")


@dataclass(frozen=True)
class Explained:
    """What the explain pass gives for one class: logits (classes,), activations and gradients (K, h, w)."""

    class_index: int
    logits: Floats
    activations: Floats
    gradients: Floats


class HostEngine:
    """Explains pictures with the host doing all that onnxruntime does not. Safe to share between threads.

    Args:
        manifest: The bundle's.
        explain: Session of the explain graph.
        scorer: Runs the score graph.
    """

    def __init__(self, manifest: Manifest, explain: onnxruntime.InferenceSession, scorer: Scorer) -> None:
        self.manifest, self.explain, self.scorer = manifest, explain, scorer

    @property
    def chunk(self) -> int:
        """Masked pictures per run."""
        return self.scorer.chunk

    def finish(self, works: Iterable[Work[Found]]) -> Iterator[Found]:
        """Do the work for many pictures, which share chunks; see `Scorer.finish`."""
        return self.scorer.finish(works)

    @contextmanager
    def look(
        self,
        x: Floats,
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
        evidence = [self._evidence(x, c) for c in classes]
        clock.lap("explain")
        yield HostSteps(MaskedPasses(x, clock, progress), evidence, self.manifest.ending, budget, self.scorer.grain)

    def _evidence(self, x: Floats, asked: int) -> Explained:
        """The explain pass: logits, activations and the gradient of one class's logit."""
        feeds = {"image": x[None], "class_index": np.array([asked], np.int64)}
        results = dict(zip(PARTS, run(self.explain, PARTS, feeds), strict=True))
        for name, array in results.items():
            refuse_nan(array, name)
        logits, activations, gradients = (array[0] for array in results.values())
        return Explained(asked if asked >= 0 else int(logits.argmax()), logits, activations, gradients)


class HostSteps:
    """See `Steps`; maps are float64 arrays, confidences floats."""

    def __init__(
        self, passes: MaskedPasses, evidence: Sequence[Explained], ending: Ending, budget: Budget, grain: int
    ) -> None:
        self.classes = [e.class_index for e in evidence]
        self.logits = evidence[0].logits
        self._passes, self._evidence, self._ending = passes, evidence, ending
        self._activations = evidence[0].activations
        self._masks: MaskMaker | None = None
        self._budget, self._grain = budget, grain
        self._plan: Plan = Everything(np.empty(0, np.intp))
        self._scores = self._blank = np.empty(0)
        self._shares: list[list[reference.Contributions]] = []

    @property
    def passes(self) -> Passes:
        """Masked passes run so far, channels, and the weight that is guessed."""
        return Passes(self._passes.done, len(self._activations), self._plan.missing)

    @property
    def settled(self) -> bool:
        """Whether the budget was enough."""
        return self._plan.settled

    def grad_cam(self) -> list[Array]:
        """G."""
        exact = [(e.activations.astype(np.float64), e.gradients.astype(np.float64)) for e in self._evidence]
        return [reference.grad_cam(*each, self._passes.size) for each in exact]

    def denoise(self, gradient: list[Array]) -> list[Array]:
        """D."""
        return [reference.denoise(g) for g in gradient]

    def score_channels(self, also: list[Array] | None) -> Work[list[float]]:
        """The passes of live channels; the mask of a constant channel is zero, so its score is that of x * 0."""
        maps = also or []
        masks = self._masks = MaskMaker(self._activations, self._passes.image)
        live = np.flatnonzero(~masks.zero & ~masks.constant)
        gradients, full = [e.gradients for e in self._evidence], self.logits[self.classes].tolist()
        evidence = partial(Evidence, masks.scaled, self._activations, gradients, full)
        plan = self._plan = plan_for(self._budget, live, evidence, 1 + 3 * len(maps), self._grain)
        nothing = np.zeros(self._passes.size, np.float32)
        of_maps = yield from self._passes.of_channels(masks, plan, self.classes, [nothing, *maps], 2 * len(maps))
        self._scores = np.tile(of_maps[0, self.classes].astype(np.float64), (len(self._activations), 1))
        self._scores[live] = plan.scores()
        self._blank = probabilities(of_maps[0], self._ending)[self.classes]
        return self._confidences(of_maps[1:])

    def score_cam(self) -> list[Array]:
        """R; channels of zeros are left out."""
        assert self._masks is not None, "score_channels comes first"
        some = self._activations[~self._masks.zero].astype(np.float64)
        return [reference.score_cam(some, s, self._passes.size) for s in self._scores[~self._masks.zero].T]

    def confidences(self, maps: list[Array]) -> Work[list[float]]:
        """p_c(x * m)."""
        return self._confidences((yield from self._passes.of_maps(maps)))

    def _confidences(self, rows: Floats) -> list[float]:
        found: list[float] = probabilities(rows, self._ending)[range(len(rows)), self.classes[: len(rows)]].tolist()
        return found

    def unite(
        self, denoised: list[Array], region: list[Array], of_denoised: list[float], of_region: list[float]
    ) -> list[Array]:
        """U."""
        gains = zip(of_denoised, of_region, self._blank.tolist(), strict=True)
        shares = [reference.contributions(d - b, r - b) for d, r, b in gains]
        self._shares.append(shares)
        return [reference.unite(*each) for each in zip(denoised, region, shares, strict=True)]

    def blend(self, united: list[Array], region: list[Array], of_united: list[float]) -> list[Array]:
        """F."""
        gains = zip(of_united, self._blank.tolist(), self._shares[-1], strict=True)
        shares = [reference.contributions(u - b, s.second) for u, b, s in gains]
        self._shares.append(shares)
        return [reference.blend(*each) for each in zip(united, region, shares, strict=True)]

    def fetch(self, maps: list[Array], what: str) -> list[Array]:
        """The maps; the sessions' results were looked through for NaN already."""
        return maps

    def overlay(self, maps: list[Array], photo: UInt8Array, colors: UInt8Array, opacity: float) -> list[UInt8Array]:
        """The maps laid over a photo."""
        return [reference.overlay(photo, m.astype(np.float32), colors, opacity) for m in maps]

    def contribution_flags(self) -> list[tuple[bool, bool]]:
        """Degenerate, mixed."""
        both = zip(*self._shares, strict=True)
        return [(any(s.degenerate for s in each), any(s.mixed for s in each)) for each in both]
