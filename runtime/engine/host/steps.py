"""The steps of the family in NumPy, with masked passes through sessions that take arrays of the host."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from fusioncam.kernels import cam_methods, reference, rescoring
from fusioncam.kernels.arrays import Array, Float32Array, IndexArray, Size, UInt8Array
from fusioncam.kernels.masks import MaskMaker
from fusioncam.runtime.budget import Budget, Evidence, plan_for
from fusioncam.runtime.budget.channel_plan import ChannelPlan, passes_of
from fusioncam.runtime.engine.host.groups import GroupCam
from fusioncam.runtime.engine.host.head import Head
from fusioncam.runtime.engine.host.pass_budget import PassBudget
from fusioncam.runtime.engine.host.passes import ChannelAnswers, MaskedPasses
from fusioncam.runtime.engine.host.random_masks import RandomMaps
from fusioncam.runtime.engine.pace import Timer
from fusioncam.runtime.engine.scheduler import Task
from fusioncam.runtime.engine.sketches import Sketches
from fusioncam.runtime.explanation import Passes
from fusioncam.runtime.targets.readout import Readout

Shares = Sequence[reference.Contributions]


@dataclass(frozen=True)
class PictureEvidence:
    """The explain passes of a picture.

    Attributes:
        readout: The readout of its targets, settled.
        logits: f(x) (classes,); None where the outputs are no vector.
        activations: A (K, h, w).
        gradients: The derivative (K, h, w) of the score of each target.
        numbers: The numbers of the targets among those of the picture.
        random: RISE of all targets of the picture.
    """

    readout: Readout
    logits: Float32Array | None
    activations: Float32Array
    gradients: Sequence[Float32Array]
    numbers: Sequence[int]
    random: RandomMaps

    def gradient_maps(self, method: str, size: Size) -> list[Array]:
        """Return the map (H, W) of each target by a gradient method."""
        activations = self.activations.astype(np.float64)
        gradients = (g.astype(np.float64) for g in self.gradients)
        return [cam_methods.gradient_map(method, activations, g, size, self.readout.local) for g in gradients]


@dataclass
class ScoredChannels:
    """Channels that were scored with one way to enlarge masks.

    Attributes:
        masks: Their masks.
        scores: Scores of x * M_k (K, T), measured, expected or those of the baseline x * 0.
        extras: See `ChannelAnswers`; those of the baseline for constant channels.
    """

    masks: MaskMaker
    scores: Array
    extras: Array


class HostSteps:
    """The steps on the host, see `Steps`; maps are float64 arrays, confidences floats.

    Args:
        passes: The masked passes of x.
        evidence: The explain passes of x.
        budget: Masked passes to spend.
        grain: Pictures that are best passed before the next guess.
        head: Opens the head of the model, for Recipro-CAM.
        timer: Measures the work, and tells what fits before a deadline.
        reserved: Passes of the budget that are kept for what follows the maps.
        levels: The number of levels that share what the user gave.
        sketches: Gets the maps as they are made, where somebody watches.
    """

    def __init__(
        self,
        passes: MaskedPasses,
        evidence: PictureEvidence,
        budget: Budget,
        grain: int,
        head: Callable[[], Head],
        timer: Timer | None = None,
        reserved: int = 0,
        levels: int = 1,
        sketches: Sketches | None = None,
    ) -> None:
        self._timer, self._sketches, self._evidence = timer, sketches, evidence
        self._readout, self.targets, self.logits = evidence.readout, evidence.readout.targets, evidence.logits
        self._passes, self._head = passes, head
        self._activations, self._gradients = evidence.activations, evidence.gradients
        self._budget, self._grain = PassBudget(budget, passes, reserved, levels), grain
        self._random, self._numbers = evidence.random, evidence.numbers
        self._plans: list[ChannelPlan] = []
        self._scored: dict[bool, ScoredChannels] = {}
        self._baseline: Float32Array | None = None  # the answer (1, width) to x * 0

    @property
    def passes(self) -> Passes:
        """Return the masked passes run so far, and the error of the maps that follow."""
        made = passes_of(self._passes.done, len(self._activations), self._plans)
        return made._replace(standard_error=self._random.error)

    def gradient_map(self, method: str) -> list[Array]:
        """Return G, or another gradient map."""
        maps = self._evidence.gradient_maps(method, self._passes.size)
        if self._sketches is not None:
            self._sketches.add(method, maps)
        return maps

    def denoise(self, gradient: list[Array], theta: float) -> list[Array]:
        """Return the denoised maps D."""
        return [reference.denoise(g, theta) for g in gradient]

    def score_channels(
        self, corners: bool | None, extra_maps: Sequence[list[Array]], passes_remaining: int, variants_left: int
    ) -> Task[list[list[float]]]:
        """Run the passes of live channels; the mask of a constant channel is zero, so its score is the baseline's."""
        maps = [m for of_targets in extra_maps for m in of_targets]
        if corners is None:
            return (yield from self._score_baseline(maps, passes_remaining))
        masks = MaskMaker(self._activations, self._passes.image, corners)
        live = np.flatnonzero(~masks.zero & ~masks.constant)
        full = [float(t.score or 0) for t in self.targets]
        evidence = partial(Evidence, masks.scaled, self._activations, self._gradients, full, self._readout.local)
        known = self._baseline
        zeros = [np.zeros(self._passes.size, np.float32)] if known is None else []
        others = self._passes.done + len(zeros) + len(maps) + passes_remaining + self._budget.reserved
        share = self._budget.share(others, variants_left)
        again = self._passes_again(share, others)
        if self._timer is not None:
            self._timer.begin(passes_remaining + again, variants_left)
        plan = plan_for(share, live, evidence, others + again, self._grain, self._timer)
        self._plans.append(plan)

        def take(found: ChannelAnswers) -> None:
            self._take_scores(corners, masks, live, plan, found)

        def show(found: ChannelAnswers) -> None:
            if self._sketches is not None:
                take(found)
                for method in self._sketches.score_cams(corners):
                    self._sketches.add(method, self._score_cam(method))
                self._sketches.show(self)

        if self._sketches is not None:
            self._sketches.show(self)
        riding = [*zeros, *maps]
        found = yield from self._passes.of_channels(masks, plan, riding, passes_remaining + again, known, show)
        take(found)
        if self._timer is not None:
            self._timer.scored()
        if self._passes.exact:
            yield from self._rescore(live, self._scored[corners], again, passes_remaining)
        return self._by_target(found.maps[len(zeros) :])

    def _take_scores(
        self, corners: bool, masks: MaskMaker, live: IndexArray, plan: ChannelPlan, found: ChannelAnswers
    ) -> None:
        """Take the scores of a plan, measured and predicted."""
        if self._baseline is None:
            self._baseline = found.maps[:1]
        scores = np.tile(self._readout.scores(self._baseline), (len(self._activations), 1))
        scores[live] = plan.scores()
        found.extras[masks.constant] = self._readout.extras(self._baseline)
        self._scored[corners] = ScoredChannels(masks, scores, found.extras)

    def _passes_again(self, budget: Budget, others: int) -> int:
        """Return the most passes for scores that are passed again: none unless scores are coarse."""
        most = rescoring.MOST * len(self.targets) * self._passes.exact
        return min(most, max(budget - others, 0) // 3) if isinstance(budget, int) else most

    def _rescore(self, live: IndexArray, scored: ScoredChannels, most: int, passes_remaining: int) -> Task[None]:
        """Pass the heaviest measured channels once more, exactly, and correct all scores of live channels."""
        extras, coarse = scored.extras, scored.extras[live]
        measured = live[~np.isnan(coarse[:, 0])]
        if self._budget.in_time:
            most = min(most, len(measured) // 8)  # at most about a fifth of the time: an exact pass takes twice as long
        of_targets = [measured[rescoring.heaviest(column)] for column in scored.scores[measured].T]
        channels = np.array(list(dict.fromkeys(np.stack(of_targets, 1).ravel()))[:most], np.intp)
        exact = yield from self._passes.again(scored.masks, channels, extras, passes_remaining)
        places = np.searchsorted(live, channels)
        for n, column in enumerate(exact.T):
            scored.scores[live, n] = rescoring.corrected(scored.scores[live, n], places, column)
        for n, column in enumerate(extras[channels].T):
            extras[live, n] = rescoring.corrected(coarse[:, n], places, column)

    def _score_baseline(self, maps: Sequence[Array], passes_remaining: int) -> Task[list[list[float]]]:
        """Run the passes of the baseline x * 0 and of full-size maps alone."""
        self._budget.afford(1 + len(maps) + passes_remaining)
        rows = yield from self._passes.of_maps([np.zeros(self._passes.size, np.float32), *maps])
        self._baseline = rows[:1]
        return self._by_target(rows[1:])

    def region_map(self, method: str, passes_remaining: int) -> Task[list[Array]]:
        """Return R, or another region map."""
        if method == "rise":
            return (yield from self._rise(passes_remaining))
        if method == "group_cam":
            self._budget.afford(self._group_cam.passes)
            return (yield from self._group_cam.maps())
        if method == "recipro_cam":
            return self._recipro_cam()
        return self._score_cam(method)

    def _score_cam(self, method: str) -> list[Array]:
        """Return the map of a Score-CAM, without channels of zeros."""
        variant = cam_methods.SCORE_CAMS[method]
        scored, summed = self._scored[variant.corners], self._summed
        responding = np.flatnonzero(~scored.masks.zero)
        extras, maps = scored.extras[responding], []
        assert self._baseline is not None, "score_channels comes first"
        of_baseline = self._readout.scores(self._baseline)[0].tolist()
        for n, (column, blank) in enumerate(zip(scored.scores[responding].T, of_baseline, strict=True)):
            scores = cam_methods.Scores(column, self._readout.chances(column, extras, n), blank)
            activations = summed[n][responding].astype(np.float64)
            maps.append(cam_methods.score_cam_map(method, activations, scores, self._passes.size))
        return maps

    @cached_property
    def _summed(self) -> list[Float32Array]:
        """Return the activations (K, h, w) as the map of each target sums them, see `seen_at`."""
        if not self._readout.local:
            return [self._activations] * len(self._gradients)
        return [cam_methods.seen_at(self._activations, g) for g in self._gradients]

    @cached_property
    def _group_cam(self) -> GroupCam:
        return GroupCam(self._passes, self._readout, self._summed, self._gradients)

    def region_passes(self, method: str) -> int:
        """Return the passes of Group-CAM, or the most of RISE."""
        if method == "rise":
            return self._random.expected(self._budget)
        return self._group_cam.passes if method == "group_cam" else 0

    def _rise(self, passes_remaining: int) -> Task[list[Array]]:
        def show(maps: list[Array]) -> None:
            if self._sketches is not None:
                self._sketches.add("rise", [maps[n] for n in self._numbers])
                self._sketches.show(self)

        maps = yield from self._random.run(self._budget, self._timer, passes_remaining, show)
        return [maps[n] for n in self._numbers]

    def _recipro_cam(self) -> list[Array]:
        """Return the maps by the head alone, without a masked pass."""
        grid = self._activations.shape[1:]
        scores = self._readout.scores(self._head().answers(self._passes.image, self._readout, self._passes.inputs))
        return [cam_methods.recipro_cam_map(column, grid, self._passes.size) for column in scores.T]

    def confidences(self, maps: list[Array]) -> Task[list[float]]:
        """Return the confidences of x * m."""
        return self._confidences((yield from self._passes.of_maps(maps)))

    def _by_target(self, rows: Float32Array) -> list[list[float]]:
        """Return the confidences of maps that were passed one target after the other."""
        count = len(self.targets)
        return [self._confidences(rows[start : start + count]) for start in range(0, len(rows), count)]

    def _confidences(self, rows: Float32Array) -> list[float]:
        confidences: list[float] = self._readout.confidences(rows).diagonal().tolist()
        return confidences

    def _gains(self, confidences: list[float]) -> list[float]:
        """Return the gains of confidence over the baseline x * 0."""
        assert self._baseline is not None, "score_channels comes first"
        baseline = self._readout.confidences(self._baseline)[0].tolist()
        return [p - b for p, b in zip(confidences, baseline, strict=True)]

    def unite(
        self, denoised: list[Array], region: list[Array], of_denoised: list[float], of_region: list[float]
    ) -> tuple[list[Array], Shares]:
        """Return U, and the shares of D and R."""
        gains = zip(self._gains(of_denoised), self._gains(of_region), strict=True)
        shares = [reference.contributions(d, r) for d, r in gains]
        return [reference.unite(*maps) for maps in zip(denoised, region, shares, strict=True)], shares

    def blend(
        self, united: list[Array], region: list[Array], of_united: list[float], shares: Shares
    ) -> tuple[list[Array], Shares]:
        """Return F, and the shares of U and R."""
        gains = zip(self._gains(of_united), shares, strict=True)
        shares = [reference.contributions(u, s.second) for u, s in gains]
        return [reference.blend(*maps) for maps in zip(united, region, shares, strict=True)], shares

    def choose(
        self, united: list[Array], region: list[Array], of_united: list[float], of_region: list[float]
    ) -> list[Array]:
        """Return U or R, by target."""
        targets = zip(united, region, of_united, of_region, strict=True)
        return [u if p > q else r for u, r, p, q in targets]

    def fetch(self, maps: list[Array], name: str) -> list[Array]:
        """Return the maps; the results of the sessions were checked for NaN already."""
        return maps

    def flags(self, shares: Shares) -> list[tuple[bool, bool]]:
        """Return for each target: degenerate, mixed."""
        return [(share.degenerate, share.mixed) for share in shares]

    def overlay(self, maps: list[Array], photo: UInt8Array, colors: UInt8Array, opacity: float) -> list[UInt8Array]:
        """Return the maps laid over a photo."""
        return [reference.overlay(photo, m.astype(np.float32), colors, opacity) for m in maps]
