"""The steps of the family in NumPy, with masked passes through sessions that take arrays of the host."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels import family, reference
from fusioncam.kernels.arrays import Array, Float32Array, IndexArray, UInt8Array
from fusioncam.kernels.masks import MaskMaker
from fusioncam.runtime.budget import Budget, Evidence, plan_for
from fusioncam.runtime.budget.channel_plan import ChannelPlan
from fusioncam.runtime.engine.host.head import Head
from fusioncam.runtime.engine.host.passes import MaskedPasses
from fusioncam.runtime.engine.host.scorer import Ending, probabilities
from fusioncam.runtime.engine.scheduler import Work
from fusioncam.runtime.explanation import Passes


@dataclass(frozen=True)
class Explained:
    """What the explain pass gives for one class: logits (classes,), activations and gradients (K, h, w)."""

    class_index: int
    logits: Float32Array
    activations: Float32Array
    gradients: Float32Array


@dataclass
class Scored:
    """Channels that were scored with one way to enlarge masks.

    Attributes:
        masks: What they were scored under.
        scores: f_c(x * M_k) (K, classes), measured, expected or that of x * 0.
        sums: See `OfChannels`; that of x * 0 for constant channels.
    """

    masks: MaskMaker
    scores: Array
    sums: Array


class HostSteps:
    """See `Steps`; maps are float64 arrays, confidences floats.

    Args:
        passes: The masked passes of x.
        evidence: What the explain pass gave for each class.
        ending: How logits become probabilities.
        budget: Masked passes to spend.
        grain: Pictures that are best passed together.
        head: Opens the head of the model, for Recipro-CAM.
    """

    def __init__(
        self,
        passes: MaskedPasses,
        evidence: Sequence[Explained],
        ending: Ending,
        budget: Budget,
        grain: int,
        head: Callable[[], Head],
    ) -> None:
        self.classes = [e.class_index for e in evidence]
        self.logits = evidence[0].logits
        self._passes, self._evidence, self._ending, self._head = passes, evidence, ending, head
        self._activations = evidence[0].activations
        self._budget, self._grain = budget, grain
        self._plans: list[ChannelPlan] = []
        self._scored: dict[bool, Scored] = {}
        self._blank: Float32Array | None = None  # logits (all classes,) of x * 0
        self._shares: list[list[reference.Contributions]] = []

    @property
    def passes(self) -> Passes:
        """Masked passes run so far, channels, and the weight that is guessed."""
        return Passes(self._passes.done, len(self._activations), max((p.missing for p in self._plans), default=0.0))

    @property
    def settled(self) -> bool:
        """Whether the budget was enough."""
        return all(p.settled for p in self._plans)

    def gradient_map(self, method: str) -> list[Array]:
        """G, or another."""
        exact = [(e.activations.astype(np.float64), e.gradients.astype(np.float64)) for e in self._evidence]
        return [family.gradient_map(method, *each, self._passes.size) for each in exact]

    def denoise(self, gradient: list[Array], theta: float) -> list[Array]:
        """D."""
        return [reference.denoise(g, theta) for g in gradient]

    def score_channels(
        self, corners: bool, also: Sequence[list[Array]], later: int, ways: int
    ) -> Work[list[list[float]]]:
        """The passes of live channels; the mask of a constant channel is zero, so its score is that of x * 0."""
        maps = [m for each in also for m in each]
        masks = MaskMaker(self._activations, self._passes.image, corners)
        live = np.flatnonzero(~masks.zero & ~masks.constant)
        gradients, full = [e.gradients for e in self._evidence], self.logits[self.classes].tolist()
        evidence = partial(Evidence, masks.scaled, self._activations, gradients, full)
        known = self._blank
        nothing = [np.zeros(self._passes.size, np.float32)] if known is None else []
        others = self._passes.done + len(nothing) + len(maps) + later
        plan = plan_for(self._share(others, ways), live, evidence, others, self._grain)
        self._plans.append(plan)
        found = yield from self._passes.of_channels(masks, plan, self.classes, [*nothing, *maps], later, blank=known)
        blank = self._blank = found.maps[0] if known is None else known
        scores = np.tile(blank[self.classes].astype(np.float64), (len(self._activations), 1))
        scores[live] = plan.scores()
        found.sums[masks.constant] = reference.log_sum_exp(blank)
        self._scored[corners] = Scored(masks, scores, found.sums)
        return self._by_class(found.maps[len(nothing) :])

    def _share(self, others: int, ways: int) -> Budget:
        """What may be spent until these channels are scored, if so many ways share what the other passes leave."""
        whole = self._budget
        return whole if ways == 1 or not isinstance(whole, int) else others + (whole - others) // ways

    def _afford(self, passes: int) -> None:
        """Raise UsageError where so many passes more, none of them of channels, are over the budget."""
        needed = self._passes.done + passes
        if isinstance(self._budget, int) and needed > self._budget:
            raise UsageError(f"a budget of {self._budget} passes is too small: {needed} are needed")

    def score_nothing(self, also: Sequence[list[Array]], later: int) -> Work[list[list[float]]]:
        """The passes of x * 0 and x * m."""
        maps = [np.zeros(self._passes.size, np.float32), *(m for each in also for m in each)]
        self._afford(len(maps) + later)
        rows = yield from self._passes.of_maps(maps)
        self._blank = rows[0]
        return self._by_class(rows[1:])

    def region_map(self, method: str) -> Work[list[Array]]:
        """R, or another."""
        if method == "group_cam":
            return (yield from self._group_cam())
        if method == "recipro_cam":
            return self._recipro_cam()
        return self._score_cam(method)

    def _score_cam(self, method: str) -> list[Array]:
        """Channels of zeros are left out."""
        scored = self._scored[family.SCORE_CAMS[method].corners]
        some = np.flatnonzero(~scored.masks.zero)
        activations, maps = self._activations[some].astype(np.float64), []
        assert self._blank is not None, "score_channels comes first"
        for c, logits in zip(self.classes, scored.scores[some].T, strict=True):
            chances = self._probabilities(logits, scored.sums[some])
            scores = family.Scores(logits, chances, float(self._blank[c]))
            maps.append(family.score_cam_map(method, activations, scores, self._passes.size))
        return maps

    def _probabilities(self, logits: Array, sums: Array) -> Array:
        """p_c(x * M_k) (K,) of the logits f_c and of log sum_j exp(f_j); NaN where those were not measured."""
        if self._ending in ("sigmoid", "value"):
            return probabilities(logits, self._ending)
        return np.asarray(np.exp(logits - sums))

    @cached_property
    def _groups(self) -> list[tuple[MaskMaker, IndexArray]]:
        """The masks of Group-CAM and which of them show anything, per class."""
        x, makers = self._passes.image, []
        for e in self._evidence:
            maker = MaskMaker(family.group_maps(e.activations, e.gradients), x)
            makers.append((maker, np.flatnonzero(~maker.zero & ~maker.constant)))
        return makers

    def region_passes(self, method: str) -> int:
        """Of Group-CAM: a pass per group, and the blurred picture."""
        return sum(len(live) for _, live in self._groups) + 1 if method == "group_cam" else 0

    def _group_cam(self) -> Work[list[Array]]:
        """The masked pictures of all classes are passed together, beside the blurred picture."""
        x = self._passes.image
        blurred = family.blur(x)
        places = [(maker, k) for maker, live in self._groups for k in live.tolist()]
        self._afford(len(places) + 1)

        def picture(i: int) -> Float32Array:
            if i == len(places):
                return blurred
            maker, k = places[i]
            return np.asarray(blurred + (x - blurred) * maker.full(k))

        rows = yield from self._passes.of_pictures(len(places) + 1, picture)
        maps, start = [], 0
        chances = probabilities(rows, self._ending)
        for c, (maker, live) in zip(self.classes, self._groups, strict=True):
            gains = chances[start : start + len(live), c] - chances[-1, c]
            masks = maker.scaled[live].astype(np.float64)
            maps.append(family.group_cam_map(masks, gains, self._passes.size))
            start += len(live)
        return maps

    def _recipro_cam(self) -> list[Array]:
        """By the head alone: no masked pass."""
        grid = self._activations.shape[1:]
        scores = self._head().scores(self._passes.image).astype(np.float64)
        return [family.recipro_cam_map(scores[:, c], grid, self._passes.size) for c in self.classes]

    def confidences(self, maps: list[Array]) -> Work[list[float]]:
        """p_c(x * m)."""
        return self._confidences((yield from self._passes.of_maps(maps)))

    def _by_class(self, rows: Float32Array) -> list[list[float]]:
        """Confidences of maps that were passed one class after the other."""
        count = len(self.classes)
        return [self._confidences(rows[start : start + count]) for start in range(0, len(rows), count)]

    def _confidences(self, rows: Float32Array) -> list[float]:
        found: list[float] = probabilities(rows, self._ending)[range(len(rows)), self.classes].tolist()
        return found

    def _gains(self, confidences: list[float]) -> list[float]:
        """Over x * 0."""
        assert self._blank is not None, "score_channels or score_nothing comes first"
        blank = probabilities(self._blank, self._ending)[self.classes].tolist()
        return [p - b for p, b in zip(confidences, blank, strict=True)]

    def unite(
        self, denoised: list[Array], region: list[Array], of_denoised: list[float], of_region: list[float]
    ) -> list[Array]:
        """U."""
        gains = zip(self._gains(of_denoised), self._gains(of_region), strict=True)
        shares = [reference.contributions(d, r) for d, r in gains]
        self._shares.append(shares)
        return [reference.unite(*each) for each in zip(denoised, region, shares, strict=True)]

    def blend(self, united: list[Array], region: list[Array], of_united: list[float]) -> list[Array]:
        """F."""
        gains = zip(self._gains(of_united), self._shares[-1], strict=True)
        shares = [reference.contributions(u, s.second) for u, s in gains]
        self._shares.append(shares)
        return [reference.blend(*each) for each in zip(united, region, shares, strict=True)]

    def choose(
        self, united: list[Array], region: list[Array], of_united: list[float], of_region: list[float]
    ) -> list[Array]:
        """U or R."""
        both = zip(united, region, of_united, of_region, strict=True)
        return [u if p > q else r for u, r, p, q in both]

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
